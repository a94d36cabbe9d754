//! Leader election by a `coordination.k8s.io/v1` Lease.
//!
//! [`state`] decides and knows no clock and no client; [`driver`] carries its decisions out. Expiry is judged only by how
//! long *we* have seen a record unchanged, never by comparing the wall clocks of two machines.

pub mod driver;
pub mod state;

pub use driver::{Elector, Leadership, Term};
pub use state::{Timing, TimingError};

//! One module per command.
pub(crate) mod api;
pub(crate) mod bench;
pub(crate) mod cluster;
pub(crate) mod demo;
pub(crate) mod image;
pub(crate) use crate::{Interrupts, run_for_user};

//! From objects of the Kubernetes API to the inputs of the forwarding table: one reading for the agent, which compiles what
//! its node must do, and for the plugin, which explains it.
//!
//! This room knows the shapes of Services, EndpointSlices, Nodes, ServiceTraffics and DatapathConfigs, the defaults of the
//! API server for what they leave out, and the table's nouns. It may not know where the objects come from (a watch, a list,
//! a file), what the table does with them, nor any policy; clients, async runtimes, clocks, files and randomness neither.

mod convert;

pub use convert::{ConvertError, capacity, directive, node, pod_ranges, service, slice};

//! The testbed: a real control plane, real nodes and real packets on one machine, without a container engine.
//!
//! This room may know every other room, since it proves them; nothing may depend on it. It starts processes, writes
//! only below its run directory, `target/testbed` and the asset cache, and takes down what it brought up: on return,
//! on error, on Ctrl-C, and (through the parent death signal) when it is killed.
//!
//! From the least to the most powerful: [`api_tier`] is a control plane on loopback for tests of the API;
//! [`cluster`] is three nodes in network namespaces with load balancers and outside clients.

pub mod api_tier;
pub mod assets;
pub mod bench;
pub mod cluster;
pub mod control_plane;
pub mod demo;
pub mod fabric;
pub mod http;
pub mod image;
pub mod kubeconfig;
pub mod lb;
pub mod netns;
pub mod node;
pub mod outside;
pub mod pki;
pub mod preflight;
pub mod process;
pub mod progress;
pub mod relay;
pub mod run_dir;
pub mod teardown;

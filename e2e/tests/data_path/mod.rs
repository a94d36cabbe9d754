//! What the scenarios of the data path are made of.

pub(crate) mod affinity;
pub(crate) mod ending;
pub(crate) mod flip;
pub(crate) mod force;
pub(crate) mod left;
pub(crate) mod lookout;
pub(crate) mod objects;
pub(crate) mod plan;
pub(crate) mod ports;
pub(crate) mod probe;
pub(crate) mod ranges;
pub(crate) mod report;
pub(crate) mod scene;
pub(crate) mod seen;
pub(crate) mod truth;
pub(crate) mod udp;
pub(crate) mod vanish;
pub(crate) mod world;

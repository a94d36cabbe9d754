//! What alerts and dashboard share of Prometheus' language.

/// `selected`, of our processes only: every controller in the cluster may have metrics of the conventional names.
macro_rules! ours {
    ($selected:literal) => {
        concat!($selected, " and on (job, instance) portreeve_build_info")
    };
}
pub(super) use ours;

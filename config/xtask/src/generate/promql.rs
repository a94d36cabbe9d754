//! What alerts and dashboard share of Prometheus' language.

/// `selected`, of our processes only: every controller in the cluster may have metrics of the conventional names.
macro_rules! ours {
    ($selected:literal) => {
        concat!($selected, " and on (job, instance) portreeve_build_info")
    };
}

/// `selected`, of the operator that leads: one that led before keeps what it saw then.
macro_rules! leaders {
    ($selected:literal) => {
        concat!($selected, " and on (job, instance) (leader_election_master_status{name=\"portreeve-operator\"} == 1)")
    };
}

/// When the certificates end that webhooks serve with. An operator that led before keeps what it saw then, and never
/// reads a certificate to serve with.
macro_rules! served_certificates {
    () => {
        "portreeve_certificate_expiry_seconds and on (job, instance) (certwatcher_read_certificate_total > 0)"
    };
}

pub(super) use {leaders, ours, served_certificates};

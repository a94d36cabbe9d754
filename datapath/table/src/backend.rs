//! What the agent and the engines agree on: who they are and what this node lets them do.

use std::fmt;

/// A way to program packets.
pub trait Backend {
    /// Which one it is.
    fn kind(&self) -> BackendKind;

    /// Tries what the engine needs on this node, with the capabilities `held` by the calling thread. Changes nothing.
    fn probe(&self, held: Capabilities) -> Probe;
}

/// The engines, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BackendKind {
    /// BPF programs on the uplinks.
    Ebpf,
    /// An nftables table of our own.
    Nftables,
    /// iptables chains of our own.
    Iptables,
}

impl BackendKind {
    /// All, in the order in which an agent that may choose tries them.
    pub const BEST_FIRST: [Self; 3] = [Self::Ebpf, Self::Nftables, Self::Iptables];
}

impl fmt::Display for BackendKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Ebpf => "eBPF",
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        })
    }
}

/// What a probe found, feature by feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Whose.
    pub kind: BackendKind,
    /// Features, in the order in which they were tried.
    pub features: Vec<Feature>,
}

impl Probe {
    /// The first feature that the engine cannot do without and does not have.
    #[must_use]
    pub fn missing(&self) -> Option<&Feature> {
        self.features.iter().find(|feature| feature.required && !feature.available)
    }
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Name, e.g. `tcx`.
    pub name: &'static str,
    /// Whether the engine cannot work without it.
    pub required: bool,
    /// Whether it can be used by this process.
    pub available: bool,
    /// What was seen or why not, for people.
    pub detail: String,
}

impl Feature {
    /// A feature that the engine cannot do without.
    #[must_use]
    pub fn required(name: &'static str, tried: Result<String, String>) -> Self {
        Self::new(name, true, tried)
    }

    /// A feature that only parts of the engine want.
    #[must_use]
    pub fn optional(name: &'static str, tried: Result<String, String>) -> Self {
        Self::new(name, false, tried)
    }

    fn new(name: &'static str, required: bool, tried: Result<String, String>) -> Self {
        let available = tried.is_ok();
        let (Ok(detail) | Err(detail)) = tried;
        Self { name, required, available, detail }
    }
}

/// The capabilities(7) that matter here, as a thread holds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// `CAP_NET_ADMIN`.
    pub const NET_ADMIN: Self = Self(1 << 12);
    /// `CAP_SYS_ADMIN`, which includes `CAP_BPF`.
    pub const SYS_ADMIN: Self = Self(1 << 21);
    /// `CAP_BPF`, since Linux 5.8.
    pub const BPF: Self = Self(1 << 39);

    /// The effective set in the text of `/proc/thread-self/status`; `None` if it has none (proc(5)).
    #[must_use]
    pub fn parse(status: &str) -> Option<Self> {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok().map(Self)
    }

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every capability of `other` is held.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether bpf(2) is open to the holder, by its own capability or the older one that includes it.
    #[must_use]
    pub const fn may_bpf(self) -> bool {
        self.has(Self::BPF) || self.has(Self::SYS_ADMIN)
    }

    /// Whether network configuration is open to the holder.
    #[must_use]
    pub const fn may_net_admin(self) -> bool {
        self.has(Self::NET_ADMIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read_and_not_the_permitted_one() {
        let status = "Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t0000008000001000\nCapBnd:\t0\n";
        let held = Capabilities::parse(status).unwrap();
        assert_eq!(held, Capabilities::BPF.and(Capabilities::NET_ADMIN));
        assert!(held.may_bpf() && held.may_net_admin());
        assert!(!held.has(Capabilities::SYS_ADMIN));
    }

    #[test]
    fn a_text_without_the_line_or_with_a_broken_number_is_no_set() {
        assert_eq!(Capabilities::parse("Name:\tx\n"), None);
        assert_eq!(Capabilities::parse("CapEff:\tzz\n"), None);
    }

    #[test]
    fn only_a_required_feature_is_missed() {
        let mut probe = Probe {
            kind: BackendKind::Nftables,
            features: vec![Feature::optional("a", Err("not here".into())), Feature::required("b", Ok("seen".into()))],
        };
        assert_eq!(probe.missing(), None);
        probe.features.push(Feature::required("c", Err("gone".into())));
        assert_eq!(probe.missing().map(|feature| feature.name), Some("c"));
    }
}

//! Which backend this node uses, and why, in one sentence.

use portreeve_crds::datapath_config::BackendChoice;
use portreeve_crds::node_datapath::{Backend, BackendStatus, KernelFeature};
use portreeve_table::{BackendKind, Feature, Probe};

/// Longest reason that the schema takes, in characters.
const MAX_REASON: usize = 512;
/// Longest detail of a feature that the schema takes.
const MAX_DETAIL: usize = 256;

/// The backend for `asked`, given what the probes found (best engine first). Nothing is chosen in place of an engine that
/// was asked for by name: a user who names one would rather be told.
pub(crate) fn choose(asked: BackendChoice, probes: &[Probe]) -> BackendStatus {
    let wanted: Vec<&Probe> = probes.iter().filter(|probe| fits(asked, probe.kind)).collect();
    let chosen = chosen(asked, probes);
    let lacks: Vec<String> = wanted
        .iter()
        .take_while(|probe| probe.missing().is_some())
        .filter_map(|probe| probe.missing().map(|feature| lack(probe.kind, feature)))
        .collect();
    let reason = match (asked, chosen) {
        (BackendChoice::Auto, Some(best)) if lacks.is_empty() => {
            format!("Best of what this node can do: {best}.")
        }
        (BackendChoice::Auto, Some(best)) => format!("{best}, since {}.", lacks.join(" and ")),
        (BackendChoice::Auto, None) => format!("No backend can be used: {}.", lacks.join("; ")),
        (_, Some(named)) => format!("DatapathConfig asks for {named}."),
        (_, None) => format!("DatapathConfig asks for a backend that cannot be used here: {}.", lacks.join("; ")),
    };
    BackendStatus { asked, chosen: chosen.map(named), reason: cut(reason, MAX_REASON) }
}

/// The engine for `asked`, if one can be used.
pub(crate) fn chosen(asked: BackendChoice, probes: &[Probe]) -> Option<BackendKind> {
    probes.iter().find(|probe| fits(asked, probe.kind) && probe.missing().is_none()).map(|probe| probe.kind)
}

/// The features of all probes, as NodeDatapath lists them.
pub(crate) fn features(probes: &[Probe]) -> Vec<KernelFeature> {
    probes
        .iter()
        .flat_map(|probe| &probe.features)
        .map(|feature| KernelFeature {
            name: feature.name.to_owned(),
            available: feature.available,
            detail: Some(cut(feature.detail.clone(), MAX_DETAIL)),
        })
        .collect()
}

/// `text`, or as much of it as `limit` characters hold, with an ellipsis.
pub(crate) fn cut(text: String, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text;
    }
    text.chars().take(limit - 1).chain(['…']).collect()
}

fn fits(asked: BackendChoice, kind: BackendKind) -> bool {
    match asked {
        BackendChoice::Auto => true,
        BackendChoice::Ebpf => kind == BackendKind::Ebpf,
        BackendChoice::Nftables => kind == BackendKind::Nftables,
        BackendChoice::Iptables => kind == BackendKind::Iptables,
    }
}

const fn named(kind: BackendKind) -> Backend {
    match kind {
        BackendKind::Ebpf => Backend::Ebpf,
        BackendKind::Nftables => Backend::Nftables,
        BackendKind::Iptables => Backend::Iptables,
    }
}

fn lack(kind: BackendKind, feature: &Feature) -> String {
    format!("{kind} lacks {} ({})", feature.name, feature.detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(kind: BackendKind, missing: Option<&str>) -> Probe {
        let tried = missing.map_or(Ok("seen".to_owned()), |why| Err(why.to_owned()));
        Probe { kind, features: vec![Feature::required("thing", tried)] }
    }

    fn probes(ebpf: Option<&str>, nftables: Option<&str>, iptables: Option<&str>) -> Vec<Probe> {
        BackendKind::BEST_FIRST
            .into_iter()
            .zip([ebpf, nftables, iptables])
            .map(|(kind, why)| probe(kind, why))
            .collect()
    }

    fn said(asked: BackendChoice, probes: &[Probe]) -> String {
        let BackendStatus { asked, chosen, reason } = choose(asked, probes);
        format!("{} -> {}: {reason}", asked.as_str(), chosen.map_or("none", Backend::as_str))
    }

    #[test]
    fn every_choice_has_its_sentence() {
        let all = probes(None, None, None);
        let old = probes(Some("the kernel does not know it"), None, None);
        let bare = probes(Some("a"), Some("b"), Some("c"));
        let said = [
            said(BackendChoice::Auto, &all),
            said(BackendChoice::Auto, &old),
            said(BackendChoice::Auto, &bare),
            said(BackendChoice::Iptables, &all),
            said(BackendChoice::Ebpf, &old),
        ];
        insta::assert_snapshot!(said.join("\n"), @r"
        Auto -> Ebpf: Best of what this node can do: eBPF.
        Auto -> Nftables: nftables, since eBPF lacks thing (the kernel does not know it).
        Auto -> none: No backend can be used: eBPF lacks thing (a); nftables lacks thing (b); iptables lacks thing (c).
        Iptables -> Iptables: DatapathConfig asks for iptables.
        Ebpf -> none: DatapathConfig asks for a backend that cannot be used here: eBPF lacks thing (the kernel does not know it).
        ");
    }

    #[test]
    fn texts_stay_within_the_schema() {
        let long = "ä".repeat(2000);
        let probes = probes(Some(&long), Some(&long), Some(&long));
        assert_eq!(choose(BackendChoice::Auto, &probes).reason.chars().count(), MAX_REASON);
        let details: Vec<_> = features(&probes).into_iter().filter_map(|feature| feature.detail).collect();
        assert!(details.iter().all(|detail| detail.chars().count() == MAX_DETAIL && detail.ends_with('…')));
    }
}

//! Which Deployment a Pod comes from, and whether the Pods behind a Service come from it too: told by the names that
//! Kubernetes' controllers give, because workloads are not watched for it.

use k8s_openapi::api::core::v1::Pod;
use std::collections::{BTreeMap, BTreeSet};

/// The label by which the Pods of a Deployment's revisions differ.
pub(super) const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// Random characters at the end of a generated name, and the longest text before them (names.SimpleNameGenerator).
const RANDOM: usize = 5;
const LONGEST_BASE: usize = 58;

/// Characters of a pod-template-hash (rand.SafeEncodeString), and how many there are in practice: it is a number of 32
/// bits in decimal.
const HASH_CHARACTERS: &str = "bcdfghjklmnpqrstvwxz2456789";
const HASH_LENGTH: std::ops::RangeInclusive<usize> = 6..=10;

/// What is known of the Pods behind Services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnerFacts {
    /// The stems (see [`stem`]) of the names of the Pods that a Service has as endpoints, ready or not, by the Service's
    /// name. A Service that is absent has no Pod, as far as is known.
    pub stems: BTreeMap<String, BTreeSet<String>>,
}

impl OwnerFacts {
    /// Whether every known Pod behind `service` comes from `deployment`.
    pub(super) fn all_from(&self, deployment: &str, service: &str) -> bool {
        self.stems.get(service).is_none_or(|stems| stems.iter().all(|stem| made(deployment, stem)))
    }
}

/// The part of a Pod's name that it shares with the other Pods of its owner: `web-6d4cf56db6` of `web-6d4cf56db6-x7k2p`
/// (a ReplicaSet's), `db-` of `db-0` (a StatefulSet's); the whole name where nothing tells that it was made from one.
#[must_use]
pub fn stem(pod: &str) -> &str {
    match pod.rsplit_once('-') {
        Some((base, random)) if random.len() == RANDOM => base,
        Some((_, ordinal)) if !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit()) => {
            &pod[..pod.len() - ordinal.len()]
        }
        // The hyphen was cut off with the end of a long base.
        _ if pod.len() == LONGEST_BASE + RANDOM => pod.get(..LONGEST_BASE).unwrap_or(pod),
        _ => pod,
    }
}

/// The Deployment that a Pod belongs to: its ReplicaSet is named after Deployment and hash, and the Pod's label repeats
/// the hash.
pub(super) fn deployment(pod: &Pod) -> Option<&str> {
    let hash = pod.metadata.labels.as_ref()?.get(POD_TEMPLATE_HASH)?;
    let owners = pod.metadata.owner_references.as_deref()?;
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    let replica_set = owner.kind == "ReplicaSet" && owner.api_version.starts_with("apps/");
    owner.name.strip_suffix(hash.as_str())?.strip_suffix('-').filter(|_| replica_set)
}

/// Whether a Pod with this stem comes from the Deployment, in whichever revision.
fn made(deployment: &str, stem: &str) -> bool {
    let cut = stem.len() + 1 >= LONGEST_BASE;
    match stem.strip_prefix(deployment) {
        Some("") => cut,
        Some(rest) => rest.strip_prefix('-').is_some_and(|hash| {
            (cut || HASH_LENGTH.contains(&hash.len())) && hash.chars().all(|c| HASH_CHARACTERS.contains(c))
        }),
        None => cut && deployment.starts_with(stem),
    }
}

#[cfg(test)]
mod tests {
    use super::{deployment, made, stem};
    use crate::spread::tests::pod;

    #[test]
    fn the_stem_is_what_pods_of_one_owner_share() {
        for (name, expected) in [
            ("web-6d4cf56db6-x7k2p", "web-6d4cf56db6"),
            ("agent-x7k2p", "agent"),
            ("db-0", "db-"),
            ("db-12", "db-"),
            ("probe", "probe"),
            ("my-database", "my-database"),
            ("", ""),
            ("-", "-"),
            ("ä-ö", "ä-ö"),
        ] {
            assert_eq!(stem(name), expected, "{name}");
        }
        let long = "n".repeat(63);
        assert_eq!(stem(&long), &long[..58]);
    }

    #[test]
    fn revisions_of_one_deployment_are_its_own_and_all_else_is_not() {
        for own in ["web-6d4cf56db6-x7k2p", "web-7c9f8d-bbbbb"] {
            assert!(made("web", stem(own)), "{own}");
        }
        for other in [
            "web-canary-6d4cf56db6-x7k2p",
            "web-0",
            "web-db-0",
            "web-x7k2p",
            "web",
            "webshop-6d4cf56db6-x7k2p",
            "api-1",
        ] {
            assert!(!made("web", stem(other)), "{other}");
        }
    }

    #[test]
    fn a_base_that_was_cut_still_tells_its_deployment() {
        for length in 44..=70 {
            let name = "d".repeat(length);
            let base = format!("{name}-6d4cf56db6-");
            let pod = format!("{}x7k2p", &base[..base.len().min(58)]);
            assert!(made(&name, stem(&pod)), "{length}: {pod}");
        }
    }

    #[test]
    fn only_a_replica_set_named_after_the_hash_tells_a_deployment() {
        let of_web = pod("{}");
        assert_eq!(deployment(&of_web), Some("web"));
        let mut bare = of_web.clone();
        bare.metadata.labels.as_mut().unwrap().remove("pod-template-hash");
        let mut no_controller = of_web.clone();
        no_controller.metadata.owner_references.as_mut().unwrap()[0].controller = None;
        let mut foreign = of_web.clone();
        foreign.metadata.owner_references.as_mut().unwrap()[0].api_version = "example.org/v1".to_owned();
        let mut renamed = of_web;
        renamed.metadata.owner_references.as_mut().unwrap()[0].name = "web".to_owned();
        for other in [bare, no_controller, foreign, renamed] {
            assert_eq!(deployment(&other), None);
        }
    }
}

//! The iptables engine: what it finds on this node, the chains it makes of the table, and those chains in the kernel.

mod found;
mod lookup;
mod names;
mod programmed;
mod programs;
mod rules;
mod ruleset;
mod text;

pub use programmed::{ApplyError, Programmed};

use portreeve_table::{Backend, BackendKind, Capabilities, Family, Feature, Probe};
use programs::look_up;
use std::ffi::{OsStr, OsString};
use std::fs;

/// The engine that programs packets with iptables chains of our own.
#[derive(Clone, Debug)]
pub struct Iptables {
    path: OsString,
}

impl Iptables {
    /// An engine that looks for the iptables programs in the directories of `path`, a list as in `$PATH`.
    #[must_use]
    pub fn in_path(path: OsString) -> Self {
        Self { path }
    }
}

impl Backend for Iptables {
    fn kind(&self) -> BackendKind {
        BackendKind::Iptables
    }

    fn probe(&self, held: Capabilities) -> Probe {
        let net_admin = if held.may_net_admin() {
            Ok("CAP_NET_ADMIN is held".to_owned())
        } else {
            Err("this process lacks CAP_NET_ADMIN".to_owned())
        };
        let features = vec![
            Feature::required("net-admin", net_admin),
            Feature::required("iptables", both(&self.path, Family::V4)),
            Feature::optional("ip6tables", both(&self.path, Family::V6)),
        ];
        Probe { kind: BackendKind::Iptables, features }
    }
}

/// Where the program that writes is; the one that reads must be there too.
fn both(path: &OsStr, family: Family) -> Result<String, String> {
    let [writes, reads] = programs::names(family).map(|name| {
        let located = look_up(path, name, |at| fs::canonicalize(at).ok());
        located.ok_or_else(|| format!("there is no {name} in the search path of this process"))
    });
    let (writes, _) = (writes?, reads?);
    Ok(format!("{}, {}", writes.at.display(), writes.variant.as_str()))
}

#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    fn found(end: &'static str) -> String {
        let resolve = |path: &Path| path.starts_with("/usr/sbin").then(|| PathBuf::from(end));
        let located = look_up(OsStr::new("/a:/usr/sbin"), "iptables-restore", resolve).unwrap();
        format!("{}, {}", located.at.display(), located.variant.as_str())
    }

    #[test]
    fn the_end_of_the_link_tells_the_variant() {
        assert_eq!(found("/usr/sbin/xtables-nft-multi"), "/usr/sbin/iptables-restore, nf_tables variant");
        assert_eq!(found("/usr/sbin/xtables-legacy-multi"), "/usr/sbin/iptables-restore, legacy variant");
        assert_eq!(found("/opt/iptables-restore"), "/usr/sbin/iptables-restore, unknown variant");
    }

    #[test]
    fn a_search_path_without_the_program_says_so() {
        let probe = Iptables::in_path("/nonexistent".into()).probe(Capabilities::NET_ADMIN);
        let missing = probe.missing().unwrap();
        assert_eq!(missing.detail, "there is no iptables-restore in the search path of this process");
    }

    #[test]
    fn without_the_capability_the_programs_do_not_help() {
        let probe = Iptables::in_path("/usr/sbin".into()).probe(Capabilities::default());
        assert_eq!(probe.missing().map(|feature| feature.name), Some("net-admin"));
    }
}

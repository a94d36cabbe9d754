//! The iptables engine and what it finds on this node.

use portreeve_table::{Backend, BackendKind, Capabilities, Feature, Probe};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

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
        let program = |name| look_up(&self.path, name, |path| fs::canonicalize(path).ok());
        let features = vec![
            Feature::required("net-admin", net_admin),
            Feature::required("iptables", program("iptables-restore")),
            Feature::optional("ip6tables", program("ip6tables-restore")),
        ];
        Probe { kind: BackendKind::Iptables, features }
    }
}

/// Where `name` is and which of the two variants it is. Both are one program under many names, so what the link ends at
/// tells the variant without starting it. `resolve` follows links and gives `None` for what does not exist.
fn look_up(path: &OsStr, name: &str, resolve: impl Fn(&Path) -> Option<PathBuf>) -> Result<String, String> {
    let found = env::split_paths(path).find_map(|dir| {
        let at = dir.join(name);
        resolve(&at).map(|end| (at, end))
    });
    let (at, end) = found.ok_or_else(|| format!("there is no {name} in the search path of this process"))?;
    let variant = match end.file_name().and_then(OsStr::to_str) {
        Some(file) if file.contains("legacy") => "legacy variant",
        Some(file) if file.contains("nft") => "nf_tables variant",
        _ => "unknown variant",
    };
    Ok(format!("{}, {variant}", at.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(end: &'static str) -> Result<String, String> {
        look_up(OsStr::new("/a:/usr/sbin"), "iptables-restore", |path| {
            path.starts_with("/usr/sbin").then(|| PathBuf::from(end))
        })
    }

    #[test]
    fn the_end_of_the_link_tells_the_variant() {
        let says = |end| found(end).unwrap();
        assert_eq!(says("/usr/sbin/xtables-nft-multi"), "/usr/sbin/iptables-restore, nf_tables variant");
        assert_eq!(says("/usr/sbin/xtables-legacy-multi"), "/usr/sbin/iptables-restore, legacy variant");
        assert_eq!(says("/opt/iptables-restore"), "/usr/sbin/iptables-restore, unknown variant");
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

//! The programs of iptables, one pair for each family.

use super::ApplyError;
use super::found::{self, Found};
use super::rules::{Name, Table};
use super::ruleset::Section;
use portreeve_table::Family;
use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

/// How long to wait for others who hold the lock of the legacy variant, in seconds: as kube-proxy does.
const WAIT: &str = "5";

/// Which of the two programs of the same names it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    Legacy,
    NfTables,
    Unknown,
}

impl Variant {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "legacy variant",
            Self::NfTables => "nf_tables variant",
            Self::Unknown => "unknown variant",
        }
    }
}

/// A program and what the links to it tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) at: PathBuf,
    pub(super) variant: Variant,
}

/// Where `name` is and which of the two variants it is. Both are one program under many names, so what the link ends at
/// tells the variant without starting it. `resolve` follows links and gives `None` for what does not exist.
pub(super) fn look_up(path: &OsStr, name: &str, resolve: impl Fn(&Path) -> Option<PathBuf>) -> Option<Located> {
    let (at, end) = env::split_paths(path).find_map(|dir| {
        let at = dir.join(name);
        resolve(&at).map(|end| (at, end))
    })?;
    let variant = match end.file_name().and_then(OsStr::to_str) {
        Some(file) if file.contains("legacy") => Variant::Legacy,
        Some(file) if file.contains("nft") => Variant::NfTables,
        _ => Variant::Unknown,
    };
    Some(Located { at, variant })
}

/// Names of the programs that write and read.
pub(super) const fn names(family: Family) -> [&'static str; 2] {
    match family {
        Family::V4 => ["iptables-restore", "iptables-save"],
        Family::V6 => ["ip6tables-restore", "ip6tables-save"],
    }
}

/// The programs of one family.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    restore: PathBuf,
    save: PathBuf,
    pub(super) variant: Variant,
}

impl Programs {
    pub(super) fn find(path: &OsStr, family: Family) -> Result<Self, ApplyError> {
        let [restore, save] = names(family)
            .map(|name| look_up(path, name, |at| at.canonicalize().ok()).ok_or(ApplyError::NoProgram(name)));
        let Located { at: restore, variant } = restore?;
        Ok(Self { restore, save: save?.at, variant })
    }

    pub(super) fn writer(&self) -> &Path {
        &self.restore
    }

    /// Commits `sections` one after the other; of one that is refused nothing is done. The id of the process that did it.
    pub(super) fn restore(&self, sections: &[Section]) -> Result<u32, ApplyError> {
        let mut text = String::new();
        for section in sections {
            write!(text, "{section}").expect("invariant: a string takes everything");
        }
        let (process, output) = run(&self.restore, &["--noflush", "-w", WAIT], &text)?;
        if output.status.success() {
            return Ok(process);
        }
        let says = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        let line = line_of(&says).and_then(|number| text.lines().nth(number.checked_sub(1)?)).unwrap_or("?").to_owned();
        Err(ApplyError::Refused { program: self.restore.clone(), line, says })
    }

    /// All tables that there are: none comes to be by being looked at.
    pub(super) fn save(&self) -> Result<Found, ApplyError> {
        Ok(Found::read(&self.shown(&[])?))
    }

    /// How many packets each rule of our chains in a table has counted, in order.
    pub(super) fn counted(&self, table: Table) -> Result<BTreeMap<Name, Vec<u64>>, ApplyError> {
        Ok(found::counted(&self.shown(&["-c", "-t", table.as_str()])?))
    }

    fn shown(&self, arguments: &[&str]) -> Result<String, ApplyError> {
        let (_, output) = run(&self.save, arguments, "")?;
        if !output.status.success() {
            let says = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            return Err(ApplyError::Unread { program: self.save.clone(), says });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The number of the line that iptables-restore complains of.
fn line_of(says: &str) -> Option<usize> {
    let (_, rest) = says.split_once("line")?;
    let digits: String = rest.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn run(program: &Path, arguments: &[&str], input: &str) -> Result<(u32, Output), ApplyError> {
    let failed = |source| ApplyError::Start { program: program.to_owned(), source };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (process, stdin) = (child.id(), child.stdin.take());
    // Written beside the reading, so that neither waits for a full pipe of the other. That the program ends before it has
    // read all is told by what it says itself.
    thread::scope(|scope| {
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        child.wait_with_output().map(|output| (process, output)).map_err(failed)
    })
}

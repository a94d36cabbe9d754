//! The project's daemons as static release binaries, which need no file of an image but themselves.
//!
//! Static glibc is enough: since 2.34 its resolver needs no shared library for `/etc/hosts` and DNS.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::{ImageError, io_error};
use crate::{
    process::{self, ProcessError, Spec},
    progress::Progress,
};

/// The daemons in the image; each is also the name of its package.
pub const DAEMONS: [&str; 3] = ["portreeve-operator", "portreeve-webhook", "portreeve-agent"];

/// Named although it is the machine's own: with a target given, Cargo keeps the flags away from build scripts and
/// procedural macros, which cannot be static.
const TARGET: &str =
    if cfg!(target_arch = "aarch64") { "aarch64-unknown-linux-gnu" } else { "x86_64-unknown-linux-gnu" };

/// Release binaries by their names.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// Where each is.
    pub paths: BTreeMap<&'static str, PathBuf>,
}

/// Builds the daemons from this source tree; blocks, and takes minutes when cold.
pub fn build(log: &Path, progress: Progress) -> Result<Binaries, ImageError> {
    let workspace = crate::run_dir::workspace();
    let target_dir = target_dir(workspace);
    let mut cargo = Spec::new("cargo build", "cargo", log)
        .args(["build", "--release", "--locked", "--bins", "--target", TARGET, "--config"])
        .arg(format!("target.{TARGET}.rustflags=[\"-C\",\"target-feature=+crt-static\"]"))
        .arg("--target-dir")
        .arg(&target_dir)
        .directory(workspace);
    for daemon in DAEMONS {
        cargo = cargo.args(["--package", daemon]);
    }
    cargo.env = std::env::vars_os().filter(|(key, _)| !is_cargos(&key.to_string_lossy())).collect();
    // An earlier build's end must not be shown as this one's.
    fs::write(log, "").map_err(io_error("clear", log))?;
    let step = progress.step("build the daemons (static, release)");
    let mut child = cargo.spawn()?;
    while child.is_running()? {
        step.note(process::tail(log).lines().last().unwrap_or_default().trim());
        thread::sleep(Duration::from_millis(200));
    }
    let status = child.wait()?;
    if !status.success() {
        let (name, log) = (child.name().to_owned(), log.to_owned());
        return Err(ProcessError::Ended { name, status, tail: process::tail(&log), log }.into());
    }
    step.done();
    in_directory(&target_dir.join(TARGET).join("release"))
}

/// The daemons in a directory, each checked to be static.
pub fn in_directory(dir: &Path) -> Result<Binaries, ImageError> {
    let mut paths = BTreeMap::new();
    for daemon in DAEMONS {
        let path = dir.join(daemon);
        if needs_interpreter(&fs::read(&path).map_err(io_error("read", &path))?) {
            return Err(ImageError::Dynamic(path));
        }
        paths.insert(daemon, path);
    }
    Ok(Binaries { paths })
}

fn target_dir(workspace: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from)
}

/// What an outer `cargo run` or `cargo test` sets for its own child and must not reach an inner build, or every
/// crate that reads it would be rebuilt.
fn is_cargos(key: &str) -> bool {
    (key.starts_with("CARGO_") && key != "CARGO_HOME" && key != "CARGO_TARGET_DIR" && !key.starts_with("CARGO_NET_"))
        || key == "RUSTFLAGS"
}

/// Whether an ELF file asks for a dynamic loader (a `PT_INTERP` program header; elf(5)).
///
/// A static position-independent executable has a dynamic section too, but no interpreter.
pub(super) fn needs_interpreter(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let half = |at: usize| elf.get(at..at + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    let word = |at: usize| elf.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    // e_phoff, e_phentsize and e_phnum of a 64-bit header; no file of ours is larger than 4 GiB.
    let (Some(offset), Some(size), Some(count)) = (word(32), half(54), half(56)) else { return false };
    (0..count).any(|index| word(offset as usize + index * size) == Some(PT_INTERP))
}

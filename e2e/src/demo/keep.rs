//! `KEEP=1`: the demo in a process of its own that holds the cluster when the acts are over.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::cluster::{HeldCluster, detach};

/// Starts `command` (a demo that holds its cluster) in a session of its own, shows what it says, and returns the cluster
/// when it is held.
pub async fn in_background(command: Command, log: &Path) -> Result<HeldCluster> {
    let mut shown = 0;
    detach(command, log, || show_from(log, &mut shown)).await
}

fn show_from(log: &Path, shown: &mut u64) -> Result<()> {
    let mut file = std::fs::File::open(log)?;
    file.seek(SeekFrom::Start(*shown))?;
    let mut bytes = Vec::new();
    *shown += file.read_to_end(&mut bytes)? as u64;
    std::io::stderr().write_all(&bytes)?;
    Ok(())
}

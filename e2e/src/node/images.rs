//! The nodes' image store. Importing and unpacking is the slowest step of a boot, so it is done once into a template in
//! the cache; a node's store is a copy of it by hard links, which takes no time and no space.
//!
//! Links are safe because containerd never writes to a blob or to a snapshot that others build on: only its databases
//! change, and those are copied.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::error::{NodeError, file_error};
use crate::process::{Spec, run, run_command};

/// containerd's namespace of the kubelet's images.
pub(super) const NAMESPACE: &str = "k8s.io";
/// The only snapshotter the template holds layers for.
pub(super) const SNAPSHOTTER: &str = "overlayfs";

const READY_WAIT: Duration = Duration::from_secs(30);
const STOP_GRACE: Duration = Duration::from_secs(20);
const TEMPLATE: &str = "image-store-";

/// The template for `archives` (OCI), made in `cache` unless it is there. Older templates are removed.
pub fn template(cache: &Path, archives: &[PathBuf], log: &Path) -> Result<PathBuf, NodeError> {
    let template = cache.join(format!("{TEMPLATE}{}", key(archives)?));
    if template.is_dir() {
        return Ok(template);
    }
    fs::create_dir_all(cache).map_err(file_error("create", cache))?;
    let draft = cache.join(format!("draft-{}", std::process::id()));
    // A unix socket's path is short (108 bytes): the cache's may be too long.
    let scratch = std::env::temp_dir().join(format!("portreeve-store-{}", std::process::id()));
    fs::create_dir_all(&scratch).map_err(file_error("create", &scratch))?;
    let filled = fill(&draft, &scratch, archives, log);
    fs::remove_dir_all(&scratch).map_err(file_error("remove", &scratch))?;
    if let Err(e) = filled {
        // The first error is the one to be told; a draft left over is overwritten by nobody and small.
        fs::remove_dir_all(&draft).unwrap_or_default();
        return Err(e);
    }
    for entry in entries(cache)? {
        if entry.file_name().to_string_lossy().starts_with(TEMPLATE) {
            fs::remove_dir_all(entry.path()).map_err(file_error("remove", &entry.path()))?;
        }
    }
    fs::rename(&draft, &template).map_err(file_error("rename to", &template))?;
    Ok(template)
}

/// Copies the template to `to`, which must not exist.
pub fn copy(template: &Path, to: &Path) -> Result<(), NodeError> {
    let linked = run("cp", [OsStr::new("--archive"), "--link".as_ref(), template.as_os_str(), to.as_os_str()]);
    if linked.is_err() {
        // Another filesystem: then it is a real copy.
        if to.exists() {
            fs::remove_dir_all(to).map_err(file_error("remove", to))?;
        }
        run("cp", [OsStr::new("--archive"), template.as_os_str(), to.as_os_str()])?;
        return Ok(());
    }
    for database in databases(template)? {
        let (from, own) = (template.join(&database), to.join(&database));
        fs::remove_file(&own).map_err(file_error("unlink", &own))?;
        fs::copy(&from, &own).map_err(file_error("copy", &from))?;
    }
    Ok(())
}

/// Size and time stand for the content: hashing hundreds of megabytes would cost more than it saves.
fn key(archives: &[PathBuf]) -> Result<String, NodeError> {
    let mut hash = Sha256::new();
    hash.update(run("containerd", ["--version"])?);
    for archive in archives {
        let meta = fs::metadata(archive).map_err(file_error("read image", archive))?;
        let (seconds, nanos) = (meta.mtime(), meta.mtime_nsec());
        hash.update(format!("{}\0{}\0{seconds}.{nanos}\n", archive.display(), meta.len()));
    }
    Ok(hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}

fn fill(root: &Path, scratch: &Path, archives: &[PathBuf], log: &Path) -> Result<(), NodeError> {
    let socket = scratch.join("c.sock");
    let config = scratch.join("containerd.toml");
    fs::write(
        &config,
        format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{}\"\n[plugins.\"io.containerd.internal.v1.opt\"]\npath = \"{}\"\n",
            root.display(),
            scratch.join("state").display(),
            socket.display(),
            scratch.join("opt").display()
        ),
    )
    .map_err(file_error("write", &config))?;
    // Layers are unpacked by mounting them: in a mount namespace of its own, where the machine cannot see it.
    let mut containerd = Spec::new("containerd (image store)", "unshare", log.join("image-store.log"))
        .args(["--mount", "--", "containerd", "--config"])
        .arg(&config)
        .env("TMPDIR", scratch)
        .spawn()?;
    let ctr = |args: &[&str], file: Option<&Path>| {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&socket).args(["--namespace", NAMESPACE]).args(args).args(file);
        run_command(&mut command)
    };
    let deadline = Instant::now() + READY_WAIT;
    while ctr(&["version"], None).is_err() {
        containerd.require_running()?;
        if Instant::now() > deadline {
            let what = "containerd did not answer".to_owned();
            return Err(NodeError::TooLate { what, within: READY_WAIT, log: containerd.log().to_owned() });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    for archive in archives {
        ctr(&["images", "import", "--snapshotter", SNAPSHOTTER], Some(archive))?;
    }
    // In order, so that the databases are whole.
    containerd.terminate(STOP_GRACE)?;
    Ok(())
}

/// Files under `root` that containerd writes in place, as paths relative to it.
fn databases(root: &Path) -> Result<Vec<PathBuf>, NodeError> {
    let mut found = Vec::new();
    for plugin in entries(root)?.into_iter().filter(|entry| entry.path().is_dir()) {
        for file in entries(&plugin.path())? {
            if file.path().extension() == Some(OsStr::new("db")) {
                found.push(Path::new(&plugin.file_name()).join(file.file_name()));
            }
        }
    }
    Ok(found)
}

fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>, NodeError> {
    fs::read_dir(dir).and_then(Iterator::collect).map_err(file_error("read", dir))
}

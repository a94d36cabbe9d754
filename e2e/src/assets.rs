//! The Go programs of the testbed: Kubernetes, etcd, CoreDNS, agnhost and pause, built once from pinned modules.
//!
//! The modules' `go.mod` and `go.sum` are compiled into this crate, so the cache key and the build need no source
//! tree. A build happens in a `.partial` directory under a lock and is renamed when complete: a directory without
//! that suffix is always whole.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::{
    process::{self, ProcessError, Spec},
    progress::Progress,
};

mod modules;
#[cfg(test)]
mod tests;

pub use modules::{Binary, KUBERNETES_VERSION};
use modules::{MODULES, Module};

/// Oldest Go that the modules' `go` lines accept.
const GO_MINOR: u32 = 26;

/// Why there are no binaries.
#[derive(Debug, thiserror::Error)]
pub enum AssetsError {
    /// Go is not installed.
    #[error(
        "`go` is not in PATH; the testbed's Kubernetes is built with Go 1.{GO_MINOR} or newer (https://go.dev/dl), or name a directory of ready binaries in PORTREEVE_ASSETS"
    )]
    NoGo(#[source] ProcessError),
    /// Go is too old.
    #[error("found `{found}`, but Go 1.{GO_MINOR} or newer is needed (https://go.dev/dl)")]
    OldGo {
        /// What `go version` printed.
        found: String,
    },
    /// A directory named by the user lacks a program.
    #[error("{variable}={dir} lacks {missing}", dir = dir.display())]
    Incomplete {
        /// The environment variable.
        variable: &'static str,
        /// Its value.
        dir: PathBuf,
        /// The programs that are not there.
        missing: String,
    },
    /// Neither `XDG_CACHE_HOME` nor `HOME` is set.
    #[error("no cache directory: set HOME, XDG_CACHE_HOME or PORTREEVE_ASSETS")]
    NoCache,
    /// A file operation failed.
    #[error("{what} {path}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the filesystem said.
        source: io::Error,
    },
    /// A build step could not be run.
    #[error("build the testbed's programs")]
    Process(#[from] ProcessError),
    /// `go build` failed.
    #[error("go build of {module} failed; log {log}:\n{tail}", log = log.display())]
    Build {
        /// The module.
        module: &'static str,
        /// The whole output.
        log: PathBuf,
        /// Its end.
        tail: String,
    },
}

/// A directory with programs.
#[derive(Debug, Clone)]
pub struct Assets {
    dir: PathBuf,
}

impl Assets {
    /// All programs: from `$PORTREEVE_ASSETS` as it is, else from the cache, else built into the cache.
    ///
    /// Blocks; a cold build takes about eight minutes on two cores and is announced through `progress`.
    pub fn ensure(progress: Progress) -> Result<Self, AssetsError> {
        if let Some(dir) = std::env::var_os("PORTREEVE_ASSETS") {
            return Self::from_directory("PORTREEVE_ASSETS", dir.into(), &Binary::ALL);
        }
        let key = key(&go_version()?);
        let dir = cache_root()?.join(format!("assets-{key}"));
        if !dir.exists() {
            build(&dir, progress)?;
        }
        Ok(Self { dir })
    }

    /// The programs in `need`: from `$KUBEBUILDER_ASSETS` where that has them all, else as [`Assets::ensure`].
    pub fn for_api(need: &[Binary], progress: Progress) -> Result<Self, AssetsError> {
        if std::env::var_os("PORTREEVE_ASSETS").is_none()
            && let Some(dir) = std::env::var_os("KUBEBUILDER_ASSETS")
        {
            match Self::from_directory("KUBEBUILDER_ASSETS", dir.into(), need) {
                Ok(assets) => return Ok(assets),
                Err(incomplete) => progress.say(&format!("{incomplete}: using our own build")),
            }
        }
        Self::ensure(progress)
    }

    /// The programs of a directory, unchecked.
    pub fn in_directory(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn from_directory(variable: &'static str, dir: PathBuf, need: &[Binary]) -> Result<Self, AssetsError> {
        let missing: Vec<_> = need.iter().map(|binary| binary.file_name()).filter(|f| !dir.join(f).is_file()).collect();
        if missing.is_empty() {
            Ok(Self { dir })
        } else {
            Err(AssetsError::Incomplete { variable, dir, missing: missing.join(", ") })
        }
    }

    /// Where a program is.
    pub fn path(&self, binary: Binary) -> PathBuf {
        self.dir.join(binary.file_name())
    }

    /// The directory of all of them.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// `$XDG_CACHE_HOME/portreeve` or `~/.cache/portreeve`.
pub fn cache_root() -> Result<PathBuf, AssetsError> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))).ok_or(AssetsError::NoCache)?;
    Ok(base.join("portreeve"))
}

fn go_version() -> Result<String, AssetsError> {
    let version = process::run("go", ["version"]).map_err(AssetsError::NoGo)?.trim().to_owned();
    if minor(&version).is_some_and(|minor| minor >= GO_MINOR) {
        Ok(version)
    } else {
        Err(AssetsError::OldGo { found: version })
    }
}

/// The `26` of `go version go1.26.8 linux/amd64`. Development builds name no release and are refused.
fn minor(version: &str) -> Option<u32> {
    let release = version.split_whitespace().nth(2)?.strip_prefix("go1.")?;
    let digits = release.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Twelve hexadecimal digits over everything that decides what the programs are.
fn key(go_version: &str) -> String {
    let mut hash = Sha256::new();
    let mut field = |text: &str| {
        // Lengths keep neighbouring fields apart.
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    field(go_version);
    for module in MODULES {
        field(module.name);
        for (name, text) in module.files {
            field(name);
            field(text);
        }
        field(module.ldflags);
        module.targets.iter().for_each(|target| field(target));
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AssetsError {
    move |source| AssetsError::Io { what, path: path.to_owned(), source }
}

fn build(dir: &Path, progress: Progress) -> Result<(), AssetsError> {
    let root = dir.parent().ok_or(AssetsError::NoCache)?;
    fs::create_dir_all(root).map_err(io_error("create", root))?;
    let lock_path = root.join("assets.lock");
    let lock = File::create(&lock_path).map_err(io_error("create", &lock_path))?;
    if lock.try_lock().is_err() {
        progress.say("another build of the testbed's programs is under way; waiting for it");
        lock.lock().map_err(io_error("lock", &lock_path))?;
    }
    if dir.exists() {
        return Ok(());
    }
    progress.say(&format!(
        "building Kubernetes {KUBERNETES_VERSION}, etcd, CoreDNS, agnhost and helm from Go modules into {}",
        dir.display()
    ));
    progress.say("once: about 1.5 GB to download, 8 minutes and 2 GB of memory on 2 cores, 4 GB of Go's build cache");
    let partial = dir.with_extension("partial");
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("clear", &partial)(error)),
        _ => {}
    }
    for module in MODULES {
        build_module(module, &partial, progress)?;
    }
    let sources = partial.join("src");
    fs::remove_dir_all(&sources).map_err(io_error("clear", &sources))?;
    fs::rename(&partial, dir).map_err(io_error("rename", &partial))
}

fn build_module(module: &Module, out: &Path, progress: Progress) -> Result<(), AssetsError> {
    let source = out.join("src").join(module.name);
    fs::create_dir_all(&source).map_err(io_error("create", &source))?;
    for (name, text) in module.files {
        let path = source.join(name);
        fs::write(&path, text).map_err(io_error("write", &path))?;
    }
    let log = out.join(format!("{}.log", module.name));
    // The user's whole environment: proxies and private module settings are theirs to choose.
    let mut go = Spec::new(format!("go build {}", module.name), "go", &log)
        .args(["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", module.ldflags, "-o"])
        .arg(if module.targets == ["."] { out.join(module.name) } else { out.join("") })
        .args(module.targets);
    go.env = std::env::vars_os().collect();
    go = go.env("CGO_ENABLED", "0").env("GOWORK", "off").directory(&source);
    let step = progress.step(format!("build {}", module.name));
    let mut child = go.spawn()?;
    while child.is_running()? {
        step.note(&format!("{} packages compiled", lines(&log)));
        thread::sleep(Duration::from_millis(200));
    }
    if !child.wait()?.success() {
        return Err(AssetsError::Build { module: module.name, tail: process::tail(&log), log });
    }
    step.done();
    Ok(())
}

/// Lines so far; zero while there is no log.
fn lines(log: &Path) -> usize {
    File::open(log).map_or(0, |file| BufReader::new(file).lines().count())
}

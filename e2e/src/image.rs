//! Container images without a container engine: OCI image layouts in a tar, the same bytes for the same input.
//!
//! Entries are sorted, times are the epoch, owners are given: nothing of the machine or the hour gets in. The index
//! carries `io.containerd.image.name`, so `ctr images import` names the image. Layout and media types: OCI Image
//! Format Specification 1.1.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub mod catalogue;
mod iptables;
mod layer;
pub mod release;
#[cfg(test)]
mod tests;

pub use layer::{Compression, Layer};

/// Why an image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file could not be read or written.
    #[error("{what} {path}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the filesystem said.
        source: io::Error,
    },
    /// Two entries have the same path.
    #[error("the layer has two entries {0}")]
    Twice(String),
    /// A path is not absolute or leaves the root.
    #[error("not a path inside an image: {0}")]
    Path(String),
    /// The project's binaries could not be built.
    #[error(transparent)]
    Process(#[from] crate::process::ProcessError),
    /// A program that goes into the image is not on this machine.
    #[error("there is no {0} to put into the image; install the package iptables")]
    Missing(PathBuf),
    /// A shared library of a program is not on this machine.
    #[error("{program} needs {library}, which is not on this machine; install the package iptables again")]
    Library {
        /// The program.
        program: PathBuf,
        /// Its library.
        library: String,
    },
    /// A binary would not run in an image without a libc.
    #[error("{0} is not statically linked")]
    Dynamic(PathBuf),
}

/// An image to be written.
#[derive(Debug, Clone)]
pub struct Image {
    /// Full name with tag, e.g. `portreeve.io/portreeve:0.1.0`.
    pub name: String,
    /// Layers, the lowest first.
    pub layers: Vec<Layer>,
    /// The fixed part of the command line; may be empty.
    pub entrypoint: Vec<String>,
    /// The default rest of the command line.
    pub command: Vec<String>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// `UID` or `UID:GID`; empty is root.
    pub user: String,
    /// Labels, by the names of the OCI annotations.
    pub labels: BTreeMap<String, String>,
    /// How the layers are stored.
    pub compression: Compression,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The image's name.
    pub name: String,
    /// The archive.
    pub path: PathBuf,
    /// The manifest's digest, `sha256:…`: what `NAME@DIGEST` refers to.
    pub digest: String,
    /// The archive's size in bytes.
    pub size: u64,
}

impl Image {
    /// An image of one layer that runs `entrypoint` as root, uncompressed for fast import on the same machine.
    pub fn new(name: impl Into<String>, layer: Layer, entrypoint: &[&str]) -> Self {
        Self {
            name: name.into(),
            layers: vec![layer],
            entrypoint: entrypoint.iter().map(|&word| word.to_owned()).collect(),
            command: Vec::new(),
            env: BTreeMap::from([("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin:/".to_owned())]),
            user: String::new(),
            labels: BTreeMap::new(),
            compression: Compression::None,
        }
    }

    /// The file name of its archive: the last part of the name, without the tag.
    pub fn archive_name(&self) -> String {
        let last = self.name.rsplit('/').next().unwrap_or(&self.name);
        format!("{}.tar", last.split(':').next().unwrap_or(last))
    }

    /// Writes the archive into `dir`, whole or not at all.
    pub fn write(&self, dir: &Path) -> Result<Written, ImageError> {
        self.write_to(dir.join(self.archive_name()))
    }

    /// The archive in `dir`, written only when what the image is made of has changed.
    ///
    /// The file's name carries a fingerprint, so archives of different source trees do not overwrite each other.
    pub fn cached(&self, dir: &Path) -> Result<PathBuf, ImageError> {
        let name = self.archive_name();
        let path = dir.join(format!("{}-{}.tar", name.trim_end_matches(".tar"), self.fingerprint()?));
        if !path.exists() {
            self.write_to(path.clone())?;
        }
        Ok(path)
    }

    /// Twelve hexadecimal digits over the description of the image, and size and time of the files in it: the files
    /// themselves are too large to be hashed at every start.
    fn fingerprint(&self) -> Result<String, ImageError> {
        let mut text = format!("{self:?}");
        for source in self.layers.iter().flat_map(Layer::sources) {
            let metadata = fs::metadata(source).map_err(io_error("read", source))?;
            let modified = metadata.modified().map_err(io_error("read", source))?;
            text.push_str(&format!("{}{modified:?}", metadata.len()));
        }
        Ok(sha256(text.as_bytes())[..12].to_owned())
    }

    fn write_to(&self, path: PathBuf) -> Result<Written, ImageError> {
        let (bytes, digest) = self.archive()?;
        // Two processes may write the same archive: each its own file, and the last rename wins with equal bytes.
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        }
        fs::write(&partial, &bytes).map_err(io_error("write", &partial))?;
        fs::rename(&partial, &path).map_err(io_error("rename", &partial))?;
        Ok(Written { name: self.name.clone(), path, digest, size: bytes.len() as u64 })
    }

    /// The archive and its manifest's digest.
    fn archive(&self) -> Result<(Vec<u8>, String), ImageError> {
        let mut blobs = Blobs::default();
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for layer in &self.layers {
            let packed = layer.pack(self.compression)?;
            diff_ids.push(packed.diff_id);
            layers.push(blobs.add(self.compression.media_type(), packed.blob));
        }
        let config = blobs.add("application/vnd.oci.image.config.v1+json", self.config(&diff_ids));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": layers,
        });
        let mut descriptor = blobs.add(MANIFEST, manifest.to_string().into_bytes());
        let digest = descriptor["digest"].as_str().expect("invariant: a descriptor has a digest").to_owned();
        descriptor["platform"] = json!({"architecture": ARCHITECTURE, "os": "linux"});
        descriptor["annotations"] = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": self.name.rsplit(':').next(),
        });
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]});
        let mut files = Layer::new();
        files.text("/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", 0o644)?;
        files.text("/index.json", &index.to_string(), 0o644)?;
        for (digest, blob) in blobs.0 {
            files.bytes(&format!("/blobs/sha256/{digest}"), blob, 0o644)?;
        }
        Ok((files.pack(Compression::None)?.blob, digest))
    }

    fn config(&self, diff_ids: &[String]) -> Vec<u8> {
        let env: Vec<_> = self.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut config = json!({"Env": env, "WorkingDir": "/"});
        if !self.entrypoint.is_empty() {
            config["Entrypoint"] = json!(self.entrypoint);
        }
        if !self.command.is_empty() {
            config["Cmd"] = json!(self.command);
        }
        if !self.user.is_empty() {
            config["User"] = json!(self.user);
        }
        if !self.labels.is_empty() {
            config["Labels"] = json!(self.labels);
        }
        let history: Vec<_> = diff_ids.iter().map(|_| json!({"created": EPOCH})).collect();
        json!({
            "created": EPOCH,
            "architecture": ARCHITECTURE,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        })
        .to_string()
        .into_bytes()
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EPOCH: &str = "1970-01-01T00:00:00Z";
/// The machine's own, by Go's name for it: the testbed builds only what it runs.
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// Content by its digest.
#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    /// Stores a blob and returns its descriptor.
    fn add(&mut self, media_type: &str, blob: Vec<u8>) -> Value {
        let digest = sha256(&blob);
        let descriptor = json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": blob.len()});
        self.0.insert(digest, blob);
        descriptor
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    move |source| ImageError::Io { what, path: path.to_owned(), source }
}

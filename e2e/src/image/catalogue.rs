//! The images of the testbed: the project's own, and the four that a cluster cannot be without.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Compression, Image, ImageError, Layer, Written, iptables, release::Binaries};
use crate::{
    assets::{Assets, AssetsError, Binary, cache_root},
    progress::Progress,
};

/// The project's image.
pub const PORTREEVE: &str = concat!("portreeve.io/portreeve:", env!("CARGO_PKG_VERSION"));
/// PID 1 of every Pod.
pub const PAUSE: &str = "portreeve.io/testbed/pause:1";
/// Kubernetes' test server; `netexec` is the backend of the scenarios.
pub const AGNHOST: &str = "portreeve.io/testbed/agnhost:1";
/// The cluster's DNS.
pub const COREDNS: &str = "portreeve.io/testbed/coredns:1";

/// The user of the project's processes, as in the chart's security contexts.
const USER: u32 = 65_532;

/// The testbed's own images, from the programs of its Go modules.
pub fn testbed(assets: &Assets) -> Result<Vec<Image>, ImageError> {
    Ok(vec![
        single(PAUSE, assets, Binary::Pause)?,
        single(AGNHOST, assets, Binary::Agnhost)?,
        single(COREDNS, assets, Binary::Coredns)?,
    ])
}

/// An image with one static program and the two directories that programs take for granted.
fn single(name: &str, assets: &Assets, binary: Binary) -> Result<Image, ImageError> {
    let program = format!("/{}", binary.file_name());
    let mut layer = Layer::new();
    layer.file(&program, assets.path(binary), 0o755)?.directory("/tmp", 0o1777)?.directory("/etc", 0o755)?;
    Ok(Image::new(name, layer, &[&program]))
}

/// The project's image: three static daemons, run as a user without a name elsewhere, and iptables for the agent.
pub fn portreeve(binaries: &Binaries) -> Result<Image, ImageError> {
    let mut layer = Layer::new();
    for (name, path) in &binaries.paths {
        layer.file(&format!("/{name}"), path.as_path(), 0o755)?;
    }
    iptables::add(&mut layer)?;
    let account = format!("portreeve:x:{USER}:");
    layer.text("/etc/passwd", &format!("{account}{USER}::/:/nonexistent\n"), 0o644)?;
    layer.text("/etc/group", &format!("{account}\n"), 0o644)?;
    let mut image = Image::new(PORTREEVE, layer, &[]);
    image.user = format!("{USER}:{USER}");
    image.env = BTreeMap::from([("PATH".to_owned(), "/usr/sbin".to_owned())]);
    image.compression = Compression::Gzip;
    image.labels = BTreeMap::from(
        [
            ("title", "Portreeve"),
            ("description", "Keeps the client's address and the load even for Kubernetes Services"),
            ("version", env!("CARGO_PKG_VERSION")),
            // Ours, and that of iptables.
            ("licenses", concat!(env!("CARGO_PKG_LICENSE"), " AND GPL-2.0-or-later")),
            ("url", env!("CARGO_PKG_REPOSITORY")),
        ]
        .map(|(key, value)| (format!("org.opencontainers.image.{key}"), value.to_owned())),
    );
    Ok(image)
}

/// The archives of [`testbed`] in the cache: what every node has from the start. Blocks; a few seconds when cold.
pub fn testbed_archives(assets: &Assets, progress: Progress) -> Result<Vec<PathBuf>, CatalogueError> {
    let dir = cache_root()?.join("images");
    let step = progress.step("pack the testbed's images");
    let archives = testbed(assets)?.iter().map(|image| image.cached(&dir)).collect::<Result<_, _>>()?;
    step.done();
    Ok(archives)
}

/// Why the testbed's images are not there.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// There is no cache directory.
    #[error(transparent)]
    Cache(#[from] AssetsError),
    /// An image could not be built.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// Writes images into `dir`, each announced by name, size and digest.
pub fn write_all(images: &[Image], dir: &Path, progress: Progress) -> Result<Vec<Written>, ImageError> {
    let mut all = Vec::new();
    for image in images {
        let step = progress.step(format!("pack {}", image.name));
        let written = image.write(dir)?;
        step.done();
        progress.say(&format!("          {} {:.1} MB", written.digest, written.size as f64 / 1e6));
        all.push(written);
    }
    Ok(all)
}

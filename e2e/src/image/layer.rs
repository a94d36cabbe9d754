//! One layer: a sorted set of files and directories, packed as a tar that depends on nothing else.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use flate2::{GzBuilder, write::GzEncoder};

use super::{ImageError, io_error, sha256};

/// How a layer is stored in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As it is: larger, and three times faster to import.
    None,
    /// gzip: for images that leave the machine.
    Gzip,
}

impl Compression {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        }
    }
}

#[derive(Debug, Clone)]
enum Content {
    Directory,
    Link(String),
    Bytes(Vec<u8>),
    File(PathBuf),
}

#[derive(Debug, Clone)]
struct Entry {
    content: Content,
    mode: u32,
}

/// A layer under construction. Every entry belongs to root, so that no process in the image can change it.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    /// By path without the leading slash; parents sort before their children.
    entries: BTreeMap<String, Entry>,
}

/// A layer as it is stored.
pub(super) struct Packed {
    pub(super) blob: Vec<u8>,
    /// Digest of the uncompressed tar, which is what the config lists.
    pub(super) diff_id: String,
}

impl Layer {
    /// An empty layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file with the content that `source` has when the image is written.
    pub fn file(&mut self, path: &str, source: impl Into<PathBuf>, mode: u32) -> Result<&mut Self, ImageError> {
        self.add(path, Content::File(source.into()), mode)
    }

    /// Adds a file with this text.
    pub fn text(&mut self, path: &str, text: &str, mode: u32) -> Result<&mut Self, ImageError> {
        self.bytes(path, text.as_bytes().to_vec(), mode)
    }

    /// Adds a file with these bytes.
    pub fn bytes(&mut self, path: &str, bytes: Vec<u8>, mode: u32) -> Result<&mut Self, ImageError> {
        self.add(path, Content::Bytes(bytes), mode)
    }

    /// Adds a directory; those above a file come by themselves with mode 0755.
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<&mut Self, ImageError> {
        self.add(path, Content::Directory, mode)
    }

    /// Adds a symbolic link to `target`.
    pub fn link(&mut self, path: &str, target: &str) -> Result<&mut Self, ImageError> {
        self.add(path, Content::Link(target.to_owned()), 0o777)
    }

    /// The files that are read when the image is written.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Path> {
        self.entries.values().filter_map(|entry| match &entry.content {
            Content::File(source) => Some(source.as_path()),
            Content::Directory | Content::Link(_) | Content::Bytes(_) => None,
        })
    }

    fn add(&mut self, path: &str, content: Content, mode: u32) -> Result<&mut Self, ImageError> {
        let inside = path.strip_prefix('/').filter(|rest| {
            !rest.is_empty() && rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        });
        let inside = inside.ok_or_else(|| ImageError::Path(path.to_owned()))?;
        for (end, _) in inside.match_indices('/') {
            let parent = Entry { content: Content::Directory, mode: 0o755 };
            self.entries.entry(inside[..end].to_owned()).or_insert(parent);
        }
        match self.entries.insert(inside.to_owned(), Entry { content, mode }) {
            Some(Entry { content: Content::Directory, .. }) | None => Ok(self),
            Some(_) => Err(ImageError::Twice(path.to_owned())),
        }
    }

    pub(super) fn pack(&self, compression: Compression) -> Result<Packed, ImageError> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, Entry { content, mode }) in &self.entries {
            append(&mut archive, path, content, *mode)?;
        }
        let in_memory = io_error("pack", Path::new("layer"));
        let tar = archive.into_inner().map_err(in_memory)?;
        let diff_id = format!("sha256:{}", sha256(&tar));
        let blob = match compression {
            Compression::None => tar,
            Compression::Gzip => gzip(&tar).map_err(io_error("compress", Path::new("layer")))?,
        };
        Ok(Packed { blob, diff_id })
    }
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, content: &Content, mode: u32) -> Result<(), ImageError> {
    let read;
    let (kind, name, bytes): (_, _, &[u8]) = match content {
        Content::Directory => (tar::EntryType::Directory, format!("{path}/"), &[]),
        Content::Link(_) => (tar::EntryType::Symlink, path.to_owned(), &[]),
        Content::Bytes(bytes) => (tar::EntryType::Regular, path.to_owned(), bytes),
        Content::File(source) => {
            read = fs::read(source).map_err(io_error("read", source))?;
            (tar::EntryType::Regular, path.to_owned(), &read)
        }
    };
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    if let Content::Link(target) = content {
        return archive.append_link(&mut header, name, target).map_err(io_error("pack", Path::new(path)));
    }
    archive.append_data(&mut header, name, bytes).map_err(io_error("pack", Path::new(path)))
}

/// gzip without name and time in its header.
fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder: GzEncoder<Vec<u8>> = GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(bytes)?;
    encoder.finish()
}

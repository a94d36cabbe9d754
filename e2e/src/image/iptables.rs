//! Debian's iptables for the agent's image: the one backend that works by programs of others. Both variants, their
//! libraries and their plug-ins, as they are on the machine that builds the image.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{ImageError, Layer, io_error};

/// The programs, each of which is many commands by the name that it is called by.
const VARIANTS: [(&str, &str); 2] = [("xtables-nft-multi", ""), ("xtables-legacy-multi", "-legacy")];
/// Where Debian has them.
const PROGRAMS: &str = "/usr/sbin";
/// Directories under which Debian has the plug-ins, by architecture.
const LIBRARIES: &str = "/usr/lib";

/// Adds everything to `layer`, at the places where it is here. `iptables` by itself is the nf_tables variant.
pub(super) fn add(layer: &mut Layer) -> Result<(), ImageError> {
    let mut libraries = std::collections::BTreeSet::new();
    for (program, suffix) in VARIANTS {
        let path = Path::new(PROGRAMS).join(program);
        if !path.is_file() {
            return Err(ImageError::Missing(path));
        }
        libraries.extend(needed(&path)?);
        layer.file(&format!("{PROGRAMS}/{program}"), &path, 0o755)?;
        for family in ["iptables", "ip6tables"] {
            for command in ["", "-save", "-restore"] {
                layer.link(&format!("{PROGRAMS}/{family}{suffix}{command}"), program)?;
            }
        }
    }
    let plugins = plugins()?;
    for entry in std::fs::read_dir(&plugins).map_err(io_error("list", &plugins))? {
        let path = entry.map_err(io_error("list", &plugins))?.path();
        libraries.extend(needed(&path)?);
        // Links among them are other names of the same plug-in; each is read through.
        layer.file(&path.to_string_lossy(), &path, 0o644)?;
    }
    for library in libraries {
        let path = library.to_string_lossy().into_owned();
        layer.file(&path, library, 0o755)?;
    }
    Ok(())
}

/// The shared libraries of a program or plug-in, the loader included, at the places where the loader finds them.
fn needed(program: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let listed = Command::new("ldd").arg(program).output().map_err(io_error("run ldd on", program))?;
    let text = String::from_utf8_lossy(&listed.stdout);
    libraries(&text).map_err(|library| ImageError::Library { program: program.to_owned(), library })
}

/// The paths in what ldd(1) says; the name of a library that it does not find is the error.
fn libraries(text: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let (name, place) = line.split_once(" => ").unwrap_or((line, line));
        if place.starts_with("not found") {
            return Err(name.to_owned());
        }
        // `linux-vdso.so.1` has no place: the kernel brings it along.
        if let Some(path) = place.split(' ').next().filter(|path| path.starts_with('/')) {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

/// The directory of plug-ins.
fn plugins() -> Result<PathBuf, ImageError> {
    let root = Path::new(LIBRARIES);
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(root).map_err(io_error("list", root))? {
        let directory = entry.map_err(io_error("list", root))?.path().join("xtables");
        if directory.is_dir() {
            found.push(directory);
        }
    }
    found.pop().ok_or_else(|| ImageError::Library { program: root.to_owned(), library: "xtables/".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_where_the_loader_finds_them_and_a_missing_one_is_named() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibmnl.so.0 => /lib/x/libmnl.so.0 (0x2)\n\t/lib64/ld.so.2 (0x3)\n";
        assert_eq!(libraries(text).unwrap(), [Path::new("/lib/x/libmnl.so.0"), Path::new("/lib64/ld.so.2")]);
        assert_eq!(libraries("\tlibnftnl.so.11 => not found\n").unwrap_err(), "libnftnl.so.11");
    }
}

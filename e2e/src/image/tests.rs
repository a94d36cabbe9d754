use std::{collections::BTreeSet, io::Read};

use super::*;
use crate::run_dir::scratch;

fn sample(compression: Compression) -> Image {
    let mut layer = Layer::new();
    layer.text("/usr/bin/tool", "#!", 0o755).unwrap().directory("/tmp", 0o1777).unwrap();
    let mut image = Image::new("portreeve.io/testbed/sample:7", layer, &["/usr/bin/tool"]);
    image.user = "65532:65532".to_owned();
    image.compression = compression;
    image
}

fn unpack(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(name, bytes);
    }
    files
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
    let digest = descriptor["digest"].as_str().unwrap();
    let bytes = &files[&format!("blobs/{}", digest.replace(':', "/"))];
    assert_eq!(digest, format!("sha256:{}", sha256(bytes)), "a blob's name is its digest");
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

#[test]
fn the_same_input_gives_the_same_bytes_for_ever() {
    let (bytes, digest) = sample(Compression::Gzip).archive().unwrap();
    assert_eq!((bytes, digest), sample(Compression::Gzip).archive().unwrap());
    let layer = sample(Compression::None).layers[0].pack(Compression::None).unwrap();
    assert_eq!(layer.diff_id, "sha256:06c9428f3f1761383335ca2948c76ad0a16fa8733d121d919a296d78230d82ba");
}

#[test]
fn every_descriptor_leads_to_its_content_and_the_config_says_how_to_run() {
    for compression in [Compression::None, Compression::Gzip] {
        let files = unpack(&sample(compression).archive().unwrap().0);
        let index = parsed(&files["index.json"]);
        let descriptor = &index["manifests"][0];
        assert_eq!(descriptor["annotations"]["io.containerd.image.name"], "portreeve.io/testbed/sample:7");
        let manifest = parsed(blob(&files, descriptor));
        let config = parsed(blob(&files, &manifest["config"]));
        assert_eq!(config["config"]["Entrypoint"], json!(["/usr/bin/tool"]));
        assert_eq!(config["config"]["User"], "65532:65532");

        let stored = blob(&files, &manifest["layers"][0]);
        let mut tar = Vec::new();
        match compression {
            Compression::None => tar.extend_from_slice(stored),
            Compression::Gzip => {
                flate2::read::GzDecoder::new(stored).read_to_end(&mut tar).unwrap();
            }
        }
        assert_eq!(config["rootfs"]["diff_ids"], json!([format!("sha256:{}", sha256(&tar))]));
    }
}

#[test]
fn a_layer_lists_parents_before_children_with_epoch_times_and_roots_ownership() {
    let packed = sample(Compression::None).layers[0].pack(Compression::None).unwrap();
    let mut seen = BTreeSet::new();
    for entry in tar::Archive::new(packed.blob.as_slice()).entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        let path = entry.path().unwrap().into_owned();
        assert!(path.parent().is_none_or(|parent| parent == Path::new("") || seen.contains(parent)), "{path:?}");
        seen.insert(path);
    }
    assert_eq!(seen.len(), 4, "tmp, usr, usr/bin, usr/bin/tool");
}

#[test]
fn paths_that_leave_the_image_or_come_twice_are_refused() {
    let mut layer = Layer::new();
    for path in ["relative", "/", "/../etc/passwd", "/a//b"] {
        assert!(matches!(layer.text(path, "", 0o644), Err(ImageError::Path(_))), "{path}");
    }
    layer.text("/a", "", 0o644).unwrap();
    assert!(matches!(layer.text("/a", "", 0o644), Err(ImageError::Twice(_))));
}

#[test]
fn writing_replaces_the_archive_and_names_it_after_the_image() {
    let dir = scratch("image-write");
    let first = sample(Compression::Gzip).write(dir.path()).unwrap();
    assert_eq!(first.path, dir.path().join("sample.tar"));
    assert_eq!(first, sample(Compression::Gzip).write(dir.path()).unwrap());
    assert_eq!(fs::metadata(&first.path).unwrap().len(), first.size);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_cached_archive_is_reused_until_a_file_in_it_changes() {
    let dir = scratch("image-cached");
    let program = dir.path().join("program");
    let cache = dir.path().join("cache");
    let mut layer = Layer::new();
    layer.file("/program", &program, 0o755).unwrap();
    let image = Image::new("portreeve.io/testbed/sample:7", layer, &["/program"]);
    fs::write(&program, "one").unwrap();
    let first = image.cached(&cache).unwrap();
    assert_eq!(first, image.cached(&cache).unwrap());
    fs::write(&program, "another").unwrap();
    assert_ne!(first, image.cached(&cache).unwrap());
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 2);
}

#[test]
fn a_dynamic_program_is_told_from_a_static_one() {
    // Test programs are linked against the machine's libc.
    let own = fs::read(std::env::current_exe().unwrap()).unwrap();
    assert!(release::needs_interpreter(&own));
    assert!(!release::needs_interpreter(&[0; 64]));
    assert!(!release::needs_interpreter(b"short"));
}

#[test]
fn the_projects_image_holds_the_three_daemons_and_iptables_and_runs_as_nobody() {
    let dir = scratch("image-daemons");
    let program = dir.path().join("program");
    fs::write(&program, "program").unwrap();
    let paths = release::DAEMONS.map(|daemon| (daemon, program.clone()));
    let image = catalogue::portreeve(&release::Binaries { paths: paths.into() }).unwrap();
    assert_eq!(image.user, "65532:65532");
    assert_eq!(image.archive_name(), "portreeve.tar");
    let layer = image.layers[0].pack(Compression::None).unwrap();
    let names: BTreeSet<_> = unpack(&layer.blob).into_keys().collect();
    let iptables = ["usr/sbin/xtables-nft-multi", "usr/sbin/iptables-restore", "usr/sbin/ip6tables-legacy-save"];
    for program in release::DAEMONS.into_iter().chain(iptables) {
        assert!(names.contains(program), "{names:?}");
    }
}

use super::*;
use crate::run_dir::scratch;

#[test]
fn the_go_release_is_read_from_its_version_line() {
    assert_eq!(minor("go version go1.26.8 linux/amd64"), Some(26));
    assert_eq!(minor("go version go1.27rc1 linux/arm64"), Some(27));
    assert_eq!(minor("go version devel go1.27-abcdef linux/amd64"), None);
    assert_eq!(minor(""), None);
}

#[test]
fn the_cache_key_is_stable_and_depends_on_the_compiler() {
    let one = key("go version go1.26.8 linux/amd64");
    assert_eq!(one.len(), 12);
    assert_eq!(one, key("go version go1.26.8 linux/amd64"));
    assert_ne!(one, key("go version go1.26.9 linux/amd64"));
}

#[test]
fn every_program_comes_from_exactly_one_module() {
    for binary in Binary::ALL {
        let file = binary.file_name();
        let makers = MODULES.iter().filter(|module| {
            module.targets.iter().any(|target| match *target {
                "." => module.name == file,
                path => path.rsplit('/').next() == Some(file),
            })
        });
        assert_eq!(makers.count(), 1, "{file}");
    }
}

#[test]
fn the_reported_version_is_the_pinned_one() {
    let kubernetes = &MODULES[0];
    assert!(kubernetes.ldflags.contains(&format!("gitVersion=v{KUBERNETES_VERSION}")));
    assert!(kubernetes.files[0].1.contains(&format!("k8s.io/kubernetes v{KUBERNETES_VERSION}")));
}

#[test]
fn a_given_directory_that_lacks_a_program_is_refused_by_name() {
    let dir = scratch("assets-given");
    fs::write(dir.path().join("etcd"), "").unwrap();
    let need = [Binary::Etcd, Binary::Kubectl];
    let error = Assets::from_directory("PORTREEVE_ASSETS", dir.path().to_owned(), &need).unwrap_err();
    assert!(error.to_string().ends_with("lacks kubectl"), "{error}");
    fs::write(dir.path().join("kubectl"), "").unwrap();
    let assets = Assets::from_directory("PORTREEVE_ASSETS", dir.path().to_owned(), &need).unwrap();
    assert_eq!(assets.path(Binary::Etcd), dir.path().join("etcd"));
}

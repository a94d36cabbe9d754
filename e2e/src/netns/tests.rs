use std::net::TcpListener;

use nix::unistd::geteuid;

use super::*;

/// Namespaces need root; without it the test says so and shows nothing.
fn root() -> bool {
    let root = geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

fn pin(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("portreeve-netns-{name}-{}", std::process::id()))
}

#[test]
fn a_socket_opened_inside_is_not_seen_outside() {
    if !root() {
        return;
    }
    let ns = NetNs::create(&pin("socket")).unwrap();
    let inside = ns.enter(|| Ok::<_, anyhow::Error>(TcpListener::bind("127.0.0.1:0")?)).unwrap();
    let address = inside.local_addr().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
    ns.enter(|| Ok::<_, anyhow::Error>(std::net::TcpStream::connect(address)?)).unwrap();
    ns.remove().unwrap();
    assert!(!ns.exists());
}

#[test]
fn a_failing_command_is_reported_with_its_own_words() {
    if !root() {
        return;
    }
    let ns = NetNs::create(&pin("words")).unwrap();
    let error = ns.ip("link set nosuch up\n").unwrap_err().to_string();
    ns.remove().unwrap();
    assert!(error.contains("nosuch"), "{error}");
}

#[test]
fn removing_what_is_gone_is_fine() {
    NetNs::at(&pin("gone")).remove().unwrap();
}

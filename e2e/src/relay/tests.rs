use std::{
    io::{Read, Write},
    net::TcpStream,
};

use super::*;

/// Our own namespace: entering it needs the same privilege as any other.
const OWN: &str = "/proc/self/ns/net";

#[test]
fn a_missing_namespace_is_an_error_with_its_path() {
    let error = Relay::start(Path::new("/nonexistent/ns"), "127.0.0.1:1".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/ns"), "{error}");
}

#[test]
fn bytes_pass_both_ways_and_half_closing_is_kept() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: entering a network namespace needs root");
        return;
    }
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let relay = Relay::start(Path::new(OWN), server.local_addr().unwrap()).unwrap();
    let echo = thread::spawn(move || {
        let (mut peer, _) = server.accept().unwrap();
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        write!(peer, "seen: {text}").unwrap();
    });
    let mut client = TcpStream::connect(relay.address()).unwrap();
    client.write_all(b"hello").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "seen: hello");
    echo.join().unwrap();
}

#[test]
fn dropping_the_relay_closes_its_port() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: entering a network namespace needs root");
        return;
    }
    let relay = Relay::start(Path::new(OWN), "127.0.0.1:1".parse().unwrap()).unwrap();
    let address = relay.address();
    drop(relay);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

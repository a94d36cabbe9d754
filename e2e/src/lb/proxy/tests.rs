use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::io::AsyncReadExt;

use super::*;

#[test]
fn headers_are_as_the_specification_writes_them() {
    let (from, to) = ("192.0.2.7:40000".parse().unwrap(), "198.51.100.1:80".parse().unwrap());
    assert_eq!(encode(ProxyProtocol::V1, from, to), b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 80\r\n");
    let v2 = encode(ProxyProtocol::V2, from, to);
    assert_eq!(v2[..16], *b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A\x21\x11\x00\x0c");
    assert_eq!(v2[16..], [192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 0, 80]);
    let v6 = encode(ProxyProtocol::V2, "[fd31::65]:1".parse().unwrap(), "[2001:db8::1]:2".parse().unwrap());
    assert_eq!((v6[13], v6[15], v6.len()), (0x21, 36, 52));
}

#[test]
fn nodes_take_turns() {
    let node = |n| Dual { v4: Ipv4Addr::new(10, 0, 0, n), v6: Ipv6Addr::LOCALHOST };
    let backends = Backends::default();
    assert_eq!(backends.next(), None);
    backends.set(vec![node(1), node(2)]);
    let turns: Vec<_> = (0..4).filter_map(|_| backends.next()).map(|n| n.v4.octets()[3]).collect();
    assert!(turns == [1, 2, 1, 2] || turns == [2, 1, 2, 1], "{turns:?}");
}

#[tokio::test]
async fn a_connection_reaches_the_node_behind_a_header_and_its_answer_comes_back() {
    let node = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let node_port = node.local_addr().unwrap().port();
    let backends = Backends::default();
    backends.set(vec![Dual { v4: Ipv4Addr::LOCALHOST, v6: Ipv6Addr::LOCALHOST }]);
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = front.local_addr().unwrap();
    let _serving = JoinSet::from_iter([serve(front, node_port, backends, Some(ProxyProtocol::V1))]);

    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    let (mut accepted, _) = node.accept().await.unwrap();
    let mut seen = String::new();
    accepted.read_to_string(&mut seen).await.unwrap();
    let expected =
        format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\nhello", client.local_addr().unwrap().port(), address.port());
    assert_eq!(seen, expected);
    accepted.write_all(b"bye").await.unwrap();
    drop(accepted);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "bye");
}

use super::*;

#[test]
fn urls_name_addresses_of_both_families() {
    assert_eq!(Target::parse("http://10.0.0.1/x?y=1").unwrap(), Target::new("10.0.0.1:80".parse().unwrap(), "/x?y=1"));
    assert_eq!(Target::parse("http://[fd30::1]:8080").unwrap(), Target::new("[fd30::1]:8080".parse().unwrap(), "/"));
    assert!(Target::parse("https://10.0.0.1/").is_err());
    assert!(Target::parse("http://portreeve.io/").unwrap_err().to_string().contains("not an address"));
}

#[test]
fn plain_and_chunked_bodies_are_read() {
    let plain = parse(b"HTTP/1.1 503 Service Unavailable\r\nX-Load-Balancing-Endpoint-Weight: 2\r\n\r\nno").unwrap();
    assert_eq!((plain.0, plain.2.as_str()), (503, "no"));
    assert_eq!(plain.1, [("X-Load-Balancing-Endpoint-Weight".to_owned(), "2".to_owned())]);
    let chunked =
        parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n").unwrap();
    assert_eq!(chunked.2, "abcde");
}

#[test]
fn a_cut_answer_is_not_taken_for_a_whole_one() {
    assert!(parse(b"HTTP/1.1 200 OK\r\nContent").is_none());
    assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab").is_none());
    assert!(parse(b"SSH-2.0-x\r\n\r\n").is_none());
}

#[tokio::test]
async fn a_closed_port_refuses_and_a_silent_one_times_out() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outcome = get(&Target::new(silent.local_addr().unwrap(), "/"), Duration::from_millis(50)).await;
    assert_eq!(outcome.error, Some(HttpFailure::Timeout));
    // Bound, so that no other test gets the port, but not listening.
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let outcome = get(&Target::new(closed.local_addr().unwrap(), "/"), Duration::from_secs(5)).await;
    assert_eq!(outcome.error, Some(HttpFailure::Refused));
}

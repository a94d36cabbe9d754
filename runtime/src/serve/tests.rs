use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn start(limits: Limits) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let slow = get(|| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        "slow"
    });
    let router = Router::new().route("/", get(|| async { "hello" })).route("/slow", slow);
    let stop = CancellationToken::new();
    let serving = tokio::spawn(plain(listener, router, limits, stop.clone()));
    (address, stop, serving)
}

async fn ask(stream: &mut TcpStream, path: &str) {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut buf = vec![0; 4096];
    let n = stream.read(&mut buf).await.unwrap();
    String::from_utf8_lossy(&buf[..n]).into_owned()
}

#[tokio::test]
async fn a_head_that_never_ends_closes_the_connection() {
    let limits = Limits { header_timeout: Duration::from_millis(100), ..Limits::default() };
    let (address, stop, serving) = start(limits).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}");
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn a_kept_alive_connection_may_stay_silent_longer_than_a_head_may_take() {
    let limits = Limits { header_timeout: Duration::from_millis(100), ..Limits::default() };
    let (address, stop, serving) = start(limits).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..2 {
        ask(&mut stream, "/").await;
        assert!(answer(&mut stream).await.ends_with("hello"));
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn a_request_under_way_is_answered_after_the_stop() {
    let (address, stop, serving) = start(Limits::default()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The first exchange proves that the connection is accepted before the stop.
    ask(&mut stream, "/").await;
    assert!(answer(&mut stream).await.ends_with("hello"));
    ask(&mut stream, "/slow").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.cancel();
    assert!(answer(&mut stream).await.ends_with("slow"));
    serving.await.unwrap();
}

#[tokio::test]
async fn a_connection_above_the_cap_waits_for_room() {
    let (address, stop, serving) = start(Limits { max_connections: 1, ..Limits::default() }).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    ask(&mut first, "/").await;
    assert!(answer(&mut first).await.ends_with("hello"));
    let mut second = TcpStream::connect(address).await.unwrap();
    ask(&mut second, "/").await;
    let early = tokio::time::timeout(Duration::from_millis(200), answer(&mut second)).await;
    assert!(early.is_err(), "{early:?}");
    drop(first);
    assert!(answer(&mut second).await.ends_with("hello"));
    stop.cancel();
    drop(second);
    serving.await.unwrap();
}

#[tokio::test]
async fn a_request_tells_which_address_was_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let told = |axum::Extension(Asked(at)): axum::Extension<Asked>| async move { at.to_string() };
    let stop = CancellationToken::new();
    let serving = tokio::spawn(plain(listener, Router::new().fallback(told), Limits::default(), stop.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    ask(&mut stream, "/").await;
    assert!(answer(&mut stream).await.ends_with(&address.to_string()));
    stop.cancel();
    serving.await.unwrap();
}

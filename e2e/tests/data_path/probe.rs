//! Flows of a client, wherever it lives: an outside machine, a node, a Pod. Each asks who answers and whom that sees.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use portreeve_e2e::fabric::plan::Dual;
use portreeve_e2e::http::HttpFailure;
use portreeve_e2e::netns::{NetNs, NetNsError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use super::seen::{Answer, Seen, Source};

/// A node that drops says nothing, however long one waits. A refusal that comes back before `connect` has let go of its
/// socket is kept for later by the client's kernel, and told when the SYN that it sends after a second is refused too.
const SILENCE: Duration = Duration::from_millis(2200);
/// UDP sends nothing again.
const UDP_SILENCE: Duration = Duration::from_millis(500);
/// For one who has been answered before.
const PATIENCE: Duration = Duration::from_secs(3);
/// Two Pods that share flows evenly are both seen but once in 2^15 rounds; a round is made again.
const FLOWS: usize = 16;
/// Flows that must all be met by silence.
const SILENT_FLOWS: usize = 3;

/// Transports of the test server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// As rules and ports name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Who talks to a Service.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) netns: NetNs,
    /// Its addresses.
    pub(crate) address: Dual,
    /// Whether it insists on them; else its kernel chooses.
    pub(crate) bound: bool,
}

impl Caller {
    /// The same machine under another of its addresses.
    pub(crate) fn under(&self, address: Dual) -> Self {
        Self { address, bound: true, ..self.clone() }
    }

    fn local(&self, to: SocketAddr) -> SocketAddr {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        SocketAddr::new(if self.bound { self.address.of_family(to.ip()) } else { any }, 0)
    }

    /// A round of new flows to `to`: fewer, if `waits` says that silence is expected.
    pub(crate) async fn round(&self, transport: Transport, to: SocketAddr, waits: bool) -> Result<Seen> {
        let flows = if waits { SILENT_FLOWS } else { FLOWS };
        let (local, own) = (self.local(to), self.address.of_family(to.ip()));
        let answers = self
            .inside(move |netns| {
                netns.block_on(move || {
                    join_all((0..flows).map(|_| async move {
                        let flow = async {
                            match transport {
                                Transport::Tcp => tcp(local, to).await,
                                Transport::Udp => udp(local, to).await,
                            }
                        };
                        let answer = tokio::time::timeout(SILENCE, flow).await;
                        answer.unwrap_or(Err(HttpFailure::Timeout))
                    }))
                })
            })
            .await?;
        let answers = answers.into_iter().map(|answer| match answer {
            Ok((name, ip)) => Answer::Pod { name, source: Source::of(ip, own) },
            Err(why) => Answer::Failed(why),
        });
        Ok(Seen(answers.collect()))
    }

    /// A connection that stays open.
    pub(crate) async fn connect(&self, to: SocketAddr) -> Result<Line> {
        let stream = self
            .inside(move |netns| netns.enter(|| Ok::<_, NetNsError>(TcpStream::connect_timeout(&to, PATIENCE))))
            .await?;
        let stream = stream.with_context(|| format!("connecting to {to}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let line = Line { stream: Arc::new(stream), pod: String::new() };
        let pod = line.ask().await?;
        Ok(Line { pod, ..line })
    }

    /// A socket that keeps its port.
    pub(crate) async fn socket(&self, to: SocketAddr) -> Result<Socket> {
        let local = self.local(to);
        let socket = self.inside(move |netns| netns.enter(|| Ok::<_, NetNsError>(UdpSocket::bind(local)))).await??;
        socket.connect(to)?;
        socket.set_read_timeout(Some(UDP_SILENCE))?;
        Ok(Socket(Arc::new(socket)))
    }

    /// Work that blocks, with this caller's network.
    pub(crate) async fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce(NetNs) -> Result<T, NetNsError> + Send + 'static,
    ) -> Result<T> {
        let netns = self.netns.clone();
        Ok(tokio::task::spawn_blocking(move || work(netns)).await??)
    }
}

/// A TCP connection that stays open.
#[derive(Clone)]
pub(crate) struct Line {
    stream: Arc<TcpStream>,
    /// Who answered first.
    pub(crate) pod: String,
}

impl Line {
    /// Who answers on it.
    pub(crate) async fn ask(&self) -> Result<String> {
        let stream = Arc::clone(&self.stream);
        tokio::task::spawn_blocking(move || {
            (&*stream).write_all(b"GET /hostname HTTP/1.1\r\nHost: web\r\n\r\n")?;
            let (mut buffer, mut read) = ([0; 1024], 0);
            loop {
                let more = (&*stream).read(&mut buffer[read..])?;
                ensure!(more > 0, "the connection was closed");
                read += more;
                if let Some((body, _)) = body(&buffer[..read]) {
                    return Ok(body);
                }
            }
        })
        .await?
    }

    /// Whether the Pod that answered first still does.
    pub(crate) async fn state(&self) -> String {
        match self.ask().await {
            Ok(pod) if pod == self.pod => "alive".to_owned(),
            Ok(pod) => format!("taken by {pod}"),
            Err(error) => format!("{error:#}"),
        }
    }
}

impl Line {
    /// What the client's kernel says of it, where no Pod should answer.
    pub(crate) async fn fate(&self) -> String {
        let error = match self.ask().await {
            Ok(pod) => return format!("answered by {pod}"),
            Err(error) => error,
        };
        match error.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(ErrorKind::ConnectionReset) => "reset".to_owned(),
            Some(ErrorKind::WouldBlock) => "silence".to_owned(),
            _ => format!("{error:#}"),
        }
    }
}

/// A UDP socket that keeps its port: to conntrack, one flow.
#[derive(Clone)]
pub(crate) struct Socket(Arc<UdpSocket>);

impl Socket {
    /// Who answers now, or what the kernel says.
    pub(crate) async fn ask(&self) -> Result<String, HttpFailure> {
        let socket = Arc::clone(&self.0);
        let asked = tokio::task::spawn_blocking(move || {
            // An answer that came too late for its question is none to this one.
            socket.set_nonblocking(true)?;
            let mut buffer = [0; 256];
            while socket.recv(&mut buffer).is_ok() {}
            socket.set_nonblocking(false)?;
            socket.send(b"hostname")?;
            let length = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        });
        asked.await.map_err(|_| HttpFailure::Broken)?.map_err(|error| udp_failure(&error))
    }
}

/// Two questions on one connection, so that both are answered by one Pod.
async fn tcp(local: SocketAddr, to: SocketAddr) -> Result<(String, IpAddr), HttpFailure> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(|_| HttpFailure::Broken)?;
    socket.bind(local).map_err(|_| HttpFailure::Broken)?;
    let mut stream = socket.connect(to).await.map_err(|error| HttpFailure::of_connect(&error))?;
    let questions = "GET /hostname HTTP/1.1\r\nHost: web\r\n\r\n\
                     GET /clientip HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    stream.write_all(questions.as_bytes()).await.map_err(|_| HttpFailure::Broken)?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).await.map_err(|_| HttpFailure::Broken)?;
    let (pod, rest) = body(&raw).ok_or(HttpFailure::Broken)?;
    let (client, _) = body(&raw[rest..]).ok_or(HttpFailure::NotHttp)?;
    let client: SocketAddr = client.parse().map_err(|_| HttpFailure::NotHttp)?;
    Ok((pod, client.ip()))
}

/// Two questions from one port: to conntrack they are one flow.
async fn udp(local: SocketAddr, to: SocketAddr) -> Result<(String, IpAddr), HttpFailure> {
    let socket = tokio::net::UdpSocket::bind(local).await.map_err(|_| HttpFailure::Broken)?;
    socket.connect(to).await.map_err(|error| udp_failure(&error))?;
    let mut buffer = [0; 256];
    let mut answers = Vec::new();
    for question in ["hostname", "clientip"] {
        socket.send(question.as_bytes()).await.map_err(|error| udp_failure(&error))?;
        let length = socket.recv(&mut buffer).await.map_err(|error| udp_failure(&error))?;
        answers.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    let client: SocketAddr = answers[1].parse().map_err(|_| HttpFailure::NotHttp)?;
    Ok((answers.swap_remove(0), client.ip()))
}

fn udp_failure(error: &std::io::Error) -> HttpFailure {
    match error.kind() {
        ErrorKind::WouldBlock => HttpFailure::Timeout,
        // A packet that the sender's own kernel drops.
        ErrorKind::PermissionDenied => HttpFailure::Timeout,
        _ => HttpFailure::of_connect(error),
    }
}

/// The body of the first answer in `raw`, and where the next one begins; `None` until it is whole.
fn body(raw: &[u8]) -> Option<(String, usize)> {
    let head = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
    let lines = String::from_utf8_lossy(&raw[..head]).to_lowercase();
    let length = lines.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().parse::<usize>().ok()?;
    let (from, to) = (head + 4, head + 4 + length);
    Some((String::from_utf8_lossy(raw.get(from..to)?).into_owned(), to))
}

//! One HTTP/1.1 GET on one new connection, with the failure told apart: the testbed measures connections, so keep-alive,
//! pooling and retries must not stand between a test and the packets.

use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer answers are cut: none of ours comes near.
const LIMIT: u64 = 1 << 20;

/// Why a URL names nothing to ask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL, or without a host.
    #[error("{0} is not a URL with a host")]
    NotUrl(String),
    /// Another scheme.
    #[error("{0}: only http:// is spoken here")]
    NotHttp(String),
    /// A name where an address is needed.
    #[error("{url}: {host} is not an address")]
    NotAddress {
        /// The URL.
        url: String,
        /// Its host.
        host: String,
    },
}

/// Where a GET goes. Hosts are address literals: clients outside the cluster have no DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    address: SocketAddr,
    path: String,
}

impl Target {
    /// `http://ADDRESS:PORT/PATH`; an IPv6 address stands in brackets, the port may be left out (80).
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let not_url = || TargetError::NotUrl(url.to_owned());
        let uri: ::http::Uri = url.parse().map_err(|_| not_url())?;
        if uri.scheme_str() != Some("http") {
            return Err(TargetError::NotHttp(url.to_owned()));
        }
        let host = uri.host().ok_or_else(not_url)?;
        let ip = host.trim_matches(['[', ']']).parse();
        let ip = ip.map_err(|_| TargetError::NotAddress { url: url.to_owned(), host: host.to_owned() })?;
        let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        Ok(Self { address: SocketAddr::new(ip, uri.port_u16().unwrap_or(80)), path })
    }

    /// `path` at `address`.
    pub fn new(address: SocketAddr, path: &str) -> Self {
        Self { address, path: path.to_owned() }
    }
}

/// What became of one request.
#[derive(Debug, Clone)]
pub struct HttpOutcome {
    /// The status code, if an answer came.
    pub status: Option<u16>,
    /// Header lines as sent, without the status line.
    pub headers: Vec<(String, String)>,
    /// The body, lossily decoded.
    pub body: String,
    /// Why there is no answer.
    pub error: Option<HttpFailure>,
    /// From the first SYN to the end of the body, or to the failure.
    pub elapsed: Duration,
}

impl HttpOutcome {
    /// Whether the answer was 200.
    pub fn is_ok(&self) -> bool {
        self.status == Some(200)
    }

    /// The value of header `name`, in whatever case it was sent.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// The ways a connection fails, as a client sees them. Kept apart because dropping, rejecting and having no route are
/// different answers of a data path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HttpFailure {
    /// Nothing came back in time: somebody drops.
    Timeout,
    /// RST to the SYN, or ICMP port unreachable.
    Refused,
    /// ICMP host or network unreachable.
    Unreachable,
    /// RST or an early end after the connection stood.
    Broken,
    /// The peer does not speak HTTP.
    NotHttp,
}

impl HttpFailure {
    /// What the kernel said to whoever tried to connect.
    pub fn of_connect(error: &std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Self::Unreachable,
            ErrorKind::TimedOut => Self::Timeout,
            ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => Self::Broken,
            // EACCES is how "administratively prohibited" arrives.
            ErrorKind::PermissionDenied => Self::Unreachable,
            _ => Self::Refused,
        }
    }
}

impl fmt::Display for HttpFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "timeout",
            Self::Refused => "connection refused",
            Self::Unreachable => "unreachable",
            Self::Broken => "connection broken",
            Self::NotHttp => "not HTTP",
        })
    }
}

/// One GET from wherever the calling thread is. `timeout` covers connecting and reading.
pub async fn get(target: &Target, timeout: Duration) -> HttpOutcome {
    let start = Instant::now();
    let answer = tokio::time::timeout(timeout, exchange(target)).await.unwrap_or(Err(HttpFailure::Timeout));
    let elapsed = start.elapsed();
    match answer {
        Ok((status, headers, body)) => HttpOutcome { status: Some(status), headers, body, error: None, elapsed },
        Err(why) => HttpOutcome { status: None, headers: Vec::new(), body: String::new(), error: Some(why), elapsed },
    }
}

type Answer = (u16, Vec<(String, String)>, String);

async fn exchange(target: &Target) -> Result<Answer, HttpFailure> {
    let mut stream = TcpStream::connect(target.address).await.map_err(|e| HttpFailure::of_connect(&e))?;
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", target.path, target.address);
    stream.write_all(request.as_bytes()).await.map_err(|_| HttpFailure::Broken)?;
    let mut raw = Vec::new();
    stream.take(LIMIT).read_to_end(&mut raw).await.map_err(|_| HttpFailure::Broken)?;
    if raw.is_empty() {
        return Err(HttpFailure::Broken);
    }
    parse(&raw).ok_or(HttpFailure::NotHttp)
}

/// Splits an answer that was ended by closing the connection.
fn parse(raw: &[u8]) -> Option<Answer> {
    let split = raw.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&raw[..split]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<_> =
        lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.to_owned(), v.trim().to_owned())).collect();
    let body = &raw[split + 4..];
    let chunked = headers.iter().any(|(n, v)| n.eq_ignore_ascii_case("transfer-encoding") && v == "chunked");
    let body = if chunked { unchunk(body)? } else { body.to_vec() };
    Some((status, headers, String::from_utf8_lossy(&body).into_owned()))
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        rest = rest.get(end + 2..)?;
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests;

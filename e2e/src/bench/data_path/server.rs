//! What answers in a Pod: one thread that waits with epoll, as servers do.
//!
//! The first byte of a connection says what is wanted: [`ECHO`] sends it and every further byte back, [`WHO`] sends the
//! address that was dialled, as the Pod sees it, [`SINK`] counts what comes.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::plan;
use crate::netns::{NetNs, NetNsError};

pub(super) const ECHO: u8 = b'e';
pub(super) const WHO: u8 = b'w';
pub(super) const SINK: u8 = b's';

const OPEN: u8 = b'o';
const CLOSED: u8 = b'c';
const QUEUE: i32 = 4_096;

/// Tokens of the epoll set; connections have further ones.
const ORDERS: u64 = 0;
const LISTENER: u64 = 1;
/// Events taken at a time.
const EVENTS: usize = 64;

/// A listening Pod. Dropping it ends the thread and every connection.
#[derive(Debug)]
pub(super) struct Server {
    listener: TcpListener,
    orders: UnixStream,
    /// Bytes that sinks took.
    taken: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on every address of the namespace, on the core that is measured.
    pub(super) fn start(pod: &NetNs) -> Result<Self> {
        let listener: TcpListener = pod.enter(|| {
            let listener = TcpListener::bind((IpAddr::from([0, 0, 0, 0]), plan::POD_PORT));
            listener.map_err(|source| NetNsError::Start { program: "the Pod's server".to_owned(), source })
        })?;
        Self::over(listener)
    }

    fn over(listener: TcpListener) -> Result<Self> {
        let backlog = nix::sys::socket::Backlog::new(QUEUE).context("invariant: the queue is of a legal length")?;
        nix::sys::socket::listen(&listener, backlog)?;
        listener.set_nonblocking(true)?;
        let (orders, obeyed) = UnixStream::pair()?;
        let (own, taken) = (listener.try_clone()?, Arc::new(AtomicU64::new(0)));
        let counter = Arc::clone(&taken);
        let thread = std::thread::Builder::new().name("pod".to_owned()).spawn(move || {
            if let Err(error) = super::slices::pin().and_then(|()| Ok(run(&own, obeyed, &counter)?)) {
                tracing::error!(%error, "a Pod's server ended");
            }
        })?;
        Ok(Self { listener, orders, taken, thread: Some(thread) })
    }

    /// From now on connections wait in the queue, which [`Self::discard`] empties: nobody is woken for them.
    pub(super) fn close(&self) -> io::Result<()> {
        (&self.orders).write_all(&[CLOSED])
    }

    /// From now on connections are served.
    pub(super) fn open(&self) -> io::Result<()> {
        (&self.orders).write_all(&[OPEN])
    }

    /// Takes every connection from the queue and forgets it; how many there were.
    pub(super) fn discard(&self) -> io::Result<usize> {
        let mut count = 0;
        loop {
            match self.listener.accept() {
                Ok(_) => count += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(count),
                // The client is gone already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Bytes that came to sinks so far.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its orders ends the thread.
        if let Err(error) = self.orders.shutdown(std::net::Shutdown::Both) {
            tracing::warn!(%error, "a Pod's server was not told to end");
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a Pod's server panicked");
        }
    }
}

/// One connection that is served.
struct Connection {
    stream: TcpStream,
    /// Its first byte.
    wish: Option<u8>,
}

fn run(listener: &TcpListener, mut orders: UnixStream, taken: &AtomicU64) -> io::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let readable = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
    epoll.add(&orders, readable(ORDERS))?;
    epoll.add(listener, readable(LISTENER))?;
    let (mut connections, mut next) = (BTreeMap::<u64, Connection>::new(), LISTENER + 1);
    let (mut events, mut buffer) = ([EpollEvent::empty(); EVENTS], vec![0; 1 << 16]);
    loop {
        let many = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        for event in &events[..many] {
            match event.data() {
                ORDERS => {
                    let mut order = [0];
                    if orders.read(&mut order)? == 0 {
                        return Ok(());
                    }
                    let wanted = if order[0] == OPEN { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
                    epoll.modify(listener, &mut EpollEvent::new(wanted, LISTENER))?;
                }
                LISTENER => {
                    let Ok((stream, _)) = listener.accept() else { continue };
                    stream.set_nonblocking(true)?;
                    epoll.add(&stream, readable(next))?;
                    connections.insert(next, Connection { stream, wish: None });
                    next += 1;
                }
                token => {
                    // A client that resets its connection ends it as it should.
                    let goes_on = connections.get_mut(&token).is_some_and(|it| it.serve(&mut buffer, taken));
                    if !goes_on {
                        connections.remove(&token);
                    }
                }
            }
        }
    }
}

impl Connection {
    /// Does what came; whether more may come.
    fn serve(&mut self, buffer: &mut [u8], taken: &AtomicU64) -> bool {
        let many = match self.stream.read(buffer) {
            Ok(many) if many > 0 => many,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            _ => return false,
        };
        match *self.wish.get_or_insert(buffer[0]) {
            SINK => {
                taken.fetch_add(many as u64, Ordering::Relaxed);
                true
            }
            WHO => match self.stream.local_addr() {
                Ok(SocketAddr::V4(dialled)) => self.stream.write_all(&dialled.ip().octets()).is_ok(),
                _ => false,
            },
            _ => self.stream.write_all(&buffer[..many]).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::time::{Duration, Instant};

    use super::*;

    fn server() -> (Server, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (Server::over(listener).unwrap(), address)
    }

    fn dial(address: SocketAddr, wish: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(wish).unwrap();
        stream
    }

    fn answer<const N: usize>(stream: &mut TcpStream) -> [u8; N] {
        let mut bytes = [0; N];
        stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn an_echo_goes_on_while_others_are_served() {
        let (_server, address) = server();
        let mut echo = dial(address, &[ECHO]);
        assert_eq!(answer(&mut echo), [ECHO]);
        assert_eq!(answer(&mut dial(address, &[WHO])), [127, 0, 0, 1]);
        echo.write_all(b"z").unwrap();
        assert_eq!(answer(&mut echo), *b"z");
    }

    #[test]
    fn a_sink_counts_every_byte() {
        let (server, address) = server();
        let mut sink = dial(address, &[SINK; 10_000]);
        sink.shutdown(Shutdown::Write).unwrap();
        assert_eq!(sink.read(&mut [0]).unwrap(), 0, "it has read to the end");
        assert_eq!(server.taken(), 10_000);
    }

    #[test]
    fn while_it_is_closed_connections_wait_and_can_be_forgotten() {
        let (server, address) = server();
        server.close().unwrap();
        // The order is obeyed at some time; a connection that is answered came before that.
        let began = Instant::now();
        let mut waiting = loop {
            let mut stream = dial(address, &[ECHO]);
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            // A slow answer is none either: only one that still waits can be forgotten.
            if stream.read(&mut [0]).is_err() && server.discard().unwrap() == 1 {
                break stream;
            }
            assert!(began.elapsed() < Duration::from_secs(10));
        };
        waiting.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert!(!matches!(waiting.read(&mut [0]), Ok(1)), "nobody answers a forgotten connection");
        server.open().unwrap();
        assert_eq!(answer(&mut dial(address, &[ECHO])), [ECHO]);
    }
}

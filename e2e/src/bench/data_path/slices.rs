//! The client: short slices in which one node after the other is asked the same, from one thread on one core.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt};
use nix::unistd::Pid;

use super::node::Node;
use super::server::{ECHO, SINK};
use super::statistics::{Sample, quantile};
use super::worker::Stop;
use super::{plan, turns};

const SLICE: Duration = Duration::from_millis(25);
/// Cycles of one round: as many as there are places for a lane to stand in.
const CYCLES: usize = 10;
/// Services that are dialled in turn.
const TARGETS: usize = 16;
/// Small, so that a stream's slice ends with little on its way.
const STREAM_BUFFER: usize = 1 << 18;
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);
const ANSWERED_WITHIN_MS: u16 = 5_000;

/// What is done in a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Connect, one byte there and back, reset: as many as go.
    Connections,
    /// One byte there and back over an open connection.
    RequestResponse,
    /// Connect and reset; nobody is woken at the other end, so that the time is that of the SYN and the SYN-ACK.
    FirstPacket,
    /// Bytes one way, without segmentation offload.
    Stream,
}

/// Moves the calling thread to the core that is measured: the last it may use.
pub(super) fn pin() -> Result<()> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let last = (0..CpuSet::count()).rev().find(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(last.context("invariant: a thread may run somewhere")?)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &one)?)
}

/// Lets every node take turns; samples by round, cycle and node. The first node is the one ratios are taken against.
pub(super) fn take_turns(
    nodes: &[Node],
    services: usize,
    kind: Kind,
    rounds: usize,
    stop: &Stop,
) -> Result<Vec<Vec<Vec<Sample>>>> {
    prepare(nodes, kind, true)?;
    // A thread of its own, since it changes namespace with every slice.
    let outcome = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            pin()?;
            let mut lanes = nodes.iter().map(|node| Lane::open(node, services, kind)).collect::<Result<Vec<_>>>()?;
            // The first cycle fills caches and neighbour tables, and counts for nothing.
            cycle(&mut lanes, kind, 0, stop)?;
            let mut cycles = 0..;
            let mut round = || {
                let some = cycles.by_ref().take(CYCLES).collect::<Vec<_>>();
                some.into_iter().map(|number| cycle(&mut lanes, kind, number, stop)).collect()
            };
            (0..rounds).map(|_| round()).collect()
        });
        client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    prepare(nodes, kind, false)?;
    outcome
}

/// What a kind needs of the nodes, before and after.
fn prepare(nodes: &[Node], kind: Kind, begin: bool) -> Result<()> {
    for node in nodes {
        match kind {
            Kind::FirstPacket if begin => node.server.close()?,
            Kind::FirstPacket => {
                node.server.discard()?;
                node.server.open()?;
            }
            Kind::Stream => node.set_offloads(!begin)?,
            Kind::Connections | Kind::RequestResponse => {}
        }
    }
    Ok(())
}

fn cycle(lanes: &mut [Lane<'_>], kind: Kind, number: usize, stop: &Stop) -> Result<Vec<Sample>> {
    let mut samples = vec![None; lanes.len()];
    for lane in turns::order(lanes.len(), number) {
        stop.check()?;
        let node = lanes[lane].node;
        node.client.0.join_current_thread()?;
        let sample = lanes[lane].slice(kind).with_context(|| format!("{kind:?} at {}", node.variant.column()))?;
        samples[lane] = Some(sample);
    }
    Ok(samples.into_iter().flatten().collect())
}

struct Lane<'a> {
    node: &'a Node,
    targets: std::iter::Cycle<std::vec::IntoIter<SocketAddrV4>>,
    epoll: Epoll,
    /// Open throughout, where the kind wants that.
    open: Option<TcpStream>,
}

impl<'a> Lane<'a> {
    fn open(node: &'a Node, services: usize, kind: Kind) -> Result<Self> {
        let plain = node.variant.is_plain();
        let targets: Vec<_> = plan::spread(services, TARGETS).into_iter().map(|n| plan::target(n, plain)).collect();
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut lane = Self { node, targets: targets.into_iter().cycle(), epoll, open: None };
        node.client.0.join_current_thread()?;
        if matches!(kind, Kind::RequestResponse | Kind::Stream) {
            let mut stream = lane.connect().with_context(|| node.variant.column())?;
            stream.set_nodelay(true)?;
            let first = if kind == Kind::Stream { SINK } else { ECHO };
            stream.write_all(&[first])?;
            if kind == Kind::RequestResponse {
                stream.read_exact(&mut [0])?;
                stream.set_nonblocking(true)?;
                lane.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
            } else {
                setsockopt(&stream, sockopt::SndBuf, &STREAM_BUFFER)?;
            }
            lane.open = Some(stream);
        }
        Ok(lane)
    }

    /// A connection that ends with a reset: no TIME_WAIT, which would decide how many go.
    fn connect(&mut self) -> Result<TcpStream> {
        let target = self.target()?;
        let stream = TcpStream::connect(target).with_context(|| format!("connect to {target}"))?;
        reset_at_end(&stream)?;
        Ok(stream)
    }

    fn target(&mut self) -> Result<SocketAddrV4> {
        self.targets.next().context("invariant: there is a Service")
    }

    /// Connect, a byte there and back, reset: as a client does that has other things to do meanwhile.
    fn transaction(&mut self) -> Result<()> {
        let target = self.target()?;
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let mut stream = TcpStream::from(socket(AddressFamily::Inet, SockType::Stream, flags, None)?);
        reset_at_end(&stream)?;
        match connect(stream.as_raw_fd(), &SockaddrIn::from(target)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(error) => return Err(error).with_context(|| format!("connect to {target}")),
        }
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLOUT, 0))?;
        self.await_event()?;
        if let Some(error) = stream.take_error()? {
            return Err(error).with_context(|| format!("connect to {target}"));
        }
        stream.write_all(&[ECHO])?;
        self.epoll.modify(&stream, &mut EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
        self.await_event()?;
        Ok(stream.read_exact(&mut [0])?)
    }

    fn await_event(&self) -> Result<()> {
        let mut events = [EpollEvent::empty()];
        loop {
            match self.epoll.wait(&mut events, EpollTimeout::from(ANSWERED_WITHIN_MS)) {
                Ok(0) => anyhow::bail!("no answer within {ANSWERED_WITHIN:?}"),
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn slice(&mut self, kind: Kind) -> Result<Sample> {
        match kind {
            Kind::Stream => self.stream(),
            Kind::Connections => self.repeat(Self::transaction),
            Kind::RequestResponse => {
                let mut stream = self.open.take().context("invariant: it was opened")?;
                let sample = self.repeat(|lane| {
                    stream.write_all(&[ECHO])?;
                    lane.await_event()?;
                    Ok(stream.read_exact(&mut [0])?)
                });
                self.open = Some(stream);
                sample
            }
            Kind::FirstPacket => {
                let sample = self.first_packets();
                self.node.server.discard()?;
                sample
            }
        }
    }

    fn repeat(&mut self, mut once: impl FnMut(&mut Self) -> Result<()>) -> Result<Sample> {
        let (mut times, start) = (Vec::with_capacity(2_048), Instant::now());
        let mut at = start;
        while at - start < SLICE {
            once(self)?;
            let now = Instant::now();
            times.push((now - at).as_secs_f64() * 1e6);
            at = now;
        }
        Ok(sample(&mut times, at - start))
    }

    fn first_packets(&mut self) -> Result<Sample> {
        let (mut times, start) = (Vec::with_capacity(2_048), Instant::now());
        while start.elapsed() < SLICE {
            let began = Instant::now();
            let stream = self.connect()?;
            times.push(began.elapsed().as_secs_f64() * 1e6);
            drop(stream);
        }
        Ok(sample(&mut times, start.elapsed()))
    }

    fn stream(&mut self) -> Result<Sample> {
        let stream = self.open.as_mut().context("invariant: it was opened")?;
        let (chunk, before, start) = ([0; 1 << 15], self.node.server.taken(), Instant::now());
        while start.elapsed() < SLICE {
            stream.write_all(&chunk)?;
        }
        let (bytes, took) = (self.node.server.taken() - before, start.elapsed());
        self.drained()?;
        Ok(Sample { rate: bytes as f64 / took.as_secs_f64(), p50: f64::NAN, p99: f64::NAN })
    }

    /// Waits until nothing of the slice is on its way: it would take from the next lane's.
    fn drained(&self) -> Result<()> {
        let (start, mut last) = (Instant::now(), self.node.server.taken());
        loop {
            std::thread::sleep(Duration::from_millis(1));
            let now = self.node.server.taken();
            if now == last {
                return Ok(());
            }
            last = now;
            ensure!(start.elapsed() < ANSWERED_WITHIN, "the stream does not end");
        }
    }
}

fn reset_at_end(stream: &TcpStream) -> Result<()> {
    Ok(setsockopt(stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?)
}

fn sample(times: &mut [f64], took: Duration) -> Sample {
    let rate = times.len() as f64 / took.as_secs_f64();
    Sample { rate, p50: quantile(times, 0.5), p99: quantile(times, 0.99) }
}

//! Steady requests of an outside client while something is done to the data path: numbered, each answer compared with its
//! request, so that one lost or crossed packet shows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::http::{self, Target};
use crate::outside::OutsideClient;

/// Connections that are kept open, as long as the load lasts.
pub(crate) const KEPT: usize = 16;
/// Pause between two requests on one kept connection, and between two new connections.
const PAUSE: Duration = Duration::from_millis(10);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A SYN that was lost comes again after a second. An answer that takes as long is one to a packet that was lost, if the
/// client's kernel has sent any again; else the machine was busy.
const LATE: Duration = Duration::from_millis(900);
/// Nobody may forget to stop it.
const LONGEST: Duration = Duration::from_secs(120);

/// A load that runs in a thread of its own, in the client's network namespace.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Counted>>,
}

/// What became of the requests.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// Connections that were to stay open.
    pub(crate) kept: usize,
    /// Answered on connections that stood from the beginning to the end.
    pub(crate) on_kept: usize,
    /// Answered on connections of their own.
    pub(crate) on_new: usize,
    /// What was not answered as it should be, in words.
    pub(crate) lost: Vec<String>,
    /// Answers that were late.
    pub(crate) late: usize,
    /// The longest time that an answer took.
    pub(crate) slowest: Duration,
    /// Segments that the client's kernel sent again, SYNs included.
    pub(crate) sent_again: u64,
}

impl Load {
    /// Opens `kept` connections to `to` that stay open, and begins. Returns when each of them has been answered once.
    pub(crate) async fn start(client: &OutsideClient, to: SocketAddr, kept: usize) -> Result<Self> {
        let (stop, netns) = (Arc::new(AtomicBool::new(false)), client.netns().clone());
        let stopped = Arc::clone(&stop);
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("load".into())
            .spawn(move || netns.block_on(|| run(to, kept, stopped, ready)).map_err(anyhow::Error::from)?)?;
        let load = Self { stop, thread };
        match is_ready.await {
            Ok(()) => Ok(load),
            Err(_) => Err(load.stop().await.err().unwrap_or_else(|| anyhow!("the load ended before it began"))),
        }
    }

    /// Ends it and tells what became of the requests.
    pub(crate) async fn stop(self) -> Result<Counted> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread;
        let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
        joined.map_err(|_| anyhow!("the load's thread panicked"))?
    }
}

impl Counted {
    fn took(&mut self, time: Duration) {
        self.slowest = self.slowest.max(time);
        self.late += usize::from(time >= LATE);
    }

    /// Nothing was lost, and there was something to lose.
    pub(crate) fn unharmed(&self) -> Result<()> {
        ensure!(self.on_new > 0 && (self.on_kept > 0 || self.kept == 0), "the load was none: {self:?}");
        ensure!(
            self.lost.is_empty(),
            "{} requests were lost, first: {}",
            self.lost.len(),
            self.lost.first().map(String::as_str).unwrap_or_default()
        );
        ensure!(
            self.late == 0 || self.sent_again == 0,
            "{} answers were late, and {} segments were sent again: packets were lost",
            self.late,
            self.sent_again
        );
        Ok(())
    }

    /// In one line.
    pub(crate) fn shown(&self) -> String {
        let Self { kept, on_kept, on_new, lost, late: _, slowest, sent_again } = self;
        let slowest = slowest.as_secs_f64() * 1000.0;
        format!(
            "{on_kept} on {kept} kept connections, {on_new} on new ones, {} lost, {sent_again} segments sent again, slowest {slowest:.1} ms",
            lost.len()
        )
    }
}

async fn run(
    to: SocketAddr,
    connections: usize,
    stop: Arc<AtomicBool>,
    ready: tokio::sync::oneshot::Sender<()>,
) -> Result<Counted> {
    let mut kept = Vec::new();
    for number in 0..connections {
        let mut connection = TcpStream::connect(to).await.with_context(|| format!("connect to {to}"))?;
        connection.set_nodelay(true)?;
        ask(&mut connection, to, &format!("first-{number}")).await?;
        kept.push(connection);
    }
    let before = sent_again()?;
    // The caller may be gone; then the stop comes soon.
    let _ = ready.send(());
    let tasks = kept.into_iter().enumerate().map(|(number, connection)| keep(connection, to, number, &stop));
    let work = async { futures::join!(futures::future::join_all(tasks), renew(to, &stop)) };
    let (on_kept, on_new) = tokio::time::timeout(LONGEST, work).await.context("the load was not stopped in time")?;
    let mut all = Counted { kept: connections, sent_again: sent_again()? - before, ..on_new };
    for one in on_kept {
        all.on_kept += one.on_kept;
        all.lost.extend(one.lost);
        all.late += one.late;
        all.slowest = all.slowest.max(one.slowest);
    }
    Ok(all)
}

/// `RetransSegs` of the network namespace that this thread is in (RFC 4022, `/proc/net/snmp`).
fn sent_again() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
    let mut tcp = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = tcp.next().zip(tcp.next()).context("/proc/net/snmp has no lines of TCP")?;
    let mut columns = names.split(' ').zip(values.split(' '));
    let (_, value) = columns.find(|(name, _)| *name == "RetransSegs").context("/proc/net/snmp has no RetransSegs")?;
    Ok(value.parse()?)
}

/// Requests on one connection, until the end or its loss.
async fn keep(mut connection: TcpStream, to: SocketAddr, number: usize, stop: &AtomicBool) -> Counted {
    let mut counted = Counted::default();
    for request in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (id, began) = (format!("kept-{number}-{request}"), Instant::now());
        let outcome = tokio::time::timeout(PATIENCE, ask(&mut connection, to, &id)).await;
        counted.took(began.elapsed());
        match outcome {
            Ok(Ok(())) => counted.on_kept += 1,
            Ok(Err(error)) => {
                counted.lost.push(format!("{id}: {error:#}"));
                break;
            }
            Err(_) => {
                counted.lost.push(format!("{id}: no answer in {PATIENCE:?}"));
                break;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    counted
}

/// Requests on connections of their own.
async fn renew(to: SocketAddr, stop: &AtomicBool) -> Counted {
    let mut counted = Counted::default();
    for request in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let id = format!("new-{request}");
        let outcome = http::get(&Target::new(to, &format!("/echo?msg={id}")), PATIENCE).await;
        counted.took(outcome.elapsed);
        if outcome.is_ok() && outcome.body.trim() == id {
            counted.on_new += 1;
        } else {
            counted.lost.push(format!("{id}: {:?} {:?} '{}'", outcome.status, outcome.error, outcome.body.trim()));
        }
        tokio::time::sleep(PAUSE).await;
    }
    counted
}

/// One request on a connection that stays open; the answer must be the id.
async fn ask(connection: &mut TcpStream, to: SocketAddr, id: &str) -> Result<()> {
    connection.write_all(format!("GET /echo?msg={id} HTTP/1.1\r\nhost: {to}\r\n\r\n").as_bytes()).await?;
    let (mut buffer, mut read) = ([0_u8; 2048], 0);
    loop {
        let more = connection.read(&mut buffer[read..]).await?;
        ensure!(more > 0, "the connection was closed");
        read += more;
        let text = std::str::from_utf8(&buffer[..read])?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
        });
        let length = length.context("an answer without content-length")??;
        if body.len() < length {
            continue;
        }
        if body.trim() != id {
            bail!("the answer was '{body}'");
        }
        return Ok(());
    }
}

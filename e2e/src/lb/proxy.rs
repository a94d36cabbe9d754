//! The proxy: ends the client's TCP connection and makes a new one to a node port. The node sees the load balancer's
//! address; the client's travels, if at all, in a PROXY protocol header (HAProxy, "The PROXY protocol", §2).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::LbError;
use super::model::{PortPair, ProxyProtocol};
use crate::fabric::plan::Dual;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Begins a version 2 header (§2.2).
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The nodes in turn; shared by all ports of one Service.
#[derive(Debug, Clone, Default)]
pub(super) struct Backends {
    nodes: Arc<Mutex<Vec<Dual>>>,
    turn: Arc<AtomicUsize>,
}

impl Backends {
    pub(super) fn set(&self, nodes: Vec<Dual>) {
        *self.nodes.lock().expect("invariant: nobody panics while holding the backends") = nodes;
    }

    fn next(&self) -> Option<Dual> {
        let nodes = self.nodes.lock().expect("invariant: nobody panics while holding the backends");
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        (!nodes.is_empty()).then(|| nodes[turn % nodes.len()])
    }
}

/// Listens on every address and port. The connections and listeners live as long as the returned set.
pub(super) async fn listen(
    vips: &[IpAddr],
    ports: &[PortPair],
    backends: &Backends,
    header: Option<ProxyProtocol>,
) -> Result<JoinSet<()>, LbError> {
    let mut listeners = JoinSet::new();
    for vip in vips {
        for PortPair { port, node_port } in ports {
            let at = SocketAddr::new(*vip, *port);
            let listener = TcpListener::bind(at).await.map_err(|source| LbError::Listen { at, source })?;
            listeners.spawn(serve(listener, *node_port, backends.clone(), header));
        }
    }
    Ok(listeners)
}

async fn serve(listener: TcpListener, node_port: u16, backends: Backends, header: Option<ProxyProtocol>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let backends = backends.clone();
                    connections.spawn(async move {
                        // Either side may hang up at any time: that is the connection's end, not our failure.
                        if let Err(error) = relay(client, node_port, &backends, header).await {
                            tracing::debug!(%error, "proxied connection");
                        }
                    });
                }
                Err(e) => {
                    tracing::warn!("accepting a connection: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn relay(
    mut client: TcpStream,
    node_port: u16,
    backends: &Backends,
    header: Option<ProxyProtocol>,
) -> Result<(), LbError> {
    let (from, to) = (client.peer_addr()?, client.local_addr()?);
    let node = backends.next().ok_or(LbError::NoNode)?;
    let target = SocketAddr::new(node.of_family(to.ip()), node_port);
    let mut backend =
        tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await.map_err(io::Error::from)??;
    if let Some(version) = header {
        backend.write_all(&encode(version, from, to)).await?;
    }
    tokio::io::copy_bidirectional(&mut client, &mut backend).await?;
    Ok(())
}

/// The header for a connection `from` the client `to` the virtual address; both have the same family.
fn encode(version: ProxyProtocol, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let (tcp, family) = if from.is_ipv4() { ("TCP4", 0x11) } else { ("TCP6", 0x21) };
    match version {
        ProxyProtocol::V1 => {
            format!("PROXY {tcp} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port()).into_bytes()
        }
        ProxyProtocol::V2 => {
            let mut addresses = [octets(from.ip()), octets(to.ip())].concat();
            addresses.extend(from.port().to_be_bytes());
            addresses.extend(to.port().to_be_bytes());
            let length = u16::try_from(addresses.len()).expect("invariant: at most 36 bytes");
            // 0x21: version 2, command PROXY.
            [&V2_SIGNATURE[..], &[0x21, family], &length.to_be_bytes(), &addresses].concat()
        }
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests;

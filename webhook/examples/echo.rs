//! A webhook that allows everything, on the same TLS and HTTP stack as ours: the peer in `make bench`.
//! `echo ADDRESS DIRECTORY`: where to listen, and where `tls.crt` and `tls.key` lie.

#[path = "../benches/echo/mod.rs"]
mod echo;

use portreeve_runtime::metrics::Metrics;
use portreeve_runtime::serve::Limits;
use portreeve_runtime::tls::{CertificateSlot, Material, serve, server_config};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let [address, directory] = <[String; 2]>::try_from(std::env::args().skip(1).collect::<Vec<_>>())
        .map_err(|_| anyhow::anyhow!("usage: echo ADDRESS DIRECTORY"))?;
    let (chain, key) = (std::fs::read(format!("{directory}/tls.crt"))?, std::fs::read(format!("{directory}/tls.key"))?);
    let slot = CertificateSlot::new(Metrics::new("bench").certificate);
    slot.reload(Material { chain: &chain, key: &key, bundle: None })?;
    let door = TcpListener::bind(&address).await?;
    serve(door, server_config(slot, None)?, echo::router(), Limits::default(), CancellationToken::new()).await;
    Ok(())
}

//! The live cluster: one way to connect, one way to list.

use crate::args::ClusterArgs;
use crate::exit::Failure;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Objects per page; the API server's own clients use the same.
const PAGE: u32 = 500;

/// Connects as kubectl would with the same flags.
pub(crate) async fn connect(args: &ClusterArgs) -> Result<Client, Failure> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let config = match &args.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .map_err(|error| Failure::Usage(format!("--kubeconfig {}: {error}", path.display())))?;
            Config::from_custom_kubeconfig(file, &options).await.map_err(|error| Failure::Usage(error.to_string()))?
        }
        None if args.context.is_some() => {
            Config::from_kubeconfig(&options).await.map_err(|error| Failure::Usage(error.to_string()))?
        }
        None => Config::infer().await.map_err(|error| Failure::Unreachable(error.to_string()))?,
    };
    Client::try_from(config).map_err(|error| Failure::Unreachable(error.to_string()))
}

/// Every object of `api`, page by page.
pub(crate) async fn list<K>(api: &Api<K>, what: &str) -> Result<Vec<K>, Failure>
where
    K: Clone + Debug + DeserializeOwned,
{
    pages(api).await.map_err(Failure::from_kube(format!("listing {what}")))
}

/// As [`list`], and nothing where the cluster does not know the kind: Portreeve need not be installed in it.
pub(crate) async fn list_if_known<K>(api: &Api<K>, what: &str) -> Result<Vec<K>, Failure>
where
    K: Clone + Debug + DeserializeOwned,
{
    match pages(api).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        other => other.map_err(Failure::from_kube(format!("listing {what}"))),
    }
}

async fn pages<K>(api: &Api<K>) -> Result<Vec<K>, kube::Error>
where
    K: Clone + Debug + DeserializeOwned,
{
    let mut all = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        all.extend(page.items);
        match page.metadata.continue_ {
            Some(token) if !token.is_empty() => params = params.continue_token(&token),
            _ => return Ok(all),
        }
    }
}

//! Kubeconfig files with everything inside them, so that one file can be handed to anybody.

use std::{
    io,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::pki::{Pair, write_private};

/// Why a kubeconfig could not be written or used.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    /// The file could not be written.
    #[error("write kubeconfig {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the filesystem said.
        source: io::Error,
    },
    /// The file could not be read as a kubeconfig.
    #[error("read kubeconfig {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the client library said.
        source: kube::config::KubeconfigError,
    },
    /// No client could be built from it.
    #[error("client from kubeconfig {path}")]
    Client {
        /// The file.
        path: PathBuf,
        /// What the client library said.
        source: Box<kube::Error>,
    },
}

/// Renders a kubeconfig with one cluster, one user by client certificate, and one context.
///
/// The text is JSON, which every reader of kubeconfigs accepts since YAML contains it.
pub fn render(server: &str, ca_certificate: &str, client: &Pair) -> String {
    let encoded = |pem: &str| STANDARD.encode(pem);
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": NAME, "cluster": {
            "server": server, "certificate-authority-data": encoded(ca_certificate),
        }}],
        "users": [{"name": NAME, "user": {
            "client-certificate-data": encoded(&client.certificate), "client-key-data": encoded(&client.key),
        }}],
        "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME}}],
        "current-context": NAME,
    });
    format!("{document:#}\n")
}

const NAME: &str = "portreeve-testbed";

/// [`render`] into a file only its owner can read.
pub fn write(path: &Path, server: &str, ca_certificate: &str, client: &Pair) -> Result<(), KubeconfigError> {
    write_private(path, &render(server, ca_certificate, client))
        .map_err(|source| KubeconfigError::Write { path: path.to_owned(), source })
}

/// A client that reads this kubeconfig and nothing from the environment.
///
/// A client's connections belong to the tokio runtime it is used on first: make one per test.
pub async fn client(path: &Path) -> Result<kube::Client, KubeconfigError> {
    let read_error = |source| KubeconfigError::Read { path: path.to_owned(), source };
    let document = kube::config::Kubeconfig::read_from(path).map_err(read_error)?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(document, &options).await.map_err(read_error)?;
    kube::Client::try_from(config)
        .map_err(|source| KubeconfigError::Client { path: path.to_owned(), source: Box::new(source) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendered_kubeconfig_is_read_back_by_the_client_library() {
        let pair = Pair { certificate: "CERT".to_owned(), key: "KEY".to_owned() };
        let text = render("https://127.0.0.1:6443", "CA", &pair);
        let config = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(config.current_context.as_deref(), Some(NAME));
        let cluster = config.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://127.0.0.1:6443"));
        assert_eq!(cluster.certificate_authority_data.as_deref(), Some(STANDARD.encode("CA").as_str()));
        let user = config.auth_infos[0].auth_info.as_ref().unwrap();
        assert_eq!(user.client_certificate_data.as_deref(), Some(STANDARD.encode("CERT").as_str()));
    }
}

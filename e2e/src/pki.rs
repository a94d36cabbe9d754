//! The cluster's certificates: ECDSA P-256 throughout, valid for a century so that no test depends on the date.
//!
//! Two authorities, as Kubernetes asks for ("PKI certificates and requirements"): one for clients and servers, one
//! for the aggregation layer's front proxy, so that a client certificate can never pass as a front proxy.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};

#[cfg(test)]
mod tests;

/// Why a certificate could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The generator refused.
    #[error("certificate for {subject}")]
    Generate {
        /// The common name.
        subject: String,
        /// What the generator said.
        source: rcgen::Error,
    },
    /// A file could not be written.
    #[error("write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the filesystem said.
        source: io::Error,
    },
}

/// A certificate and its key, both PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// `CERTIFICATE` block.
    pub certificate: String,
    /// PKCS #8 `PRIVATE KEY` block.
    pub key: String,
}

/// What a certificate is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// TLS client authentication.
    Client,
    /// TLS server authentication.
    Server,
}

/// The subject of a certificate to be issued.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Common name: the user's name to the API server.
    pub common_name: String,
    /// Organizations: the user's groups to the API server.
    pub organizations: Vec<String>,
    /// DNS names a server answers to.
    pub dns_names: Vec<String>,
    /// Addresses a server answers at.
    pub addresses: Vec<IpAddr>,
    /// Client or server.
    pub usage: Usage,
}

impl Subject {
    /// A client called `name` in `groups`.
    pub fn client(name: impl Into<String>, groups: &[&str]) -> Self {
        Self {
            common_name: name.into(),
            organizations: groups.iter().map(|&group| group.to_owned()).collect(),
            dns_names: Vec::new(),
            addresses: Vec::new(),
            usage: Usage::Client,
        }
    }

    /// A server that answers to these names and addresses.
    pub fn server(name: impl Into<String>, dns_names: &[&str], addresses: &[IpAddr]) -> Self {
        Self {
            common_name: name.into(),
            organizations: Vec::new(),
            dns_names: dns_names.iter().map(|&name| name.to_owned()).collect(),
            addresses: addresses.to_vec(),
            usage: Usage::Server,
        }
    }
}

/// A certificate authority.
pub struct Authority {
    certificate: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new self-signed authority.
    pub fn new(common_name: &str) -> Result<Self, PkiError> {
        let fail = |source| PkiError::Generate { subject: common_name.to_owned(), source };
        let mut params = params(common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = key_pair().map_err(fail)?;
        let certificate = params.self_signed(&key).map_err(fail)?.pem();
        Ok(Self { certificate, key: key.serialize_pem(), issuer: Issuer::new(params, key) })
    }

    /// The authority's own certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Issues a certificate with a new key.
    pub fn issue(&self, subject: &Subject) -> Result<Pair, PkiError> {
        let Subject { common_name, organizations, dns_names, addresses, usage } = subject;
        let fail = |source| PkiError::Generate { subject: common_name.clone(), source };
        let mut params = params(common_name);
        for organization in organizations {
            params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
        }
        for name in dns_names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(fail)?));
        }
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match usage {
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        let key = key_pair().map_err(fail)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(fail)?.pem();
        Ok(Pair { certificate, key: key.serialize_pem() })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params
}

fn key_pair() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

/// Who a client of the API server is. Names and groups are those of Kubernetes' own bootstrap RBAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User {
    /// May do everything (`system:masters`).
    Admin,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// kube-proxy.
    KubeProxy,
    /// The kubelet of this node (`system:node:NAME` in `system:nodes`).
    Node(String),
}

impl User {
    fn subject(&self) -> Subject {
        match self {
            Self::Admin => Subject::client("portreeve-testbed-admin", &["system:masters"]),
            Self::ControllerManager => Subject::client("system:kube-controller-manager", &[]),
            Self::Scheduler => Subject::client("system:kube-scheduler", &[]),
            Self::KubeProxy => Subject::client("system:kube-proxy", &[]),
            Self::Node(name) => Subject::client(format!("system:node:{name}"), &["system:nodes"]),
        }
    }
}

/// Everything a cluster's control plane signs and is signed with.
#[derive(Debug)]
pub struct ClusterPki {
    /// Signs the API server's, the clients' and (for kubelets) the nodes' certificates.
    pub authority: Authority,
    front_proxy_authority: Authority,
    apiserver: Pair,
    kubelet_client: Pair,
    front_proxy: Pair,
    service_account_key: KeyPair,
}

/// Where [`ClusterPki::write`] put things. Keys are readable by their owner only.
#[derive(Debug, Clone)]
pub struct PkiFiles {
    /// Authority of clients and servers.
    pub ca_certificate: PathBuf,
    /// Its key, for the controller manager's signer.
    pub ca_key: PathBuf,
    /// Authority of the front proxy.
    pub front_proxy_ca: PathBuf,
    /// API server's serving certificate.
    pub apiserver_certificate: PathBuf,
    /// API server's serving key.
    pub apiserver_key: PathBuf,
    /// API server's client certificate to kubelets.
    pub kubelet_client_certificate: PathBuf,
    /// API server's client key to kubelets.
    pub kubelet_client_key: PathBuf,
    /// Aggregation layer's client certificate.
    pub front_proxy_certificate: PathBuf,
    /// Aggregation layer's client key.
    pub front_proxy_key: PathBuf,
    /// Verifies service account tokens.
    pub service_account_public: PathBuf,
    /// Signs service account tokens.
    pub service_account_key: PathBuf,
}

impl ClusterPki {
    /// Makes all keys. `addresses`: every address, besides loopback, at which the API server is reached, with the
    /// first address of each Service range (the `kubernetes` Service).
    pub fn generate(addresses: &[IpAddr]) -> Result<Self, PkiError> {
        let authority = Authority::new("portreeve-testbed-ca")?;
        let front_proxy_authority = Authority::new("portreeve-testbed-front-proxy-ca")?;
        let mut reached = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)];
        reached.extend(addresses);
        let names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
        ];
        let apiserver = authority.issue(&Subject::server("kube-apiserver", &names, &reached))?;
        let kubelet_client =
            authority.issue(&Subject::client("portreeve-testbed-kubelet-client", &["system:masters"]))?;
        let front_proxy = front_proxy_authority.issue(&Subject::client(FRONT_PROXY, &[]))?;
        let service_account_key =
            key_pair().map_err(|source| PkiError::Generate { subject: "service account tokens".to_owned(), source })?;
        Ok(Self { authority, front_proxy_authority, apiserver, kubelet_client, front_proxy, service_account_key })
    }

    /// A client certificate for a user.
    pub fn client(&self, user: &User) -> Result<Pair, PkiError> {
        self.authority.issue(&user.subject())
    }

    /// Writes what the control plane's processes read.
    pub fn write(&self, dir: &Path) -> Result<PkiFiles, PkiError> {
        fs::create_dir_all(dir).map_err(|source| PkiError::Write { path: dir.to_owned(), source })?;
        let put = |name: &str, text: &str| -> Result<PathBuf, PkiError> {
            let path = dir.join(name);
            write_private(&path, text).map_err(|source| PkiError::Write { path: path.clone(), source })?;
            Ok(path)
        };
        Ok(PkiFiles {
            ca_certificate: put("ca.crt", &self.authority.certificate)?,
            ca_key: put("ca.key", &self.authority.key)?,
            front_proxy_ca: put("front-proxy-ca.crt", &self.front_proxy_authority.certificate)?,
            apiserver_certificate: put("apiserver.crt", &self.apiserver.certificate)?,
            apiserver_key: put("apiserver.key", &self.apiserver.key)?,
            kubelet_client_certificate: put("kubelet-client.crt", &self.kubelet_client.certificate)?,
            kubelet_client_key: put("kubelet-client.key", &self.kubelet_client.key)?,
            front_proxy_certificate: put("front-proxy.crt", &self.front_proxy.certificate)?,
            front_proxy_key: put("front-proxy.key", &self.front_proxy.key)?,
            service_account_public: put("sa.pub", &self.service_account_key.public_key_pem())?,
            service_account_key: put("sa.key", &self.service_account_key.serialize_pem())?,
        })
    }
}

/// The common name the API server accepts from a front proxy.
pub(crate) const FRONT_PROXY: &str = "front-proxy-client";

/// Writes a file only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())
}

//! Certificates of our own making, when to renew them, and the server that shows them.
//!
//! The operator makes authority and leaf ([`Authority`], [`RenewalPlan`]); the webhook serves with them
//! ([`CertificateSlot`], [`serve`]). TLS 1.3 only, one crypto provider (aws-lc-rs), ECDSA P-256.

mod ca;
mod leaf;
mod renewal;
mod server;

pub use ca::{Authority, overlap};
pub use leaf::{Leaf, issued_by};
pub use renewal::{CA_LIFE, Decision, LEAF_LIFE, RenewalPlan, Validity};
pub use server::{CertificateSlot, Material, serve, server_config};

/// Why a certificate cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Making or signing failed.
    #[error("certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The text is no PEM of the expected kind.
    #[error("{what} is not valid PEM: {reason}")]
    Pem {
        /// Which part of the material.
        what: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// The DER inside is no X.509 certificate.
    #[error("{what} is not an X.509 certificate: {reason}")]
    X509 {
        /// Which part of the material.
        what: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// Certificate and key do not belong together, or rustls refuses them.
    #[error("certificate and key cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
    /// The client authority cannot be used to verify clients.
    #[error("client authority cannot be used: {0}")]
    ClientAuthority(#[from] rustls::server::VerifierBuilderError),
    /// The life asked for lies outside the calendar.
    #[error("validity lies outside the calendar: {0}")]
    Calendar(#[from] jiff::Error),
}

#[cfg(test)]
mod tests;

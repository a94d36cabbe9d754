//! The certificate that a server shows.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

use super::{Authority, TlsError, Validity, ca};

/// A leaf with its key, both as PEM. Its `Debug` shows no key.
pub struct Leaf {
    /// The certificate.
    pub cert_pem: String,
    /// The private key, PKCS #8.
    pub key_pem: String,
    /// Between when and when it holds.
    pub validity: Validity,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("validity", &self.validity).finish_non_exhaustive()
    }
}

impl Authority {
    /// A server certificate for `names` (DNS names and addresses) that lives for `life` from `now`, but never longer than
    /// the authority itself.
    ///
    /// # Errors
    /// When a name is no DNS name or the certificate cannot be made.
    pub fn issue(&self, names: &[String], life: Duration, now: Timestamp) -> Result<Leaf, TlsError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let not_after = now.checked_add(life)?.min(self.validity().not_after);
        // A common name holds 64 characters at most (RFC 5280, ub-common-name); verifiers read the alternative names.
        let common_name = names.first().map_or("portreeve", String::as_str);
        let common_name = if common_name.len() > 64 { "portreeve" } else { common_name };
        let mut params = ca::params(names.to_vec(), common_name, now, not_after)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, self.issuer())?;
        let validity = Validity::of_der(certificate.der())?;
        Ok(Leaf { cert_pem: certificate.pem(), key_pem: key.serialize_pem(), validity })
    }
}

/// Whether the leaf names this authority's key as its issuer's (RFC 5280 §4.2.1.1). It compares identifiers, not
/// signatures: it answers "does this leaf go with that bundle", for material that we made ourselves.
///
/// # Errors
/// When either certificate cannot be read.
pub fn issued_by(leaf_pem: &str, authority_pem: &str) -> Result<bool, TlsError> {
    let wanted = identifier(leaf_pem, "leaf", |extension| match extension {
        ParsedExtension::AuthorityKeyIdentifier(aki) => aki.key_identifier.as_ref().map(|id| id.0.to_vec()),
        _ => None,
    })?;
    let offered = identifier(authority_pem, "authority", |extension| match extension {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    })?;
    Ok(wanted.is_some() && wanted == offered)
}

fn identifier(
    pem: &str,
    what: &'static str,
    pick: impl Fn(&ParsedExtension<'_>) -> Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, TlsError> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| TlsError::Pem { what, reason: error.to_string() })?;
    let (_, certificate) =
        X509Certificate::from_der(&der).map_err(|error| TlsError::X509 { what, reason: error.to_string() })?;
    Ok(certificate.extensions().iter().find_map(|extension| pick(extension.parsed_extension())))
}

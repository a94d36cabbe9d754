//! The authority that signs our leaves, and the bundle in which an old one fades out.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{TlsError, Validity};

/// How far `not_before` lies in the past, so that a verifier whose clock is a little late accepts a fresh certificate. Of a
/// short life no more than a tenth: renewal counts from `not_before`, and would be due at once otherwise.
const BACKDATE: Duration = Duration::from_secs(300);

/// An authority with its key, both as PEM. Its `Debug` shows no key.
pub struct Authority {
    cert_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
    validity: Validity,
}

impl Authority {
    /// A new self-signed authority that lives for `life` from `now`.
    ///
    /// # Errors
    /// When the key or certificate cannot be made, or `life` leaves the calendar.
    pub fn generate(common_name: &str, life: Duration, now: Timestamp) -> Result<Self, TlsError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(Vec::new(), common_name, now, now.checked_add(life)?)?;
        // Path length 0: this authority signs leaves only.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let cert_pem = params.self_signed(&key)?.pem();
        Self::from_pem(&cert_pem, &key.serialize_pem())
    }

    /// Reads back what [`Authority::cert_pem`] and [`Authority::key_pem`] gave. Only the first certificate counts.
    ///
    /// # Errors
    /// When either is unreadable or the key is not the certificate's.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, TlsError> {
        let key = KeyPair::from_pem(key_pem)?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let what = "authority";
        let der = CertificateDer::from_pem_slice(cert_pem.as_bytes())
            .map_err(|error| TlsError::Pem { what, reason: error.to_string() })?;
        let private = rustls::pki_types::PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| TlsError::Pem { what: "authority key", reason: error.to_string() })?;
        rustls::sign::CertifiedKey::from_der(vec![der.clone()], private, &provider)?;
        Ok(Self {
            validity: Validity::of_der(&der)?,
            issuer: Issuer::from_ca_cert_der(&der, key)?,
            cert_pem: cert_pem.to_owned(),
            key_pem: key_pem.to_owned(),
        })
    }

    /// The certificate.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The private key: it belongs in the authority's Secret and nowhere else.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Between when and when it holds.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("validity", &self.validity).finish_non_exhaustive()
    }
}

pub(super) fn params(
    names: Vec<String>,
    common_name: &str,
    now: Timestamp,
    not_after: Timestamp,
) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    let since_epoch = |t: Timestamp| {
        let seconds = u64::try_from(t.as_second()).unwrap_or(0);
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    let life = Duration::try_from(not_after.duration_since(now)).unwrap_or_default();
    params.not_before = since_epoch(now.checked_sub(BACKDATE.min(life / 10))?);
    params.not_after = since_epoch(not_after);
    Ok(params)
}

/// The bundle to publish when `current` is the authority: it first, then those of `bundle` that still hold at `now`.
///
/// Leaves of the old authority verify until it ends, so a new leaf need not reach every server before the bundle reaches
/// every client. A certificate of the old bundle that cannot be read is left out: it verifies nothing.
#[must_use]
pub fn overlap(current: &str, bundle: &str, now: Timestamp) -> String {
    let mut out = vec![normal(current.trim())];
    for block in bundle.split_inclusive("-----END CERTIFICATE-----") {
        let block = normal(block.trim());
        let holds = Validity::of_pem(&block).is_ok_and(|validity| !validity.expired(now));
        if holds && !out.contains(&block) {
            out.push(block);
        }
    }
    out.concat()
}

fn normal(pem: &str) -> String {
    pem.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

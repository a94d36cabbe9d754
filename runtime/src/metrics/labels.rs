//! Label values, none of which can be made from a string that came from a cluster.

use std::fmt::{Error, Write as _};

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// A label value fixed at compile time, as the name of a controller or a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(pub &'static str);

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), Error> {
        encoder.write_str(self.0)
    }
}

/// How one reconcile ended, in controller-runtime's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReconcileResult {
    /// Done until something changes.
    Success,
    /// Failed; it comes back after a back-off.
    Error,
    /// Asked to come back at once, with back-off.
    Requeue,
    /// Asked to come back at a set time.
    RequeueAfter,
}

impl EncodeLabelValue for ReconcileResult {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), Error> {
        encoder.write_str(match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Requeue => "requeue",
            Self::RequeueAfter => "requeue_after",
        })
    }
}

/// An HTTP method, or `OTHER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Read.
    Get,
    /// Create.
    Post,
    /// Replace.
    Put,
    /// Change in part.
    Patch,
    /// Remove.
    Delete,
    /// Anything else.
    Other,
}

impl From<&http::Method> for Verb {
    fn from(method: &http::Method) -> Self {
        match *method {
            http::Method::GET => Self::Get,
            http::Method::POST => Self::Post,
            http::Method::PUT => Self::Put,
            http::Method::PATCH => Self::Patch,
            http::Method::DELETE => Self::Delete,
            _ => Self::Other,
        }
    }
}

impl EncodeLabelValue for Verb {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), Error> {
        encoder.write_str(match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Other => "OTHER",
        })
    }
}

/// An HTTP status, or `<error>` when no answer came (client-go's spelling).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The server answered with this status.
    Status(u16),
    /// The request ended without an answer.
    NoAnswer,
}

impl From<http::StatusCode> for Code {
    fn from(status: http::StatusCode) -> Self {
        Self::Status(status.as_u16())
    }
}

impl EncodeLabelValue for Code {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), Error> {
        match self {
            Self::Status(code) => write!(encoder, "{code}"),
            Self::NoAnswer => encoder.write_str("<error>"),
        }
    }
}

/// Which of the two certificates a webhook lives by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CertificateKind {
    /// The authority that the API server trusts.
    Ca,
    /// The certificate that the server shows.
    Leaf,
}

impl EncodeLabelValue for CertificateKind {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), Error> {
        encoder.write_str(match self {
            Self::Ca => "ca",
            Self::Leaf => "leaf",
        })
    }
}

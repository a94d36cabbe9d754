//! What may be asked.

use crate::VERSION;
use portreeve_table::ServiceKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One request. Services are written `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// New flows that each Pod of a Service was given.
    Flows {
        /// The Service.
        service: String,
    },
    /// What this agent has compiled, page by page.
    Table {
        /// Only these Services; all of them when empty.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        services: Vec<String>,
        /// Only Services behind this one: the last of the page before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
    },
    /// Where the kernel is not what the agent has put in force.
    ReadBack {},
    /// Makes everything anew; the answer comes when it is in force.
    Repair {},
}

/// Why a request cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// It is not JSON.
    #[error("a request is one line of JSON: {0}")]
    NotJson(#[source] serde_json::Error),
    /// It has no version, or another one.
    #[error("this agent speaks version {VERSION} and the request says {0}; use the plugin of the agent's own version")]
    Version(String),
    /// It asks for what there is not.
    #[error("{0}; there are flows, table, read-back and repair")]
    Unknown(#[source] serde_json::Error),
    /// A Service is not written `namespace/name`.
    #[error("{0:?} is no Service: write namespace/name")]
    Service(String),
}

impl Request {
    /// Reads one line.
    ///
    /// # Errors
    /// When it is not a request of this [`VERSION`].
    pub fn read(line: &str) -> Result<Self, BadRequest> {
        let mut value: Value = serde_json::from_str(line).map_err(BadRequest::NotJson)?;
        let version = value.as_object_mut().and_then(|members| members.remove("version")).unwrap_or_default();
        if version != VERSION {
            return Err(BadRequest::Version(if version.is_null() { "none".to_owned() } else { version.to_string() }));
        }
        serde_json::from_value(value).map_err(BadRequest::Unknown)
    }

    /// The line that asks for it, without its end.
    #[must_use]
    pub fn line(&self) -> String {
        let mut value = serde_json::to_value(self).expect("invariant: texts in structs are JSON");
        value["version"] = VERSION.into();
        value.to_string()
    }
}

/// The key of a Service that is written `namespace/name`.
///
/// # Errors
/// When it is written otherwise.
pub fn service_key(text: &str) -> Result<ServiceKey, BadRequest> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(ServiceKey::new(namespace, name))
        }
        _ => Err(BadRequest::Service(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let web = || "shop/web".to_owned();
        for request in [
            Request::Flows { service: web() },
            Request::Table { services: vec![], after: None },
            Request::Table { services: vec![web()], after: Some(web()) },
            Request::ReadBack {},
            Request::Repair {},
        ] {
            assert_eq!(Request::read(&request.line()).unwrap(), request);
        }
        assert_eq!(Request::ReadBack {}.line(), r#"{"ask":"read-back","version":1}"#);
    }

    #[test]
    fn what_is_no_request_is_refused_with_what_to_do() {
        let said = |line: &str| Request::read(line).unwrap_err().to_string();
        insta::assert_snapshot!(
            [
                said("flows"),
                said("[]"),
                said(r#"{"ask":"repair"}"#),
                said(r#"{"ask":"repair","version":2}"#),
                said(r#"{"ask":"reboot","version":1}"#),
                said(r#"{"ask":"flows","version":1}"#),
                said(r#"{"ask":"repair","version":1,"now":true}"#),
                service_key("web").unwrap_err().to_string(),
                service_key("a/b/c").unwrap_err().to_string(),
            ]
            .join("\n")
        );
    }
}

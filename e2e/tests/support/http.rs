//! The API server's answers with all that a client library hides: status, warnings, causes.

use super::objects;
use ::http::{Method, Request};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;
use std::fmt;

/// Talks to the API server as some user.
#[derive(Clone)]
pub(crate) struct Http {
    client: kube::Client,
}

/// One answer.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) warnings: Vec<String>,
    pub(crate) body: Value,
}

impl fmt::Debug for Answer {
    /// Without the object, which would bury the rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Answer");
        shown.field("status", &self.status).field("warnings", &self.warnings);
        shown.field("message", &self.message()).field("causes", &self.causes()).finish()
    }
}

impl Answer {
    /// The object that a request which must succeed returned.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.body["message"]);
        self.body
    }

    /// Field and message of every cause of a refusal.
    pub(crate) fn causes(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let causes = self.body["details"]["causes"].as_array().cloned().unwrap_or_default();
        causes.iter().map(|cause| (text(&cause["field"]), text(&cause["message"]))).collect()
    }

    /// The message of a refusal.
    pub(crate) fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    /// Warnings of ours, which begin with a rule's id; the API server has some of its own.
    pub(crate) fn our_warnings(&self) -> Vec<&str> {
        self.warnings.iter().map(String::as_str).filter(|warning| warning.starts_with("[ETP")).collect()
    }

    /// The rules that the warnings name, sorted.
    pub(crate) fn warned(&self) -> Vec<String> {
        sorted(self.our_warnings().into_iter().map(|warning| warning[1..7].to_owned()))
    }

    /// The rules that the causes name, sorted.
    pub(crate) fn denied(&self) -> Vec<String> {
        let ours = self.causes().into_iter().filter(|(_, message)| message.starts_with("[ETP"));
        sorted(ours.map(|(_, message)| message[1..7].to_owned()))
    }
}

fn sorted(rules: impl Iterator<Item = String>) -> Vec<String> {
    let mut rules: Vec<String> = rules.collect();
    rules.sort_unstable();
    rules
}

impl Http {
    pub(crate) fn new(client: kube::Client) -> Self {
        Self { client }
    }

    /// The client, for typed access.
    pub(crate) fn client(&self) -> kube::Client {
        self.client.clone()
    }

    pub(crate) async fn send(&self, method: Method, path: &str, content_type: &str, body: &Value) -> Answer {
        self.try_send(method, path, content_type, body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// [`Self::send`], for tests in which nobody may be there to answer.
    pub(crate) async fn try_send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: &Value,
    ) -> Result<Answer, kube::Error> {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        let response = self.client.send(request.body(Body::from(bytes)).unwrap()).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.into_body().collect().await?.to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into());
        let warnings = headers.get_all("warning").iter().map(|value| warning(value.as_bytes())).collect();
        Ok(Answer { status, warnings, body })
    }

    pub(crate) async fn create(&self, object: &Value) -> Answer {
        self.send(Method::POST, &objects::collection(object), JSON, object).await
    }

    pub(crate) async fn dry_run(&self, object: &Value) -> Answer {
        self.send(Method::POST, &format!("{}?dryRun=All", objects::collection(object)), JSON, object).await
    }

    pub(crate) async fn replace(&self, object: &Value) -> Answer {
        self.send(Method::PUT, &objects::path(object), JSON, object).await
    }

    /// A JSON merge patch.
    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> Answer {
        self.send(Method::PATCH, path, "application/merge-patch+json", patch).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, JSON, &Value::Null).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, JSON, &Value::Null).await
    }
}

const JSON: &str = "application/json";

/// The text of a `Warning` header as the API server writes it: `299 - "TEXT"` with backslashes before quotes.
fn warning(header: &[u8]) -> String {
    let text = String::from_utf8_lossy(header).into_owned();
    let quoted = text.split_once('"').map_or("", |(_, rest)| rest);
    let quoted = quoted.strip_suffix('"').unwrap_or(quoted);
    quoted.replace("\\\"", "\"").replace("\\\\", "\\")
}

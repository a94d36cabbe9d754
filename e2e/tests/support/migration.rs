//! One TrafficMigration and its Services, as a user and the operator see them.

use super::{Http, Kubectl, Site, eventually, holds, objects};
use serde_json::{Value, json};

pub(crate) const BETA: &str = "service.beta.kubernetes.io/external-traffic";
pub(crate) const ALPHA: &str = "service.alpha.kubernetes.io/external-traffic";
pub(crate) const BETA_PORT: &str = "service.beta.kubernetes.io/healthcheck-nodeport";
pub(crate) const ALPHA_PORT: &str = "service.alpha.kubernetes.io/healthcheck-nodeport";

/// A migration of the Services of one namespace, which has the same name.
pub(crate) struct Migration {
    pub(crate) http: Http,
    pub(crate) kubectl: Kubectl,
    pub(crate) name: String,
}

impl Migration {
    /// A namespace without a Service; the migration is made by [`Self::begin`].
    pub(crate) async fn prepare(site: &Site, prefix: &str) -> Self {
        Self { http: site.http().await, kubectl: site.kubectl(), name: site.namespace(prefix).await }
    }

    pub(crate) fn service(&self, name: &str, spec: Value, annotations: &[(&str, &str)]) -> Value {
        let mut spec = spec;
        if spec["ports"].is_null() {
            spec["ports"] = json!([{"port": 80}]);
        }
        let service = objects::service(&self.name, name, spec);
        annotations.iter().fold(service, |service, (key, value)| objects::annotated(service, key, value))
    }

    /// Makes Services as a user would.
    pub(crate) async fn create(&self, services: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": services});
        self.kubectl.run_with(&["create", "-f", "-"], &list.to_string()).await.ok();
    }

    /// Gives a Service ready Pods on these nodes.
    pub(crate) async fn ready_on(&self, service: &str, nodes: &[&str]) {
        self.http.create(&objects::slice(&self.name, service, nodes)).await.ok();
    }

    pub(crate) async fn live(&self, service: &str) -> Value {
        self.http.get(&format!("/api/v1/namespaces/{}/services/{service}", self.name)).await.ok()
    }

    /// Makes the migration with this mode and more of its spec.
    pub(crate) async fn begin(&self, mode: &str, more: Value) {
        let mut spec = json!({"mode": mode, "namespaces": [self.name]});
        spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let migration = json!({
            "apiVersion": "portreeve.io/v1alpha1", "kind": "TrafficMigration",
            "metadata": {"name": self.name}, "spec": spec,
        });
        self.http.create(&migration).await.ok();
    }

    /// Changes the migration's spec.
    pub(crate) async fn change(&self, spec: Value) {
        self.http.merge(&self.path(), &json!({"spec": spec})).await.ok();
    }

    fn path(&self) -> String {
        format!("/apis/portreeve.io/v1alpha1/trafficmigrations/{}", self.name)
    }

    pub(crate) async fn status(&self) -> Value {
        self.http.get(&self.path()).await.ok()["status"].clone()
    }

    /// Waits for a phase of the spec as it is now; returns the status.
    pub(crate) async fn phase(&self, phase: &str) -> Value {
        eventually(&format!("migration {} comes to {phase}", self.name), async || {
            let migration = self.http.get(&self.path()).await.ok();
            let status = migration["status"].clone();
            let current = status["observedGeneration"] == migration["metadata"]["generation"];
            holds(current && status["phase"] == phase, (&status, self.states().await))?;
            Ok(status)
        })
        .await
    }

    /// The hash of the plan that is shown.
    pub(crate) async fn hash(&self) -> String {
        self.status().await["planHash"].as_str().unwrap().to_owned()
    }

    /// Waits until the condition Approved has this reason.
    pub(crate) async fn approval(&self, reason: &str) {
        eventually(&format!("the approval comes to {reason}"), async || {
            let status = self.status().await;
            let mut conditions = status["conditions"].as_array().into_iter().flatten();
            let approved = conditions.find(|one| one["type"] == "Approved");
            holds(approved.is_some_and(|one| one["reason"] == reason), &status["conditions"])
        })
        .await;
    }

    pub(crate) async fn item(&self, service: &str) -> Value {
        let items = format!("/apis/portreeve.io/v1alpha1/namespaces/{}/trafficmigrationitems", self.name);
        self.http.get(&format!("{items}/{}.{service}", self.name)).await.ok()
    }

    /// State and message of every item, by Service.
    pub(crate) async fn states(&self) -> Vec<(String, String, String)> {
        let items = format!("/apis/portreeve.io/v1alpha1/namespaces/{}/trafficmigrationitems", self.name);
        let items = self.http.get(&items).await.ok();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let items = items["items"].as_array().cloned().unwrap_or_default();
        let read = |item: &Value| {
            (text(&item["spec"]["service"]["name"]), text(&item["status"]["state"]), text(&item["status"]["message"]))
        };
        items.iter().map(read).collect()
    }

    /// Waits until the item of a Service is in this state; returns it.
    pub(crate) async fn state(&self, service: &str, state: &str) -> Value {
        eventually(&format!("item {service} comes to {state}"), async || {
            let states = self.states().await;
            holds(states.iter().any(|(name, at, _)| name == service && at == state), states)
        })
        .await;
        self.item(service).await
    }
}

/// The legacy annotations of a Service.
pub(crate) fn legacy(service: &Value) -> Vec<String> {
    let keys = service["metadata"]["annotations"].as_object().into_iter().flat_map(serde_json::Map::keys);
    keys.filter(|key| [BETA, ALPHA, BETA_PORT, ALPHA_PORT].contains(&key.as_str())).cloned().collect()
}

/// What a migration may change and a rollback must restore: all of it but what the API server writes by itself.
pub(crate) fn essence(service: &Value) -> Value {
    let annotations = service["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    json!({"spec": service["spec"], "annotations": annotations, "labels": service["metadata"]["labels"]})
}

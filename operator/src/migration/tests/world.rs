//! A small API server for the machine: Services, items, versions, and trouble on demand.

use super::super::answer::{Answer, Undo, after_change, after_undo};
use super::super::build::{Prepared, Work, build};
use super::super::dereference::dereference;
use super::super::machine::Step;
use super::super::validate::validate;
use crate::index::tests::{mk_index, mk_policy, mk_service, mk_slice, object};
use crate::index::{Delta, Event, Index};
use crate::key::Key;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::migration::{
    Approval, ItemState, MigrationPhase, PatchOperation, TrafficMigrationItemStatus, TrafficMigrationSpec,
};
use portreeve_crds::{TrafficMigration, TrafficMigrationItem};
use portreeve_policy::migration::{
    asked_health_check_port, rollback_patch, with_resource_version, without_health_check_port,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};

/// What goes wrong while a Service is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    CrashAtOnce,
    CrashAfterIntent,
    CrashAfterPatch,
    /// Somebody else writes to the Service between our look and our patch.
    Touch,
}

/// What admission does with the legacy annotations of a Service that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Lets,
    /// ETP001 at Fix.
    Removes,
    /// ETP001 at Deny.
    Denies,
}

pub(super) struct World {
    index: Index,
    /// The Services as the API server has them. The index keeps less of each.
    stored: BTreeMap<Key, Service>,
    pub(super) admission: Admission,
    version: u32,
    now: Timestamp,
    pub(super) troubles: VecDeque<Trouble>,
    pub(super) refuse_port: bool,
    pub(super) always_conflict: bool,
    pub(super) most_verifying: usize,
    pub(super) undone: Vec<String>,
}

impl World {
    /// A migration `m` over Services whose names say what they are.
    pub(super) fn new(mode: &str, services: &[&str]) -> Self {
        let mut world = Self {
            index: mk_index(),
            stored: BTreeMap::new(),
            admission: Admission::Lets,
            version: 100,
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            troubles: VecDeque::new(),
            refuse_port: false,
            always_conflict: false,
            most_verifying: 0,
            undone: Vec::new(),
        };
        world.store(mk_service("web", 1, json!({})));
        for name in services {
            world.add_service(name);
        }
        let migration: TrafficMigration = object(json!({
            "metadata": {"name": "m", "uid": "m", "resourceVersion": "1", "generation": 1}, "spec": {"mode": mode},
        }));
        world.index.apply(Event::Migration(Delta::Applied(migration)));
        world
    }

    pub(super) fn add_service(&mut self, name: &str) {
        let (value, field) = match name {
            "safe" => ("Global", "Cluster"),
            "invalid" => ("Perhaps", "Cluster"),
            _ => ("OnlyLocal", "Cluster"),
        };
        let type_ = if name == "port" { "LoadBalancer" } else { "NodePort" };
        let mut service = mk_service(name, 0, json!({"type": type_, "externalTrafficPolicy": field}));
        let annotations = service.metadata.annotations.get_or_insert_default();
        annotations.insert("service.beta.kubernetes.io/external-traffic".to_owned(), value.to_owned());
        if name == "port" {
            annotations.insert("service.beta.kubernetes.io/healthcheck-nodeport".to_owned(), "31234".to_owned());
        }
        if name == "owned" {
            annotations.insert("meta.helm.sh/release-name".to_owned(), "shop".to_owned());
        }
        if name == "applied" {
            // What kubectl keeps is all that is left when the annotation is gone.
            annotations.remove("note");
        }
        self.store(service);
        self.set_pods(name, &["n1", "n2"]);
    }

    pub(super) fn set_pods(&mut self, name: &str, nodes: &[&str]) {
        self.version += 1;
        let slice = mk_slice(name, &format!("{name}-s"), self.version, nodes);
        self.index.apply(Event::Slice(Delta::Applied(slice)));
    }

    pub(super) fn delete_service(&mut self, name: &str) {
        let service = self.service(name);
        self.stored.remove(&Key::new("shop", name));
        self.index.apply(Event::Service(Delta::Deleted(service)));
    }

    pub(super) fn edit_item(&mut self, name: &str, edit: impl Fn(&mut TrafficMigrationItem)) {
        let mut item = self.recorded(name);
        edit(&mut item);
        self.store_item(item);
    }

    pub(super) fn approve(&mut self, hash: &str) {
        let approval = Approval { plan_hash: hash.to_owned(), accept_new_health_check_node_port: None };
        self.set_spec(json!({ "approval": approval }));
    }

    /// Merges into the migration's spec, as a user would.
    pub(super) fn set_spec(&mut self, change: Value) {
        let mut migration = self.migration();
        let mut spec = serde_json::to_value(&migration.spec).unwrap();
        json_patch::merge(&mut spec, &change);
        migration.spec = object::<TrafficMigrationSpec>(spec);
        migration.metadata.generation = migration.metadata.generation.map(|generation| generation + 1);
        self.store_migration(migration);
    }

    /// Works until nothing is left to do; time passes while Services are watched.
    pub(super) fn run(&mut self) {
        self.run_until(|_| false);
    }

    pub(super) fn run_until(&mut self, enough: impl Fn(&Self) -> bool) {
        for _ in 0..500 {
            if enough(self) {
                return;
            }
            let found = dereference(&self.index, "m").unwrap();
            let prepared = build(&validate(found, &(30_000..=32_767)), self.now);
            let verifying = self.index.items.values().filter(|item| state(item) == Some(ItemState::Verifying));
            self.most_verifying = self.most_verifying.max(verifying.count());
            match prepared.work {
                Work::Settled { until: None } => return,
                Work::Settled { until: Some(until) } => self.now = until,
                _ => self.carry_out(prepared),
            }
            self.now = self.now.checked_add(SignedDuration::from_secs(1)).unwrap();
        }
        panic!("the machine does not come to rest");
    }

    fn carry_out(&mut self, prepared: Prepared) {
        match prepared.work {
            Work::Status { status, .. } => {
                let migration = TrafficMigration { status: Some(*status), ..prepared.migration };
                self.store_migration(migration);
            }
            Work::Settled { .. } => {}
            Work::Step(step) => match *step {
                Step::Record(items) => items.into_iter().for_each(|item| self.store_item(item)),
                Step::Drop(item) => drop(self.index.apply(Event::Item(Delta::Deleted(item)))),
                Step::Mark(marks) => marks.into_iter().for_each(|(item, status)| self.mark(item, status)),
                Step::Apply { item, resource_version, accept_new_port } => {
                    self.change(item, &resource_version, accept_new_port);
                }
                Step::Undo { item, undo } => self.undo(item, &undo),
                Step::Rest { .. } => {}
            },
        }
    }

    fn change(&mut self, item: TrafficMigrationItem, version: &str, accept_new_port: bool) {
        let trouble = self.troubles.pop_front().unwrap_or(Trouble::None);
        if trouble == Trouble::CrashAtOnce {
            return;
        }
        let old = item.status.clone().unwrap_or_default();
        let intent = TrafficMigrationItemStatus { applied_at: Some(self.now.to_string()), ..old.clone() };
        self.mark(item.clone(), intent.clone());
        if trouble == Trouble::CrashAfterIntent {
            return;
        }
        if trouble == Trouble::Touch {
            let service = self.service(&item.spec.service.name);
            self.store(service);
        }
        let mut answer = self.send(&item, &item.spec.patch, version);
        if matches!(answer, Answer::PortRefused) && accept_new_port {
            answer = self.send(&item, &without_health_check_port(&item.spec.patch), version);
        }
        if trouble != Trouble::CrashAfterPatch {
            let (status, _) = after_change(&item.spec, &old, &intent, &answer);
            self.mark(item, status);
        }
    }

    fn undo(&mut self, item: TrafficMigrationItem, undo: &Undo) {
        let trouble = self.troubles.pop_front().unwrap_or(Trouble::None);
        if trouble == Trouble::CrashAtOnce {
            return;
        }
        let live = self.service(&item.spec.service.name);
        let answer = match rollback_patch(&item.spec, &live) {
            Ok(patch) => self.send(&item, &patch, live.metadata.resource_version.as_deref().unwrap()),
            Err(refusal) => Answer::Unfit(refusal),
        };
        if matches!(answer, Answer::Taken(_)) {
            self.undone.push(item.spec.service.name.clone());
        }
        if trouble != Trouble::CrashAfterPatch {
            let (status, _) = after_undo(&item.spec, &item.status.clone().unwrap_or_default(), undo, &answer);
            self.mark(item, status);
        }
    }

    fn send(&mut self, item: &TrafficMigrationItem, patch: &[PatchOperation], version: &str) -> Answer {
        if self.always_conflict {
            return Answer::Conflict;
        }
        if self.refuse_port && asked_health_check_port(patch).is_some() {
            return Answer::PortRefused;
        }
        let mut live = serde_json::to_value(self.service(&item.spec.service.name)).unwrap();
        if json_patch::patch(&mut live, &with_resource_version(patch, version)).is_err() {
            return Answer::Conflict;
        }
        let mut service: Service = object(live);
        match self.admission {
            Admission::Denies if crate::index::has_legacy_annotation(&service) => {
                return Answer::Denied("HTTP 422: [ETP001 policy=ctp/strict] annotation".to_owned());
            }
            Admission::Removes => {
                let annotations = service.metadata.annotations.get_or_insert_default();
                annotations.retain(|key, _| !portreeve_crds::names::legacy::ALL.contains(&key.as_str()));
            }
            Admission::Lets | Admission::Denies => {}
        }
        if service.metadata.annotations.as_ref().is_some_and(BTreeMap::is_empty) {
            service.metadata.annotations = None;
        }
        let spec = service.spec.as_mut().unwrap();
        if spec.type_.as_deref() == Some("LoadBalancer") && spec.external_traffic_policy.as_deref() == Some("Local") {
            spec.health_check_node_port.get_or_insert(32_000);
        }
        Answer::Taken(Box::new(self.store(service)))
    }

    fn store(&mut self, mut service: Service) -> Service {
        self.version += 1;
        service.metadata.resource_version = Some(self.version.to_string());
        self.index.apply(Event::Service(Delta::Applied(service.clone())));
        let key = Key::new("shop", service.metadata.name.clone().unwrap_or_default());
        self.stored.insert(key, service.clone());
        service
    }

    fn store_item(&mut self, mut item: TrafficMigrationItem) {
        self.version += 1;
        item.metadata.resource_version = Some(self.version.to_string());
        item.metadata.uid.get_or_insert_with(|| "uid-item".to_owned());
        self.index.apply(Event::Item(Delta::Applied(item)));
    }

    fn mark(&mut self, item: TrafficMigrationItem, status: TrafficMigrationItemStatus) {
        self.store_item(TrafficMigrationItem { status: Some(status), ..item });
    }

    fn store_migration(&mut self, mut migration: TrafficMigration) {
        self.version += 1;
        migration.metadata.resource_version = Some(self.version.to_string());
        self.index.apply(Event::Migration(Delta::Applied(migration)));
    }

    fn migration(&self) -> TrafficMigration {
        self.index.migrations.get(&"m".to_owned()).cloned().unwrap()
    }

    /// Somebody else writes to a Service.
    pub(super) fn edit_service(&mut self, name: &str, edit: impl Fn(&mut Service)) {
        let mut service = self.service(name);
        edit(&mut service);
        self.store(service);
    }

    pub(super) fn add_policy(&mut self, name: &str, rule: &str, action: &str) {
        let policy = mk_policy(name, 1, json!({"rules": [{"id": rule, "action": action}]}));
        self.index.apply(Event::ClusterPolicy(Delta::Applied(policy)));
    }

    pub(super) fn service(&self, name: &str) -> Service {
        self.stored.get(&Key::new("shop", name)).cloned().unwrap()
    }

    fn recorded(&self, name: &str) -> TrafficMigrationItem {
        self.index.items.get(&Key::new("shop", format!("m.{name}"))).cloned().unwrap()
    }

    pub(super) fn item(&self, name: &str) -> TrafficMigrationItemStatus {
        self.recorded(name).status.unwrap_or_default()
    }

    pub(super) fn phase(&self) -> Option<MigrationPhase> {
        self.migration().status.and_then(|status| status.phase)
    }

    /// Reason and message of the migration's condition.
    pub(super) fn condition(&self, type_: &str) -> (String, String) {
        let conditions = self.migration().status.unwrap().conditions;
        let found = conditions.into_iter().find(|condition| condition.type_ == type_).unwrap();
        (found.reason, found.message)
    }

    pub(super) fn plan_hash(&self) -> String {
        self.migration().status.and_then(|status| status.plan_hash).unwrap()
    }

    pub(super) fn policy(&self, name: &str) -> String {
        self.service(name).spec.and_then(|spec| spec.external_traffic_policy).unwrap_or_default()
    }

    pub(super) fn is_legacy(&self, name: &str) -> bool {
        crate::index::has_legacy_annotation(&self.service(name))
    }

    pub(super) fn services(&self) -> Vec<Service> {
        self.stored.values().cloned().collect()
    }

    /// What a user sees of every Service: annotations and spec.
    pub(super) fn specs(&self) -> BTreeMap<Key, Value> {
        let shown = |service: &Service| json!([service.metadata.annotations, service.spec]);
        self.stored.iter().map(|(key, service)| (key.clone(), shown(service))).collect()
    }
}

fn state(item: &TrafficMigrationItem) -> Option<ItemState> {
    item.status.as_ref().and_then(|status| status.state)
}

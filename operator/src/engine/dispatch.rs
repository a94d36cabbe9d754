//! Takes keys from the lanes, runs the pure steps, and sends the steps that need a client off as tasks.

use super::{Engine, Finished, Report, SERVICES_AT_ONCE, TALLY_AFTER};
use crate::key::Key;
use crate::notice::{Notice, Reason};
use crate::queue::After;
use crate::service_traffic::build::{Built, Now};
use crate::{admission, datapath_config, migration, policies, service_traffic};
use portreeve_crds::RuleId;
use portreeve_policy::policies::PolicyRef;
use portreeve_runtime::metrics::Label;
use tokio::time::Instant;

impl Engine {
    pub(super) fn dispatch(&mut self, now: Now) {
        if self.tally_at.is_some_and(|at| at <= now.since_start) {
            self.tally(now);
        }
        while let Some(()) = self.admission.take(now.since_start) {
            self.dispatch_admission(now);
        }
        while let Some(()) = self.datapath.take(now.since_start) {
            self.dispatch_datapath(now);
        }
        while let Some(name) = self.migrations.take(now.since_start) {
            self.dispatch_migration(name, now);
        }
        while let Some(policy) = self.policies.take(now.since_start) {
            self.dispatch_policy(policy, now);
        }
        for _ in 0..SERVICES_AT_ONCE {
            let Some(key) = self.services.take(now.since_start) else { break };
            self.dispatch_service(key, now);
        }
    }

    fn dispatch_service(&mut self, key: Key, now: Now) {
        let began = Instant::now();
        let found = service_traffic::dereference::dereference(&mut self.index, key.clone());
        let summary = found.live.as_ref().map(|live| live.assessed.summary.clone());
        let contradiction = found.live.as_ref().and_then(|live| {
            let finding = live.assessed.outcome.findings.iter().find(|finding| finding.rule == RuleId::ETP002)?;
            let known = self.summaries.get(&key).is_some_and(|old| old.findings.iter().any(|f| f.0 == RuleId::ETP002));
            let reason = Reason::LegacyAnnotationContradicts;
            (!known).then(|| Notice::about(live.service, reason, finding.message()))
        });
        let validated = service_traffic::validate::validate(found); // no client required
        let built = service_traffic::build::build(validated, self.written.get(&key).copied(), now); // no client required
        self.tell(contradiction);
        if self.summaries.set(&key, summary) {
            self.tally_at.get_or_insert(now.since_start + TALLY_AFTER);
        }
        let after = match built {
            Built::Settled => After::Settled,
            Built::Later(at) => After::At(at),
            Built::Write(prepared) => {
                let client = self.settings.client.clone();
                let label = self.services.label;
                self.spawn(label, async move {
                    Finished::Service(key, service_traffic::write(client, prepared).await) // client required
                });
                return;
            }
        };
        self.services.done(key, after, began.elapsed(), now.since_start);
    }

    fn dispatch_policy(&mut self, policy: PolicyRef, now: Now) {
        let began = Instant::now();
        let found = policies::dereference::dereference(&mut self.index, &self.tallies, policy.clone());
        let validated = policies::validate::validate(found); // no client required
        let prepared = validated.and_then(|validated| policies::build::build(validated, now.wall)); // no client required
        let Some(prepared) = prepared else {
            return self.policies.done(policy, After::Settled, began.elapsed(), now.since_start);
        };
        let client = self.settings.client.clone();
        self.spawn(self.policies.label, async move {
            Finished::Policy(policy, policies::status::status(&client, prepared).await) // client required
        });
    }

    fn dispatch_migration(&mut self, name: String, now: Now) {
        let began = Instant::now();
        let Some(found) = migration::dereference::dereference(&self.index, &name) else {
            return self.migrations.done(name, After::Settled, began.elapsed(), now.since_start);
        };
        let validated = migration::validate::validate(found, &self.settings.node_ports); // no client required
        let prepared = migration::build::build(&validated, now.wall); // no client required
        let client = self.settings.client.clone();
        self.spawn(self.migrations.label, async move {
            Finished::Migration(name, migration::run(&client, prepared, now.wall).await) // client required
        });
    }

    fn dispatch_admission(&mut self, now: Now) {
        let bundle = admission::dereference::registered_bundle(&self.index);
        match (&self.registered, bundle) {
            (_, None) => self.registered = None,
            (Some((known, _)), Some(bundle)) if *known == bundle => {}
            (_, Some(bundle)) => self.registered = Some((bundle, now.since_start)),
        }
        let registered_for = self.registered.as_ref().map(|(_, since)| now.since_start.saturating_sub(*since));
        let found = admission::dereference::dereference(&self.index);
        let validated = admission::validate::validate(found); // no client required
        let endpoint = self.settings.endpoint.clone();
        let owner = self.owner.clone();
        let prepared = admission::build::build(validated, &endpoint, owner.as_ref(), registered_for, now.wall); // no client required
        let client = self.settings.client.clone();
        let certificates = self.settings.metrics.certificate.clone();
        self.spawn(self.admission.label, async move {
            let applied = admission::apply::apply(&client, &endpoint, prepared, owner.as_ref(), now.wall).await; // client required
            Finished::Admission(applied.map(|applied| admission::status::status(applied, &certificates)))
        });
    }

    fn dispatch_datapath(&mut self, now: Now) {
        let began = Instant::now();
        let found = datapath_config::dereference(&self.index);
        let validated = datapath_config::validate(found); // no client required
        let prepared = validated.and_then(|validated| datapath_config::build(&validated, now.wall)); // no client required
        let Some(prepared) = prepared else {
            return self.datapath.done((), After::Settled, began.elapsed(), now.since_start);
        };
        let client = self.settings.client.clone();
        self.spawn(self.datapath.label, async move {
            Finished::Datapath(datapath_config::status(&client, prepared).await) // client required
        });
    }

    /// Runs work under the term: it ends when the term does, and the lease is given back only after it.
    fn spawn(&self, label: Label, work: impl Future<Output = Finished> + Send + 'static) {
        let Some(term) = &self.term else { return };
        let (reports, epoch, lost) = (self.reports.clone(), self.epoch, term.lost.clone());
        let active = self.settings.metrics.reconcile.begin(label);
        term.tasks.spawn(async move {
            let _active = active;
            let began = Instant::now();
            if let Some(finished) = lost.run_until_cancelled(work).await {
                // Nobody listens once the process ends.
                drop(reports.send(Report { epoch, took: began.elapsed(), finished }));
            }
        });
    }
}

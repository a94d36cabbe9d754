//! Takes results in: what the API server now holds goes into the index, what failed waits.

use super::{Engine, Finished, Report};
use crate::admission::plan::Next;
use crate::api_error;
use crate::index::{Delta, Event};
use crate::policies::status::Written;
use crate::queue::After;
use crate::service_traffic::status::Outcome;
use jiff::Timestamp;
use std::fmt::Display;
use std::time::Duration;

/// Certificates are looked at no less often than this, whatever their dates say.
const ADMISSION_EVERY: Duration = Duration::from_secs(600);

impl Engine {
    pub(super) fn take_report(&mut self, report: Report) {
        let Report { epoch, took, finished } = report;
        if epoch != self.epoch {
            return;
        }
        let now = self.started.elapsed();
        match finished {
            Finished::Service(key, result) => {
                let mut again = false;
                let after = match result {
                    Ok(Outcome::Written { traffic, notice }) => {
                        self.written.insert(key.clone(), now);
                        again = self.own_writes.wrote(&mut self.index, &key, *traffic);
                        self.tell(notice);
                        After::Settled
                    }
                    Ok(Outcome::Gone | Outcome::Refused) => {
                        again = self.own_writes.removed(&key);
                        After::Settled
                    }
                    Err(error) => {
                        // It is tried again in any case.
                        self.own_writes.removed(&key);
                        failed("servicetraffic", &key, &error, Some(error.cause()))
                    }
                };
                self.services.done(key.clone(), after, took, now);
                if again {
                    self.services.add(key, now);
                }
            }
            Finished::Policy(policy, result) => {
                let after = match result {
                    Ok(written) => {
                        let event = match written {
                            Written::Cluster(policy) => Some(Event::ClusterPolicy(Delta::Applied(*policy))),
                            Written::Namespaced(policy) => Some(Event::Policy(Delta::Applied(*policy))),
                            Written::Gone => None,
                        };
                        if let Some(changes) = event.map(|event| self.index.apply(event))
                            && changes.admission
                        {
                            self.enqueue(changes);
                        }
                        After::Settled
                    }
                    Err(error) => failed("policy", &policy, &error, Some(&error.0)),
                };
                self.policies.done(policy, after, took, now);
            }
            Finished::Migration(name, result) => {
                let mut again = false;
                let after = match result {
                    Ok(outcome) => {
                        for (decision, state) in outcome.moved {
                            self.settings.own.item(decision, state);
                        }
                        self.tell(outcome.notices);
                        self.take_events(outcome.events.into_iter());
                        again = !outcome.settled;
                        outcome.until.map_or(After::Settled, |until| After::At(now + from_now(until)))
                    }
                    Err(error) => failed("migration", &name, &error, error.cause()),
                };
                self.migrations.done(name.clone(), after, took, now);
                if again {
                    self.migrations.add(name, now);
                }
            }
            Finished::Admission(result) => {
                let after = match result {
                    Ok(outcome) => {
                        self.tell(outcome.notice);
                        if outcome.owner.is_some() {
                            self.owner = outcome.owner;
                        }
                        self.take_events(outcome.event.into_iter());
                        match outcome.next {
                            None => After::At(now),
                            Some(Next::Settling(left)) => After::At(now + left.max(Duration::from_millis(100))),
                            Some(Next::At(at)) => After::At(now + from_now(at).min(ADMISSION_EVERY)),
                        }
                    }
                    Err(error) => failed("admission", &"webhook", &error, error.cause()),
                };
                self.admission.done((), after, took, now);
            }
            Finished::Datapath(result) => {
                let after = match result {
                    Ok(config) => {
                        drop(self.index.apply(Event::DatapathConfig(Delta::Applied(config))));
                        After::Settled
                    }
                    Err(error) => failed("datapathconfig", &"default", &error, Some(&error.0)),
                };
                self.datapath.done((), after, took, now);
            }
        }
    }
}

/// How a failure is followed up, after it was logged. Conflicts are everyday: the watch brings the newer object.
fn failed(controller: &'static str, key: &impl Display, error: &impl Display, cause: Option<&kube::Error>) -> After {
    if cause.is_some_and(api_error::is_conflict) {
        tracing::debug!(controller, %key, %error, "Object changed meanwhile");
    } else {
        tracing::warn!(controller, %key, %error, "Reconcile failed");
    }
    let asked = cause.and_then(api_error::status).and_then(|status| status.details.as_ref());
    let seconds = asked.map_or(0, |details| details.retry_after_seconds);
    let jitter = u16::try_from(Timestamp::now().subsec_nanosecond() % 1000).unwrap_or(0);
    After::Failed { at_least: (seconds > 0).then(|| Duration::from_secs(u64::from(seconds))), jitter }
}

fn from_now(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
}

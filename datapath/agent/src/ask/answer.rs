//! What the main loop answers, from what it owns.

use crate::program::{self, Program};
use crate::state::State;
use jiff::{SignedDuration, Timestamp};
use portreeve_ask::{
    Answer, DIFFERENCES, Flows, KernelDifference, PodCount, ReadBack, Request, Standing, page, service_key,
};
use portreeve_table::{Difference, PodFlows, ServiceKey};
use std::time::{Duration, Instant};

/// One pair of readings, by which instants are told as times of day: the same instant is always the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) instant: Instant,
    pub(crate) time: Timestamp,
}

impl Clock {
    fn time(self, at: Instant) -> Timestamp {
        let between = |duration: Duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        match at.checked_duration_since(self.instant) {
            Some(later) => self.time.saturating_add(between(later)),
            None => self.time.saturating_sub(between(self.instant.duration_since(at))),
        }
        .expect("invariant: a signed duration is no calendar unit")
    }
}

/// The answer to `request`, or why there is none. [`Request::Repair`] is the main loop's own.
pub(crate) fn answer(request: &Request, state: &State, program: &mut Program, clock: Clock) -> Result<Answer, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    match request {
        Request::Flows { service } => {
            let key = service_key(service).map_err(|bad| text(&bad))?;
            flows(&key, state, program, clock).map(Answer::Flows)
        }
        Request::Table { services, after } => {
            let key = |name: &String| service_key(name).map_err(|bad| text(&bad));
            let named = services.iter().map(key).collect::<Result<_, _>>()?;
            let after = after.as_ref().map(key).transpose()?;
            Ok(Answer::Table(page(state.compiled(), standing(program), &named, after.as_ref())))
        }
        Request::ReadBack {} => {
            let began = Instant::now();
            let mut found = program.read_back().map_err(|error| text(&error))?;
            let omitted = found.len().saturating_sub(DIFFERENCES);
            found.truncate(DIFFERENCES);
            let differences = found.into_iter().map(difference).collect();
            Ok(Answer::ReadBack(ReadBack {
                standing: standing(program),
                differences,
                omitted,
                milliseconds: milliseconds(began.elapsed()),
            }))
        }
        Request::Repair {} => Err("a repair is asked of the main loop".to_owned()),
    }
}

fn flows(key: &ServiceKey, state: &State, program: &mut Program, clock: Clock) -> Result<Flows, String> {
    let compiled = state.compiled();
    if !compiled.table.services.contains_key(key) {
        let why = compiled.explain_claim(key);
        return Err(format!("nothing is counted here: {}", why.lines().next().unwrap_or_default()));
    }
    let (since, mut pods) = program.flows(key).map_err(|error| error.to_string())?;
    pods.sort_unstable();
    let count = |PodFlows { protocol, pod, flows }| PodCount { pod, protocol: protocol.to_string(), flows };
    Ok(Flows { service: key.to_string(), since: clock.time(since), pods: pods.into_iter().map(count).collect() })
}

/// What is known of the kernel without asking it.
fn standing(program: &Program) -> Standing {
    match program.standing() {
        program::Standing::NotYet => Standing::NotYet,
        program::Standing::InStep(kind) => Standing::InForce { backend: kind.to_string() },
        program::Standing::Failed { why, .. } => Standing::Failed { why: why.clone() },
    }
}

fn difference(Difference { service, what }: Difference) -> KernelDifference {
    KernelDifference { service: service.map(|key| key.to_string()), what }
}

/// Whole milliseconds.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

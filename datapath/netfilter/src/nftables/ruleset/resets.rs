//! The rules that tell TCP clients of flows that have been ended.
//!
//! They know each client by its own addresses and ports, so that nobody else can meet them, and what they cost a packet of a
//! known connection is one look at its state. Behind the kernel's tracking, which such a packet belongs to no more, and in
//! front of all translation: its destination is the frontend still, and it makes no new entry since it is dropped before.

use super::model::{Chain, ChainKind, Datum, Field, Key, Part, Rule, SetKind, Statement, Value};
use super::{BEFORE_DSTNAT, Command, names};
use crate::conntrack::Flow;
use portreeve_table::Family;
use std::collections::BTreeMap;
use std::time::Duration;

/// The table that tells the clients of `flows` for `time`.
pub(crate) fn resets(flows: &[Flow], time: Duration) -> Part {
    let mut part = Part::default();
    let mut rules = vec![Rule(vec![Statement::UnderWay, Statement::Return])];
    for family in Family::BOTH {
        // The seconds are part of the name: another time, in another version of this engine, is another set.
        let ended = names::of_family(&format!("ended-{}-", time.as_secs()), family);
        let fields = || vec![Field::Source(family), Field::SourcePort, Field::Destination(family), Field::Port];
        part.set(ended.clone(), fields(), SetKind::Leases { seconds: time.as_secs() });
        for Flow { client, frontend, .. } in flows.iter().filter(|flow| Family::of(flow.client.ip()) == family) {
            let [from, to] = [client, frontend].map(|end| [Value::Address(end.ip()), Value::Port(end.port())]);
            part.element(ended.clone(), Key::Exact([from, to].concat()), Datum::Nothing);
        }
        let told = Statement::In(fields(), ended);
        rules.push(Rule(vec![Statement::NotOpening, told, Statement::Count, Statement::Reset]));
    }
    let kind = ChainKind::FilterPrerouting(BEFORE_DSTNAT - 1);
    part.chains.insert(names::shared(names::PREROUTING), Chain { kind, rules });
    part
}

/// The steps that make that table, or add to it: those who are told already are so for as long as they were to be.
pub(crate) fn resetting(flows: &[Flow], time: Duration) -> Vec<Command> {
    let Part { sets, chains, elements } = resets(flows, time);
    let mut commands = vec![Command::AddTable];
    commands.extend(sets.into_iter().map(|(name, set)| Command::AddSet(name, set)));
    let mut clients: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for ((set, key), datum) in elements {
        clients.entry(set).or_default().push((key, datum));
    }
    commands.extend(clients.into_iter().map(|(set, clients)| Command::AddElements(set, clients)));
    for (name, Chain { kind, rules }) in chains {
        commands.extend([Command::AddChain(name.clone(), kind), Command::FlushChain(name.clone())]);
        commands.extend(rules.into_iter().map(|rule| Command::AddRule(name.clone(), rule)));
    }
    commands
}

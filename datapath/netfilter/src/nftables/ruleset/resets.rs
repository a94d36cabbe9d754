//! The rules that tell TCP clients of flows that have been ended.
//!
//! They know each client by its own addresses and ports, so that nobody else can meet them, and what they cost a packet of a
//! known connection is one look at its state. Behind the kernel's tracking, which such a packet belongs to no more, and in
//! front of all translation: its destination is the frontend still, and it makes no new entry since it is dropped before.

use super::model::{ChainKind, Datum, Field, Key, Rule, Set, SetKind, Statement, Value};
use super::{BEFORE_DSTNAT, Command, names};
use crate::conntrack::Flow;
use portreeve_table::Family;
use std::time::Duration;

/// The steps after which the clients of `flows` are told for `time`, whether or not others are told already.
pub(crate) fn resetting(flows: &[Flow], time: Duration) -> Vec<Command> {
    let chain = names::shared(names::PREROUTING);
    let mut commands = vec![
        Command::AddTable,
        Command::AddChain(chain.clone(), ChainKind::FilterPrerouting(BEFORE_DSTNAT - 1)),
        Command::FlushChain(chain.clone()),
        Command::AddRule(chain.clone(), Rule(vec![Statement::UnderWay, Statement::Return])),
    ];
    for family in Family::BOTH {
        let ended = names::of_family("ended", family);
        let kind = SetKind::Leases { seconds: time.as_secs() };
        let clients: Vec<_> = flows.iter().filter(|flow| Family::of(flow.client.ip()) == family).map(client).collect();
        let told = Statement::In(fields(family), ended.clone());
        commands.push(Command::AddSet(ended.clone(), Set { fields: fields(family), kind }));
        commands.extend((!clients.is_empty()).then_some(Command::AddElements(ended, clients)));
        let reset = vec![Statement::NotOpening, told, Statement::Count, Statement::Reset];
        commands.push(Command::AddRule(chain.clone(), Rule(reset)));
    }
    commands
}

fn fields(family: Family) -> Vec<Field> {
    vec![Field::Source(family), Field::SourcePort, Field::Destination(family), Field::Port]
}

fn client(flow: &Flow) -> (Key, Datum) {
    let Flow { client, frontend, .. } = flow;
    let [from, to] = [client, frontend].map(|end| [Value::Address(end.ip()), Value::Port(end.port())]);
    (Key::Exact([from, to].concat()), Datum::Nothing)
}

//! The ruleset in the words of nft(8), for people and for comparison: the engine itself never goes through text.

use super::Ruleset;
use super::model::{Chain, ChainKind, Datum, Field, Key, Part, REMEMBERED, Rule, Set, SetKind, Statement, Value};
use super::names::TABLE;
use portreeve_table::Family;
use std::fmt::{self, Display};

impl Display for Ruleset {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.whole())
    }
}

impl Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "table inet {TABLE} {{")?;
        for (name, Set { fields, kind }) in &self.sets {
            let keys = Joined(fields.iter().map(|field| type_of(*field)), " . ");
            match kind {
                SetKind::Keys => writeln!(out, "\tset {name} {{\n\t\ttype {keys}")?,
                SetKind::Ranges => writeln!(out, "\tset {name} {{\n\t\ttype {keys}\n\t\tflags interval")?,
                SetKind::Remembered { seconds } => writeln!(
                    out,
                    "\tset {name} {{\n\t\ttype {keys}\n\t\tsize {REMEMBERED}\n\t\tflags dynamic,timeout\n\t\ttimeout {seconds}s"
                )?,
                SetKind::Leases { seconds } => {
                    writeln!(out, "\tset {name} {{\n\t\ttype {keys}\n\t\tflags timeout\n\t\ttimeout {seconds}s")?;
                }
                SetKind::Chains => writeln!(out, "\tmap {name} {{\n\t\ttype {keys} : verdict")?,
                SetKind::Pods(family) => {
                    let address = type_of(Field::Destination(*family));
                    writeln!(out, "\tmap {name} {{\n\t\ttype {keys} : {address} . inet_service\n\t\tcounter")?;
                }
            }
            let from = (name.clone(), Key::Exact(Vec::new()));
            let elements = self.elements.range(from..).take_while(|((set, _), _)| set == name);
            let lines = elements.map(|((_, key), datum)| format!("\t\t\t{key}{datum}"));
            if lines.clone().next().is_some() {
                writeln!(out, "\t\telements = {{\n{}\n\t\t}}", Joined(lines, ",\n"))?;
            }
            writeln!(out, "\t}}")?;
        }
        for (name, Chain { kind, rules }) in &self.chains {
            writeln!(out, "\tchain {name} {{")?;
            let base = match kind {
                ChainKind::Regular => None,
                ChainKind::NatPrerouting(priority) => Some(("nat", priority)),
                ChainKind::FilterPrerouting(priority) => Some(("filter", priority)),
            };
            if let Some((word, priority)) = base {
                writeln!(out, "\t\ttype {word} hook prerouting priority {priority}; policy accept;")?;
            }
            for rule in rules {
                writeln!(out, "\t\t{rule}")?;
            }
            writeln!(out, "\t}}")?;
        }
        writeln!(out, "}}")
    }
}

const fn type_of(field: Field) -> &'static str {
    match field {
        Field::Interface => "ifname",
        Field::Source(Family::V4) | Field::Destination(Family::V4) => "ipv4_addr",
        Field::Source(Family::V6) | Field::Destination(Family::V6) => "ipv6_addr",
        Field::Protocol => "inet_proto",
        Field::SourcePort | Field::Port => "inet_service",
    }
}

impl Display for Field {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Interface => "iifname",
            Self::Source(Family::V4) => "ip saddr",
            Self::Source(Family::V6) => "ip6 saddr",
            Self::Destination(Family::V4) => "ip daddr",
            Self::Destination(Family::V6) => "ip6 daddr",
            Self::Protocol => "meta l4proto",
            Self::SourcePort => "th sport",
            Self::Port => "th dport",
        })
    }
}

impl Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(interface) => write!(out, "\"{}\"", interface.as_str()),
            Self::Address(address) => write!(out, "{address}"),
            Self::Protocol(protocol) => write!(out, "{protocol}"),
            Self::Port(port) => write!(out, "{port}"),
        }
    }
}

impl Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(values) => write!(out, "{}", Joined(values.iter(), " . ")),
            Self::Range(range) => write!(out, "{range}"),
        }
    }
}

impl Display for Datum {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Goto(chain) => write!(out, " : goto {chain}"),
            Self::Pod(pod) => write!(out, " : {} . {}", pod.ip(), pod.port()),
        }
    }
}

impl Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", Joined(self.0.iter(), " "))
    }
}

impl Display for Statement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = |fields: &[Field]| Joined(fields.iter(), " . ").to_string();
        match self {
            Self::Family(Family::V4) => out.write_str("meta nfproto ipv4"),
            Self::Family(Family::V6) => out.write_str("meta nfproto ipv6"),
            Self::Protocol(protocol) => write!(out, "meta l4proto {protocol}"),
            Self::NotOpening => out.write_str("tcp flags & (fin|syn|rst|ack) != syn"),
            Self::UnderWay => out.write_str("ct state established,related"),
            Self::In(of, set) => write!(out, "{} @{set}", fields(of)),
            Self::NotIn(of, set) => write!(out, "{} != @{set}", fields(of)),
            Self::Dispatch(of, map) => write!(out, "{} vmap @{map}", fields(of)),
            Self::Choose(chains) => {
                let elements = chains.iter().enumerate().map(|(number, chain)| format!("{number} : goto {chain}"));
                write!(out, "numgen random mod {} vmap {{ {} }}", chains.len(), Joined(elements, ", "))
            }
            Self::TranslateBy(family, of, map) => write!(out, "dnat {} to {} map @{map}", word(*family), fields(of)),
            Self::TranslateTo(pod) => write!(out, "dnat {} to {pod}", word(Family::of(pod.ip()))),
            Self::Steer(to) => write!(out, "tproxy {} to {to}", word(Family::of(to.ip()))),
            Self::Remember(family, set) => write!(out, "update @{set} {{ {} }}", Field::Source(*family)),
            Self::Count => out.write_str("counter"),
            Self::Reject => out.write_str("reject with icmpx port-unreachable"),
            Self::Reset => out.write_str("reject with tcp reset"),
            Self::Drop => out.write_str("drop"),
            Self::Return => out.write_str("return"),
            Self::Goto(chain) => write!(out, "goto {chain}"),
        }
    }
}

const fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

/// Items with a separator between them.
struct Joined<I>(I, &'static str);

impl<T: Display, I: Iterator<Item = T> + Clone> Display for Joined<I> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(items, separator) = self;
        for (number, item) in items.clone().enumerate() {
            if number > 0 {
                out.write_str(separator)?;
            }
            write!(out, "{item}")?;
        }
        Ok(())
    }
}

//! Rules in the words of iptables-save(8), and read back from them.
//!
//! Reading is the inverse of writing for every rule that this engine makes, and refuses everything else: what comes back
//! from the kernel is equal to what was written, or somebody else wrote it.

use super::rules::{Chance, Match, Name, Rule, Verdict};
use ipnet::IpNet;
use portreeve_table::{Family, Interface, Protocol};
use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr};

/// TCP flags that are looked at and those that must be set, for a packet that opens a connection.
const OPENING: [&str; 2] = ["FIN,SYN,RST,ACK", "SYN"];

impl Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { matches, verdict } = self;
        matches.iter().try_for_each(|wanted| write!(out, "{wanted} "))?;
        write!(out, "{verdict}")
    }
}

const fn mask(family: Family) -> &'static str {
    match family {
        Family::V4 => "255.255.255.255",
        Family::V6 => "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    }
}

const fn unreachable(family: Family) -> &'static str {
    match family {
        Family::V4 => "icmp-port-unreachable",
        Family::V6 => "icmp6-port-unreachable",
    }
}

impl Display for Match {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(range) => write!(out, "-s {range}"),
            Self::Destination(range) => write!(out, "-d {range}"),
            Self::Arrival(interface) => write!(out, "-i {}", interface.as_str()),
            Self::Protocol(protocol) => write!(out, "-p {protocol}"),
            Self::Ports(protocol, first, last) if first == last => {
                write!(out, "-p {protocol} -m {protocol} --dport {first}")
            }
            Self::Ports(protocol, first, last) => write!(out, "-p {protocol} -m {protocol} --dport {first}:{last}"),
            Self::NotOpening => write!(out, "-p tcp -m tcp ! --tcp-flags {} {}", OPENING[0], OPENING[1]),
            Self::First => out.write_str("-m conntrack --ctstate NEW ! --ctstatus CONFIRMED"),
            Self::Bound(family, clients, seconds) => write!(
                out,
                "-m recent --rcheck --seconds {seconds} --reap --name {clients} --mask {} --rsource",
                mask(*family)
            ),
            Self::Bind(family, clients) => {
                write!(out, "-m recent --set --name {clients} --mask {} --rsource", mask(*family))
            }
            Self::Chance(chance) => write!(out, "-m statistic --mode random --probability {:.11}", chance.fraction()),
        }
    }
}

impl Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jump(chain) => write!(out, "-j {chain}"),
            Self::Goto(chain) => write!(out, "-g {chain}"),
            Self::Return => out.write_str("-j RETURN"),
            Self::Drop => out.write_str("-j DROP"),
            Self::Reject(family) => write!(out, "-j REJECT --reject-with {}", unreachable(*family)),
            Self::Deliver(pod) => write!(out, "-j DNAT --to-destination {pod}"),
            Self::Stay(address) => write!(out, "-j DNAT --to-destination {address}"),
        }
    }
}

/// Reads a rule without its chain; `None` if this engine writes no such rule.
pub(crate) fn parse(text: &str) -> Option<Rule> {
    let mut words = Words { rest: text.split(' '), protocol: None };
    let mut matches = Vec::new();
    loop {
        match words.next()? {
            "-s" => matches.push(Match::Source(words.range()?)),
            "-d" => matches.push(Match::Destination(words.range()?)),
            "-i" => matches.push(Match::Arrival(words.next().and_then(Interface::new)?)),
            "-p" => words.protocol = Some(protocol(words.next()?)?),
            "-m" => matches.push(words.extension()?),
            word @ ("-j" | "-g") => {
                // A protocol that no port or flag took is a match of its own, and stands before the others.
                if let Some(protocol) = words.protocol.take() {
                    let address = |wanted: &&Match| {
                        matches!(wanted, Match::Source(_) | Match::Destination(_) | Match::Arrival(_))
                    };
                    matches.insert(matches.iter().take_while(address).count(), Match::Protocol(protocol));
                }
                let verdict = words.verdict(word)?;
                return words.rest.next().is_none().then_some(Rule { matches, verdict });
            }
            _ => return None,
        }
    }
}

fn protocol(word: &str) -> Option<Protocol> {
    // Numbers are what iptables prints where the system has no name for one.
    match word {
        "tcp" | "6" => Some(Protocol::Tcp),
        "udp" | "17" => Some(Protocol::Udp),
        "sctp" | "132" => Some(Protocol::Sctp),
        _ => None,
    }
}

struct Words<'a> {
    rest: std::str::Split<'a, char>,
    protocol: Option<Protocol>,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.rest.next()
    }

    fn expect(&mut self, words: &[&str]) -> Option<()> {
        words.iter().try_for_each(|word| (self.next()? == *word).then_some(()))
    }

    fn range(&mut self) -> Option<IpNet> {
        let word = self.next()?;
        word.parse().ok().or_else(|| word.parse::<IpAddr>().ok().map(IpNet::from))
    }

    fn name(&mut self) -> Option<Name> {
        Name::new(self.next()?)
    }

    fn extension(&mut self) -> Option<Match> {
        match self.next()? {
            "conntrack" => {
                self.expect(&["--ctstate", "NEW", "!", "--ctstatus", "CONFIRMED"])?;
                Some(Match::First)
            }
            "recent" => self.recent(),
            "statistic" => {
                self.expect(&["--mode", "random", "--probability"])?;
                Some(Match::Chance(Chance::from_fraction(self.next()?.parse().ok()?)?))
            }
            transport => {
                let of = self.protocol.take().filter(|of| protocol(transport) == Some(*of))?;
                match self.next()? {
                    "--dport" => {
                        let ports = self.next()?;
                        let (first, last) = ports.split_once(':').unwrap_or((ports, ports));
                        Some(Match::Ports(of, first.parse().ok()?, last.parse().ok()?))
                    }
                    "!" if of == Protocol::Tcp => {
                        self.expect(&["--tcp-flags", OPENING[0], OPENING[1]])?;
                        Some(Match::NotOpening)
                    }
                    _ => None,
                }
            }
        }
    }

    fn recent(&mut self) -> Option<Match> {
        let seconds = match self.next()? {
            "--set" => None,
            "--rcheck" => {
                self.expect(&["--seconds"])?;
                let seconds = self.next()?.parse().ok()?;
                self.expect(&["--reap"])?;
                Some(seconds)
            }
            _ => return None,
        };
        self.expect(&["--name"])?;
        let clients = self.name()?;
        self.expect(&["--mask"])?;
        let word = self.next()?;
        let family = Family::BOTH.into_iter().find(|family| mask(*family) == word)?;
        self.expect(&["--rsource"])?;
        Some(match seconds {
            Some(seconds) => Match::Bound(family, clients, seconds),
            None => Match::Bind(family, clients),
        })
    }

    fn verdict(&mut self, word: &str) -> Option<Verdict> {
        if word == "-g" {
            return self.name().map(Verdict::Goto);
        }
        Some(match self.next()? {
            "RETURN" => Verdict::Return,
            "DROP" => Verdict::Drop,
            "REJECT" => {
                self.expect(&["--reject-with"])?;
                let word = self.next()?;
                Verdict::Reject(Family::BOTH.into_iter().find(|family| unreachable(*family) == word)?)
            }
            "DNAT" => {
                self.expect(&["--to-destination"])?;
                let to = self.next()?;
                match to.parse::<SocketAddr>() {
                    Ok(pod) => Verdict::Deliver(pod),
                    Err(_) => Verdict::Stay(to.parse().ok()?),
                }
            }
            chain => Verdict::Jump(Name::new(chain)?),
        })
    }
}

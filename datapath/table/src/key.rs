//! The small nouns that everything else is keyed by.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Namespace and name of a Service. Ordered by namespace, then name; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Namespace of the Service.
    pub namespace: Arc<str>,
    /// Name of the Service.
    pub name: Arc<str>,
}

impl ServiceKey {
    /// A key from borrowed names.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

/// IP family. Each family of a Service is compiled on its own, as kube-proxy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which they are compiled.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Transport protocol of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP, single-homed; the netfilter backends only.
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// One value for each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerFamily<T> {
    /// For IPv4.
    pub v4: T,
    /// For IPv6.
    pub v6: T,
}

impl<T> PerFamily<T> {
    /// Computes the value of each family.
    pub fn from_fn(mut of: impl FnMut(Family) -> T) -> Self {
        Self { v4: of(Family::V4), v6: of(Family::V6) }
    }

    /// The value of `family`.
    #[must_use]
    pub const fn get(&self, family: Family) -> &T {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

/// Name of a network interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface(Arc<str>);

impl Interface {
    /// Longest name: `IFNAMSIZ` without the terminating zero (`linux/if.h`).
    pub const LONGEST: usize = 15;

    /// The interface of this name; `None` if no interface can have it (`dev_valid_name` of the kernel) or if nft(8) could
    /// not show it: its strings know no escapes, and a trailing `*` means something else there.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=Self::LONGEST).contains(&name.len()) && !matches!(name, "." | "..");
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"/:\"\\*".contains(&byte);
        (fits && name.bytes().all(plain)).then(|| Self(name.into()))
    }

    /// The name as the kernel has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Keeps one copy of each name that many inputs repeat (nodes, port names), so that 100,000 endpoints do not hold
/// 100,000 copies of their node's name.
#[derive(Debug, Default)]
pub struct Names(BTreeSet<Arc<str>>);

impl Names {
    /// The shared copy of `name`.
    pub fn share(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let fresh: Arc<str> = name.into();
        self.0.insert(Arc::clone(&fresh));
        fresh
    }

    /// Forgets names that no input holds any more.
    pub fn forget_unused(&mut self) {
        self.0.retain(|name| Arc::strong_count(name) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_one_copy_until_nobody_holds_it() {
        let mut names = Names::default();
        let (first, second) = (names.share("node-1"), names.share("node-1"));
        assert!(Arc::ptr_eq(&first, &second));
        let weak = Arc::downgrade(&first);
        drop((first, second));
        names.forget_unused();
        assert!(weak.upgrade().is_none(), "the last copy is gone");
    }
}

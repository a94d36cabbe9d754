//! Reads the node's interfaces over rtnetlink and tells when something about them changes. Reads only.

use crate::uplinks::{Dump, Link};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags};
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteType};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why the interfaces are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinksError {
    /// No rtnetlink socket.
    #[error("no rtnetlink socket: {0}")]
    Socket(#[from] io::Error),
    /// A dump failed.
    #[error("rtnetlink: {0}")]
    Dump(#[from] rtnetlink::Error),
}

/// A connection to rtnetlink that is read from on the runtime.
#[derive(Clone, Debug)]
pub(crate) struct Links(Handle);

impl Links {
    /// The connection, and one item for every change of a link, an address or a route. The stream ends if the socket
    /// fails; then only looking again helps.
    pub(crate) fn open() -> Result<(Self, impl Stream<Item = ()> + Send + use<>), LinksError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ];
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)?;
        tokio::spawn(connection);
        Ok((Self(handle), messages.map(|_| ())))
    }

    /// Interfaces, addresses and default routes as they are now.
    pub(crate) async fn dump(&self) -> Result<Dump, LinksError> {
        let mut addresses: BTreeMap<u32, BTreeSet<(IpAddr, u8)>> = BTreeMap::new();
        let mut answers = self.0.address().get().execute();
        while let Some(message) = answers.try_next().await? {
            let found = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            });
            // On a point-to-point link `Address` is the peer's, and the node's own is `Local`.
            let own = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            });
            if let Some(address) = own.or(found) {
                addresses.entry(message.header.index).or_default().insert((address, message.header.prefix_len));
            }
        }
        let mut links = BTreeMap::new();
        let mut answers = self.0.link().get().execute();
        while let Some(message) = answers.try_next().await? {
            let index = message.header.index;
            let mut link = Link {
                index,
                name: String::new(),
                mtu: 0,
                loopback: message.header.flags.contains(LinkFlags::Loopback),
                addresses: addresses.remove(&index).unwrap_or_default().into_iter().collect(),
            };
            for attribute in message.attributes {
                match attribute {
                    LinkAttribute::IfName(name) => link.name = name,
                    LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                    _ => {}
                }
            }
            links.insert(index, link);
        }
        let mut default_routes = BTreeSet::new();
        for query in [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()] {
            let mut answers = self.0.route().get(query).execute();
            while let Some(route) = answers.try_next().await? {
                default_routes.extend(default_interfaces(&route));
            }
        }
        Ok(Dump { links: links.into_values().collect(), default_routes })
    }
}

/// Interfaces that a default route of the main table leaves by; several when it has several next hops.
fn default_interfaces(route: &RouteMessage) -> Vec<u32> {
    let header = &route.header;
    let default = header.destination_prefix_length == 0
        && header.kind == RouteType::Unicast
        && header.table == RouteHeader::RT_TABLE_MAIN;
    if !default {
        return Vec::new();
    }
    route
        .attributes
        .iter()
        .flat_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => vec![*index],
            RouteAttribute::MultiPath(hops) => hops.iter().map(|hop| hop.interface_index).collect(),
            _ => Vec::new(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_loopback_interface_is_in_the_dump_with_its_address() {
        let (links, _changes) = Links::open().unwrap();
        let dump = links.dump().await.unwrap();
        let loopback = dump.links.iter().find(|link| link.loopback).expect("every namespace has one");
        assert_eq!(loopback.name, "lo");
        assert!(!dump.default_routes.contains(&loopback.index));
    }

    #[test]
    fn every_next_hop_of_a_default_route_counts_and_other_routes_do_not() {
        let route = |prefix: u8, table: u8| {
            let mut message = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(7).build();
            message.header.destination_prefix_length = prefix;
            message.header.table = table;
            default_interfaces(&message)
        };
        assert_eq!(route(0, RouteHeader::RT_TABLE_MAIN), [7]);
        assert!(route(24, RouteHeader::RT_TABLE_MAIN).is_empty());
        assert!(route(0, 255).is_empty(), "the table of local addresses");
    }
}

//! What the API server holds, read as the agent reads it, and as kube-proxy does where that differs.

use super::objects::NAMESPACE;
use super::quirks::Quirk;
use super::support::Http;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use portreeve_agreement::{NODE_ADDRESSES, OTHER_LOCAL, POD_LINK};
use portreeve_crds::ServiceTrafficSpec;
use portreeve_crds::policy::DataPathMode;
use portreeve_ingest as ingest;
use portreeve_table::{ForwardingTable, FrontendHost, Input, Names, ServiceEntry, ServiceKey, Standing, compile};
use serde::de::DeserializeOwned;
use std::net::IpAddr;
use std::sync::Arc;

pub(crate) struct Objects {
    pub(crate) services: Vec<Service>,
    pub(crate) slices: Vec<EndpointSlice>,
    node: Node,
}

impl Objects {
    pub(crate) async fn read(http: &Http, node: &str) -> Self {
        let node = http.get(&format!("/api/v1/nodes/{node}")).await.ok();
        Self {
            services: list(http, &format!("/api/v1/namespaces/{NAMESPACE}/services")).await,
            slices: list(http, &format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices")).await,
            node: serde_json::from_value(node).unwrap(),
        }
    }

    /// What the node does when every Service's directive is to do as kube-proxy does, but for these differences.
    pub(crate) fn table(&self, quirks: &[Quirk]) -> ForwardingTable {
        let input = self.input();
        let mut table = compile(&input).table;
        if quirks.contains(&Quirk::EveryLocalAddress) {
            table.node_addresses = addresses(&[NODE_ADDRESSES, OTHER_LOCAL, POD_LINK].concat());
        }
        if quirks.contains(&Quirk::PrimaryAddresses) {
            table.node_addresses = addresses(&NODE_ADDRESSES);
        }
        for (key, entry) in &mut table.services {
            unguard(Arc::make_mut(entry), &input.services[key].external_ips, quirks);
        }
        table
    }

    fn input(&self) -> Input {
        let mut names = Names::default();
        let (this_node, _) = ingest::node(&self.node).unwrap();
        let mut input = Input { this_node, pod_ranges: ingest::pod_ranges(&self.node).unwrap(), ..Input::default() };
        let directive = ServiceTrafficSpec { mode: Some(DataPathMode::Local), ..ServiceTrafficSpec::default() };
        for service in &self.services {
            let key = ServiceKey::new(NAMESPACE, service.metadata.name.as_deref().unwrap());
            let read = ingest::service(service, &mut names).unwrap();
            input.services.insert(key.clone(), read);
            input.directives.insert(key, ingest::directive(&directive));
        }
        for slice in &self.slices {
            let (key, read) = ingest::slice(slice, &mut names).unwrap().unwrap();
            let name = slice.metadata.name.clone().unwrap().into();
            input.slices.entry(key).or_default().insert(name, read);
        }
        input
    }
}

/// Takes the guard off the frontends that kube-proxy serves before it asks for the source.
fn unguard(entry: &mut ServiceEntry, external_ips: &[IpAddr], quirks: &[Quirk]) {
    for port in &mut entry.ports {
        let nowhere = port.standing == Standing::Nowhere && quirks.contains(&Quirk::NowhereBeforeSources);
        for front in &mut port.frontends {
            let first = quirks.contains(&Quirk::ExternalIpFirst)
                && external_ips.iter().any(|ip| front.frontend.host == FrontendHost::Address(*ip));
            front.guarded &= !nowhere && !first;
        }
    }
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

async fn list<K: DeserializeOwned>(http: &Http, path: &str) -> Vec<K> {
    let mut body = http.get(path).await.ok();
    for object in body["items"].as_array_mut().unwrap() {
        object["metadata"].as_object_mut().unwrap().remove("managedFields");
    }
    serde_json::from_value(body["items"].take()).unwrap()
}

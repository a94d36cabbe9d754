//! What the agent watches, as one stream of things seen. A restarted watch lists everything again: what is missing then is
//! told as gone, so that the state never keeps what the API has lost.

use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use portreeve_crds::{DatapathConfig, ServiceTraffic, names};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Service,
    EndpointSlice,
    Node,
    ServiceTraffic,
    DatapathConfig,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Service, Self::EndpointSlice, Self::Node, Self::ServiceTraffic, Self::DatapathConfig];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceTraffic => "ServiceTraffic",
            Self::DatapathConfig => "DatapathConfig",
        }
    }
}

/// Namespace (empty for cluster-scoped kinds) and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectName {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
}

impl ObjectName {
    pub(crate) fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.as_deref().unwrap_or_default().into(),
            name: meta.name.as_deref().unwrap_or_default().into(),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            out.write_str(&self.name)
        } else {
            write!(out, "{}/{}", self.namespace, self.name)
        }
    }
}

/// One object, of the kind it is of. Ours may be of a shape that this version does not know.
#[derive(Debug)]
pub(crate) enum Object {
    Service(Box<Service>),
    EndpointSlice(Box<EndpointSlice>),
    Node(Box<Node>),
    ServiceTraffic(Box<DeserializeGuard<ServiceTraffic>>),
    DatapathConfig(Box<DeserializeGuard<DatapathConfig>>),
}

impl Object {
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Node(_) => Kind::Node,
            Self::ServiceTraffic(_) => Kind::ServiceTraffic,
            Self::DatapathConfig(_) => Kind::DatapathConfig,
        }
    }
}

/// One thing that was seen.
#[derive(Debug)]
pub(crate) enum Seen {
    /// An object is there or has changed.
    Put(ObjectName, Object),
    /// An object is gone.
    Gone(Kind, ObjectName),
    /// Every object of the kind has been told.
    Synced(Kind),
    /// The watch failed and is being tried again.
    Failed(Kind, watcher::Error),
}

/// Every watch of the agent, merged. All Nodes, since each of them says which addresses its Pods have.
pub(crate) fn all(client: &Client) -> SelectAll<BoxStream<'static, Seen>> {
    let every = watcher::Config::default;
    // Slices of headless Services and of other proxies are the bulk of some clusters, and never ours.
    let slices = every().labels("!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name");
    let the_config = every().fields(&format!("metadata.name={}", names::DATAPATH_CONFIG));
    let all = |client: &Client| client.clone();
    futures::stream::select_all([
        one(Api::<Service>::all(all(client)), every(), Kind::Service, |it| Object::Service(Box::new(it))),
        one(Api::<EndpointSlice>::all(all(client)), slices, Kind::EndpointSlice, |it| {
            Object::EndpointSlice(Box::new(it))
        }),
        one(Api::<Node>::all(all(client)), every(), Kind::Node, |it| Object::Node(Box::new(it))),
        one(Api::<DeserializeGuard<ServiceTraffic>>::all(all(client)), every(), Kind::ServiceTraffic, |it| {
            Object::ServiceTraffic(Box::new(it))
        }),
        one(Api::<DeserializeGuard<DatapathConfig>>::all(all(client)), the_config, Kind::DatapathConfig, |it| {
            Object::DatapathConfig(Box::new(it))
        }),
    ])
}

fn one<K>(api: Api<K>, config: watcher::Config, kind: Kind, wrap: fn(K) -> Object) -> BoxStream<'static, Seen>
where
    K: Resource + Clone + DeserializeOwned + fmt::Debug + Send + 'static,
{
    let events = watcher(api, config)
        .default_backoff()
        .map(|event| event.map(|event| event.modify(|object| object.managed_fields_mut().clear())));
    flatten(events, kind, wrap).boxed()
}

fn flatten<K: Resource + Send + 'static>(
    events: impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send + 'static,
    kind: Kind,
    wrap: fn(K) -> Object,
) -> impl Stream<Item = Seen> + Send {
    let mut relist = Relist::default();
    events.flat_map(move |event| {
        let seen = match event {
            Ok(event) => relist.step(event, kind, wrap),
            Err(error) => vec![Seen::Failed(kind, error)],
        };
        futures::stream::iter(seen)
    })
}

/// Names that were told and not yet taken back.
#[derive(Debug, Default)]
struct Relist {
    known: BTreeSet<ObjectName>,
    /// During a list: those known before it that it has not told again.
    missing: Option<BTreeSet<ObjectName>>,
}

impl Relist {
    fn step<K: Resource>(&mut self, event: watcher::Event<K>, kind: Kind, wrap: fn(K) -> Object) -> Vec<Seen> {
        match event {
            watcher::Event::Init => {
                self.missing = Some(self.known.clone());
                Vec::new()
            }
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                let name = ObjectName::of(&object);
                if let Some(missing) = &mut self.missing {
                    missing.remove(&name);
                }
                self.known.insert(name.clone());
                vec![Seen::Put(name, wrap(object))]
            }
            watcher::Event::Delete(object) => {
                let name = ObjectName::of(&object);
                self.known.remove(&name);
                vec![Seen::Gone(kind, name)]
            }
            watcher::Event::InitDone => {
                let missing = self.missing.take().unwrap_or_default();
                for name in &missing {
                    self.known.remove(name);
                }
                missing.into_iter().map(|name| Seen::Gone(kind, name)).chain([Seen::Synced(kind)]).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::watcher::Event;

    fn told(relist: &mut Relist, event: Event<Node>) -> Vec<String> {
        let seen = relist.step(event, Kind::Node, |node| Object::Node(Box::new(node)));
        seen.into_iter()
            .map(|seen| match seen {
                Seen::Put(name, _) => format!("put {name}"),
                Seen::Gone(_, name) => format!("gone {name}"),
                Seen::Synced(kind) => format!("synced {}", kind.as_str()),
                Seen::Failed(..) => "failed".to_owned(),
            })
            .collect()
    }

    fn node(name: &str) -> Node {
        let mut node = Node::default();
        node.metadata.name = Some(name.to_owned());
        node
    }

    #[test]
    fn what_a_new_list_misses_is_gone_before_the_kind_is_synced() {
        let mut relist = Relist::default();
        for event in [Event::Init, Event::InitApply(node("a")), Event::InitApply(node("b"))] {
            told(&mut relist, event);
        }
        assert_eq!(told(&mut relist, Event::InitDone), ["synced Node"]);
        assert_eq!(told(&mut relist, Event::Apply(node("c"))), ["put c"]);
        assert_eq!(told(&mut relist, Event::Delete(node("a"))), ["gone a"]);
        for event in [Event::Init, Event::InitApply(node("c"))] {
            told(&mut relist, event);
        }
        assert_eq!(told(&mut relist, Event::InitDone), ["gone b", "synced Node"]);
    }

    #[test]
    fn a_list_that_starts_over_forgets_its_first_half() {
        let mut relist = Relist::default();
        for event in [
            Event::Init,
            Event::InitApply(node("a")),
            Event::InitDone,
            Event::Init,
            Event::InitApply(node("a")),
            Event::Init,
        ] {
            told(&mut relist, event);
        }
        assert_eq!(told(&mut relist, Event::InitDone), ["gone a", "synced Node"]);
    }

    #[test]
    fn an_object_is_named_with_its_namespace_if_it_has_one() {
        let mut service = Service::default();
        service.metadata.name = Some("web".into());
        service.metadata.namespace = Some("shop".into());
        assert_eq!(ObjectName::of(&service).to_string(), "shop/web");
        assert_eq!(ObjectName::of(&node("n1")).to_string(), "n1");
    }
}

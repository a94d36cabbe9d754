//! Pods and Services of the scenarios, as JSON.

use portreeve_e2e::image::catalogue::AGNHOST;
use serde_json::{Value, json};

/// A class that no controller of the testbed serves: the test writes `status.loadBalancer` itself.
const CLASS: &str = "testbed.portreeve.io/by-hand";
/// On a Service whose addresses get `ipMode: Proxy`.
pub(crate) const PROXIED: &str = "ip-mode-proxy";
/// On a Service that is for another proxy than kube-proxy.
pub(crate) const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
/// Number of a Service, from which its addresses follow.
pub(crate) const NUMBER: &str = "number";
/// Ports of the test server.
pub(crate) const HTTP: u16 = 8080;
/// Ports of the test server.
pub(crate) const UDP: u16 = 8081;

/// A Pod of the test server on this node, with the label `app`. It ends as soon as it is asked to.
pub(crate) fn pod(name: &str, app: &str, node: &str) -> Value {
    server(name, app, node, HTTP, 0)
}

/// A Pod that serves on for `seconds` after it was asked to end.
pub(crate) fn lingering(name: &str, app: &str, node: &str, seconds: u16) -> Value {
    server(name, app, node, HTTP, seconds)
}

/// A Pod whose named ports `web`, `dns` are `http` and the one after it.
pub(crate) fn server(name: &str, app: &str, node: &str, http: u16, linger: u16) -> Value {
    let args = json!([
        "netexec",
        format!("--http-port={http}"),
        format!("--udp-port={}", http + 1),
        format!("--delay-shutdown={linger}")
    ]);
    let ports =
        json!([{"name": "web", "containerPort": http}, {"name": "dns", "containerPort": http + 1, "protocol": "UDP"}]);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": app}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": linger + 2,
            "enableServiceLinks": false,
            "containers": [{"name": "server", "image": AGNHOST, "args": args, "ports": ports}],
        },
    })
}

/// A dual-stack load balancer with node ports and external addresses under `Local`, TCP and UDP on port 80. `more` replaces
/// members of its spec; a member that is null goes.
pub(crate) fn service(name: &str, app: &str, number: u8, more: Value) -> Value {
    let mut spec = json!({
        "type": "LoadBalancer",
        "loadBalancerClass": CLASS,
        "externalTrafficPolicy": "Local",
        "ipFamilyPolicy": "RequireDualStack",
        "selector": {"app": app},
        "ports": [
            {"name": "tcp", "port": 80, "targetPort": HTTP},
            {"name": "udp", "port": 80, "targetPort": UDP, "protocol": "UDP"},
        ],
    });
    let (Value::Object(spec_members), Value::Object(more)) = (&mut spec, more) else {
        panic!("more of a Service's spec is an object");
    };
    for (member, value) in more {
        if value.is_null() {
            spec_members.remove(&member)
        } else {
            spec_members.insert(member, value)
        };
    }
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "labels": {NUMBER: number.to_string()}},
        "spec": spec,
    })
}

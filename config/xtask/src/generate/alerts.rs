//! Alerts as one PrometheusRule, from a table; each says what to run next.

use super::Files;
use super::promql::{leaders, ours, served_certificates};
use super::render::yaml;
use anyhow::Result;
use serde_json::{Value, json};

struct Alert {
    name: &'static str,
    expr: &'static str,
    hold: &'static str,
    severity: &'static str,
    summary: &'static str,
    /// What the person on call runs first.
    next: &'static str,
}

const ALERTS: &[Alert] = &[
    Alert {
        name: "PortreeveNoLeader",
        expr: "absent(leader_election_master_status{name=\"portreeve-operator\"} == 1)",
        hold: "2m",
        severity: "warning",
        summary: "No operator replica leads: status and migrations stand still. Traffic and admission are not affected.",
        next: "kubectl -n portreeve-system get pods,lease",
    },
    Alert {
        name: "PortreeveReconcileErrors",
        expr: concat!(
            "sum by (controller) (",
            ours!("rate(controller_runtime_reconcile_errors_total[10m])"),
            ") > 0.1"
        ),
        hold: "15m",
        severity: "warning",
        summary: "Controller {{ $labels.controller }} keeps failing.",
        next: "kubectl -n portreeve-system logs deploy/portreeve-operator",
    },
    Alert {
        name: "PortreeveWebhookSlow",
        expr: concat!(
            "histogram_quantile(0.99, sum by (le, webhook) (",
            ours!("rate(controller_runtime_webhook_latency_seconds_bucket[10m])"),
            ")) > 0.1"
        ),
        hold: "10m",
        severity: "warning",
        summary: "Admission by {{ $labels.webhook }} takes more than 100 ms at p99. Writes wait for it, and pass without it after 2 s.",
        next: "kubectl -n portreeve-system top pods",
    },
    Alert {
        name: "PortreeveEvaluationErrors",
        expr: concat!(
            "sum(rate(portreeve_admission_rule_errors_total[10m])) > 0 or sum(",
            leaders!("portreeve_rule_errors"),
            ") > 0"
        ),
        hold: "10m",
        severity: "warning",
        summary: "A policy cannot be read. Its Deny rules act on every Service that it might match, the rest of it does nothing.",
        next: "kubectl get ctp,tp -A -o wide",
    },
    Alert {
        name: "PortreeveCertificateExpiring",
        expr: concat!("min(", served_certificates!(), ") - time() < 7 * 86400"),
        hold: "1h",
        severity: "critical",
        summary: "The webhook's certificate expires within a week and was not renewed.",
        next: "kubectl -n portreeve-system logs deploy/portreeve-operator | grep certificate",
    },
    Alert {
        name: "PortreeveServicesImbalanced",
        expr: concat!("max(", leaders!("portreeve_services{state=\"unbalanced\"}"), ") > 0"),
        hold: "30m",
        severity: "info",
        summary: "{{ $value }} Services load their Pods more unevenly than their policy allows.",
        next: "kubectl get servicetraffics -A",
    },
    Alert {
        name: "PortreeveNotProgrammed",
        expr: concat!(
            "sum by (instance) (rate(portreeve_agent_rounds_total{result=\"error\"}[10m])) > 0 ",
            "unless sum by (instance) (rate(portreeve_agent_rounds_total{result=\"success\"}[10m])) > 0"
        ),
        hold: "5m",
        severity: "critical",
        summary: "The agent at {{ $labels.instance }} cannot program its node: what is in force there is as old as the first failure.",
        next: "kubectl portreeve status; kubectl get nodedatapaths",
    },
    Alert {
        name: "PortreeveRulesFoughtOver",
        expr: "sum by (instance) (increase(portreeve_agent_repairs_total[1h])) > 10",
        hold: "10m",
        severity: "warning",
        summary: "Something keeps changing our rules at {{ $labels.instance }}; each time they are mended within milliseconds.",
        next: "kubectl -n portreeve-system logs -l app.kubernetes.io/component=agent | grep 'Somebody else'",
    },
    Alert {
        name: "PortreeveServicesRefused",
        expr: "max(portreeve_agent_services{state=\"refused\"}) > 0",
        hold: "15m",
        severity: "warning",
        summary: "{{ $value }} Services that should be ours are left to kube-proxy on some node: no room for them, or another Service has their address.",
        next: "kubectl get nodedatapaths -o wide",
    },
];

pub(super) fn add(files: &mut Files) -> Result<()> {
    let rules: Vec<Value> = ALERTS
        .iter()
        .map(|alert| {
            json!({
                "alert": alert.name, "expr": alert.expr, "for": alert.hold, "labels": {"severity": alert.severity},
                "annotations": {"summary": alert.summary, "next": alert.next},
            })
        })
        .collect();
    let rule = json!({
        "apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
        "metadata": {"name": "portreeve", "namespace": portreeve_crds::names::NAMESPACE},
        "spec": {"groups": [{"name": "portreeve", "rules": rules}]},
    });
    let text = format!("# Generated by `cargo xtask gen`. Do not edit.\n{}", yaml(&rule)?);
    files.insert("config/alerts/portreeve.yaml".to_owned(), text);
    Ok(())
}

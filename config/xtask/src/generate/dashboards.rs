//! One Grafana dashboard, from a table of panels.

use super::Files;
use super::promql::{leaders, ours, served_certificates};
use anyhow::Result;
use serde_json::{Value, json};

struct Panel {
    title: &'static str,
    unit: &'static str,
    description: &'static str,
    /// PromQL and legend of each line.
    lines: &'static [(&'static str, &'static str)],
}

/// Rows of two panels each, in reading order: is it even, what was found, is admission quick, do the controllers keep up, do
/// the nodes do what is wanted.
const PANELS: &[Panel] = &[
    Panel {
        title: "Services by balance",
        unit: "short",
        description: "Services with externalTrafficPolicy Local, by what Portreeve says of their load.",
        lines: &[(concat!("max by (state) (", leaders!("portreeve_services"), ")"), "{{state}}")],
    },
    Panel {
        title: "Highest predicted imbalance (hottest Pod over mean)",
        unit: "short",
        description: "The worst Service; 1 is even. `kubectl get servicetraffics -A` names it.",
        lines: &[(concat!("max(", leaders!("portreeve_imbalance_ratio_max_permille"), ") / 1000"), "worst Service")],
    },
    Panel {
        title: "Findings at admission",
        unit: "ops",
        description: "Findings per second, by rule and action.",
        lines: &[("sum by (rule, action) (rate(portreeve_admission_findings_total[5m]))", "{{rule}} {{action}}")],
    },
    Panel {
        title: "Standing violations",
        unit: "short",
        description: "Findings on stored Services, by rule and action.",
        lines: &[(
            concat!("max by (rule, action) (", leaders!("portreeve_policy_violations"), ")"),
            "{{rule}} {{action}}",
        )],
    },
    Panel {
        title: "Admission latency",
        unit: "s",
        description: "Time in the webhook process, by webhook.",
        lines: &[
            (
                concat!(
                    "histogram_quantile(0.5, sum by (le, webhook) (",
                    ours!("rate(controller_runtime_webhook_latency_seconds_bucket[5m])"),
                    "))"
                ),
                "{{webhook}} median",
            ),
            (
                concat!(
                    "histogram_quantile(0.99, sum by (le, webhook) (",
                    ours!("rate(controller_runtime_webhook_latency_seconds_bucket[5m])"),
                    "))"
                ),
                "{{webhook}} p99",
            ),
        ],
    },
    Panel {
        title: "Admission requests",
        unit: "ops",
        description: "Requests per second, by webhook and HTTP code.",
        lines: &[(
            concat!("sum by (webhook, code) (", ours!("rate(controller_runtime_webhook_requests_total[5m])"), ")"),
            "{{webhook}} {{code}}",
        )],
    },
    Panel {
        title: "Reconciles",
        unit: "ops",
        description: "Reconciles per second, by controller and result.",
        lines: &[(
            concat!("sum by (controller, result) (", ours!("rate(controller_runtime_reconcile_total[5m])"), ")"),
            "{{controller}} {{result}}",
        )],
    },
    Panel {
        title: "Reconcile time (p99)",
        unit: "s",
        description: "By controller.",
        lines: &[(
            concat!(
                "histogram_quantile(0.99, sum by (le, controller) (",
                ours!("rate(controller_runtime_reconcile_time_seconds_bucket[5m])"),
                "))"
            ),
            "{{controller}}",
        )],
    },
    Panel {
        title: "Nodes: Services in the agent's table",
        unit: "short",
        description: "Services that each agent sees, by what it does with them.",
        lines: &[("sum by (state, instance) (portreeve_agent_services)", "{{instance}} {{state}}")],
    },
    Panel {
        title: "Nodes: from a change to the kernel (p99)",
        unit: "s",
        description: "From the moment an agent saw a change until the kernel does what it says.",
        lines: &[(
            "histogram_quantile(0.99, sum by (le, instance) (rate(portreeve_agent_in_step_seconds_bucket[5m])))",
            "{{instance}}",
        )],
    },
    Panel {
        title: "Nodes: rounds that failed, and repairs",
        unit: "ops",
        description: "Rounds of programming that the kernel refused, and times that others changed our rules.",
        lines: &[
            ("sum by (instance) (rate(portreeve_agent_rounds_total{result=\"error\"}[5m]))", "{{instance}} failed"),
            ("sum by (instance) (rate(portreeve_agent_repairs_total[5m]))", "{{instance}} repaired"),
        ],
    },
    Panel {
        title: "Nodes: health checks answered",
        unit: "ops",
        description: "Health checks of load balancers that agents answered, by status code.",
        lines: &[("sum by (code) (rate(portreeve_agent_health_checks_total[5m]))", "{{code}}")],
    },
    Panel {
        title: "Certificate life left",
        unit: "s",
        description: "Seconds until the webhook's certificates expire; they are renewed after two thirds of their life.",
        lines: &[(concat!("min by (pod) (", served_certificates!(), ") - time()"), "{{pod}}")],
    },
];

pub(super) fn add(files: &mut Files) -> Result<()> {
    let panels: Vec<Value> = PANELS.iter().enumerate().map(|(index, panel)| render(index, panel)).collect();
    let dashboard = json!({
        "title": "Portreeve", "uid": "portreeve", "schemaVersion": 39, "tags": ["portreeve"], "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Data source"}]},
        "panels": panels,
    });
    files.insert(
        "config/dashboards/portreeve.json".to_owned(),
        format!("{}\n", serde_json::to_string_pretty(&dashboard)?),
    );
    Ok(())
}

fn render(index: usize, panel: &Panel) -> Value {
    let targets: Vec<Value> = panel
        .lines
        .iter()
        .zip('A'..)
        .map(|((expr, legend), id)| json!({"refId": id.to_string(), "expr": expr, "legendFormat": legend}))
        .collect();
    json!({
        "id": index + 1, "type": "timeseries", "title": panel.title, "description": panel.description,
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "gridPos": {"h": 8, "w": 12, "x": (index % 2) * 12, "y": (index / 2) * 8},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    })
}

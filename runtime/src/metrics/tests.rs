use super::*;

fn filled() -> Metrics {
    let metrics = Metrics::new("1.2.3");
    let name = Name { name: Label("policies") };
    metrics.reconcile.declare(Label("policies"), 4);
    metrics.reconcile.end(Label("policies"), ReconcileResult::Error, 0.2);
    metrics.reconcile.end(Label("policies"), ReconcileResult::RequeueAfter, 0.000_02);
    metrics.queue.adds.get_or_create(&name).inc();
    metrics.queue.retries.get_or_create(&name).inc();
    metrics.queue.depth.get_or_create(&name).set(3);
    metrics.queue.queue_duration.get_or_create(&name).observe(0.001);
    metrics.queue.work_duration.get_or_create(&name).observe(0.001);
    metrics.queue.unfinished.get_or_create(&name).set(1.5);
    metrics.queue.longest.get_or_create(&name).set(1.0);
    drop(metrics.webhook.begin(Label("services.validate")));
    metrics.webhook.end(Label("services.validate"), http::StatusCode::OK, 0.000_1);
    metrics.client.end(Verb::Get, Code::Status(200), 0.01);
    metrics.client.end(Verb::Patch, Code::NoAnswer, 1.0);
    metrics.leader.set(Label("portreeve-operator"), true);
    metrics.certificate.reads.inc();
    metrics.certificate.set_expiry(CertificateKind::Leaf, 1_800_000_000);
    metrics
}

/// What must not vary between runs: buckets are judged by their count, the process's own values by their presence.
fn steady(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.contains("_bucket{") && !line.starts_with("process_"));
    let mut lines: Vec<&str> = lines.collect();
    // Families are hash maps inside; a scraper does not mind their order.
    lines.sort_unstable();
    lines.join("\n")
}

#[test]
fn the_wire_carries_the_conventional_names_in_both_formats() {
    let metrics = filled();
    insta::assert_snapshot!("prometheus", steady(&metrics.encode(Format::Prometheus).unwrap()));
    insta::assert_snapshot!("openmetrics", steady(&metrics.encode(Format::OpenMetrics).unwrap()));
}

#[test]
fn every_sample_of_the_classic_format_stands_under_its_own_type() {
    let text = filled().encode(Format::Prometheus).unwrap();
    let mut current = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            current = (name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let suffix = name.strip_prefix(&current.0).unwrap_or_else(|| panic!("{name} under {current:?}"));
            let allowed: &[&str] = if current.1 == "histogram" { &["_sum", "_count", "_bucket"] } else { &[""] };
            assert!(allowed.contains(&suffix), "{name} under {current:?}");
        }
    }
}

#[test]
fn the_kernel_tells_memory_processor_time_and_start() {
    let text = Metrics::new("1").encode(Format::Prometheus).unwrap();
    for name in ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds"] {
        let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        let value: f64 = value.unwrap_or_else(|| panic!("{name} is missing")).parse().unwrap();
        assert!(value >= 0.0 && (value > 0.0 || name.contains("cpu")), "{name} {value}");
    }
}

#[test]
fn the_accept_header_chooses_the_format() {
    assert_eq!(Format::accepted(None), Format::Prometheus);
    assert_eq!(Format::accepted(Some("text/plain;version=0.0.4")), Format::Prometheus);
    let scraper = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    assert_eq!(Format::accepted(Some(scraper)), Format::OpenMetrics);
}

#[test]
fn a_dropped_guard_lowers_the_gauge() {
    let metrics = Metrics::new("1");
    let guard = metrics.reconcile.begin(Label("c"));
    let active = |m: &Metrics| {
        let text = m.encode(Format::Prometheus).unwrap();
        text.lines().find(|l| l.starts_with("controller_runtime_active_workers{")).unwrap().to_owned()
    };
    assert!(active(&metrics).ends_with(" 1"));
    drop(guard);
    assert!(active(&metrics).ends_with(" 0"));
}

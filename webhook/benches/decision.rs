//! Time of a decision inside the process, from the bytes of the review to the bytes of the answer, with 10,000 Services
//! and 50,000 endpoints cached; and what that cache weighs. `cargo bench -p portreeve-webhook --bench decision`.

#![allow(clippy::print_stdout, reason = "a bench prints its result")]

mod world;

use anyhow::Context as _;
use portreeve_webhook::engine::PolicyEngine;
use portreeve_webhook::review::{Hook, Reviewer};
use serde_json::json;
use std::hint::black_box;
use std::time::Instant;
use world::{quantile, rounded, summary};

const ROUNDS: usize = 9;
const PER_ROUND: usize = 5_000;

const CASES: [(&str, Hook, &str); 5] = [
    ("service refused", Hook::MutateServices, "service-create-clusterip-local"),
    ("service passed, mutating", Hook::MutateServices, "service-create-clean"),
    ("service update, validating", Hook::ValidateServices, "service-update-local-without-pods"),
    ("pod spread", Hook::MutatePods, "pod-create-deployment"),
    ("pod left alone", Hook::MutatePods, "pod-create-daemonset"),
];

fn main() -> anyhow::Result<()> {
    let before = resident_mebibytes()?;
    let mut index = world::index()?;
    let snapshot = index.snapshot();
    let filled = resident_mebibytes()?;
    println!("cache: {:?}; resident {before:.1} MiB before, {filled:.1} MiB after", snapshot.sizes());

    let reviewer = Reviewer::new(PolicyEngine, "portreeve-system");
    let mut worst = (0.0, 0.0);
    let mut cases = Vec::new();
    for (title, hook, name) in CASES {
        let body = world::review(name)?;
        let reply = reviewer.answer(hook, &body, &snapshot)?;
        let (mut medians, mut tails) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let mut samples: Vec<f64> = (0..PER_ROUND)
                .map(|_| {
                    let begun = Instant::now();
                    let reply = reviewer.answer(hook, black_box(&body), &snapshot);
                    let micros = begun.elapsed().as_secs_f64() * 1e6;
                    black_box(reply.is_ok());
                    micros
                })
                .collect();
            samples.sort_by(f64::total_cmp);
            medians.push(quantile(&samples, 500));
            tails.push(quantile(&samples, 990));
        }
        let ((p50, _), (p99, spread)) = (summary(medians), summary(tails));
        if p99 > worst.0 {
            worst = (p99, spread);
        }
        let decision = reply.tally.decision.as_str();
        println!(
            "{title:28} {decision:10} {:>6} bytes  p50 {p50:6.1} µs  p99 {p99:6.1} µs  (± {spread:.1})",
            body.len()
        );
        cases.push(json!({"case": title, "p50": rounded(p50), "p99": rounded(p99), "spread": rounded(spread)}));
    }
    world::write(
        "decision",
        &json!({
            "name": "in-process decision, p99 of the slowest case", "ours": rounded(worst.0), "unit": "µs", "rounds": ROUNDS,
            "spread": rounded(worst.1), "goal": "< 200 µs", "met": worst.0 < 200.0, "per_round": PER_ROUND, "services": world::SERVICES,
            "endpoints": world::SERVICES * world::ENDPOINTS_EACH, "cases": cases,
            "resident_mebibytes": rounded(filled),
        }),
    )
}

/// Resident memory of this process.
fn resident_mebibytes() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no line VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

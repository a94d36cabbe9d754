use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;
use crate::metrics::Format;

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: Some("ns".to_owned()), name: name.to_owned() }
}

fn worker() -> Worker {
    Worker::new(Label("c"), 4, Backoff::default(), Metrics::new("1"))
}

/// The value of a sample line that starts with `sample`.
fn value(worker: &Worker, sample: &str) -> f64 {
    let text = worker.metrics.encode(Format::Prometheus).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{sample} in {text}")).parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_outcome_is_counted_under_its_own_result() {
    let worker = worker();
    let ok = |outcome| std::future::ready(Ok::<_, ()>(outcome));
    assert_eq!(worker.run(&key("a"), ok(Outcome::Done)).await, Ok(Action::await_change()));
    let later = Duration::from_secs(60);
    assert_eq!(worker.run(&key("a"), ok(Outcome::RequeueAfter(later))).await, Ok(Action::requeue(later)));
    assert_ne!(worker.run(&key("a"), ok(Outcome::Requeue)).await, Ok(Action::await_change()));
    assert_eq!(worker.run(&key("a"), std::future::ready(Err("no"))).await, Err("no"));
    for result in ["success", "requeue_after", "requeue", "error"] {
        let sample = format!("controller_runtime_reconcile_total{{controller=\"c\",result=\"{result}\"}}");
        assert_eq!(value(&worker, &sample), 1.0, "{result}");
    }
    assert_eq!(value(&worker, "controller_runtime_reconcile_errors_total{controller=\"c\"}"), 1.0);
    assert_eq!(value(&worker, "workqueue_work_duration_seconds_count{name=\"c\"}"), 4.0);
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_that_is_cancelled_leaves_no_worker_behind() {
    let worker = worker();
    let (one, hanging) = (key("a"), std::future::pending::<Result<Outcome, ()>>());
    {
        let mut run = std::pin::pin!(worker.run(&one, hanging));
        assert!(futures::poll!(run.as_mut()).is_pending());
        tokio::time::advance(Duration::from_secs(7)).await;
        worker.measure();
        assert_eq!(value(&worker, "controller_runtime_active_workers{controller=\"c\"}"), 1.0);
        assert_eq!(value(&worker, "workqueue_longest_running_processor_seconds{name=\"c\"}"), 7.0);
        assert_eq!(value(&worker, "workqueue_unfinished_work_seconds{name=\"c\"}"), 7.0);
    }
    assert_eq!(value(&worker, "controller_runtime_active_workers{controller=\"c\"}"), 0.0);
    assert_eq!(value(&worker, "workqueue_unfinished_work_seconds{name=\"c\"}"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_one_deep_per_object_and_its_wait_is_measured() {
    let worker = worker();
    worker.added(key("a"));
    worker.added(key("a"));
    worker.added(key("b"));
    assert_eq!(value(&worker, "workqueue_depth{name=\"c\"}"), 2.0);
    assert_eq!(value(&worker, "workqueue_adds_total{name=\"c\"}"), 2.0);
    tokio::time::advance(Duration::from_secs(3)).await;
    worker.run(&key("a"), std::future::ready(Ok::<_, ()>(Outcome::Done))).await.unwrap();
    assert_eq!(value(&worker, "workqueue_queue_duration_seconds_sum{name=\"c\"}"), 3.0);
    worker.forget(&key("b"));
    assert_eq!(value(&worker, "workqueue_depth{name=\"c\"}"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn success_resets_the_pauses_of_an_object() {
    let worker = worker();
    let turns = |n: &str| worker.ledger().turns.get(&key(n)).copied();
    for _ in 0..5 {
        assert_ne!(worker.retry(&key("a"), None), Action::await_change());
    }
    assert_eq!((turns("a"), turns("b")), (Some(5), None));
    worker.run(&key("a"), std::future::ready(Ok::<_, ()>(Outcome::Done))).await.unwrap();
    assert_eq!(turns("a"), None);
    assert_eq!(value(&worker, "workqueue_retries_total{name=\"c\"}"), 5.0);
}

#[test]
fn a_kube_error_tells_how_long_the_server_wants_to_be_left_alone() {
    let mut status = kube::core::Status::failure("busy", "TooManyRequests").with_code(429);
    let details = serde_json::json!({ "retryAfterSeconds": 7 });
    status.details = Some(serde_json::from_value(details).unwrap());
    assert_eq!(kube::Error::Api(status.boxed()).retry_after(), Some(Duration::from_secs(7)));
    assert_eq!(kube::Error::LinesCodecMaxLineLengthExceeded.retry_after(), None);
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn pauses_stay_within_their_bounds_and_honour_the_server(turn in 1u32.., jitter in 0.0f64..1.0, asked in proptest::option::of(0u64..1000)) {
        let backoff = Backoff::default();
        let asked = asked.map(Duration::from_secs);
        let pause = backoff.pause(turn, asked, jitter);
        prop_assert!(pause >= backoff.first.mul_f64(0.75) && pause <= backoff.longest);
        if let Some(asked) = asked {
            prop_assert!(pause >= asked.min(backoff.longest));
        }
    }
}

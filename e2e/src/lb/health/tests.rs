use super::*;

const OPTIONS: HealthOptions = HealthOptions { interval: Duration::from_secs(1), unhealthy_after: 2, healthy_after: 1 };

fn after(answers: &[Option<u16>]) -> NodeView {
    let mut streak = Streak::new();
    for answer in answers {
        streak.observe(*answer, &OPTIONS);
    }
    streak.view
}

#[test]
fn a_node_is_out_until_it_answers_and_then_in_at_once() {
    assert!(!after(&[]).healthy);
    assert!(!after(&[None]).healthy);
    assert_eq!(after(&[None, Some(3)]), NodeView { healthy: true, weight: 3, checks: 2 });
}

#[test]
fn only_failures_in_a_row_take_a_node_out() {
    assert!(after(&[Some(1), None]).healthy);
    assert!(after(&[Some(1), None, Some(1), None]).healthy);
    assert!(!after(&[Some(1), None, None]).healthy);
}

#[test]
fn the_weight_comes_from_the_header_and_is_never_zero() {
    let answer = |status, value: Option<&str>| HttpOutcome {
        status: Some(status),
        headers: value.map(|v| (WEIGHT_HEADER.to_lowercase(), v.to_owned())).into_iter().collect(),
        body: String::new(),
        error: None,
        elapsed: Duration::ZERO,
    };
    assert_eq!(weight(&answer(200, Some("2"))), Some(2));
    assert_eq!(weight(&answer(200, Some("0"))), Some(1));
    assert_eq!(weight(&answer(200, None)), Some(1));
    assert_eq!(weight(&answer(503, Some("2"))), None);
}

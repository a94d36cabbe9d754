use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn asked(snapshot: &Snapshot, now: Instant) -> (u16, serde_json::Value) {
    let (status, body) = answer(snapshot, now, "2026-01-01T00:10:00Z".parse().unwrap());
    (status.as_u16(), serde_json::from_str(&body).unwrap())
}

#[test]
fn a_node_that_is_about_to_go_gets_no_new_connections_while_its_agent_is_well() {
    let now = Instant::now();
    let updated = Some(now - SECOND * 5);
    let (status, body) = asked(&Snapshot { updated, ..Snapshot::default() }, now);
    assert_eq!((status, &body["lastUpdated"]), (200, &body["currentTime"]));
    let (status, body) = asked(&Snapshot { updated, eligible: false, ..Snapshot::default() }, now);
    assert_eq!(status, 503);
    assert_eq!((&body["nodeEligible"], &body["healthy"]), (&false.into(), &true.into()));
    assert_eq!(body["lastUpdated"], "2026-01-01T00:09:55Z");
}

#[test]
fn a_starting_agent_is_healthy_and_one_that_is_behind_for_a_minute_is_not() {
    let now = Instant::now();
    assert_eq!(asked(&Snapshot::default(), now).0, 200);
    let behind = Snapshot { behind: Some(now), ..Snapshot::default() };
    assert_eq!(asked(&behind, now + SECOND * 59).0, 200);
    let (status, body) = asked(&behind, now + SECOND * 60);
    assert_eq!((status, &body["healthy"], &body["nodeEligible"]), (503, &false.into(), &true.into()));
}

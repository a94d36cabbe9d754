use super::build::{Built, Now, Prepared, Write, build};
use super::dereference::dereference;
use super::material::{SMALL_MOVE_EVERY, Verdict, verdict};
use super::validate::validate;
use crate::index::tests::{mk_index, mk_policy, mk_service, mk_slice, web};
use crate::index::{Delta, Event, Index, StoredStatus};
use crate::notice::Reason;
use portreeve_crds::ServiceTraffic;
use portreeve_crds::service_traffic::ServiceTrafficStatus;
use serde_json::json;
use std::time::Duration;

fn at(seconds: u64) -> Now {
    Now { wall: jiff::Timestamp::UNIX_EPOCH, since_start: Duration::from_secs(seconds) }
}

fn plan(index: &mut Index, written: Option<Duration>, now: Now) -> Built {
    build(validate(dereference(index, web())), written, now)
}

fn prepared(built: Built) -> Prepared {
    match built {
        Built::Write(prepared) => prepared,
        other => panic!("expected a write, got {other:?}"),
    }
}

/// Plans, and stores the report as the API server would.
fn settle(index: &mut Index, version: u32) -> ServiceTraffic {
    let mut traffic = match prepared(plan(index, None, at(0))).write {
        Write::Create(traffic) | Write::Directive(traffic) | Write::Status(traffic) => *traffic,
        Write::Delete { .. } => panic!("nothing is to be deleted"),
    };
    traffic.metadata.resource_version = Some(version.to_string());
    traffic.metadata.uid = Some("uid-report".to_owned());
    traffic.metadata.generation = traffic.status.as_ref().and_then(|status| status.observed_generation);
    index.apply(Event::Traffic(Delta::Applied(traffic.clone())));
    traffic
}

fn limit(permille: i32) -> Event {
    Event::ClusterPolicy(Delta::Applied(mk_policy("base", 1, json!({"imbalance": {"maxRatioPermille": permille}}))))
}

#[test]
fn one_pod_here_and_two_there_are_half_more_than_the_mean() {
    let mut index = mk_index();
    let traffic = settle(&mut index, 1);
    let status = traffic.status.unwrap();
    let imbalance = status.imbalance.unwrap();
    assert_eq!((status.ready_pods, status.active_nodes), (Some(3), Some(2)));
    assert_eq!((imbalance.ratio_permille, imbalance.usable_permille), (1500, 666));
    assert_eq!((imbalance.hottest.node.as_str(), imbalance.hottest.share_permille), ("n1", 500));
    let owner = &traffic.metadata.owner_references.unwrap()[0];
    assert_eq!((owner.uid.as_str(), owner.controller), ("uid-web", Some(true)));
}

#[test]
fn nothing_is_written_when_nothing_changed() {
    let mut index = mk_index();
    settle(&mut index, 1);
    assert!(matches!(plan(&mut index, None, at(1)), Built::Settled));
}

#[test]
fn a_service_that_leaves_the_set_loses_its_report_and_one_outside_never_gets_one() {
    let mut index = mk_index();
    settle(&mut index, 1);
    index.apply(Event::Service(Delta::Applied(mk_service("web", 2, json!({"externalTrafficPolicy": "Cluster"})))));
    let write = prepared(plan(&mut index, None, at(1))).write;
    assert!(matches!(write, Write::Delete { uid: Some(uid) } if uid == "uid-report"));
    let plain = json!({"type": "ClusterIP", "externalTrafficPolicy": "Local"});
    index.apply(Event::Service(Delta::Applied(mk_service("web", 3, plain))));
    index.apply(Event::Traffic(Delta::Restarted));
    index.apply(Event::Traffic(Delta::Synced));
    assert!(matches!(plan(&mut index, None, at(1)), Built::Settled));
}

#[test]
fn external_ips_make_a_cluster_ip_service_reachable() {
    let mut index = mk_index();
    let spec = json!({"type": "ClusterIP", "externalIPs": ["192.0.2.1"]});
    index.apply(Event::Service(Delta::Applied(mk_service("web", 2, spec))));
    assert!(matches!(prepared(plan(&mut index, None, at(0))).write, Write::Create(_)));
}

#[test]
fn a_report_of_an_earlier_service_of_that_name_is_removed_first() {
    let mut index = mk_index();
    settle(&mut index, 1);
    let mut anew = mk_service("web", 2, json!({}));
    anew.metadata.uid = Some("uid-anew".to_owned());
    index.apply(Event::Service(Delta::Applied(anew)));
    assert!(matches!(prepared(plan(&mut index, None, at(1))).write, Write::Delete { .. }));
}

#[test]
fn a_limit_that_is_passed_is_told_once_and_so_is_the_way_back() {
    let mut index = mk_index();
    settle(&mut index, 1);
    index.apply(limit(1200));
    let above = prepared(plan(&mut index, None, at(1)));
    assert_eq!(above.notice.map(|notice| notice.reason), Some(Reason::ImbalanceAboveLimit));
    let traffic = settle(&mut index, 2);
    assert!(!traffic.status.unwrap().imbalance.unwrap().suggested_replicas.is_empty());
    index.apply(Event::Slice(Delta::Applied(mk_slice("web", "web-a", 2, &["n1", "n2"]))));
    let within = prepared(plan(&mut index, None, at(2)));
    assert_eq!(within.notice.map(|notice| notice.reason), Some(Reason::ImbalanceWithinLimit));
}

#[test]
fn a_policys_data_path_becomes_the_directive_of_the_next_generation() {
    let mut index = mk_index();
    settle(&mut index, 1);
    let policy = mk_policy("path", 1, json!({"dataPath": {"mode": "Balance", "onNoLocal": "Forward"}}));
    index.apply(Event::ClusterPolicy(Delta::Applied(policy)));
    let Write::Directive(traffic) = prepared(plan(&mut index, None, at(1))).write else { panic!("a directive") };
    assert_eq!(serde_json::to_value(&traffic.spec).unwrap()["onNoLocal"], "Forward");
    assert_eq!(traffic.status.unwrap().observed_generation, Some(2));
}

fn with_ratio(permille: i32, message: &str) -> ServiceTrafficStatus {
    crate::index::tests::object(json!({
        "readyPods": 40, "imbalance": {"ratioPermille": permille, "usablePermille": 1, "hottest": {"node": "n", "sharePermille": 1}},
        "conditions": [{"type": "Balanced", "status": "True", "reason": "WithinLimit", "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }))
}

fn judge(
    old: Option<&ServiceTrafficStatus>,
    new: &ServiceTrafficStatus,
    written: Option<Duration>,
    now: Duration,
) -> Verdict {
    verdict(old.map(StoredStatus::of).as_ref(), &StoredStatus::of(new), written, now)
}

#[test]
fn small_moves_wait_for_their_time_and_are_never_lost() {
    let (old, new) = (with_ratio(1000, "a"), with_ratio(1049, "b"));
    let written = Some(Duration::from_secs(100));
    let due = Duration::from_secs(100) + SMALL_MOVE_EVERY;
    assert_eq!(judge(Some(&old), &new, written, Duration::from_secs(101)), Verdict::At(due));
    assert_eq!(judge(Some(&old), &new, written, due), Verdict::Now);
    assert_eq!(judge(Some(&old), &new, None, Duration::ZERO), Verdict::Now, "not written by us lately");
    assert_eq!(judge(Some(&old), &old, written, due), Verdict::Same);
}

#[test]
fn large_moves_counts_and_conditions_are_written_at_once() {
    let old = with_ratio(1000, "a");
    let just_now = (Some(Duration::from_secs(100)), Duration::from_secs(100));
    let mut counted = old.clone();
    counted.ready_pods = Some(41);
    let mut flipped = old.clone();
    flipped.conditions[0].status = "False".to_owned();
    let mut without = old.clone();
    without.imbalance = None;
    for new in [with_ratio(1050, "a"), with_ratio(950, "a"), counted, flipped, without] {
        assert_eq!(judge(Some(&old), &new, just_now.0, just_now.1), Verdict::Now);
    }
    assert_eq!(judge(None, &old, just_now.0, just_now.1), Verdict::Now);
}

use super::*;

fn checked(v4: usize, v6: usize, programmed: bool, draining: bool) -> Checked {
    Checked { service: ServiceKey::new("shop", "web"), ready: PerFamily { v4, v6 }, programmed, draining }
}

/// What kube-proxy 1.36.3 writes for the same Service, byte by byte.
const KUBE_PROXY: &str = "{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"web\"\n\t},\n\t\"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": true\n}";

#[test]
fn the_body_is_kube_proxys_with_two_fields_behind_it() {
    let Answer { status, weight, body } = answer(&checked(2, 1, true, false), Family::V4);
    assert_eq!((status, weight), (StatusCode::OK, 2));
    let (same, rest) = body.split_at(KUBE_PROXY.len() - 2);
    assert_eq!(
        (same, rest),
        (&KUBE_PROXY[..KUBE_PROXY.len() - 2], ",\n\t\"programmed\": true,\n\t\"draining\": false\n}")
    );
    let read: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(read["service"], serde_json::json!({"namespace": "shop", "name": "web"}));
}

#[test]
fn two_hundred_takes_a_ready_pod_of_this_family_and_the_engine() {
    let status = |checked, family| answer(&checked, family).status.as_u16();
    assert_eq!(status(checked(1, 0, true, false), Family::V4), 200);
    assert_eq!(status(checked(1, 0, true, false), Family::V6), 503, "a Pod of the other family");
    assert_eq!(status(checked(1, 0, false, false), Family::V4), 503, "seen and not programmed");
    assert_eq!(status(checked(0, 0, true, false), Family::V4), 503);
}

#[test]
fn a_draining_service_is_out_with_weight_zero_and_one_that_is_not_programmed_keeps_its_number() {
    let draining = answer(&checked(0, 0, true, true), Family::V4);
    assert_eq!((draining.status.as_u16(), draining.weight), (503, 0));
    assert!(draining.body.contains("\"draining\": true"), "{}", draining.body);
    let late = answer(&checked(3, 0, false, false), Family::V4);
    assert_eq!((late.status.as_u16(), late.weight), (503, 3));
    assert!(late.body.contains("\"serviceProxyHealthy\": false"), "{}", late.body);
}

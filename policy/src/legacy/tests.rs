use super::{LegacyAnnotations, LegacyPolicy};
use crate::testing::annotated;
use portreeve_crds::names::legacy::{
    EXTERNAL_TRAFFIC_ALPHA, EXTERNAL_TRAFFIC_BETA, HEALTH_CHECK_NODE_PORT_ALPHA, HEALTH_CHECK_NODE_PORT_BETA,
};

fn read(annotations: &[(&str, &str)]) -> LegacyAnnotations {
    LegacyAnnotations::parse(&annotated("{type: LoadBalancer}", annotations))
}

#[test]
fn other_annotations_are_not_legacy_ones() {
    assert!(read(&[("service.beta.kubernetes.io/load-balancer-source-ranges", "10.0.0.0/8")]).is_empty());
}

#[test]
fn a_service_without_annotations_has_none() {
    assert_eq!(LegacyAnnotations::parse(&crate::testing::service("{}")), LegacyAnnotations::default());
}

#[test]
fn either_form_is_read() {
    assert_eq!(read(&[(EXTERNAL_TRAFFIC_ALPHA, "OnlyLocal")]).policy(), Some(LegacyPolicy::OnlyLocal));
    assert_eq!(read(&[(EXTERNAL_TRAFFIC_BETA, "Global")]).policy(), Some(LegacyPolicy::Global));
}

#[test]
fn beta_goes_before_alpha_and_a_difference_is_told() {
    let value = read(&[(EXTERNAL_TRAFFIC_ALPHA, "Global"), (EXTERNAL_TRAFFIC_BETA, "OnlyLocal")]).external_traffic;
    let value = value.unwrap();
    assert_eq!(value.key, EXTERNAL_TRAFFIC_BETA);
    assert_eq!(value.meaning, Some(LegacyPolicy::OnlyLocal));
    assert!(value.both_differ);
}

#[test]
fn two_annotations_that_agree_do_not_differ() {
    let value = read(&[(EXTERNAL_TRAFFIC_ALPHA, "Global"), (EXTERNAL_TRAFFIC_BETA, "Global")]).external_traffic;
    assert!(!value.unwrap().both_differ);
}

#[test]
fn an_unreadable_beta_value_is_not_passed_over_for_alpha() {
    let value = read(&[(EXTERNAL_TRAFFIC_ALPHA, "OnlyLocal"), (EXTERNAL_TRAFFIC_BETA, "local")]).external_traffic;
    let value = value.unwrap();
    assert_eq!((value.meaning, value.raw.as_str()), (None, "local"));
}

#[test]
fn the_words_are_case_sensitive_and_not_trimmed() {
    for raw in ["onlylocal", "ONLYLOCAL", "OnlyLocal ", "Local", "Cluster", "true", ""] {
        assert_eq!(read(&[(EXTERNAL_TRAFFIC_BETA, raw)]).policy(), None, "{raw:?}");
    }
}

#[test]
fn a_port_is_digits_between_1_and_65535() {
    let port = |raw| read(&[(HEALTH_CHECK_NODE_PORT_BETA, raw)]).health_check_port.unwrap().meaning;
    assert_eq!(port("1"), Some(1));
    assert_eq!(port("65535"), Some(65535));
    for raw in ["", "0", "65536", "-1", "+30000", " 30000", "30000.0", "0x7530", "http"] {
        assert_eq!(port(raw), None, "{raw:?}");
    }
}

#[test]
fn the_beta_port_goes_before_the_alpha_one() {
    let value = read(&[(HEALTH_CHECK_NODE_PORT_ALPHA, "31000"), (HEALTH_CHECK_NODE_PORT_BETA, "32000")]);
    let value = value.health_check_port.unwrap();
    assert_eq!((value.meaning, value.both_differ), (Some(32000), true));
}

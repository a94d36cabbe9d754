use super::*;

#[test]
fn a_field_is_found_where_it_was_written_also_in_the_second_document() {
    let text = "kind: ConfigMap\n---\nkind: Service\nspec:\n  type: ClusterIP\n  externalTrafficPolicy: Local\n";
    let documents = parse("a.yaml", text).unwrap();
    assert_eq!(documents.len(), 2);
    let place = documents[1].places.find("/spec/externalTrafficPolicy").unwrap();
    assert_eq!((place.line, place.column), (6, 26));
}

#[test]
fn an_unwritten_field_is_found_at_its_nearest_written_parent() {
    let documents = parse("a.yaml", "kind: Service\nmetadata:\n  name: x\n").unwrap();
    assert_eq!(documents[0].places.find("/metadata/annotations/a~1b").unwrap().line, 3);
    assert_eq!(documents[0].places.find("/spec/type"), None);
}

#[test]
fn annotation_keys_with_slashes_have_a_place() {
    let text = "kind: Service\nmetadata:\n  annotations:\n    service.beta.kubernetes.io/external-traffic: OnlyLocal\n";
    let documents = parse("a.yaml", text).unwrap();
    let pointer = "/metadata/annotations/service.beta.kubernetes.io~1external-traffic";
    assert_eq!(documents[0].places.find(pointer).unwrap().line, 4);
}

#[test]
fn items_of_a_list_are_objects_of_their_own() {
    let text = "kind: List\nitems:\n- kind: Service\n  metadata: {name: a}\n- kind: Service\n  metadata: {name: b}\n";
    let documents = parse("a.yaml", text).unwrap();
    assert_eq!(documents.iter().map(Document::name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(documents[1].places.find("/metadata/name").unwrap().line, 6);
}

#[test]
fn json_is_read_too_and_empty_documents_are_passed_over() {
    assert_eq!(parse("a.json", r#"{"kind":"Service","spec":{"type":"NodePort"}}"#).unwrap()[0].kind(), "Service");
    assert!(parse("a.yaml", "---\n# nothing\n---\n").unwrap().is_empty());
}

#[test]
fn what_is_not_yaml_is_refused_with_its_place() {
    let error = parse("a.yaml", "kind: Service\nspec: [1, 2\n").unwrap_err().to_string();
    assert!(error.starts_with("a.yaml:"), "{error}");
    let error = parse("a.yaml", "- 1\n- 2\n").unwrap_err().to_string();
    assert!(error.contains("a.yaml:1"), "{error}");
}

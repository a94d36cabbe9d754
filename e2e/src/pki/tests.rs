use super::*;
use crate::run_dir::scratch;

fn openssl(args: &[&str]) -> String {
    crate::process::run("openssl", args).unwrap()
}

#[test]
fn the_serving_certificate_verifies_and_names_every_address() {
    let dir = scratch("pki-serving");
    let extra: IpAddr = "fd00:10:96::1".parse().unwrap();
    let files = ClusterPki::generate(&[extra]).unwrap().write(dir.path()).unwrap();
    let (ca, leaf) = (files.ca_certificate.to_str().unwrap(), files.apiserver_certificate.to_str().unwrap());
    assert!(openssl(&["verify", "-purpose", "sslserver", "-CAfile", ca, leaf]).contains("OK"));
    let text = openssl(&["x509", "-noout", "-ext", "subjectAltName", "-in", leaf]);
    for name in ["IP Address:127.0.0.1", "IP Address:FD00:10:96:0:0:0:0:1", "DNS:kubernetes.default.svc"] {
        assert!(text.contains(name), "{name} not in {text}");
    }
}

#[test]
fn a_node_is_known_by_its_name_and_group() {
    let dir = scratch("pki-node");
    let pair = ClusterPki::generate(&[]).unwrap().client(&User::Node("n1".to_owned())).unwrap();
    let path = dir.path().join("node.crt");
    write_private(&path, &pair.certificate).unwrap();
    let subject = openssl(&["x509", "-noout", "-subject", "-in", path.to_str().unwrap()]);
    assert!(subject.contains("CN = system:node:n1") && subject.contains("O = system:nodes"), "{subject}");
}

#[test]
fn a_client_certificate_does_not_pass_for_a_front_proxy() {
    let dir = scratch("pki-front-proxy");
    let pki = ClusterPki::generate(&[]).unwrap();
    let files = pki.write(dir.path()).unwrap();
    let forged = dir.path().join("forged.crt");
    write_private(&forged, &pki.authority.issue(&Subject::client(FRONT_PROXY, &[])).unwrap().certificate).unwrap();
    let verify = |leaf: &Path| {
        let args = [Path::new("verify"), Path::new("-CAfile"), &files.front_proxy_ca, leaf];
        crate::process::run("openssl", args)
    };
    assert!(verify(&files.front_proxy_certificate).is_ok());
    assert!(verify(&forged).is_err());
}

#[test]
fn keys_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = scratch("pki-mode");
    let files = ClusterPki::generate(&[]).unwrap().write(dir.path()).unwrap();
    assert_eq!(fs::metadata(&files.ca_key).unwrap().permissions().mode() & 0o777, 0o600);
}

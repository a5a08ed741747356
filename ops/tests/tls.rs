//! A node over TLS, as an operator sets it up: what is served, what is served anew, what is refused.

mod e2e;

use e2e::{Home, Node, PATIENCE, no};
use rcgen::date_time_ymd;
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Certificate and key in the files of a home; the certificate alone under another name.
fn write(home: &Home, kept_as: &str, change: impl FnOnce(&mut CertificateParams)) -> PathBuf {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("signed");
    let kept = home.path().join(kept_as);
    for path in [&kept, &home.path().join("cert.pem")] {
        fs::write(path, cert.pem()).expect("written");
    }
    let key_path = home.path().join("key.pem");
    fs::write(&key_path, key.serialize_pem()).expect("written");
    fs::set_permissions(key_path, Permissions::from_mode(0o600)).expect("ours");
    kept
}

fn home() -> Home {
    Home::new(json!({"service": {"tls": {"certFile": "cert.pem", "keyFile": "key.pem"}}}))
}

/// Whether a client that trusts this certificate alone gets through; what it said.
fn reaches(node: &Node, ca: &Path, command: &[&str]) -> (bool, String) {
    let mut call = no();
    call.args(command).args(["--url", node.url(), "--token", node.token(), "--ca-file"]).arg(ca);
    let output = call.output().expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn tls_is_served_and_a_new_certificate_without_a_restart() {
    let home = home();
    let first = write(&home, "first.pem", |_| {});
    let node = home.start();
    assert!(node.url().starts_with("https://"), "{}", node.url());
    let submit = ["task", "submit", "echo", "1", "--wait"];
    let (is_through, said) = reaches(&node, &first, &submit);
    assert!(is_through, "{said}");
    // Plain HTTP gets no answer that could be taken for one.
    let plain = node.client().raw(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(!plain.contains("200"), "{plain}");

    // Half of a new pair is not served, and what was goes on.
    fs::write(home.path().join("cert.pem"), "no certificate").expect("written");
    let log = node.log().wait(Instant::now() + PATIENCE, |line| {
        line.contains("the certificate before is served on").then(|| line.to_owned())
    });
    assert!(log.is_some_and(|line| line.contains("holds no certificate")));
    assert!(reaches(&node, &first, &submit).0);

    let second = write(&home, "second.pem", |_| {});
    let log = node.log().wait(Instant::now() + PATIENCE, |line| {
        line.contains("a new certificate is served").then(|| line.to_owned())
    });
    assert!(log.is_some());
    assert!(reaches(&node, &second, &submit).0);
    assert!(!reaches(&node, &first, &submit).0, "the first is served no more");
    node.stop();
}

#[test]
fn what_cannot_be_served_is_refused_with_what_to_do() {
    let check = |home: &Home, words: &[&str]| {
        let (code, said) = home.refused();
        assert_eq!(code, 3, "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    };
    let home = home();
    check(&home, &["service.tls.certFile", "cert.pem"]);
    write(&home, "x.pem", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    check(&home, &["service.tls.certFile", "expired", "renew it"]);
    write(&home, "x.pem", |_| {});
    let key = home.path().join("key.pem");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("ours");
    check(&home, &["service.tls.keyFile", "chmod 600"]);
    let other = KeyPair::generate().expect("a key");
    fs::write(&key, other.serialize_pem()).expect("written");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("ours");
    check(&home, &["service.tls.keyFile", "matching pair"]);
    home.configure(json!({"service": {"tls": {"certFile": "cert.pem"}}}));
    check(&home, &["service.tls.keyFile", "is missing"]);
    home.configure(json!({"service": {"tls": {"clientCerts": "workers"}}}));
    check(&home, &["service.tls.clientCaFile", "is missing"]);
}

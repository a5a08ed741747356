//! Which files are served, and which refused.

use super::*;
use rcgen::{CertificateParams, KeyPair};
use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use tempfile::TempDir;

/// Within the validity of what rcgen makes by default, 1975 to 4096.
const NOW_S: i64 = 1_764_038_329;

struct Files {
    dir: TempDir,
    files: TlsFiles,
}

fn files() -> Files {
    let dir = TempDir::with_prefix("no-tls-").expect("a folder");
    let at = |name: &str| dir.path().join(name);
    let files = TlsFiles {
        cert: at("cert.pem"),
        key: at("key.pem"),
        client_ca: None,
        client_certs: ClientCertificates::Off,
    };
    let made = Files { dir, files };
    made.write(|_| {});
    made
}

impl Files {
    fn write(&self, change: impl FnOnce(&mut CertificateParams)) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("signed");
        fs::write(&self.files.cert, cert.pem()).expect("written");
        fs::write(&self.files.key, key.serialize_pem()).expect("written");
        self.key_mode(0o600);
    }

    fn key_mode(&self, mode: u32) {
        let mode = Permissions::from_mode(mode);
        fs::set_permissions(&self.files.key, mode).expect("ours");
    }

    #[track_caller]
    fn check(&self, words: &[&str]) {
        let said = Identity::load(&self.files, NOW_S).expect_err("refused").to_string();
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {said:?}");
        }
    }
}

#[test]
fn a_sound_pair_is_taken() {
    let files = files();
    let identity = Identity::load(&files.files, NOW_S).expect("sound");
    assert!(0 < identity.validity.days_left(NOW_S));
    assert_eq!(identity.config.alpn_protocols, PROTOCOLS.map(<[u8]>::to_vec));
    for mode in [0o400, 0o600, 0o700] {
        files.key_mode(mode);
        assert!(Identity::load(&files.files, NOW_S).is_ok(), "{mode:o}");
    }
}

#[test]
fn what_cannot_be_served_is_refused_with_what_to_do() {
    let files = files();
    for mode in [0o640, 0o604, 0o660, 0o666] {
        files.key_mode(mode);
        files.check(&["key.pem", "chmod 600", &format!("{mode:o}")]);
    }
    files.key_mode(0o600);
    let sound = fs::read(&files.files.key).expect("there");
    fs::write(&files.files.key, KeyPair::generate().expect("a key").serialize_pem()).expect("ours");
    files.check(&["not that of the certificate", "key.pem", "cert.pem"]);
    fs::write(&files.files.key, "").expect("ours");
    files.check(&["key.pem", "no private key in PEM"]);
    fs::remove_file(&files.files.key).expect("ours");
    files.check(&["key.pem", "No such file"]);
    fs::write(&files.files.key, &sound).expect("ours");
    files.key_mode(0o600);
    for junk in ["", "junk", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        fs::write(&files.files.cert, junk).expect("ours");
        files.check(&["cert.pem", "certificate in PEM"]);
    }
    fs::write(&files.files.cert, &sound).expect("ours");
    files.check(&["cert.pem", "certificate in PEM"]);
    files.write(|params| params.not_after = rcgen::date_time_ymd(2025, 11, 20));
    files.check(&["cert.pem", "expired 6 day(s) ago", "renew"]);
    files.write(|params| params.not_before = rcgen::date_time_ymd(2025, 11, 27));
    files.check(&["cert.pem", "not valid for another 2 day(s)", "clock"]);
}

#[test]
fn an_authority_of_clients_is_read_when_it_is_asked_for() {
    let mut files = files();
    files.files.client_ca = Some(files.dir.path().join("ca.pem"));
    assert!(Identity::load(&files.files, NOW_S).is_ok(), "nobody is asked");
    for asked in [ClientCertificates::Optional, ClientCertificates::Workers] {
        files.files.client_certs = asked;
        files.check(&["ca.pem", "No such file"]);
    }
    fs::copy(&files.files.cert, files.dir.path().join("ca.pem")).expect("ours");
    assert!(Identity::load(&files.files, NOW_S).is_ok());
}

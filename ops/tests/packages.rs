//! The image, the compose file and the systemd unit, read by the programs that will read them, and
//! held against nO's variables and times.
//!
//! `make test` puts hadolint, docker-compose and systemd-analyze there. Where one is missing its test
//! says so and shows nothing; in CI that is a failure.

#[path = "monitoring/deployed.rs"]
mod deployed;
mod e2e;
#[path = "monitoring/tools.rs"]
mod tools;

use deployed::{place, text};
use e2e::no;
use no_ops::config::keys::KEYS;
use no_ops::shutdown::handlers;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// All that a stop may take with the default of `service.drainTimeout`.
fn stop_s() -> u64 {
    let drain = KEYS.iter().find(|key| key.path == "service.drainTimeout").expect("a key");
    let drain = drain.default.parse().expect("milliseconds");
    let all = handlers(Duration::from_millis(drain)).map(|one| one.timeout.as_secs());
    all.iter().sum()
}

fn said(output: &Output) -> String {
    let all = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&all).into_owned()
}

/// The variables of nO in a text.
fn variables(text: &str) -> Vec<&str> {
    let is_part = |c: char| c.is_ascii_uppercase() || c == '_';
    let words = text.split(|c: char| !is_part(c));
    words.filter(|word| word.starts_with("NO_") && 3 < word.len()).collect()
}

#[test]
fn variables_are_ones_that_there_are() {
    let client = ["NO_URL", "NO_CA_FILE", "NO_TOKEN"];
    let is_known = |name: &str| {
        let stands = |name: &str| KEYS.iter().any(|key| key.env.contains(&name));
        let is_one = |name: &str| client.contains(&name) || stands(name);
        is_one(name) || name.strip_suffix("_FILE").is_some_and(is_one)
    };
    let files = [
        "Dockerfile",
        "docker-compose.yml",
        "RUNBOOK.md",
        "systemd/no.service",
        "systemd/secrets.conf",
        "k8s/base/statefulset.yaml",
        "k8s/base/secret.template.yaml",
        "k8s/overlays/staging/kustomization.yaml",
        "k8s/overlays/production/statefulset.yaml",
    ];
    for file in files {
        for name in variables(&text(file)) {
            assert!(is_known(name), "{file}: {name}");
        }
    }
    assert!(!is_known("NO_SERVICE_PROT"));
}

#[test]
fn the_dockerfile_passes_hadolint_and_health_is_asked_as_it_can_be() {
    let Some(hadolint) = tools::deploy("hadolint") else { return };
    let check = |path: &Path| Command::new(&hadolint).arg(path).output().expect("it runs");
    let output = check(&place("Dockerfile"));
    assert!(output.status.success(), "{}", said(&output));
    let planted = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(planted.path(), "FROM debian:latest\nRUN apt-get install gcc\n").expect("it");
    assert!(!check(planted.path()).status.success(), "a planted fault is not found");

    let dockerfile = text("Dockerfile");
    let health = dockerfile.split_once("CMD [\"no\", ").and_then(|(_, rest)| rest.split_once(']'));
    let (words, _) = health.expect("a health check by nO itself");
    let words: Vec<String> = serde_json::from_str(&format!("[{words}]")).expect("words");
    let output = no().args(words).args(["--url", "http://127.0.0.1:1"]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "nothing answers there: {}", said(&output));
}

/// What compose makes of the file with that profile and those variables.
fn composed(compose: &Path, home: &Path, profile: &[&str], set: &[(&str, &str)]) -> Value {
    let mut command = Command::new(compose);
    command.env("DOCKER_CONFIG", home).envs(set.iter().copied());
    command.arg("-f").arg(place("docker-compose.yml")).args(profile);
    let output = command.args(["config", "--format", "json"]).output().expect("it runs");
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What a service of it sets is a configuration that nO accepts.
fn accepted(service: &Value, home: &Path) {
    let mut validate = no();
    validate.args(["config", "validate"]).current_dir(home);
    for (name, value) in service["environment"].as_object().expect("variables") {
        validate.env(name, value.as_str().expect("text"));
    }
    let output = validate.output().expect("it runs");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_compose_file_is_accepted_and_so_is_what_it_sets() {
    let Some(compose) = tools::deploy("docker-compose") else { return };
    let home = tempfile::tempdir().expect("a folder");
    let plain = composed(&compose, home.path(), &[], &[]);
    assert!(plain["services"]["postgres"].is_null(), "{plain}");
    accepted(&plain["services"]["no-master-agent-loop"], home.path());
    let set = [("NO_DB_HOST", "postgres")];
    let whole = composed(&compose, home.path(), &["--profile", "postgres"], &set);
    let service = &whole["services"]["no-master-agent-loop"];
    assert_eq!(service["environment"]["NO_DB_HOST"], "postgres");
    accepted(service, home.path());
    accepted(&whole["services"]["migrate"], home.path());

    let grace = service["stop_grace_period"].as_str().expect("a time");
    let minutes: u64 = grace.trim_end_matches("0s").trim_end_matches('m').parse().expect("minutes");
    assert!(stop_s() <= minutes * 60, "a stop may take {} s, it has {grace}", stop_s());
    for (name, service) in whole["services"].as_object().expect("services") {
        let ports = service["ports"].as_array().into_iter().flatten();
        for port in ports {
            assert_eq!(port["host_ip"], "127.0.0.1", "{name} is published on loopback alone");
        }
        assert_eq!(service["read_only"], true, "{name}");
        let image = service["image"].as_str().expect("an image");
        let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
        assert!(tag.contains(|c: char| c.is_ascii_digit()), "{name}: {image} has no version");
    }
}

#[test]
fn the_unit_is_sound_closed_and_has_time_to_drain() {
    let unit = text("systemd/no.service");
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key));
    let minutes = value("TimeoutStopSec=").and_then(|text| text.strip_suffix("min"));
    let minutes: u64 = minutes.expect("minutes").parse().expect("a number");
    assert!(stop_s() <= minutes * 60, "a stop may take {} s", stop_s());
    assert_eq!(value("Type="), Some("notify"));

    let analyze = |args: &[&str], unit: &Path| {
        Command::new("systemd-analyze").args(args).arg("--no-pager").arg(unit).output()
    };
    let path = place("systemd/no.service");
    let Ok(output) = analyze(&["security", "--offline=true", "--threshold=15"], &path) else {
        return tools::missing("systemd-analyze");
    };
    assert!(output.status.success(), "{}", said(&output));

    // With its secrets, and the binary that there is in place of the installed one.
    let home = tempfile::tempdir().expect("a folder");
    let installed = home.path().join("no.service");
    let there = unit.replace("=/usr/local/bin/no ", &format!("={} ", env!("CARGO_BIN_EXE_no")));
    assert_ne!(there, unit);
    let secrets = home.path().join("no.service.d");
    std::fs::create_dir(&secrets).expect("a folder");
    std::fs::write(secrets.join("secrets.conf"), text("systemd/secrets.conf")).expect("written");
    for (unit, is_sound) in [(there.clone(), true), (format!("{there}Planted=fault\n"), false)] {
        std::fs::write(&installed, unit).expect("written");
        let output = analyze(&["verify", "--man=no"], &installed).expect("it runs");
        let said = said(&output);
        assert_eq!(output.status.success() && said.trim().is_empty(), is_sound, "{said}");
    }
}

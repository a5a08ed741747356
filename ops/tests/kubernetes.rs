//! What the overlays of deploy/k8s come to: rendered by kubectl's kustomize, held against the schemas
//! of Kubernetes, and against the times and files of nO.
//!
//! `make test` puts kubectl and kubernetes-validate under `target/test-tools`. Where they are missing
//! the tests say so and show nothing; in CI that is a failure.

#[path = "monitoring/deployed.rs"]
mod deployed;
mod e2e;
#[path = "monitoring/tools.rs"]
mod tools;

use deployed::{place, text, yaml};
use e2e::no;
use expect_test::expect_file;
use no_ops::shutdown::handlers;
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

const OVERLAYS: [&str; 3] = ["staging", "production", "cluster"];
/// Kinds of the Prometheus operator: Kubernetes itself has no schema of them.
const OPERATOR: [&str; 2] = ["ServiceMonitor", "PrometheusRule"];

/// The objects of an overlay, as text and as data.
fn render(overlay: &str) -> Option<Vec<(String, Value)>> {
    let kubectl = tools::deploy("kubectl")?;
    let folder = place("k8s/overlays").join(overlay);
    let output = Command::new(kubectl).arg("kustomize").arg(folder).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{overlay}: {said}");
    let rendered = String::from_utf8(output.stdout).expect("text");
    let object = |text: &str| {
        let object: Value = serde_saphyr::from_str(text).expect("YAML");
        (text.to_owned(), object)
    };
    Some(rendered.split("\n---\n").map(object).collect())
}

#[track_caller]
fn of_kind<'o>(objects: &'o [(String, Value)], kind: &str) -> &'o Value {
    let found = objects.iter().find(|(_, object)| object["kind"] == kind);
    &found.unwrap_or_else(|| panic!("there is no {kind}")).1
}

#[test]
fn every_object_fits_the_schemas_of_kubernetes() {
    let Some(validate) = tools::deploy("kubernetes-validate") else { return };
    for overlay in OVERLAYS {
        let Some(objects) = render(overlay) else { return };
        let is_known = |object: &Value| OPERATOR.iter().all(|kind| object["kind"] != *kind);
        let known = objects.iter().filter(|(_, object)| is_known(object));
        let known: Vec<&str> = known.map(|(text, _)| text.as_str()).collect();
        assert!(8 < known.len() && known.len() + OPERATOR.len() == objects.len(), "{overlay}");
        let check = |text: &str| {
            let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
            std::fs::write(file.path(), text).expect("written");
            let mut command = tools::python(&validate);
            let output = command.arg("--strict").arg(file.path()).output().expect("it runs");
            let said = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&said).into_owned())
        };
        let all = known.join("\n---\n");
        let (is_valid, said) = check(&all);
        assert!(is_valid, "{overlay}: {said}");
        let (is_valid, said) = check(&all.replace("readinessProbe:", "readynessProbe:"));
        assert!(!is_valid, "a planted fault is not found: {said}");
    }
}

#[test]
fn pods_are_closed_pinned_and_have_time_to_drain() {
    for overlay in OVERLAYS {
        let Some(objects) = render(overlay) else { return };
        let set = of_kind(&objects, "StatefulSet");
        if overlay == "cluster" {
            // An apply must not undo what the autoscaler did.
            assert_eq!(set["spec"]["replicas"], Value::Null);
            let scaler = &of_kind(&objects, "HorizontalPodAutoscaler")["spec"];
            assert_eq!(scaler["scaleTargetRef"]["name"], set["metadata"]["name"]);
            assert_eq!((&scaler["minReplicas"], &scaler["maxReplicas"]), (&3.into(), &6.into()));
        } else {
            assert_eq!(set["spec"]["replicas"], 1, "the embedded store has one writer");
        }
        let pod = &set["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["enableServiceLinks"], false);
        let container = &pod["containers"][0];
        assert!(container["image"].as_str().is_some_and(|image| image.ends_with(":0.1.0")));
        let resources = &container["resources"];
        assert_eq!(resources["requests"], resources["limits"], "Guaranteed");
        let cpu = resources["limits"]["cpu"].as_str().and_then(|cpu| cpu.parse::<u32>().ok());
        assert!(cpu.is_some_and(|cpu| 1 < cpu), "whole cores: {resources}");
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let path = container[probe]["httpGet"]["path"].as_str().unwrap_or_default();
            assert!(path.starts_with("/health/"), "{probe}: {path}");
        }
        let config = of_kind(&objects, "ConfigMap")["data"]["operational.json"].clone();
        let config: Value = serde_json::from_str(config.as_str().expect("text")).expect("JSON");
        let drain = config["service"]["drainTimeout"].as_str().expect("a drainTimeout");
        let drain: u64 = drain.trim_end_matches('s').parse().expect("seconds");
        let all = handlers(Duration::from_secs(drain)).map(|one| one.timeout.as_secs());
        let before = &container["lifecycle"]["preStop"]["sleep"]["seconds"];
        let needed = all.iter().sum::<u64>() + before.as_u64().expect("a preStop");
        let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("a grace period");
        assert!(needed <= grace, "{overlay}: a stop may take {needed} s, it has {grace} s");
        assert_eq!(objects.iter().filter(|(_, object)| object["kind"] == "Secret").count(), 0);
    }
}

#[test]
fn selectors_find_the_pods_that_are_meant() {
    for overlay in OVERLAYS {
        let Some(objects) = render(overlay) else { return };
        let pods = &of_kind(&objects, "StatefulSet")["spec"]["template"]["metadata"]["labels"];
        let finds = |selector: &Value| {
            let selector = selector.as_object().expect("labels");
            !selector.is_empty() && selector.iter().all(|(name, value)| pods[name] == *value)
        };
        let selectors = [
            &of_kind(&objects, "StatefulSet")["spec"]["selector"]["matchLabels"],
            &of_kind(&objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
            &of_kind(&objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        ];
        let services = objects.iter().filter(|(_, object)| object["kind"] == "Service");
        let services = services.map(|(_, object)| &object["spec"]["selector"]);
        for selector in selectors.into_iter().chain(services) {
            assert!(finds(selector), "{overlay}: {selector} does not find {pods}");
        }
        let names = &of_kind(&objects, "NetworkPolicy")["spec"]["egress"][0]["to"][0];
        let names = &names["podSelector"]["matchLabels"];
        assert_eq!(names, &serde_json::json!({"k8s-app": "kube-dns"}), "the name server's own");
    }
}

#[test]
fn configurations_are_accepted() {
    let configs = ["base", "overlays/production", "overlays/cluster"]
        .map(|at| format!("k8s/{at}/operational.json"));
    for name in configs.iter().map(String::as_str).chain(["config/operational.example.json"]) {
        let output = no().args(["config", "validate", "--config"]).arg(place(name)).output();
        let output = output.expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {said}");
    }
}

/// The Prometheus operator gets the rules that promtool tests.
#[test]
fn the_operator_gets_the_same_rules() {
    let head = "\
# The rules of deploy/prometheus for the Prometheus operator; a copy, checked by a test. Anew with
# UPDATE_EXPECT=1 cargo test -p no-ops --test kubernetes
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: no-master-agent-loop
spec:
  groups:
";
    let mut expected = head.to_owned();
    for name in ["recording.yml", "alerts.yml"] {
        let rules = text(&format!("prometheus/{name}"));
        let (_, rules) = rules.split_once("groups:\n").expect("groups");
        expected.extend(rules.lines().map(|line| format!("  {line}\n")));
    }
    let path = place("k8s/base/prometheus-rule.yaml");
    expect_file![path.canonicalize().unwrap_or(path)].assert_eq(&expected);
    let groups = yaml("k8s/base/prometheus-rule.yaml")["spec"]["groups"].clone();
    assert!(5 < groups.as_array().expect("groups").len());
}

#[test]
fn nodes_of_a_cluster_have_names_and_addresses_of_their_own_and_stand_apart() {
    let Some(objects) = render("cluster") else { return };
    let set = &of_kind(&objects, "StatefulSet")["spec"];
    let pod = &set["template"]["spec"];
    let env = pod["containers"][0]["env"].as_array().expect("variables");
    let of = |name: &str| env.iter().find(|one| one["name"] == name).expect(name);
    assert_eq!(of("NO_NODE_NAME")["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name");
    let address = of("NO_SERVICE_ADVERTISE")["value"].as_str().expect("text");
    let headless = set["serviceName"].as_str().expect("a name");
    assert!(address.starts_with(&format!("http://$(NO_NODE_NAME).{headless}.")), "{address}");
    assert!(address.ends_with(":3000"), "{address}");
    let apart = &pod["topologySpreadConstraints"][0];
    assert_eq!(apart["topologyKey"], "kubernetes.io/hostname");
    let labels = &set["template"]["metadata"]["labels"]["app.kubernetes.io/name"];
    assert_eq!(&apart["labelSelector"]["matchLabels"]["app.kubernetes.io/name"], labels);
    let policy = of_kind(&objects, "NetworkPolicy").to_string();
    assert!(policy.contains("5432") && policy.contains("6379"), "{policy}");
    let scaled = yaml("k8s/overlays/cluster/keda.example.yaml");
    let target = &scaled["spec"]["scaleTargetRef"]["name"];
    assert_eq!(target, &of_kind(&objects, "StatefulSet")["metadata"]["name"]);
}

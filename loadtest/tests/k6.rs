//! The k6 scripts say what the driver's profiles do, and call k6 as it is.
//!
//! k6 itself is not needed. Types are checked by TypeScript with `@types/k6`, which `make test`
//! installs under `target/test-tools`. Where that is missing the test says so and shows nothing; in
//! CI that is a failure.

use no_loadtest::profile::{BASIC, ERROR_RATIO, LATENCIES_MS, Profile, RATE_MIN, STRESS};
use no_loadtest::schedule::Stage;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCRIPTS: [(&str, Profile); 2] = [("basic-load-test.js", BASIC), ("stress-test.js", STRESS)];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn script(name: &str) -> String {
    fs::read_to_string(folder().join(name)).expect(name)
}

/// The number after each `name: ` of a script.
fn numbers(script: &str, name: &str) -> Vec<f64> {
    let mark = format!("{name}: ");
    let number = |rest: &str| {
        let rest = rest.trim_start_matches('\'');
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().expect(rest)
    };
    script.split(mark.as_str()).skip(1).map(number).collect()
}

/// The texts of a threshold's list.
fn threshold<'s>(script: &'s str, name: &str) -> Vec<&'s str> {
    let (_, rest) = script.split_once(&format!("{name}: [")).expect(name);
    let list = rest.split(']').next().expect(name);
    list.split('\'').skip(1).step_by(2).collect()
}

#[test]
fn scripts_and_profiles_have_the_same_stages() {
    for (name, profile) in SCRIPTS {
        let text = script(name);
        let durations = numbers(&text, "{ duration");
        let stages = durations.into_iter().zip(numbers(&text, "target"));
        let stages: Vec<Stage> =
            stages.map(|(duration_s, rate)| Stage { duration_s, rate }).collect();
        assert_eq!(stages, profile.stages, "{name}");
        assert!(text.matches("duration: '").count() == text.matches("s', target: ").count());
        assert_eq!(numbers(&text, "startRate"), [profile.from], "{name}");
        assert_eq!(numbers(&text, "maxVUs"), [profile.users as f64], "{name}");
        assert_eq!(numbers(&text, "preAllocatedVUs"), [profile.users as f64], "{name}");
        assert!(text.contains("timeUnit: '1s'"), "{name}");
    }
}

#[test]
fn scripts_and_profiles_have_the_same_thresholds() {
    for (name, _) in SCRIPTS {
        let text = script(name);
        let latencies = LATENCIES_MS.map(|(percentile, ms)| format!("p({percentile})<{ms}"));
        assert_eq!(threshold(&text, "http_req_duration"), latencies, "{name}");
        assert_eq!(threshold(&text, "http_reqs"), [format!("rate>{RATE_MIN}")], "{name}");
        assert_eq!(threshold(&text, "http_req_failed"), [format!("rate<{ERROR_RATIO}")], "{name}");
        let checks = format!("rate>{}", 1.0 - ERROR_RATIO);
        assert_eq!(threshold(&text, "checks"), [checks], "{name}");
    }
}

/// Checks the types of both scripts as they are in `folder`; `None` without the tools.
fn types(folder: &Path) -> Option<Result<(), String>> {
    let tools = self::folder().join("../target/test-tools");
    let tsc = tools.join("node_modules/typescript/bin/tsc");
    let node = Some(tools.join("bin/node")).filter(|node| node.exists());
    let mut command = Command::new(node.unwrap_or_else(|| "node".into()));
    let output = command.arg(&tsc).arg("-p").arg(folder).output();
    let has_types = tools.join("node_modules/@types/k6/index.d.ts").is_file();
    let output = match output {
        Ok(output) if tsc.is_file() && has_types => output,
        _ => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no {}", tsc.display());
            eprintln!("SKIPPED: no {}; `make test` installs it", tsc.display());
            return None;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(if output.status.success() { Ok(()) } else { Err(text) })
}

/// Wrong calls, each in one of the scripts as they hide each other: what to put for what, and a
/// part of the error that must come of it.
const WRONG: [(usize, &str, &str, &str); 5] = [
    (0, "http.post(", "http.pots(", "'pots' does not exist"),
    (0, "timeUnit: '1s'", "timeUnit: 1", "'number' is not assignable to type 'string'"),
    (0, "{ check } from 'k6'", "{ chek as check } from 'k6'", "no exported member named 'chek'"),
    (1, "a.status === 202", "a.status === '202'", "no overlap"),
    (1, "tags:", "tag:", "'tag' does not exist"),
];

#[test]
fn the_scripts_call_k6_as_it_is() {
    let Some(checked) = types(&folder()) else { return };
    assert_eq!(checked, Ok(()));
}

#[test]
fn wrong_calls_of_k6_are_found() {
    let copy = tempfile::tempdir().expect("a folder");
    for (i, (name, _)) in SCRIPTS.iter().enumerate() {
        let mut text = script(name);
        for (_, from, to, _) in WRONG.iter().filter(|wrong| wrong.0 == i) {
            assert!(text.contains(from), "{name} has no {from}");
            text = text.replace(from, to);
        }
        fs::write(copy.path().join(name), text).expect("written");
    }
    let root = folder().parent().expect("a workspace").display().to_string();
    let settings = script("tsconfig.json").replace("\"../", &format!("\"{root}/"));
    fs::write(copy.path().join("tsconfig.json"), settings).expect("written");
    let Some(checked) = types(copy.path()) else { return };
    let errors = checked.expect_err("wrong calls");
    for (i, _, to, found) in WRONG {
        let (name, _) = SCRIPTS[i];
        let mut ours = errors.lines().filter(|line| line.contains(name));
        assert!(ours.any(|line| line.contains(found)), "{to}: {errors}");
    }
}

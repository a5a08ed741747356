//! Holds the repository to its style guide: which crate may use which, how long things are, what
//! every file says about itself, which words are not ours. Line based and simple on purpose: the
//! code is formatted by rustfmt, so indentation can be trusted. Each rule has a test that it can
//! fail.

use no_ops::config::keys::KEYS;
use no_ops::metrics::FAMILIES;
use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;
/// Crates, each with those of ours that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("engine", &[]),
    ("auth", &[]),
    ("storage", &["no-engine"]),
    ("net", &["no-engine", "no-auth"]),
    ("ops", &["no-engine", "no-auth", "no-storage", "no-net"]),
    ("ops/fuzz", &["no-auth", "no-net", "no-ops"]),
    ("loadtest", &[]),
    // Its dev-dependencies, the parts that are measured alone, are not looked at.
    ("benches", &["no-engine", "no-loadtest"]),
];
/// Libraries without I/O, which alone the engine may use.
const ENGINE_LIBRARIES: &[&str] = &[
    "thiserror",
    "serde",
    "serde_json",
    "rtrb",
    "crossbeam-utils",
    "hashbrown",
    "hdrhistogram",
    "uuid",
    "blake3",
];
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "Makefile",
    "README.md",
    "auth",
    "benches",
    "deploy",
    "engine",
    "loadtest",
    "net",
    "ops",
    "storage",
];
/// Synonyms that no public name may contain. The style guide bans more; those left out here are
/// words of Rust, of HTTP or of the command line as well (`run`, `log`, `lock`, `ttl`, `shutdown`,
/// …).
const BANNED: &[&str] = &[
    "job", "workflow", "activity", "actor", "reactor", "consumer", "throttle", "wal", "lsn",
    "tick", "epoch",
];
/// Variables of the command line; all others stand in the table of keys.
const CLI_VARIABLES: &[&str] = &["NO_CONFIG", "NO_URL", "NO_TOKEN", "NO_CA_FILE"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// All Rust files of our crates, by their path from the root.
fn sources() -> Vec<(String, String)> {
    let root = root();
    let names = ["engine", "auth", "storage", "net", "ops", "benches", "loadtest"];
    let mut dirs: Vec<PathBuf> = names.map(|name| root.join(name)).to_vec();
    let mut files = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).expect("below").display().to_string();
                files.push((name, fs::read_to_string(&path).expect("readable")));
            }
        }
    }
    files.sort();
    assert!(20 < files.len(), "the sources were not found");
    files
}

fn is_test(name: &str) -> bool {
    name.contains("/tests/") || name.ends_with("/tests.rs")
}

/// The text before the module of tests, if there is one.
fn without_tests(text: &str) -> &str {
    let start = text.find("\n#[cfg(test)]\nmod tests {").map_or(text.len(), |at| at + 1);
    &text[..start]
}

#[track_caller]
fn none(faults: Vec<String>) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[track_caller]
fn each_source(rule: impl Fn(&str, &str) -> Vec<String>) {
    none(sources().iter().flat_map(|(name, text)| rule(name, text)).collect());
}

fn long_file(name: &str, text: &str) -> Vec<String> {
    let lines = if is_test(name) { 0 } else { without_tests(text).lines().count() };
    let fault = || format!("{name}: {lines} lines without tests; where is the seam?");
    (FILE_LINES_MAX < lines).then(fault).into_iter().collect()
}

fn long_functions(name: &str, text: &str) -> Vec<String> {
    let (mut faults, mut open) = (Vec::new(), None::<(usize, usize)>);
    let text = if is_test(name) { "" } else { without_tests(text) };
    for (number, line) in text.lines().enumerate() {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        let is_start = words(body).take_while(|word| *word != "(").any(|word| word == "fn");
        match open {
            None if is_start && !body.starts_with("//") && !body.ends_with([';', '}']) => {
                open = Some((number, indent));
            }
            Some((start, at)) if at == indent && body.starts_with('}') => {
                let lines = number - start + 1;
                if FUNCTION_LINES_MAX < lines {
                    faults.push(format!("{name}:{}: a function of {lines} lines", start + 1));
                }
                open = None;
            }
            Some((_, at)) if at == indent && body.ends_with(';') => open = None,
            _ => {}
        }
    }
    faults
}

/// Names and opening brackets of a line of code, up to its first string.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split('"').next().unwrap_or_default();
    code.split_inclusive('(').flat_map(|part| {
        let (head, bracket) = match part.strip_suffix('(') {
            Some(head) => (head, Some("(")),
            None => (part, None),
        };
        let is_gap = |c: char| !(c.is_alphanumeric() || c == '_');
        head.split(is_gap).filter(|word| !word.is_empty()).chain(bracket)
    })
}

fn wide_lines(name: &str, text: &str) -> Vec<String> {
    let text = if is_test(name) { "" } else { without_tests(text) };
    let wide = |(_, line): &(usize, &str)| COLUMNS_MAX < line.chars().count();
    let fault = |(number, line): (usize, &str)| {
        format!("{name}:{}: {} columns", number + 1, line.chars().count())
    };
    text.lines().enumerate().filter(wide).map(fault).collect()
}

fn no_head(name: &str, text: &str) -> Vec<String> {
    let has_head = text.starts_with("//!") && text.lines().next().is_some_and(|l| 10 < l.len());
    let fault = || format!("{name}: does not open with `//!` and what it is");
    (!has_head).then(fault).into_iter().collect()
}

fn unsafe_code(name: &str, text: &str) -> Vec<String> {
    let is_unsafe = |line: &str| {
        !line.trim_start().starts_with("//") && words(line).any(|word| word == "unsafe")
    };
    let lines = text.lines().enumerate().filter(|(_, line)| is_unsafe(line));
    lines.map(|(number, _)| format!("{name}:{}: unsafe", number + 1)).collect()
}

fn undated_work(name: &str, text: &str) -> Vec<String> {
    // In two parts, so that this file does not accuse itself.
    let mark = ["TO", "DO"].concat();
    let is_bare = |line: &str| line.split(&mark).skip(1).any(|rest| !rest.starts_with("(#"));
    let lines = text.lines().enumerate().filter(|(_, line)| is_bare(line));
    lines.map(|(number, _)| format!("{name}:{}: {mark} names no issue", number + 1)).collect()
}

/// The name that a line makes public, if it does.
fn public_name(line: &str) -> Option<&str> {
    let mut words = words(line.trim_start());
    (words.next() == Some("pub")).then_some(())?;
    let kinds = ["struct", "enum", "trait", "fn", "const", "static", "type", "mod"];
    words.by_ref().find(|word| kinds.contains(word))?;
    words.find(|word| *word != "fn")
}

fn banned_names(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in without_tests(text).lines().enumerate() {
        let Some(public) = public_name(line) else { continue };
        let mut snake = String::new();
        for c in public.chars() {
            if c.is_uppercase() && !snake.ends_with(char::is_uppercase) {
                snake.push('_');
            }
            snake.push(c);
        }
        for part in snake.to_lowercase().split('_').filter(|part| BANNED.contains(part)) {
            faults.push(format!("{name}:{}: {public}: we do not say {part}", number + 1));
        }
    }
    faults
}

/// The names between quotes that begin with `prefix` and hold nothing but `is_part`.
fn quoted<'t>(text: &'t str, prefix: &str, is_part: fn(char) -> bool) -> Vec<&'t str> {
    let is_name = |part: &&str| part.starts_with(prefix) && part.chars().all(is_part);
    text.split('"').filter(is_name).filter(|name| prefix.len() < name.len()).collect()
}

fn undocumented_variables(name: &str, text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_uppercase() || c == '_';
    let is_known = |variable: &str| {
        let stands = |variable: &str| {
            CLI_VARIABLES.contains(&variable) || KEYS.iter().any(|key| key.env.contains(&variable))
        };
        stands(variable) || variable.strip_suffix("_FILE").is_some_and(stands)
    };
    let text = if is_test(name) { "" } else { without_tests(text) };
    let unknown = quoted(text, "NO_", is_part).into_iter().filter(|name| !is_known(name));
    unknown.map(|variable| format!("{name}: {variable} does not stand in keys.rs")).collect()
}

fn undocumented_metrics(name: &str, text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let is_metric = |metric: &&str| {
        ["_total", "_seconds", "_ratio", "_info", "_depth"].iter().any(|end| metric.ends_with(end))
    };
    let is_known = |metric: &str| FAMILIES.iter().any(|family| family.name == metric);
    let text = if is_test(name) { "" } else { without_tests(text) };
    let metrics = quoted(text, "no_", is_part).into_iter().filter(is_metric);
    let unknown = metrics.filter(|metric| !is_known(metric));
    unknown.map(|metric| format!("{name}: {metric} does not stand in metrics.rs")).collect()
}

/// The names of a manifest's section of dependencies.
fn dependencies<'t>(manifest: &'t str, section: &str) -> Vec<&'t str> {
    let lines = manifest.lines().skip_while(|line| *line != section).skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let is_name = |line: &&str| !line.starts_with('#') && line.contains('=');
    lines.filter(is_name).filter_map(|line| line.split(['=', '.', ' ']).next()).collect()
}

fn wrong_arrows(package: &str, allowed: &[&str], manifest: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for name in dependencies(manifest, "[dependencies]") {
        let is_ours = name.starts_with("no-");
        let is_foreign = package == "engine" && !is_ours && !ENGINE_LIBRARIES.contains(&name);
        if is_foreign || (is_ours && !allowed.contains(&name)) {
            faults.push(format!("{package} may not use {name}"));
        }
    }
    faults
}

fn unreasoned(manifest: &str) -> Vec<String> {
    let lines = manifest.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    let lines = lines.take_while(|line| !line.starts_with('['));
    let is_bare = |line: &&str| {
        let reason = line.rsplit_once("# ").map_or("", |(_, reason)| reason);
        line.contains('=') && !line.contains("path = ") && reason.len() < 5
    };
    lines.filter(is_bare).map(|line| format!("no reason given: {line}")).collect()
}

fn strangers<'n>(names: impl Iterator<Item = &'n str>, ignored: &str) -> Vec<String> {
    let is_known = |name: &str| {
        let is_ignored = |line: &str| line.trim_matches('/') == name;
        name.starts_with('.') || TOP_LEVEL.contains(&name) || ignored.lines().any(is_ignored)
    };
    names.filter(|name| !is_known(name)).map(|name| format!("{name} stands at the top")).collect()
}

#[test]
fn files_are_short_and_say_what_they_are() {
    each_source(long_file);
    each_source(no_head);
}

#[test]
fn functions_and_lines_are_short() {
    each_source(long_functions);
    each_source(wide_lines);
}

#[test]
fn there_is_no_unsafe_and_no_undated_work() {
    each_source(unsafe_code);
    each_source(undated_work);
}

#[test]
fn public_names_are_our_words() {
    each_source(banned_names);
}

#[test]
fn variables_and_metrics_are_documented() {
    each_source(undocumented_variables);
    each_source(undocumented_metrics);
    let readme = fs::read_to_string(root().join("README.md")).expect("a README");
    none(undocumented_variables("README.md", &readme.replace('`', "\"")));
    none(undocumented_metrics("README.md", &readme.replace('`', "\"")));
}

#[test]
fn crates_use_downwards_only() {
    let read = |package: &str| fs::read_to_string(root().join(package).join("Cargo.toml"));
    for (package, allowed) in ARROWS {
        none(wrong_arrows(package, allowed, &read(package).expect("a manifest")));
    }
}

#[test]
fn every_dependency_has_a_reason() {
    none(unreasoned(&fs::read_to_string(root().join("Cargo.toml")).expect("a manifest")));
}

#[test]
fn the_top_level_holds_what_it_should() {
    let entries = fs::read_dir(root()).expect("readable").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let names: Vec<String> = names.collect();
    let ignored = fs::read_to_string(root().join(".gitignore")).expect("a list");
    none(strangers(names.iter().map(String::as_str), &ignored));
}

/// Each rule finds a planted fault and lets the ordinary pass.
#[test]
fn every_rule_can_fail() {
    let check = |rule: fn(&str, &str) -> Vec<String>, bad: &str, good: &str| {
        assert_eq!(rule("x/src/y.rs", bad).len(), 1, "{bad}");
        assert_eq!(rule("x/src/y.rs", good), [""; 0], "{good}");
    };
    let tests = "\n#[cfg(test)]\nmod tests {\n";
    check(long_file, &"\n".repeat(501), &format!("{tests}{}", "\n".repeat(600)));
    let long = |lines| format!("impl X {{\n    pub fn f() {{\n{}    }}\n}}", "\n".repeat(lines));
    check(long_functions, &long(69), &long(68));
    check(wide_lines, &"ü".repeat(101), &"ü".repeat(100));
    check(no_head, "use std::fs;", "//! What it is.");
    check(unsafe_code, "    unsafe { x }", "// unsafe is \"unsafe\"\nlet x = \"unsafe\";");
    let mark = ["TO", "DO"].concat();
    check(undated_work, &format!("// {mark}: later"), &format!("// {mark}(#4): sessions"));
    check(banned_names, "    pub fn next_job(x: u8) {", "pub struct Task;\nfn job() {}");
    check(banned_names, "pub struct JobQueue;", "pub const fn ticket() {");
    check(undocumented_variables, "env(\"NO_COLOUR_X\")", "env(\"NO_SERVICE_PORT\") \"NO_\"");
    check(undocumented_metrics, "\"no_jobs_total\"", "\"no_tasks_total\" \"no_such\"");
}

#[test]
fn every_rule_about_manifests_can_fail() {
    let manifest =
        "[dependencies]\nno-net = { workspace = true }\ntokio.workspace = true\n[x]\ny=1";
    assert_eq!(wrong_arrows("engine", &[], manifest).len(), 2);
    assert_eq!(wrong_arrows("storage", &["no-engine"], manifest).len(), 1);
    assert_eq!(wrong_arrows("ops", &["no-net"], manifest), [""; 0]);
    let manifest = "[workspace.dependencies]\na = \"1\"\nb = \"1\" # so that it works\n";
    assert_eq!(unreasoned(manifest).len(), 1);
    assert_eq!(strangers(["src", "target", ".ci", "ops"].into_iter(), "/target\n").len(), 1);
}

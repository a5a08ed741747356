//! The commands of a runbook: every block is run (`sh`) or is of another machine (`sh cluster`).

use super::e2e::no;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

/// Tools that blocks of other machines may name.
const TOOLS: &[&str] = &[
    "cat",
    "cp",
    "dmesg",
    "docker",
    "gdb",
    "install",
    "iostat",
    "journalctl",
    "kubectl",
    "make",
    "mv",
    "no",
    "openssl",
    "psql",
    "rsync",
    "shred",
    "ss",
    "sudo",
    "systemctl",
    "systemd-run",
    "systemd-sysusers",
    "top",
    "uniq",
    "sort",
    "tail",
    "awk",
    "grep",
];
/// Those that run another command.
const RUNNERS: &[&str] = &["docker", "kubectl", "sudo", "systemd-run"];
/// The longest that one command may take, in seconds.
const SECONDS_MAX: &str = "10";

/// Where a command is to be tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// Here, beside a node.
    Here,
    /// On a machine, or a cluster, that a test has not.
    Elsewhere,
}

/// A command of the book.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Step {
    /// Its line in the book.
    pub(crate) line: usize,
    /// What is typed, continued lines made one.
    pub(crate) text: String,
    /// The exit code that is meant.
    pub(crate) exits: i32,
    /// Where it can be tried.
    pub(crate) place: Place,
}

/// The commands of a book in order; what is wrong with a block if one is neither kind.
pub(crate) fn steps(book: &str) -> Result<Vec<Step>, String> {
    let (mut steps, mut open) = (Vec::new(), None::<(Place, usize, usize)>);
    let mut begun = String::new();
    for (number, line) in (1..).zip(book.lines()) {
        let Some((place, start, count)) = open else {
            if let Some(info) = line.trim_start().strip_prefix("```") {
                open = Some((place_of(number, info)?, number, steps.len()));
            }
            continue;
        };
        if line.starts_with("```") {
            if steps.len() == count || !begun.is_empty() {
                return Err(format!("line {start}: a block without a whole command"));
            }
            open = None;
        } else if let Some(more) = line.strip_suffix('\\') {
            begun.push_str(more);
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            begun.push_str(line);
            let (text, exits) = meant(number, &std::mem::take(&mut begun))?;
            steps.push(Step { line: number, text, exits, place });
        }
    }
    match open {
        Some((_, start, _)) => Err(format!("line {start}: the block has no end")),
        None => Ok(steps),
    }
}

fn place_of(number: usize, info: &str) -> Result<Place, String> {
    match info {
        "sh" => Ok(Place::Here),
        "sh cluster" => Ok(Place::Elsewhere),
        _ => Err(format!("line {number}: a block is `sh` or `sh cluster`, not `{info}`")),
    }
}

/// A line without the comment that names its exit code, and that code.
fn meant(number: usize, line: &str) -> Result<(String, i32), String> {
    let Some((text, said)) = line.rsplit_once("# exits ") else { return Ok((line.to_owned(), 0)) };
    let digits = said.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    let exits = digits.parse().map_err(|_| format!("line {number}: `exits {said}`"))?;
    Ok((text.trim_end().to_owned(), exits))
}

/// What a command is run in.
pub(crate) struct Shell {
    /// The folder it starts in, which has a folder `bin` with `no`.
    pub(crate) dir: PathBuf,
    /// Its variables.
    pub(crate) variables: Vec<(&'static str, OsString)>,
}

impl Shell {
    /// Runs a step whose words are filled in as `text`; what is wrong with it, if anything.
    pub(crate) fn fault(&self, step: &Step, text: &str) -> Option<String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = [self.dir.join("bin")].into_iter().chain(std::env::split_paths(&path));
        let mut command = Command::new("timeout");
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("NO_") || name == "NODE_ENV") {
                command.env_remove(name);
            }
        }
        command.args([SECONDS_MAX, "bash", "-o", "pipefail", "-c", text]).current_dir(&self.dir);
        command.env("PATH", std::env::join_paths(places).expect("paths"));
        command.envs(self.variables.iter().map(|(name, value)| (*name, value)));
        let output = command.stdin(std::process::Stdio::null()).output().expect("it runs");
        if output.status.code() == Some(step.exits) {
            return None;
        }
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let (line, meant) = (step.line, step.exits);
        Some(format!("line {line}: `{text}`: {}, not {meant}: {said}", output.status))
    }
}

/// What is wrong with a step of another machine: a tool that nobody knows, or `no` with words that
/// it does not take.
pub(crate) fn unknown(step: &Step) -> Option<String> {
    let line = step.line;
    for words in segments(&step.text) {
        let Some(tool) = words.first().map(|word| tool(word)) else { continue };
        if !TOOLS.contains(&tool) {
            return Some(format!("line {line}: `{tool}` is no tool that is known"));
        }
        let mut at = (0..words.len()).filter(|at| *at == 0 || RUNNERS.contains(&tool));
        let is_ours = |at: &usize| {
            let next = words.get(at + 1).map_or("-", String::as_str);
            self::tool(&words[*at]) == "no" && !next.starts_with('-') && self::tool(next) != "no"
        };
        let Some(at) = at.find(is_ours) else { continue };
        let output = no().args(&words[at + 1..]).arg("--help").output().expect("it runs");
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Some(format!("line {line}: `{}`: {said}", step.text));
        }
    }
    None
}

/// The name of a tool without its folder, and of a binary beside another one that one's.
fn tool(word: &str) -> &str {
    let name = word.rsplit('/').next().filter(|_| !word.contains(':')).unwrap_or(word);
    name.strip_suffix(".next").unwrap_or(name)
}

/// The words of each command in a line: quotes are taken off, `$(…)` stays one word, and what
/// comes after `>` is left out.
fn segments(text: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let (mut quote, mut depth, mut is_out) = (None, 0_u32, false);
    for c in text.chars() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '(' | ')') => {
                depth = if c == '(' { depth + 1 } else { depth.saturating_sub(1) };
                word.get_or_insert_default().push(c);
            }
            (None, '|' | ';' | '&' | '>' | ' ') if depth == 0 => {
                words.extend(word.take().filter(|_| !is_out));
                if matches!(c, '|' | ';' | '&') {
                    all.push(std::mem::take(&mut words));
                }
                is_out = c == '>' || is_out && c == ' ';
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word.filter(|_| !is_out));
    all.push(words);
    all
}

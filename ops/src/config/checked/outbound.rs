//! What `security.outbound` allows calls out to reach.

use super::is_agent_name;
use crate::config::raw::{Raw, parts};
use no_net::out::allow::AllowList;
use serde_json::Value;
use std::collections::BTreeMap;

/// Agents with a list of their own: each has connections of its own on every net core.
const AGENTS_MAX: usize = 1_024;

/// The list for all agents; what is wrong with it is noted at its entry.
pub(super) fn allow(raw: &mut Raw) -> Vec<String> {
    list(raw, &parts("security.outbound.allow"))
}

/// The lists of single agents, likewise.
pub(super) fn agents(raw: &mut Raw) -> BTreeMap<String, Vec<String>> {
    let head = parts("security.outbound.agents");
    let mut agents = BTreeMap::new();
    for name in raw.names_below(&head) {
        let path = [&head[..], std::slice::from_ref(&name)].concat();
        if matches!(name.as_str(), "echo" | "sleep") {
            raw.fault(&path, "is built in and makes no calls; remove it", None);
        }
        if !is_agent_name(&name) {
            raw.fault(&path, "must be an agent's name of 1 to 128 bytes of plain text", None);
        }
        let list = list(raw, &path);
        agents.insert(name, list);
    }
    if AGENTS_MAX < agents.len() {
        raw.fault(&head, format!("may name at most {AGENTS_MAX} agents"), None);
    }
    agents
}

fn list(raw: &mut Raw, path: &[String]) -> Vec<String> {
    let value = raw.at(path).map(|found| found.value);
    let Some(Value::Array(items)) = value else { return Vec::new() };
    let list: Vec<_> = items.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if let Err((place, why)) = AllowList::parse(&list) {
        raw.fault(&[path, &[place.to_string()]].concat(), why, None);
    }
    list
}

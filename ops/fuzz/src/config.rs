//! The configuration: a file, or variables. What is refused says where and why; what is accepted is
//! accepted again as `no config show --json` writes it.

use crate::chosen;
use no_auth::Secret;
use no_auth::secret::REDACTED;
use no_ops::config::checked::check as accept;
use no_ops::config::raw::{File, Raw};
use no_ops::config::{Config, Fault, show};

/// Cores of the machine that it is for.
const CORES: usize = 8;

fn no_file(_: &str) -> Result<Secret, String> {
    Err("there is no file".to_owned())
}

fn of_file(text: &str) -> Raw {
    let file = File { name: "test.json", text };
    Raw::read(Some(file), &|_| None, &no_file, &[])
}

/// Reads an input: whether it is a file or a `NAME=value` in each line, then it.
pub(crate) fn check(data: &[u8]) {
    let Some((choice, text)) = chosen(data) else { return };
    let raw = match choice % 2 {
        0 => of_file(text),
        _ => {
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            let pairs: Vec<(&str, &str)> = pairs.collect();
            let env = |name: &str| {
                let found = pairs.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            Raw::read(None, &env, &no_file, &[])
        }
    };
    let shown = (show::json(&raw), show::text(&raw));
    match accept(raw, CORES) {
        Err(faults) => refused(&faults),
        Ok(config) => accepted(&config, &shown.0.to_string()),
    }
}

fn refused(faults: &[Fault]) {
    assert!(!faults.is_empty(), "refused without a word");
    for fault in faults {
        assert!(!fault.place.is_empty() && !fault.problem.is_empty(), "{fault:?}");
    }
}

fn accepted(config: &Config, shown: &str) {
    let (service, engine) = (&config.service, &config.engine);
    let is_open = !service.listen.ip().is_loopback();
    let is_safe = service.tls.is_some() || service.is_tls_terminated_upstream;
    assert!(!is_open || is_safe && config.security.is_rbac_on, "open to the world: {shown}");
    assert!(0 < engine.shards && engine.shards <= engine.partitions && 0 < engine.net_cores);
    let slots = (0..engine.shards).map(|shard| engine.limits(shard).slots);
    assert!(slots.clone().all(|slots| 0 < slots));
    assert!(engine.slots <= slots.sum::<usize>());

    if shown.contains(REDACTED) {
        // A secret comes from a variable, never from a file, and is not shown.
        return;
    }
    let again = of_file(shown);
    let twice = show::json(&again).to_string();
    assert_eq!(twice, shown, "shown otherwise the second time");
    let again = match accept(again, CORES) {
        Ok(again) => again,
        Err(faults) => panic!("refused as shown: {faults:?}\n{shown}"),
    };
    assert_eq!((&again.service, &again.security), (service, &config.security));
    assert_eq!((&again.engine, &again.monitoring), (engine, &config.monitoring));
    assert_eq!((&again.models, &again.roles), (&config.models, &config.roles));
    assert_eq!(again.agents.keys().collect::<Vec<_>>(), config.agents.keys().collect::<Vec<_>>());
}

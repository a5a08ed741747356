//! What is accepted, and what is not although each value alone is.

use super::super::raw::File;
use super::*;
use crate::audit::AuditBounds;
use expect_test::{Expect, expect};
use no_auth::limit::Rate;
use no_net::gate::Rates;

fn read(text: &str) -> Result<Config, Vec<Fault>> {
    let files = |_: &str| Err("no files here".to_owned());
    check(Raw::read(Some(File { name: "c.json", text }), &|_| None, &files, &[]), 4)
}

#[track_caller]
fn refused(text: &str, expected: &Expect) {
    let faults: Vec<String> =
        read(text).expect_err("refused").iter().map(Fault::to_string).collect();
    expected.assert_eq(&faults.join("\n"));
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = read("{}").expect("accepted");
    assert_eq!(config.service.listen.to_string(), "127.0.0.1:3000");
    assert_eq!(config.engine.shards, 3);
    assert_eq!(config.engine.limits(0), Limits { slots: 17, ..Limits::default() });
    assert_eq!((0..3).map(|shard| config.engine.limits(shard).slots).sum::<usize>(), 50);
    assert!(config.security.is_rbac_on);
    assert_eq!(config.engine.disk_reserve_bytes, 64 << 20);
}

#[test]
fn autoscaling_starts_at_the_least_and_keeps_a_slot_for_each_shard() {
    let engine = |text: &str| read(text).expect("accepted").engine;
    let off = engine(r#"{"performance":{"autoscaling":{"maxAgents":2}}}"#);
    assert_eq!((off.slots, off.slots_aims), (3, None));
    let on = engine(r#"{"performance":{"autoscaling":{"enabled":true,"targetCpu":60}}}"#);
    let aims = on.slots_aims.expect("on");
    assert_eq!((on.slots, aims.slots_min, aims.slots_max), (5, 5, 50));
    assert_eq!((aims.cpu_ratio, aims.memory_ratio), (0.6, 0.8));
    assert_eq!((aims.up_cooldown_ms, aims.down_cooldown_ms), (180_000, 600_000));
    let few = r#"{"performance":{"autoscaling":{"enabled":true,"minAgents":1,"maxAgents":4}}}"#;
    let few = engine(few).slots_aims.expect("on");
    assert_eq!((few.slots_min, few.slots_max), (3, 4));
}

#[test]
fn agents_that_keep_failing_are_held_back_unless_said_otherwise() {
    let limits = |text: &str| read(text).expect("accepted").engine.limits(0);
    let default = limits("{}");
    assert_eq!(default.breaker, Some(no_engine::breaker::BreakerRules::default()));
    let said = r#"{"performance":{"latencyObjective":"2s","breaker":{"minAttempts":5,"pause":7}}}"#;
    let said = limits(said);
    assert_eq!(said.latency_objective_ms, 2_000);
    assert_eq!(said.breaker.map(|rules| (rules.attempts_min, rules.pause_ms)), Some((5, 7)));
    assert_eq!(limits(r#"{"performance":{"breaker":{"enabled":false}}}"#).breaker, None);
}

#[test]
fn the_example_is_complete_and_accepted() {
    let text = include_str!("../../../../deploy/config/operational.example.json");
    read(text).unwrap_or_else(|faults| panic!("{faults:?}"));
    let said: Value = serde_json::from_str(text).expect("json");
    for key in super::super::keys::KEYS {
        if key.path.contains('*') || key.default.is_empty() {
            continue;
        }
        let pointer = format!("/{}", key.path.replace('.', "/"));
        assert!(said.pointer(&pointer).is_some(), "the example lacks {}", key.path);
    }
}

#[test]
fn limits_proxies_and_the_audit_log_are_read() {
    let default = read("{}").expect("accepted").security.guarding;
    assert_eq!((default.rates, default.audit), (Rates::default(), Some(AuditBounds::default())));
    let said = read(
        r#"{"security":{"rateLimit":{"enabled":true,"perPrincipal":{"perSecond":7,"burst":9}},
            "trustedProxies":["10.0.0.0/8"],"forwardedHeader":"forwarded",
            "audit":{"enabled":false}}}"#,
    );
    let said = said.expect("accepted").security.guarding;
    let asks = (Rate::new(7, 9), Rate::new(2_000, 4_000));
    assert_eq!((said.rates.asks, said.audit), (Some(asks), None));
    assert!(!said.proxies.is_empty());
    refused(
        r#"{"security":{"rateLimit":{"failures":{"burst":0}},
            "forwardedHeader":"via",
            "trustedProxies":["10.0.0.1",
                "10.0.0.1/8"]}}"#,
        &expect![[r#"
            c.json:2: security.forwardedHeader: must be x-forwarded-for or forwarded, not "via"
            c.json:1: security.rateLimit.failures.burst: must be whole number from 1 to 1000000, not 0
            c.json:4: security.trustedProxies.1: must be an address or a CIDR block without bits behind its prefix"#]],
    );
}

#[test]
fn an_open_address_needs_tls_and_roles() {
    refused(
        r#"{"service":{"host":"0.0.0.0"},"security":{"rbac":{"enabled":false}}}"#,
        &expect![[r#"
            c.json:1: service.host: 0.0.0.0 is not loopback and there is no TLS (set service.tls.certFile and keyFile, or service.tlsTerminatedUpstream (NO_TLS_TERMINATED_UPSTREAM=true) when a proxy ends TLS, or listen on 127.0.0.1)
            c.json:1: security.rbac.enabled: may not be off on 0.0.0.0 (loopback only)"#]],
    );
    let open = r#"{"service":{"host":"::","tlsTerminatedUpstream":true}}"#;
    assert_eq!(read(open).expect("accepted").service.listen.to_string(), "[::]:3000");
    assert!(read(r#"{"security":{"rbac":{"enabled":false}}}"#).is_ok());
    refused(
        r#"{"service":{"host":"example.org"}}"#,
        &expect![[
            r#"c.json:1: service.host: must be an IP address or localhost, not "example.org" (0.0.0.0 is every address of this machine)"#
        ]],
    );
}

#[test]
fn agents_and_models_are_held_against_each_other() {
    refused(
        r#"{"models":{"small":{"provider":"openai"},"odd":{"provider":"oracle"}},
            "agents":{"a":{"kind":"model","model":"smal"},
            "b":{"kind":"echo","colour":1},
            "c":{"kind":"http"},
            "d":{"kind":"echo",
                 "max_attempts":0}}}"#,
        &expect![[r#"
            c.json:1: models.odd.provider: must be openai or scripted, not "oracle"
            c.json:1: models.small.baseUrl: is required for provider openai
            c.json:3: agents.b.colour: unknown field `colour`, expected one of `kind`, `max_concurrency`, `max_concurrency_per_key`, `timeout_ms`, `max_attempts`, `retry`, `rate`, `budget`, `url`, `model`, `system`, `tools`, `max_output_tokens`
            c.json:4: agents.c.url: is required for kind http and belongs to no other kind
            c.json:6: agents.d.max_attempts: must be between 1 and 1000
            c.json:2: agents.a.model: there is no model "smal" in models (did you mean small?)"#]],
    );
}

#[test]
fn numbers_are_held_against_each_other() {
    refused(
        r#"{"security":{"outbound":{"allow":["10.0.0.0/8",
            "10.0.0.0/99"]}},
            "engine":{"shards":8,"partitions":4},
            "performance":{"autoscaling":{"minAgents":9,"maxAgents":8}},
            "monitoring":{"prometheus":{"enabled":false},"grafana":{"enabled":true}}}"#,
        &expect![[r#"
            c.json:2: security.outbound.allow.1: a CIDR block has at most 32 bits, or 128 for IPv6
            c.json:4: performance.autoscaling.minAgents: must not be above maxAgents
            c.json:3: engine.shards: must not be above engine.partitions, 4
            c.json:5: monitoring.grafana.enabled: needs monitoring.prometheus.enabled"#]],
    );
}

#[test]
fn what_calls_may_reach_is_read_for_all_and_by_agent() {
    let text = r#"{"security":{"outbound":{"allow":["10.0.0.0/8"],
        "agents":{"pay.er":["ledger:9000"],"b":[]}}}}"#;
    let security = read(text).expect("accepted").security;
    assert_eq!(security.outbound_allow, ["10.0.0.0/8"]);
    let own = [("b", vec![]), ("pay.er", vec!["ledger:9000".to_owned()])];
    assert_eq!(security.outbound_agents, own.map(|(name, list)| (name.to_owned(), list)).into());
    refused(
        r#"{"security":{"outbound":{"allow":["https://a.example/x"],
            "agents":{"a":["ok",
                "*.internal"],
            "echo":["x"],
            "c":"x",
            "":["127.1"]}}}}"#,
        &expect![[r#"
            c.json:5: security.outbound.agents.c: must be list of texts, not "x"
            c.json:1: security.outbound.allow.0: give the host alone, without http:// and path
            c.json:6: security.outbound.agents.: must be an agent's name of 1 to 128 bytes of plain text
            c.json:6: security.outbound.agents..0: write an address in full, such as 127.0.0.1
            c.json:3: security.outbound.agents.a.1: there are no wildcards: name each host, or give a CIDR block
            c.json:4: security.outbound.agents.echo: is built in and makes no calls; remove it"#]],
    );
}

//! The table against DESIGN §8 and against the rules for names; what is written against a snapshot.

use super::*;
use crate::exposition::{Format, Sample, render};
use crate::process::ProcessInfo;
use expect_test::expect;
use no_engine::agent::definition::{Agent, Kind};
use no_engine::command::{Answer, AnswerWhen, Command};
use no_engine::effect::Effect;
use no_engine::id::{NetId, PartitionId, ReplyTo, Seq, ShardId, TaskId, Token};
use no_engine::limits::Limits;
use no_engine::machine::{LastStop, Machine};
use no_engine::payload::Payload;
use no_engine::permit::Permits;
use no_engine::port::Loaded;
use no_engine::stats::ShardStats;
use no_engine::task::NewTask;
use no_engine::time::{Millis, Mono, Now};
use no_storage::sqlite::StoreReading;
use std::collections::BTreeSet;

/// The families that DESIGN §8 names, and those that alerts need beside them.
const DESIGN: &str = "\
no_http_requests_total no_http_request_duration_seconds no_http_requests_in_flight \
no_agent_pool_size no_agent_pool_active no_agent_pool_idle no_agent_pool_failed \
no_agent_pool_healthy_ratio no_loop_iteration_duration_seconds no_task_queue_depth no_tasks_total \
no_task_duration_seconds no_task_queue_wait_seconds no_cache_hit_ratio no_cache_requests_total \
no_agent_performance_score no_loop_efficiency_ratio no_customer_satisfaction_index \
no_auth_attempts_total no_auth_failures_total no_auth_token_validations_total \
no_rbac_decisions_total no_rbac_denials_total no_security_violations_total \
no_suspicious_activity_total no_journal_commit_duration_seconds no_journal_batch_records \
no_journal_bytes_total no_journal_errors_total no_ring_depth no_ring_full_total \
no_model_calls_total no_model_tokens_total no_model_cost_usd_total no_model_call_duration_seconds \
no_tool_calls_total no_cpu_usage_ratio no_memory_usage_ratio no_disk_usage_ratio \
no_db_pool_connections no_build_info no_node_ready no_health_check_failing \
no_tls_certificate_expiry_seconds no_shard_heartbeat_age_seconds no_task_queue_age_seconds";

fn snapshot() -> Snapshot {
    let mut shard = ShardStats::new(ShardId(0));
    shard.slots = 50;
    shard.waiting_since = Some(Millis(10_000));
    shard.slots_active = 1;
    shard.busy_us = 30;
    shard.awake_us = 40;
    (shard.decide_us, shard.act_us) = (20, 10);
    shard.turn_us.record(80);
    shard.ring_depth.insert("net", 2);
    shard.refused.insert("queue_full", 4);
    let mut agent = AgentStats { active: 1, ..AgentStats::default() };
    agent.live[State::Queued as usize] = 3;
    agent.ended[State::Succeeded as usize] = 7;
    agent.queue_wait_us.record(2_000);
    shard.agents.insert("a \"quoted\"\\\nname".into(), agent);
    let mut model = CallStats { ok: 2, cost_micro_usd: 1_500, ..CallStats::default() };
    model.duration_us.record(1_000_000);
    shard.models.insert("small".into(), model);
    let exemplar = Sample { trace_id: 0xabc, value: 0.125, at_s: 1_700_000_000.5 };
    let exemplars = vec![None, Some(exemplar)];
    let duration = Distribution { buckets: vec![(0.001, 3)], count: 4, sum: 0.25, exemplars };
    let series = HttpSeries {
        method: "POST".to_owned(),
        route: "/v1/tasks".to_owned(),
        by_status: vec![(202, 3), (0, 1)],
        duration,
    };
    let http = HttpStats { series: vec![series], in_flight: 1, ..HttpStats::default() };
    let mut auth = AuthCounts { accepted: 5, ..AuthCounts::default() };
    auth.denied.insert("expired", 2);
    auth.by_permission.insert("tasks:submit", (5, 1));
    let process = ProcessInfo { memory_ratio: Some(0.5), ..ProcessInfo::default() };
    let cost = CostCounts { tasks: 4, net_ns: [8_000, 4_000, 2_000, 1_000] };
    let store = StoreReading { commit_ns: 16_000, index_ns: 4_000, ..StoreReading::default() };
    let now = Snapshot::new(vec![shard], ["echo".into()], http, auth, cost, process);
    let now =
        now.with_store(vec![StoreReading { behind_bytes: 4_096, written_bytes: 8_192, ..store }]);
    now.with_life(Life {
        now: Millis(12_500),
        is_ready: true,
        beat_age_ms: vec![250],
        checks: vec![("disk", false), ("tls", true)],
        certificate_ends_at_s: Some(1_800_000_000),
    })
    .with_spans(crate::spans::SpanCounts::default().read())
}

/// The lines of one family.
fn lines(text: &str, family: &str) -> String {
    let of_it = |line: &&str| line.contains(family);
    text.lines().filter(of_it).map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_family_of_the_design_is_there_from_the_start() {
    let text = render(&Snapshot::default(), Format::Text);
    for name in DESIGN.split(' ') {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name} is missing");
    }
}

/// The families of `metrics/security.rs` before anything has happened: every label is there.
#[test]
fn security_labels_are_there_from_the_start() {
    let text = render(&Snapshot::default(), Format::Text);
    for sample in [
        r#"no_auth_failures_total{method="bearer",reason="missing"} 0"#,
        r#"no_auth_failures_total{method="bearer",reason="revoked"} 0"#,
        r#"no_rbac_denials_total{permission="tasks:control"} 0"#,
        r#"no_rbac_decisions_total{permission="admin:shutdown",decision="denied"} 0"#,
        r#"no_security_violations_total{kind="outbound"} 0"#,
        r#"no_security_violations_total{kind="forged_token"} 0"#,
        r#"no_security_violations_total{kind="revoked_token"} 0"#,
        r#"no_suspicious_activity_total{kind="failure_burst"} 0"#,
        r#"no_suspicious_activity_total{kind="task_probing"} 0"#,
        r#"no_rate_limited_total{limit="address"} 0"#,
        r#"no_rate_limited_total{limit="principal"} 0"#,
        r#"no_rate_limited_total{limit="failures"} 0"#,
        "no_audit_lines_total 0",
        "no_audit_suppressed_total 0",
        "no_audit_errors_total 0",
    ] {
        assert!(text.contains(&format!("{sample}\n")), "{sample} is missing");
    }
}

#[test]
fn names_and_labels_follow_the_rules() {
    let mut seen = BTreeSet::new();
    for family in FAMILIES {
        let name = family.name;
        assert!(seen.insert(name), "{name} twice");
        assert_eq!(family.kind == Type::Counter, name.ends_with("_total"), "{name}");
        assert_eq!(family.kind == Type::Info, name.ends_with("_info"), "{name}");
        assert!(!family.help.is_empty(), "{name} has no meaning");
        for label in family.labels {
            let is_bounded = !["task", "tenant", "principal", "subject", "path"].contains(label);
            assert!(is_bounded, "{name} has label {label}");
        }
    }
}

#[test]
fn samples_in_text() {
    let text = render(&snapshot(), Format::Text);
    let families = [
        "no_node_ready",
        "no_health_check",
        "no_tls_certificate",
        "no_shard_heartbeat",
        "no_task_queue_age",
        "no_http_requests_total",
        "no_http_request_duration_seconds",
        "no_agent_pool_",
        "no_task_queue_depth",
        "no_loop_efficiency",
        "no_model_cost",
        "no_commands_refused",
        "no_ring_depth",
        "no_task_cost",
        "no_build",
    ];
    let shown: String = families.map(|family| lines(&text, family)).concat();
    expect![[r##"
        # HELP no_node_ready 1 when the node takes work.
        # TYPE no_node_ready gauge
        no_node_ready 1
        # HELP no_health_check_failing 1 when a check finds something wrong.
        # TYPE no_health_check_failing gauge
        no_health_check_failing{check="disk"} 0
        no_health_check_failing{check="tls"} 1
        # HELP no_tls_certificate_expiry_seconds When the certificate that is served ends, since 1970; absent without TLS.
        # TYPE no_tls_certificate_expiry_seconds gauge
        no_tls_certificate_expiry_seconds 1800000000
        # HELP no_shard_heartbeat_age_seconds Since a shard's last sign of life.
        # TYPE no_shard_heartbeat_age_seconds gauge
        no_shard_heartbeat_age_seconds{shard="0"} 0.25
        # HELP no_task_queue_age_seconds How long the longest waiting task has been ready to start; 0 when none waits.
        # TYPE no_task_queue_age_seconds gauge
        no_task_queue_age_seconds{shard="0"} 2.5
        # HELP no_http_requests_total HTTP requests answered.
        # TYPE no_http_requests_total counter
        no_http_requests_total{method="POST",route="/v1/tasks",status="202"} 3
        no_http_requests_total{method="POST",route="/v1/tasks",status="other"} 1
        # HELP no_http_request_duration_seconds From the head of a request to its answer, of those that do not ask to wait (wait_ms).
        # TYPE no_http_request_duration_seconds histogram
        no_http_request_duration_seconds_bucket{method="POST",route="/v1/tasks",le="0.001"} 3
        no_http_request_duration_seconds_bucket{method="POST",route="/v1/tasks",le="+Inf"} 4
        no_http_request_duration_seconds_sum{method="POST",route="/v1/tasks"} 0.25
        no_http_request_duration_seconds_count{method="POST",route="/v1/tasks"} 4
        # HELP no_agent_pool_size Slots for running work.
        # TYPE no_agent_pool_size gauge
        no_agent_pool_size 50
        # HELP no_agent_pool_active Slots in use.
        # TYPE no_agent_pool_active gauge
        no_agent_pool_active{agent="a \"quoted\"\\\nname"} 1
        no_agent_pool_active{agent="echo"} 0
        # HELP no_agent_pool_idle Free slots.
        # TYPE no_agent_pool_idle gauge
        no_agent_pool_idle 49
        # HELP no_agent_pool_failed Dead letters kept for inspection.
        # TYPE no_agent_pool_failed gauge
        no_agent_pool_failed{agent="a \"quoted\"\\\nname"} 0
        no_agent_pool_failed{agent="echo"} 0
        # HELP no_agent_pool_healthy_ratio Share of the slots whose shard can acknowledge work.
        # TYPE no_agent_pool_healthy_ratio gauge
        no_agent_pool_healthy_ratio 1
        # HELP no_task_queue_depth Tasks that wait to start.
        # TYPE no_task_queue_depth gauge
        no_task_queue_depth{agent="a \"quoted\"\\\nname",state="scheduled"} 0
        no_task_queue_depth{agent="a \"quoted\"\\\nname",state="queued"} 3
        no_task_queue_depth{agent="echo",state="scheduled"} 0
        no_task_queue_depth{agent="echo",state="queued"} 0
        # HELP no_loop_efficiency_ratio Time deciding and acting, of the time awake.
        # TYPE no_loop_efficiency_ratio gauge
        no_loop_efficiency_ratio{shard="0"} 0.75
        # HELP no_model_cost_usd_total Cost in US dollars.
        # TYPE no_model_cost_usd_total counter
        no_model_cost_usd_total{model="small"} 0.0015
        # HELP no_commands_refused_total Commands refused.
        # TYPE no_commands_refused_total counter
        no_commands_refused_total{reason="queue_full"} 4
        # HELP no_ring_depth Items waiting in a ring.
        # TYPE no_ring_depth gauge
        no_ring_depth{shard="0",ring="net"} 2
        # HELP no_task_cost_seconds Work by layer, of all tasks accepted: sum by count is the cost of a task. The wall clock's time at work; waiting is not in it.
        # TYPE no_task_cost_seconds summary
        no_task_cost_seconds_sum{layer="net"} 0.000008
        no_task_cost_seconds_count{layer="net"} 4
        no_task_cost_seconds_sum{layer="auth"} 0.000004
        no_task_cost_seconds_count{layer="auth"} 4
        no_task_cost_seconds_sum{layer="ring"} 0.000002
        no_task_cost_seconds_count{layer="ring"} 4
        no_task_cost_seconds_sum{layer="render"} 0.000001
        no_task_cost_seconds_count{layer="render"} 4
        no_task_cost_seconds_sum{layer="decide"} 0.00002
        no_task_cost_seconds_count{layer="decide"} 4
        no_task_cost_seconds_sum{layer="act"} 0.00001
        no_task_cost_seconds_count{layer="act"} 4
        no_task_cost_seconds_sum{layer="commit"} 0.000016
        no_task_cost_seconds_count{layer="commit"} 4
        no_task_cost_seconds_sum{layer="index"} 0.000004
        no_task_cost_seconds_count{layer="index"} 4
        # HELP no_build_info The version that runs.
        # TYPE no_build_info gauge
        no_build_info{version="0.1.0"} 1
    "##]]
    .assert_eq(&shown);
}

#[test]
fn openmetrics_names_counters_without_total_and_ends_with_eof() {
    let text = render(&snapshot(), Format::OpenMetrics);
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains("# TYPE no_http_requests counter\n"), "{text}");
    assert!(text.contains("# TYPE no_build info\n"));
    assert!(text.contains("no_http_requests_total{method=\"POST\""));
    let id = format!("{:032x}", 0xabc);
    let infinite = "route=\"/v1/tasks\",le=\"+Inf\"} 4";
    let exemplar = format!("{infinite} # {{trace_id=\"{id}\"}} 0.125 1700000000.500\n");
    assert!(text.contains(&exemplar), "{text}");
    assert!(!render(&snapshot(), Format::Text).contains("trace_id"), "it has no place there");
    assert!(text.contains("no_task_queue_wait_seconds_bucket{agent=\"echo\",le=\"1.0\"} 0\n"));
}

#[test]
fn buckets_grow_and_end_with_the_count() {
    let text = render(&snapshot(), Format::Text);
    let mut last = (String::new(), 0);
    for line in text.lines().filter(|line| line.contains("_bucket{")) {
        let (series, count) = line.rsplit_once(' ').expect("value");
        let series = series.split("le=").next().expect("label").to_owned();
        let count: u64 = count.parse().expect("count");
        assert!(last.0 != series || last.1 <= count, "{line}");
        last = (series, count);
    }
}

/// What a scrape shows of a shard that holds so many tasks, each of another tenant, fairness key
/// and tag.
fn scraped(tasks: u64) -> String {
    let now = Now { wall: Millis(1_000_000), mono: Mono(1) };
    let mut machine = Machine::new(ShardId(0), Limits::default(), now, 1);
    let agent = Arc::new(Agent::of_kind(Kind::Worker));
    machine.know_agent(&"work".into(), Some((agent, false, Arc::new(Permits::new(None)))));
    machine.load(now, PartitionId(0), Loaded::default(), LastStop::Clean);
    let reply = ReplyTo { net: NetId(0), token: Token(1) };
    for number in 0..tasks {
        let name = |what: &str| Arc::from(format!("{what}-{number}"));
        let new = NewTask {
            fairness_key: Some(name("key")),
            tags: Some([format!("tag-{number}").into()].into()),
            ..NewTask::plain(
                TaskId::new(now.wall.0, number, PartitionId(0)),
                "work".into(),
                name("tenant"),
                Payload::null(),
            )
        };
        let (tasks, when) = (vec![new], AnswerWhen::Durable);
        machine.decide(now, Command::Submit { reply, tasks, when });
        machine.go_on_all(now);
        machine.close(Seq(number));
    }
    machine.decide(now, Command::Stats { reply });
    let Some(Effect::Reply { answer: Answer::Stats(stats), .. }) = machine.take_at_once().pop()
    else {
        panic!("figures were asked for");
    };
    assert_eq!(stats.live_tasks, tasks);
    let named = ["work".into()];
    let (http, auth) = (HttpStats::default(), AuthCounts::default());
    let (cost, process) = (CostCounts::default(), ProcessInfo::default());
    render(&Snapshot::new(vec![*stats], named, http, auth, cost, process), Format::Text)
}

#[test]
fn a_scrape_is_as_long_with_ten_thousand_tasks_as_with_ten() {
    let series = |text: &str| -> Vec<String> {
        let names = text.lines().map(|line| match line.starts_with('#') {
            true => line.to_owned(),
            false => line.rsplit_once(' ').expect("a value").0.to_owned(),
        });
        names.collect()
    };
    assert_eq!(series(&scraped(10)), series(&scraped(10_000)));
}

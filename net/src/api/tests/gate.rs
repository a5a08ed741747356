//! Limits and the audit log through the router.

use crate::audit::{self, AuditInbox};
use crate::gate::{Gate, Limited, Limits, Rates};
use crate::problem::Code;
use crate::proxies::{ForwardedHeader, Proxies};
use crate::stats::SecurityFigures;
use crate::testing::{Answered, World};
use no_auth::audit::{Decision, Entry};
use no_auth::limit::Rate;
use no_engine::limits::RING_LEN;
use std::sync::Arc;

/// A world behind a trusted proxy on loopback, so that a request may come from anywhere.
fn world(asks: Option<(Rate, Rate)>, gate: Gate) -> World {
    let proxies = Proxies::parse(&["127.0.0.1"], ForwardedHeader::XForwardedFor).expect("a list");
    let rates = Rates { asks, failures: Rate::new(1, 3) };
    World::with_gate(2, RING_LEN, Gate { limits: Arc::new(Limits::new(rates, proxies)), ..gate })
}

async fn get(world: &World, token: &str, from: &str) -> Answered {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("x-forwarded-for", from)];
    world.call_with("GET", "/v1/agents/work", "", &headers).await
}

fn figures(world: &World) -> SecurityFigures {
    let mut figures = SecurityFigures::default();
    world.core.stats.security.add_to(&mut figures);
    figures
}

#[tokio::test(start_paused = true)]
async fn a_principal_is_limited_wherever_it_asks_from_and_told_what_is_left() {
    let world = world(Some((Rate::new(1, 3), Rate::new(1, 5))), Gate::default());
    world
        .run(async {
            for left in [2, 1, 0] {
                let answered = get(&world, "t:viewer", &format!("192.0.2.{left}")).await;
                assert_eq!(answered.status, 200);
                let policy = r#""address";q=5;w=5, "principal";q=3;w=3"#;
                assert_eq!(answered.headers["ratelimit-policy"], policy);
                let used = 3 - left;
                let standing = format!(r#""address";r=4;t=1, "principal";r={left};t={used}"#);
                assert_eq!(answered.headers["ratelimit"], standing);
            }
            let refused = get(&world, "t:viewer", "192.0.2.9").await;
            assert_eq!(refused.problem(), "429 over_limit -");
            assert_eq!(refused.headers["retry-after"], "1");
            assert!(refused.headers["ratelimit"].to_str().expect("text").contains("r=0;t=3"));
            assert_eq!(get(&world, "u:viewer", "192.0.2.9").await.status, 200);
            assert_eq!(figures(&world).limited, [0, 1, 0]);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_address_is_limited_before_it_is_known_who_asks() {
    let world = world(Some((Rate::new(1, 100), Rate::new(1, 2))), Gate::default());
    world
        .run(async {
            assert_eq!(get(&world, "t:viewer", "192.0.2.1").await.status, 200);
            let unknown =
                world.call_with("GET", "/nothing", "", &[("x-forwarded-for", "192.0.2.1")]);
            assert_eq!(unknown.await.status, 404);
            assert_eq!(get(&world, "bad", "192.0.2.1").await.problem(), "429 over_limit -");
            let unknown =
                world.call_with("GET", "/nothing", "", &[("x-forwarded-for", "192.0.2.1")]);
            assert_eq!(unknown.await.status, 429);
            assert_eq!(get(&world, "t:viewer", "192.0.2.2").await.status, 200);
            assert_eq!(figures(&world).limited, [2, 0, 0]);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn guessing_is_slow_although_limits_are_off_and_who_is_known_passes() {
    let remembers = Box::new(|bearer: &str, _| bearer == "t:admin");
    let world = world(None, Gate { remembers: Some(remembers), ..Gate::default() });
    world
        .run(async {
            let (guesser, neighbour) = ("2001:db8::1", "2001:db8::2");
            for _ in 0..3 {
                let refused = get(&world, "bad", guesser).await;
                assert_eq!(refused.problem(), "401 unauthenticated -");
                assert!(!refused.headers.contains_key("ratelimit"));
            }
            for token in ["bad", "t:viewer"] {
                let refused = get(&world, token, neighbour).await;
                assert_eq!(refused.problem(), "429 over_limit -", "{token}");
                assert_eq!(refused.headers["retry-after"], "1");
            }
            assert_eq!(get(&world, "t:admin", guesser).await.status, 200);
            assert_eq!(get(&world, "t:viewer", "2001:db8:0:1::1").await.status, 200);
            let headers = [("x-forwarded-for", guesser)];
            let nobody = world.call_with("GET", "/v1/agents/work", "", &headers).await;
            assert_eq!(nobody.status, 401, "without a proof there is nothing to guess");
            let figures = figures(&world);
            assert_eq!((figures.limited, figures.suspicious), ([0, 0, 2], [1, 0]));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn many_unknown_tasks_of_one_address_are_noticed() {
    let world = world(None, Gate::default());
    world
        .run(async {
            for _ in 0..102 {
                let uri = "/v1/tasks/0197e7a4-0000-7000-8000-000000000001";
                assert_eq!(world.call("GET", uri, "").await.status, 404);
            }
            assert!(0 < figures(&world).suspicious[1]);
        })
        .await;
}

#[test]
fn health_is_never_limited_and_scrapes_only_from_elsewhere() {
    for pattern in ["/health", "/health/live", "/health/ready", "/health/detailed"] {
        assert_eq!(Limited::of_pattern(pattern), Limited::Never);
    }
    assert_eq!(Limited::of_pattern("/metrics"), Limited::FromElsewhere);
    for pattern in ["/healthy", "/v1/tasks", "/metrics/more"] {
        assert_eq!(Limited::of_pattern(pattern), Limited::Always);
    }
}

/// Plays the thread that writes: answers control calls, and gives what came.
fn writer(inbox: AuditInbox, is_kept: bool) -> std::thread::JoinHandle<Vec<Entry>> {
    std::thread::spawn(move || {
        let mut entries = Vec::new();
        for order in &inbox.orders {
            inbox.taken(&order);
            entries.push(order.entry);
            if let Some(done) = order.done {
                let _ = done.send(is_kept);
            }
        }
        entries
    })
}

fn shown(entry: &Entry) -> String {
    let who = entry.who.as_ref();
    let who = who.map_or("-".to_owned(), |who| format!("{}/{}", who.tenant, who.subject));
    let from = entry.from.map_or("-".to_owned(), |from| from.to_string());
    let decision = match entry.decision {
        Decision::Allowed => "allowed",
        Decision::Denied => "denied",
    };
    format!("{who} {from} {} {decision} {} ({})", entry.what, entry.reason, entry.on)
}

#[tokio::test(start_paused = true)]
async fn denials_and_control_calls_are_kept_and_nothing_secret_is() {
    let (link, inbox) = audit::link();
    let writer = writer(inbox, true);
    let id = {
        let world = world(None, Gate { audit: Some(link), ..Gate::default() });
        world
            .run(async {
                let id = super::submit(&world, r#"{"agent":"work","input":"payload"}"#).await;
                let cancel = format!("/v1/tasks/{id}/cancel?");
                assert_eq!(get(&world, "s3cret", "192.0.2.1").await.status, 401);
                let viewer = [("authorization", "Bearer t:viewer")];
                let denied = world.call_with("POST", &cancel, "", &viewer).await;
                assert_eq!(denied.status, 403);
                assert_eq!(world.call("POST", &cancel, "").await.status, 200);
                assert_eq!(world.call("GET", "/v1/tasks?limit=1", "").await.status, 200);
                let body = r#"{"kind":"worker"}"#;
                assert_eq!(world.call("PUT", "/v1/agents/mine", body).await.status, 200);
                id
            })
            .await
    };
    let kept: Vec<String> = writer.join().expect("no panic").iter().map(shown).collect();
    assert_eq!(
        kept,
        [
            "- 192.0.2.1 auth.denied denied malformed (GET /v1/agents/work)".to_owned(),
            format!(
                "t/somebody 127.0.0.1 rbac.denied denied tasks:control (POST /v1/tasks/{id}/cancel)"
            ),
            format!("t/somebody 127.0.0.1 task.cancel allowed tasks:control ({id})"),
            "t/somebody 127.0.0.1 agent.put allowed agents:write (mine)".to_owned(),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn without_its_line_a_control_call_is_not_made() {
    let (link, inbox) = audit::link();
    let writer = writer(inbox, false);
    {
        let world = world(None, Gate { audit: Some(link), ..Gate::default() });
        world
            .run(async {
                let id = super::submit(&world, r#"{"agent":"work"}"#).await;
                let refused = world.call("POST", &format!("/v1/tasks/{id}/cancel"), "").await;
                assert_eq!(refused.problem(), "503 audit_failed -");
                assert_eq!(refused.headers["retry-after"], "30");
                let task = world.call("GET", &format!("/v1/tasks/{id}"), "").await.json();
                assert_eq!(task["state"], "queued");
                assert_eq!(world.count("Cancel"), 0);
                assert_eq!(Code::AuditFailed.parts().0, 503);
            })
            .await;
    }
    assert_eq!(writer.join().expect("no panic").len(), 1);
}

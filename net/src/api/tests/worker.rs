//! The worker protocol through the router.

use super::submit;
use crate::testing::{Answered, World, until};
use std::time::Duration;

const LEASE: &str = "/v1/worker/lease";

fn leases(answered: &Answered) -> Vec<serde_json::Value> {
    answered.json()["leases"].as_array().unwrap_or_else(|| panic!("{}", answered.text)).clone()
}

#[tokio::test(start_paused = true)]
async fn a_lease_gathers_over_shards_and_reports_find_their_way() {
    let world = World::new(2);
    world
        .run(async {
            for i in 0..12 {
                submit(&world, &format!(r#"{{"agent":"work","input":{i}}}"#)).await;
            }
            let body = r#"{"agents":["work"],"max_tasks":10}"#;
            let got = leases(&world.call("POST", LEASE, body).await);
            assert_eq!(got.len(), 10);
            assert_eq!(got[0]["attempt"], 1);
            assert_eq!(got[0]["steps"], serde_json::json!([]));
            assert!(got.iter().all(|lease| lease["expires_at"].is_string()));

            let lease = |i: usize| got[i]["lease"].as_str().unwrap_or("").to_owned();
            let beat = format!(r#"{{"lease":"{}","lease_ms":1000}}"#, lease(0));
            let beaten = world.call("POST", "/v1/worker/heartbeat", &beat).await;
            assert_eq!(
                beaten.text,
                r#"{"cancelled":false,"expires_at":"2025-11-25T02:38:50.007Z"}"#
            );
            let many: Vec<_> =
                (0..10).map(|i| format!(r#"{{"lease":"{}","output":{i}}}"#, lease(i))).collect();
            let mut many = many.join(",");
            many += r#",{"lease":"junk"}"#;
            let many = format!(" [{many}]");
            let done = world.call("POST", "/v1/worker/complete", &many).await;
            let rows = done.json();
            assert!((0..10).all(|i| rows[i]["status"] == 200), "{}", done.text);
            assert_eq!(rows[10]["status"], 422);
            assert_eq!(rows[10]["problem"]["pointer"], "/10/lease");
            assert!(world.count("Report") <= 3, "one command for each shard");
            for (i, lease) in got.iter().enumerate() {
                let uri = format!("/v1/tasks/{}", lease["task"].as_str().unwrap_or(""));
                assert_eq!(world.call("GET", &uri, "").await.json()["output"], i);
            }
            let late = world.call("POST", "/v1/worker/heartbeat", &beat).await;
            assert_eq!(late.problem(), "409 lease_lost -");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_waiting_worker_gets_what_comes_and_leaves_nothing_behind() {
    let world = World::new(2);
    world
        .run(async {
            let body = r#"{"agents":["work"],"wait_ms":60000}"#;
            let begun = tokio::time::Instant::now();
            let come = async {
                // Each shard was asked in vain, and then told to remember the asker.
                until(|| world.count("Lease") == 4).await;
                submit(&world, r#"{"agent":"work"}"#).await
            };
            let (got, id) = tokio::join!(world.call("POST", LEASE, body), come);
            assert_eq!(leases(&got)[0]["task"], id);
            assert!(begun.elapsed() < Duration::from_secs(1));

            let body = r#"{"agents":["work"],"wait_ms":50}"#;
            let none = world.call("POST", LEASE, body).await;
            assert_eq!(none.text, r#"{"leases":[]}"#);
            world.turn().await;
            assert_eq!(world.count("Unlease"), 3, "one from the first wait, two from the second");
            assert!(world.core.pending.is_empty());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_and_a_step_are_taken() {
    let world = World::new(2);
    world
        .run(async {
            submit(&world, r#"{"agent":"work"}"#).await;
            let got = leases(&world.call("POST", LEASE, r#"{"agents":["work"]}"#).await);
            let lease = got[0]["lease"].as_str().unwrap_or("");
            let step = format!(r#"{{"lease":"{lease}","name":"fetch","result":{{"a":1}}}}"#);
            assert_eq!(world.call("POST", "/v1/worker/step", &step).await.text, "{}");
            let fail = format!(
                r#"{{"lease":"{lease}","retryable":false,"error":{{"code":"no","message":"x"}}}}"#
            );
            assert_eq!(world.call("POST", "/v1/worker/fail", &fail).await.status, 200);
            let uri = format!("/v1/tasks/{}", got[0]["task"].as_str().unwrap_or(""));
            assert_eq!(world.call("GET", &uri, "").await.json()["error"]["code"], "no");
        })
        .await;
}

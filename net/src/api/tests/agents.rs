//! Agents through the router: defined, paused, deleted, counted.

use super::submit;
use crate::testing::World;

#[tokio::test(start_paused = true)]
async fn an_agent_is_kept_then_told_then_known() {
    let world = World::new(2);
    world
        .run(async {
            let body = r#"{"kind":"model","model":"small","max_concurrency":2}"#;
            let put = world.call("PUT", "/v1/agents/helper", body).await;
            assert_eq!(put.status, 200, "{}", put.text);
            let seen = world.seen.borrow().join(" ");
            assert!(seen.starts_with("KeepAgent SetAgent SetAgent"), "{seen}");
            expect_test::expect![[r#"{"name":"helper","kind":"model","max_concurrency":2,"retry":{"base_ms":200,"factor":2.0,"cap_ms":60000},"budget":{},"model":"small","paused":false,"builtin":false,"live":{"scheduled":0,"queued":0,"running":0,"waiting":0,"failed":0}}"#]]
            .assert_eq(&put.text);
            let paused = world.call("POST", "/v1/agents/helper/pause", "").await;
            assert_eq!(paused.json()["paused"], true);
            let again = world.call("PUT", "/v1/agents/helper", body).await;
            assert_eq!(again.json()["paused"], true, "a new definition leaves the pause");
            let resumed = world.call("POST", "/v1/agents/helper/resume", "").await;
            assert_eq!(resumed.json()["paused"], false);
            assert_eq!(world.call("DELETE", "/v1/agents/helper", "").await.status, 204);
            let gone = world.call("POST", "/v1/tasks", r#"{"agent":"helper"}"#).await;
            assert_eq!(gone.problem(), "404 agent_unknown -");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn live_tasks_are_counted_and_keep_their_agent() {
    let world = World::new(2);
    world
        .run(async {
            let id = submit(&world, r#"{"agent":"work"}"#).await;
            let list = world.call("GET", "/v1/agents", "").await.json();
            let names: Vec<_> =
                (0..3).map(|i| list["items"][i]["name"].as_str().unwrap_or("")).collect();
            assert_eq!(names, ["echo", "sleep", "work"]);
            assert_eq!(list["items"][2]["live"]["queued"], 1);
            let refused = world.call("DELETE", "/v1/agents/work", "").await;
            assert_eq!(refused.problem(), "409 agent_in_use -");
            world.call("POST", &format!("/v1/tasks/{id}/cancel"), "").await;
            assert_eq!(world.call("DELETE", "/v1/agents/work", "").await.status, 204);
        })
        .await;
}

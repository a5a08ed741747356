//! Event streams: each event once, and an end for every stream.

use super::submit;
use crate::body::OutBody;
use crate::testing::{World, stop, until};
use http_body_util::BodyExt;
use no_engine::event::Event;
use no_engine::id::{Step, TaskId};
use no_engine::payload::Payload;
use std::time::Duration;

const ADMIN: (&str, &str) = ("authorization", "Bearer t:admin");

/// Everything until the stream ends.
async fn rest(body: OutBody) -> String {
    let bytes = body.collect().await.expect("infallible").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The ids and names of frames.
fn frames(text: &str) -> Vec<String> {
    let field = |line: &str| {
        let id = line.strip_prefix("id: ").map(str::to_owned);
        id.or_else(|| line.strip_prefix("event: ").map(str::to_owned))
    };
    text.lines().filter_map(field).collect()
}

async fn open(world: &World, id: &str, headers: &[(&str, &str)]) -> OutBody {
    let response = world.response("GET", &format!("/v1/tasks/{id}/events"), "", headers).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response.into_body()
}

#[tokio::test(start_paused = true)]
async fn history_then_live_each_once_to_the_end() {
    let world = World::new(2);
    world
        .run(async {
            let id = submit(&world, r#"{"agent":"sleep","input":{"ms":5}}"#).await;
            let task: TaskId = id.parse().expect("an id");
            world.happens(task, Event::Queued { ready_seq: 1 });
            world.happens(task, Event::Woken);
            let body = open(&world, &id, &[ADMIN]).await;
            let more = async {
                until(|| world.count("Subscribe") == 1 && !world.core.deltas.is_idle()).await;
                world.core.deltas.publish(task, Step(1), "hi");
                world.happens(task, Event::Woken);
                // Time itself is what is waited for: the heartbeat's.
                tokio::time::sleep(Duration::from_secs(16)).await;
                world.happens(task, Event::Succeeded { output: Payload::inline(b"{\n}") });
            };
            let (text, ()) = tokio::join!(rest(body), more);
            let expected = ["1", "queued", "2", "woken", "3", "woken", "delta", "4", "succeeded"];
            assert_eq!(frames(&text), expected, "{text}");
            assert!(text.contains("\n:\n\n"), "a heartbeat: {text}");
            assert!(text.ends_with(
                "id: 4\nevent: succeeded\ndata: {\"n\":4,\"at\":\"2025-11-25T02:38:49.007Z\",\
                 \"event\":\"succeeded\",\"output\":{ }}\n\n"
            ));
            assert_eq!(world.count("Unsubscribe"), 0);

            let headers = [ADMIN, ("last-event-id", "2")];
            let body = open(&world, &id, &headers).await;
            assert_eq!(frames(&rest(body).await), ["3", "woken", "4", "succeeded"]);
            assert!(world.core.pending.is_empty());
            assert!(world.core.deltas.is_idle());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_client_or_the_node() {
    let world = World::new(2);
    world
        .run(async {
            let id = submit(&world, r#"{"agent":"sleep","input":{"ms":5}}"#).await;
            let body = open(&world, &id, &[ADMIN]).await;
            until(|| world.count("Subscribe") == 1).await;
            drop(body);
            until(|| world.count("Unsubscribe") == 1).await;

            let body = open(&world, &id, &[ADMIN]).await;
            stop(&world);
            assert_eq!(rest(body).await, ": nO\n\n");
            until(|| world.count("Unsubscribe") == 2).await;
            assert!(world.core.pending.is_empty());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_cut_off() {
    let world = World::new(2);
    world
        .run(async {
            let id = submit(&world, r#"{"agent":"sleep","input":{"ms":5}}"#).await;
            let task: TaskId = id.parse().expect("an id");
            let body = open(&world, &id, &[ADMIN]).await;
            until(|| world.count("Subscribe") == 1).await;
            for _ in 0..100 {
                world.happens(task, Event::Woken);
            }
            let begun = tokio::time::Instant::now();
            until(|| world.count("Unsubscribe") == 1).await;
            assert!(begun.elapsed() <= Duration::from_secs(31), "nothing taken for 30 s");
            assert!(world.core.pending.is_empty());
            let text = rest(body).await;
            assert!(frames(&text).len() < 200, "it has what fitted, and the rest by its last id");
        })
        .await;
}

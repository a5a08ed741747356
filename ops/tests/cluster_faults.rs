//! Nodes that share a database, under load, while one of them or what they stand on fails: what was
//! acknowledged ends, once, and a node that lost its place commits nothing more.
//!
//! A round counts only when the load went on through it.

mod e2e;
#[path = "redis/server.rs"]
#[expect(dead_code, reason = "each test binary uses its own part")]
mod server;

use e2e::cluster::{
    Load, NAMES, SPREAD, await_said, check, homes, homes_with, homes_with_ways, owner_of, start,
};
use e2e::postgres::Postgres;
use e2e::{Dice, Node};
use serde_json::json;
use server::Redis;
use std::time::Instant;

/// Tasks that must be taken before, during and after a fault.
const SOME: u64 = 30;

/// Faults of one run of [`one_fault_after_the_other`], unless FAULTS says more.
const FAULTS: u64 = 5;

/// Who has all partitions when that node is away.
fn spread_without(place: usize) -> String {
    let others: Vec<&str> = (0..3).filter(|other| *other != place).map(|i| NAMES[i]).collect();
    format!("{}:32 {}:32", others[0], others[1])
}

const EVEN: &str = "a:22 b:21 c:21";

/// A number that the environment may say.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// What a failing round is run again with.
fn seed() -> u64 {
    number("SEED", 7)
}

#[test]
fn a_killed_nodes_partitions_are_taken_over() {
    let Some(postgres) = Postgres::start() else { return };
    let homes = homes(&postgres);
    let [a, b, c] = start(&postgres, &homes);
    let parked = a.submit(&json!({"agent": "sleep", "input": {"ms": 1_500}}));
    assert_eq!(owner_of(&postgres, &parked), 0, "without a key it stays");
    let load = Load::start([&a, &b, &c], seed());
    load.await_more(SOME);
    a.kill9();
    let killed = Instant::now();
    await_said(&postgres, SPREAD, &spread_without(0));
    eprintln!("taken over {} ms after the kill", killed.elapsed().as_millis());
    load.await_more(SOME);
    assert_eq!(c.succeeded(&parked)["state"], "succeeded", "its timer goes on elsewhere");
    let a = homes[0].start();
    load.turn(0, &a);
    await_said(&postgres, SPREAD, EVEN);
    load.await_more(SOME);
    let taken = load.stop();
    postgres.says(&format!("DELETE FROM tasks WHERE id = '{parked}'"));
    postgres.says(&format!("DELETE FROM events WHERE task = '{parked}'"));
    check(&postgres, &b, &taken);
    [a, b, c].into_iter().for_each(Node::stop);
}

#[test]
fn a_node_that_slept_past_its_lease_commits_nothing_and_ends() {
    let Some(postgres) = Postgres::start() else { return };
    let homes = homes(&postgres);
    let [a, mut b, c] = start(&postgres, &homes);
    let load = Load::start([&a, &b, &c], seed());
    load.await_more(SOME);
    b.pause();
    let paused = Instant::now();
    await_said(&postgres, SPREAD, &spread_without(1));
    eprintln!("taken over {} ms after the pause", paused.elapsed().as_millis());
    load.await_more(SOME);
    b.go_on();
    let status = b.exited();
    assert_eq!(status.code(), Some(74), "{}", b.log().text());
    let why = b.log().text();
    assert!(why.contains("fence is stale") || why.contains("lost its place"), "{why}");
    let b = homes[1].start();
    load.turn(1, &b);
    await_said(&postgres, SPREAD, EVEN);
    load.await_more(SOME);
    check(&postgres, &a, &load.stop());
    [a, b, c].into_iter().for_each(Node::stop);
}

#[test]
fn a_node_that_drains_hands_over_and_no_request_fails() {
    let Some(postgres) = Postgres::start() else { return };
    let homes = homes(&postgres);
    let [a, b, mut c] = start(&postgres, &homes);
    let looped = c.submit(&json!({"agent": "sleep", "input": {"ms": 600_000}}));
    let load = Load::start([&a, &b, &a], seed());
    load.await_more(SOME);
    c.terminate();
    assert_eq!(c.exited().code(), Some(0), "{}", c.log().text());
    await_said(&postgres, SPREAD, &spread_without(2));
    assert_eq!(postgres.says("SELECT count(*) FROM nodes"), "2", "it has left");
    load.await_more(SOME);
    a.order(&format!("/v1/tasks/{looped}/cancel")).expect(200);
    postgres.says(&format!("DELETE FROM tasks WHERE id = '{looped}'"));
    postgres.says(&format!("DELETE FROM events WHERE task = '{looped}'"));
    check(&postgres, &b, &load.stop());
    [a, b].into_iter().for_each(Node::stop);
}

#[test]
fn without_redis_tasks_go_on() {
    let Some(postgres) = Postgres::start() else { return };
    let Some(mut redis) = Redis::started() else { return };
    let more = json!({
        "redis": {"host": redis.socket()},
        "security": {"rateLimit": {"enabled": true}}
    });
    let [a, b, c] = start(&postgres, &homes_with(&postgres, &more));
    let load = Load::start([&a, &b, &c], seed());
    load.await_more(SOME);
    redis.says(&["FLUSHALL"]);
    load.await_more(SOME);
    redis.kill();
    load.await_more(SOME);
    redis.start();
    load.await_more(SOME);
    check(&postgres, &a, &load.stop());
    [a, b, c].into_iter().for_each(Node::stop);
}

/// Kills, pauses, cuts, drains and database restarts in an order that the seed says.
#[test]
fn one_fault_after_the_other() {
    let Some(postgres) = Postgres::start() else { return };
    let (homes, ways) = homes_with_ways(&postgres);
    let mut nodes = start(&postgres, &homes).map(Some);
    let mut dice = Dice::new(seed());
    let load = Load::start(nodes.each_ref().map(running), seed());
    for fault in 0..number("FAULTS", FAULTS) {
        load.await_more(SOME);
        let place = dice.below(3) as usize;
        let kind = dice.below(5);
        eprintln!("SEED={} fault {fault}: {kind} at {}", seed(), NAMES[place]);
        let again = |nodes: &mut [Option<Node>; 3], end: fn(Node)| {
            end(nodes[place].take().expect("it runs"));
            nodes[place] = Some(homes[place].start());
        };
        match kind {
            0 => again(&mut nodes, Node::kill9),
            1 => {
                running(&nodes[place]).pause();
                await_said(&postgres, SPREAD, &spread_without(place));
                load.await_more(SOME);
                running(&nodes[place]).go_on();
                again(&mut nodes, lost);
            }
            2 => {
                ways[place].cut();
                await_said(&postgres, SPREAD, &spread_without(place));
                load.await_more(SOME);
                ways[place].mend();
                again(&mut nodes, lost);
            }
            3 => again(&mut nodes, Node::stop),
            _ => {
                postgres.kill();
                postgres.start_again();
            }
        }
        load.turn(place, running(&nodes[place]));
        load.await_more(SOME);
        await_said(&postgres, SPREAD, EVEN);
    }
    load.await_more(SOME);
    check(&postgres, running(&nodes[0]), &load.stop());
    nodes.into_iter().flatten().for_each(Node::stop);
}

fn running(node: &Option<Node>) -> &Node {
    node.as_ref().expect("it runs")
}

/// A node whose partitions are others' by now ends by itself.
fn lost(mut node: Node) {
    assert_eq!(node.exited().code(), Some(74), "{}", node.log().text());
}

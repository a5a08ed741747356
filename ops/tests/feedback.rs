//! What people say of results: kept once it is answered, one score for each task, and shown as an
//! index for a day.

mod e2e;

use e2e::postgres::Postgres;
use e2e::{Home, Node};
use serde_json::{Value, json};

/// The satisfaction with an agent, as a scrape shows it.
fn index(node: &Node, agent: &str) -> Option<f64> {
    let text = node.get("/metrics").expect(200).text;
    let start = format!("no_customer_satisfaction_index{{agent=\"{agent}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&start))?;
    Some(value.parse().expect("a number"))
}

fn scores_survive_a_kill(home: &Home) {
    let node = home.start();
    let say =
        |node: &Node, id: &str, body: &Value| node.post(&format!("/v1/tasks/{id}/feedback"), body);
    assert_eq!(index(&node, "echo"), None, "nothing was said yet");
    let ids: Vec<String> =
        (0..3).map(|i| node.submit(&json!({"agent": "echo", "input": i}))).collect();
    ids.iter().for_each(|id| drop(node.succeeded(id)));
    for (id, score) in [(&ids[0], 1), (&ids[1], 5), (&ids[0], 3)] {
        assert_eq!(say(&node, id, &json!({"score": score})).ok(200)["id"], **id);
    }
    assert_eq!(index(&node, "echo"), Some(0.75), "3 and 5: the later score counts");
    for bad in [json!({"score": 0}), json!({"score": 6}), json!({"score": 2.5}), json!({})] {
        say(&node, &ids[2], &bad).problem(422, "invalid");
    }
    say(&node, &ids[2], &json!({"score": 2, "why": "x"})).problem(422, "invalid");
    let parked = node.submit(&json!({"agent": "sleep", "input": {"ms": 600_000}}));
    say(&node, &parked, &json!({"score": 2})).problem(409, "wrong_state");
    let other = home.token(&["--role", "operator", "--tenant", "other"]);
    let other = node.with_token(Some(&other));
    let path = format!("/v1/tasks/{}/feedback", ids[2]);
    other.post(&path, &json!({"score": 2})).problem(404, "task_unknown");
    node.kill9();

    let node = home.start();
    assert_eq!(index(&node, "echo"), Some(0.75));
    let url = node.url().to_owned();
    let args = ["task", "feedback", &ids[2], "--score", "1", "--url", &url];
    let token = ["--token", node.token()];
    let output = home.run(&[&args[..], &token[..]].concat());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(index(&node, "echo"), Some(0.5));
    node.stop();
}

#[test]
fn scores_survive_a_kill_in_files() {
    scores_survive_a_kill(&Home::new(json!({})));
}

#[test]
fn scores_survive_a_kill_in_a_database() {
    let Some(postgres) = Postgres::start() else { return };
    let home = Home::new(json!({"database": postgres.config()}));
    postgres.migrate(&home);
    scores_survive_a_kill(&home);
}

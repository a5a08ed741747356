//! Every route × every role, nobody and a bad token × own and another tenant. The rows stand for
//! the table of routes: one that is missing here fails.

use crate::route::Access;
use crate::testing::World;
use no_auth::Role;
use no_auth::role::ROLES;

/// One route: how it is called, and what those who may get, for their own and for another tenant's
/// task. `{id}` is a queued task of tenant `t`.
struct Row {
    method: &'static str,
    pattern: &'static str,
    body: &'static str,
    own: u16,
    other: u16,
}

const fn row(
    method: &'static str,
    pattern: &'static str,
    body: &'static str,
    (own, other): (u16, u16),
) -> Row {
    Row { method, pattern, body, own, other }
}

const TASK: &str = r#"{"agent":"work"}"#;
const JUNK: &str = r#"{"lease":"junk"}"#;

const ROWS: &[Row] = &[
    row("POST", "/v1/tasks", TASK, (202, 202)),
    row("GET", "/v1/tasks", "", (200, 200)),
    row("POST", "/v1/tasks/batch", r#"{"tasks":[{"agent":"work"}]}"#, (200, 200)),
    row("GET", "/v1/tasks/{id}", "", (200, 404)),
    row("GET", "/v1/tasks/{id}/steps", "", (200, 404)),
    row("GET", "/v1/tasks/{id}/events", "", (200, 404)),
    row("POST", "/v1/tasks/{id}/cancel", "", (200, 404)),
    row("POST", "/v1/tasks/{id}/retry", "", (409, 404)),
    // The shard that plays along here takes any resolution.
    row("POST", "/v1/tasks/{id}/resolve", r#"{"outcome":"fail"}"#, (200, 404)),
    row("POST", "/v1/tasks/{id}/feedback", r#"{"score":3}"#, (409, 404)),
    row("POST", "/v1/dead-letters/redrive", "", (200, 200)),
    row("GET", "/v1/agents", "", (200, 200)),
    row("GET", "/v1/agents/{name}", "", (200, 200)),
    row("PUT", "/v1/agents/{name}", r#"{"kind":"worker"}"#, (200, 200)),
    // It has live tasks.
    row("DELETE", "/v1/agents/{name}", "", (409, 409)),
    row("POST", "/v1/agents/{name}/pause", "", (200, 200)),
    row("POST", "/v1/agents/{name}/resume", "", (200, 200)),
    row("POST", "/v1/worker/lease", r#"{"agents":["work"]}"#, (200, 200)),
    row("POST", "/v1/worker/heartbeat", JUNK, (422, 422)),
    row("POST", "/v1/worker/step", r#"{"lease":"junk","name":"x","result":1}"#, (422, 422)),
    row("POST", "/v1/worker/complete", JUNK, (422, 422)),
    row(
        "POST",
        "/v1/worker/fail",
        r#"{"lease":"junk","retryable":true,"error":{"code":"x","message":"y"}}"#,
        (422, 422),
    ),
    // There is no issuer here.
    row("GET", "/auth/login", "", (404, 404)),
    row("POST", "/auth/login", "", (404, 404)),
    row("GET", "/auth/callback", "", (404, 404)),
    row("POST", "/auth/logout", "", (404, 404)),
    row("GET", "/auth/me", "", (200, 200)),
];

/// Routes that change something and are no control calls: work and reports on it, whose history
/// the tasks keep themselves.
const UNKEPT: [(&str, &str); 9] = [
    // They keep lines of their own once they know whom.
    ("POST", "/auth/login"),
    ("POST", "/auth/logout"),
    ("POST", "/v1/tasks"),
    ("POST", "/v1/tasks/batch"),
    ("POST", "/v1/worker/lease"),
    ("POST", "/v1/worker/heartbeat"),
    ("POST", "/v1/worker/step"),
    ("POST", "/v1/worker/complete"),
    ("POST", "/v1/worker/fail"),
];

/// Who asks.
struct Asker {
    token: Option<String>,
    /// The role behind the token, and the tenant; none when it proves nothing.
    proven: Option<(Role, &'static str)>,
}

fn askers() -> Vec<Asker> {
    let unproven = |token: Option<&str>| Asker { token: token.map(str::to_owned), proven: None };
    let mut all = vec![unproven(None), unproven(Some("bad"))];
    for role in ROLES {
        for tenant in ["t", "u"] {
            let token = Some(format!("{tenant}:{}", role.name()));
            all.push(Asker { token, proven: Some((role, tenant)) });
        }
    }
    all
}

fn expected(row: &Row, access: Access, asker: &Asker) -> u16 {
    match (access.permission(), asker.proven) {
        // Open, and asks for a proof all the same.
        (None, None) if row.pattern == "/auth/me" => 401,
        (None, _) => row.own,
        (Some(_), None) => 401,
        (Some(permission), Some((role, _))) if !role.permissions().has(permission) => 403,
        (Some(_), Some((_, "t"))) => row.own,
        (Some(_), Some(_)) => row.other,
    }
}

/// The task of an uncounted submission by tenant `t`, so that each call finds one as it was made.
async fn fresh_task(world: &World) -> String {
    super::submit(world, r#"{"agent":"work"}"#).await
}

#[tokio::test(start_paused = true)]
async fn every_route_answers_each_role_and_tenant_as_it_should() {
    let world = World::new(2);
    let routes: Vec<_> = world
        .router
        .routes()
        .map(|(method, pattern, access)| (method.to_string(), pattern.to_owned(), access))
        .collect();
    assert_eq!(routes.len(), ROWS.len(), "a row without its route");
    world
        .run(async {
            for (method, pattern, access) in &routes {
                let row = ROWS.iter().find(|row| row.method == method && row.pattern == pattern);
                let row = row.unwrap_or_else(|| panic!("{method} {pattern} has no row"));
                for asker in askers() {
                    let id = fresh_task(&world).await;
                    let uri = pattern.replace("{id}", &id).replace("{name}", "work");
                    let token = asker.token.as_deref();
                    let bearer = token.map(|token| format!("Bearer {token}"));
                    let headers: Vec<_> =
                        bearer.iter().map(|text| ("authorization", text.as_str())).collect();
                    // Not read to its end: a stream of events has none.
                    let response = world.response(row.method, &uri, row.body, &headers).await;
                    let expected = expected(row, *access, &asker);
                    assert_eq!(response.status(), expected, "{method} {pattern} as {token:?}");
                }
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn lists_show_the_tasks_of_ones_own_tenant_alone() {
    let world = World::new(2);
    world
        .run(async {
            let id = fresh_task(&world).await;
            let list =
                |token: &'static str| world.call_with("GET", "/v1/tasks", "", token_of(token));
            assert!(list("Bearer t:viewer").await.text.contains(&id));
            assert!(!list("Bearer u:admin").await.text.contains(&id));
            // A worker of another tenant is not given it either.
            let lease = r#"{"agents":["work"],"max_tasks":10}"#;
            let other = token_of("Bearer u:worker");
            let leased = world.call_with("POST", "/v1/worker/lease", lease, other).await;
            assert_eq!(leased.text, r#"{"leases":[]}"#);
        })
        .await;
}

fn token_of(token: &'static str) -> &'static [(&'static str, &'static str)] {
    match token {
        "Bearer t:viewer" => &[("authorization", "Bearer t:viewer")],
        "Bearer u:worker" => &[("authorization", "Bearer u:worker")],
        _ => &[("authorization", "Bearer u:admin")],
    }
}

#[test]
fn every_unsafe_route_is_a_control_call_or_named_as_none() {
    let world = World::new(1);
    let mut verbs = std::collections::BTreeSet::new();
    for (method, pattern, access) in world.router.routes() {
        let is_unkept = UNKEPT.contains(&(method.as_str(), pattern));
        match access {
            Access::Controls(_, verb) => {
                assert!(!is_unkept && method != "GET", "{method} {pattern}");
                assert!(verb.contains('.') && verbs.insert(verb), "{verb}");
            }
            _ => assert!(is_unkept || method == "GET", "{method} {pattern} has no verb"),
        }
    }
}

//! What `no dev` shows: a sample agent whose scripted model calls a real tool over HTTP, which nO
//! itself serves, one task of it to its answer, and what to try next.

use crate::cli::task::watch::line_of;
use crate::client::{Call, Client};
use crate::config::Config;
use crate::error::{Error, Result};
use hyper::{Method, StatusCode};
use no_engine::agent::definition::{Agent, Kind, Tool, ToolEffect, ToolKind};
use no_net::extract::Request;
use no_net::problem::Problem;
use no_net::render::json;
use no_net::route::{Access, Outcome, Router, handler};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;

/// Where the sample tool stands.
const TOOL_PATH: &str = "/demo/tides";
/// High water of three harbours, by the hour; invented, but the same each time.
const TIDES: [(&str, [&str; 2]); 3] =
    [("Brest", ["04:12", "16:37"]), ("Dover", ["11:05", "23:28"]), ("Oban", ["05:50", "18:14"])];
/// How long the patient agent waits, in ms: time enough to kill nO and start it again.
const PATIENCE_MS: u64 = 20_000;

/// The configuration with the sample agents and models added, and their tool allowed.
#[must_use]
pub fn with_sample(config: &Config, address: SocketAddr) -> Config {
    let mut config = config.clone();
    config.security.outbound_allow.push(address.to_string());
    let ask = json!({"tool_calls": [{"name": "tides", "arguments": {"harbour": "Brest"}}]});
    let wait = json!({"tool_calls": [{"name": "wait", "arguments": {"ms": PATIENCE_MS}}]});
    let answer = json!({"text": "High water at Brest is at 04:12 and at 16:37."});
    let scripted = |script: &[&Value]| json!({"provider": "scripted", "script": script});
    config.models.insert("demo".into(), scripted(&[&ask, &answer]));
    config.models.insert("demo-patient".into(), scripted(&[&ask, &wait, &answer]));
    for name in ["demo", "demo-patient"] {
        config.agents.insert(name.into(), Arc::new(agent(name, address)));
    }
    config
}

fn agent(model: &str, address: SocketAddr) -> Agent {
    let parameters = r#"{"type":"object","properties":{"harbour":{"type":"string"}},
        "required":["harbour"]}"#;
    let parameters = serde_json::value::RawValue::from_string(parameters.into());
    let tides = Tool {
        kind: ToolKind::Http,
        name: Some("tides".into()),
        description: Some("High water at a harbour today.".into()),
        url: Some(format!("http://{address}{TOOL_PATH}").into()),
        method: Some("GET".into()),
        effect: Some(ToolEffect::Pure),
        parameters: parameters.ok().map(Arc::from),
    };
    let wait = Tool { kind: ToolKind::Wait, name: None, url: None, method: None, ..tides.clone() };
    let wait = Tool { description: None, parameters: None, effect: None, ..wait };
    Agent {
        model: Some(model.into()),
        system: Some("You tell sailors about tides. Use the tool; do not guess.".into()),
        tools: vec![tides, wait],
        ..Agent::of_kind(Kind::Model)
    }
}

/// Adds the sample tool's route, open like any tool of somebody else.
pub fn mount(router: &mut Router) {
    router.mount(Method::GET, TOOL_PATH, Access::Open, handler(tides));
}

async fn tides(request: Request) -> Outcome {
    let mut query = request.query()?;
    let harbour = query.take("harbour").unwrap_or_default();
    query.done()?;
    let found = TIDES.iter().find(|(name, _)| name.eq_ignore_ascii_case(&harbour));
    let Some((name, times)) = found else {
        let known: Vec<&str> = TIDES.iter().map(|(name, _)| *name).collect();
        let problem = format!("no such harbour; there are {}", known.join(", "));
        return Err(Problem::invalid("?harbour", problem));
    };
    let body = json!({"harbour": name, "high_water": times});
    Ok(json(StatusCode::OK, body.to_string().into_bytes()))
}

/// Runs one task of the sample agent, shows its steps as they come, and says what to try next.
///
/// # Errors
/// When the node that just started does not answer.
pub fn show(config: &Config, address: SocketAddr) -> Result<()> {
    let url = format!("http://{address}");
    let data_dir = &config.engine.data_dir;
    let token_file = data_dir.join(no_auth::local::ADMIN_TOKEN_FILE);
    let client = Client::new(&url, Some(no_auth::Secret::from_file(&token_file)?))?;
    let body = json!({"agent": "demo", "input": "When is high water at Brest today?"});
    let call = Call { body: Some(&body), ..Call::post("/v1/tasks") };
    let task = client.call(&call)?;
    let id = task["id"].as_str().unwrap_or_default().to_owned();
    println!("\nnO listens on {url}");
    println!("store and token are in {}\n", data_dir.display());
    println!("task {id} of agent demo:");
    println!("      {}", body["input"].as_str().unwrap_or_default());
    client.events(&format!("/v1/tasks/{id}/events"), None, |event| {
        let data = serde_json::from_str(&event.data).unwrap_or(Value::Null);
        if let Some(line) = line_of(&event.name, &data).filter(|_| event.name != "submitted") {
            println!("{line}");
        }
        Ok(event.name != "succeeded")
    })?;
    let done = client.call(&Call::get(&format!("/v1/tasks/{id}?wait_ms=10000")))?;
    if done["state"] != "succeeded" {
        let state = done["state"].as_str().unwrap_or("unknown").to_owned();
        return Err(Error::TaskEnded { id, state });
    }
    println!("answer: {}\n", done["output"].as_str().unwrap_or_default());
    say_what_next(&url, &token_file.display().to_string(), &id);
    Ok(())
}

fn say_what_next(url: &str, token_file: &str, id: &str) {
    let program = std::env::current_exe().ok();
    let program = program.map_or_else(|| "no".into(), |path| path.display().to_string());
    let data_dir = token_file.trim_end_matches(no_auth::local::ADMIN_TOKEN_FILE);
    println!("Try next, in another terminal:");
    println!(
        "  curl -s {url}/v1/tasks/{id}/steps -H \"Authorization: Bearer $(cat {token_file})\""
    );
    println!("  {program} task submit demo-patient hello --wait --url {url} --data-dir {data_dir}");
    println!("      and while it waits: kill -9 {}, then start nO again:", std::process::id());
    println!("      the task goes on where it was. Follow it with `no task watch ID`.");
    println!("  put a real model behind the agent: in config/operational.json");
    println!(
        "      {{\"models\": {{\"m\": {{\"provider\": \"openai\", \"model\": \"NAME\",\n        \
         \"baseUrl\": \"https://HOST/v1\", \"apiKeyEnv\": \"MY_KEY\"}}}}}}"
    );
    println!("      and `no agent put NAME @agent.json` with \"model\": \"m\".");
    println!("Ctrl-C ends nO; nothing is lost.\n");
}

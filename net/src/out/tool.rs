//! Tools of kind `http`: one request for one tool call of a model.
//!
//! What the model can mend is a result for the model (a missing argument, a 404); what it cannot
//! (the network, a 5xx) is a failure, which the retry policy takes care of.

use super::Shared;
use super::answer::{self, call_headers, json_body};
use super::client::{self, Reply, Request, Sent};
use super::error::{CallError, status_is_retryable};
use super::template::{Arguments, add_query, fill, names_origin};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use no_engine::agent::definition::{Tool, ToolKind};
use no_engine::command::Outcome;
use no_engine::effect::Call;
use no_engine::limits::OUTPUT_BYTES_MAX;
use no_engine::payload::Payload;
use serde_json::json;
use url::Url;

/// Longest body of a failure that a model is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 64 * 1024;

/// Makes the call.
pub(super) async fn run(
    shared: &Shared,
    call: &Call,
    tool: usize,
    arguments: &Payload,
    sent: &Sent,
) -> Result<Outcome, CallError> {
    let unknown = || CallError::Unconfigured(format!("the agent has no tool {tool}"));
    let tool = call.agent.tools.get(tool).ok_or_else(unknown)?;
    if tool.kind != ToolKind::Http {
        return Err(CallError::Unconfigured("the tool is not called over HTTP".into()));
    }
    let arguments = shared.reads.resolve(call.task, arguments).await.map_err(CallError::Store)?;
    let Ok(arguments) = serde_json::from_slice::<Arguments>(&arguments) else {
        return for_model("the arguments must be a JSON object");
    };
    let template = tool.url.as_deref();
    let template = template.ok_or_else(|| CallError::Unconfigured("the tool has no url".into()))?;
    let filled = match fill(template, arguments) {
        Ok(filled) => filled,
        Err(why) => return for_model(&why),
    };
    let client = shared.client_of(&call.agent_name);
    let url = if names_origin(template) {
        client.check(&filled.url)?
    } else {
        client.check_led(&filled.url)?
    };
    let request = request(call, tool, url, &filled.rest)?;
    let reply = client.send(request, sent).await?;
    if reply.status.is_client_error() && !status_is_retryable(reply.status.as_u16()) {
        return client_error(reply).await;
    }
    match answer::output(reply).await {
        Ok(output) => Ok(Outcome::Output { output }),
        // It was done, so it must not be made again; the model can ask for less.
        Err(error @ CallError::TooLarge { .. }) => for_model(&format!("done, but {error}")),
        Err(error) => Err(error),
    }
}

fn request(call: &Call, tool: &Tool, mut url: Url, rest: &Arguments) -> Result<Request, CallError> {
    let mut headers = call_headers(call);
    let method = Method::from_bytes(tool.method().as_bytes())
        .map_err(|_| CallError::Unconfigured("the tool's method is malformed".into()))?;
    let body = if matches!(method, Method::GET | Method::DELETE) {
        add_query(&mut url, rest);
        Bytes::new()
    } else {
        json_body(&mut headers);
        let body = serde_json::to_vec(rest).map_err(|e| CallError::Store(e.to_string()))?;
        Bytes::from(body)
    };
    Ok(Request { method, url, headers, body })
}

/// A mistake that the model can mend, as the tool's output.
fn for_model(message: &str) -> Result<Outcome, CallError> {
    let output = json!({"error": {"message": message}}).to_string();
    Ok(Outcome::Output { output: answer::payload(output.as_bytes())? })
}

/// A 4xx as the tool's output: `{"error":{"status":404,"body":…}}`.
async fn client_error(mut reply: Reply) -> Result<Outcome, CallError> {
    let status = reply.status;
    let body = client::read_start(&mut reply.body, SHOWN_BYTES_MAX).await;
    let body = answer::as_json(&body);
    let output = shown(status, &body);
    assert!(output.len() <= OUTPUT_BYTES_MAX, "a bounded body makes a bounded output");
    Ok(Outcome::Output { output: answer::payload(&output)? })
}

fn shown(status: StatusCode, body: &[u8]) -> Vec<u8> {
    let mut output = format!("{{\"error\":{{\"status\":{},\"body\":", status.as_u16()).into_bytes();
    output.extend_from_slice(body);
    output.extend_from_slice(b"}}");
    output
}

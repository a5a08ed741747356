//! Kind `http`: posts a task's input to the agent's URL; the answer is the output.

use super::Shared;
use super::answer::{call_headers, json_body, output};
use super::client::{Request, Sent};
use super::error::CallError;
use bytes::Bytes;
use hyper::Method;
use no_engine::command::Outcome;
use no_engine::effect::Call;
use no_engine::payload::Payload;

/// Makes the call.
pub(super) async fn run(
    shared: &Shared,
    call: &Call,
    input: &Payload,
    sent: &Sent,
) -> Result<Outcome, CallError> {
    let url = call.agent.url.as_deref();
    let url = url.ok_or_else(|| CallError::Unconfigured("the agent has no url".into()))?;
    let client = shared.client_of(&call.agent_name);
    let url = client.check(url)?;
    let input = shared.reads.resolve(call.task, input).await.map_err(CallError::Store)?;
    let mut headers = call_headers(call);
    json_body(&mut headers);
    let body = Bytes::from_owner(input);
    let request = Request { method: Method::POST, url, headers, body };
    let reply = client.send(request, sent).await?;
    Ok(Outcome::Output { output: output(reply).await? })
}

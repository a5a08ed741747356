//! Provider `openai`: any server that speaks OpenAI's chat completions, streamed.

use super::super::answer::{call_headers, json_body, retry_after_ms};
use super::super::client::{
    Client, Reply, Request, Sent, finish, next_piece, read_all, read_start,
};
use super::super::error::{CallError, QUOTE_BYTES_MAX, quote, status_is_retryable};
use super::chunk::{Assembly, Unusable};
use super::config::Prices;
use super::messages::{system, write_string};
use super::sse;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use no_auth::Secret;
use no_engine::agent::definition::{Agent, Tool, ToolKind};
use no_engine::agent::state::ModelAnswer;
use no_engine::effect::Call;
use no_engine::limits::OUTPUT_BYTES_MAX;
use no_engine::task::Usage;
use std::time::{Duration, SystemTime};

/// Longest stream of one answer, in bytes: each token comes in some 200 bytes of frame.
pub const STREAM_BYTES_MAX: usize = 64 * OUTPUT_BYTES_MAX;

/// How long after its end an answer waits for the count of its tokens.
pub const TOKENS_TIMEOUT: Duration = Duration::from_secs(5);

const WAIT_DESCRIPTION: &str = "Pauses for the given number of milliseconds, then goes on.";
const WAIT_PARAMETERS: &str = concat!(
    r#"{"type":"object","properties":{"ms":{"type":"integer","minimum":0,"#,
    r#""description":"How long to wait, in milliseconds."}},"#,
    r#""required":["ms"],"additionalProperties":false}"#
);

/// A model behind an OpenAI-compatible server.
#[derive(Clone)]
pub struct OpenAi {
    /// Its own client: only this may go to the model's address.
    pub(super) client: Client,
    /// `{baseUrl}/chat/completions`.
    pub(super) url: String,
    pub(super) model: String,
    pub(super) key: Option<Secret>,
    pub(super) prices: Option<Prices>,
}

impl OpenAi {
    /// Asks for one answer; `delta` gets each piece of text as it comes.
    ///
    /// # Errors
    /// [`CallError`] with codes `model_…`.
    pub(super) async fn ask(
        &self,
        call: &Call,
        messages: &[u8],
        sent: &Sent,
        delta: &dyn Fn(&str),
    ) -> Result<ModelAnswer, CallError> {
        let answer = self.exchange(call, messages, sent, delta).await;
        answer.map_err(|error| match (&self.key, error) {
            // A stream can quote the key as well, in the error that it ends with.
            (
                Some(key),
                CallError::Coded { code, message, retryable, maybe_done, retry_after_ms },
            ) => {
                let message = key.redact(&message);
                CallError::Coded { code, message, retryable, maybe_done, retry_after_ms }
            }
            (_, error) => error,
        })
    }

    async fn exchange(
        &self,
        call: &Call,
        messages: &[u8],
        sent: &Sent,
        delta: &dyn Fn(&str),
    ) -> Result<ModelAnswer, CallError> {
        let url = self.client.check(&self.url)?;
        let headers = self.headers(call)?;
        let body = Bytes::from(self.body(&call.agent, messages));
        let request = Request { method: Method::POST, url, headers, body };
        let mut reply = self.client.send(request, sent).await?;
        if !reply.status.is_success() {
            return Err(self.refused(reply).await);
        }
        let mut assembly = Assembly::default();
        if is_stream(&reply.headers) {
            read_stream(&mut reply.body, &mut assembly, delta).await?;
            finish(reply.body);
        } else {
            let body = read_all(&mut reply.body, OUTPUT_BYTES_MAX).await?;
            delta(&assembly.push(&body).map_err(unusable)?);
        }
        let tokens = assembly.tokens();
        let mut answer = assembly.answer(&format!("call_{}", call.step.0)).map_err(unusable)?;
        let (input_tokens, output_tokens) = (tokens.prompt_tokens, tokens.completion_tokens);
        let cost = |prices: Prices| prices.cost_micro_usd(input_tokens, output_tokens);
        let cost_micro_usd = self.prices.map_or(0, cost);
        answer.usage = Usage { iterations: 1, input_tokens, output_tokens, cost_micro_usd };
        Ok(answer)
    }

    fn headers(&self, call: &Call) -> Result<HeaderMap, CallError> {
        let mut headers = call_headers(call);
        json_body(&mut headers);
        let accept = HeaderValue::from_static("text/event-stream, application/json");
        headers.insert(header::ACCEPT, accept);
        if let Some(key) = &self.key {
            let value = HeaderValue::from_str(&format!("Bearer {}", key.reveal()));
            let unsendable = |_| CallError::Unconfigured("the model's key cannot be sent".into());
            let mut value = value.map_err(unsendable)?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(headers)
    }

    /// The request. The longest answer is asked for as `max_tokens`: every compatible server knows
    /// it, and few know OpenAI's newer `max_completion_tokens`.
    fn body(&self, agent: &Agent, messages: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(messages.len() + 1024);
        out.extend_from_slice(b"{\"model\":");
        write_string(&self.model, &mut out);
        out.extend_from_slice(b",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
        if let Some(tokens) = agent.max_output_tokens {
            out.extend_from_slice(format!(",\"max_tokens\":{tokens}").as_bytes());
        }
        for (i, tool) in agent.tools.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b",\"tools\":[" } else { b"," });
            write_tool(tool, &mut out);
        }
        if !agent.tools.is_empty() {
            out.push(b']');
        }
        out.extend_from_slice(b",\"messages\":[");
        if let Some(prompt) = &agent.system {
            out.extend_from_slice(&system(prompt));
            out.push(b',');
        }
        out.extend_from_slice(messages);
        out.extend_from_slice(b"]}");
        out
    }

    /// What a status other than 2xx means. Bodies are quoted without the key; those of 401 and 403
    /// not at all, since servers like to show a part of the key there.
    async fn refused(&self, mut reply: Reply) -> CallError {
        let status = reply.status;
        let retryable = status_is_retryable(status.as_u16());
        let start = read_start(&mut reply.body, QUOTE_BYTES_MAX).await;
        let mut text = quote(&start);
        if let Some(key) = &self.key {
            text = key.redact(&text);
        }
        let (code, message) = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ("model_unauthorized", format!("the model's server refused the key ({status})"))
            }
            StatusCode::TOO_MANY_REQUESTS => ("model_rate_limited", said(status, &text)),
            _ if retryable => ("model_failed", said(status, &text)),
            _ => ("model_refused", said(status, &text)),
        };
        CallError::Coded {
            code,
            message,
            retryable,
            maybe_done: super::super::error::status_is_doubtful(status.as_u16()),
            retry_after_ms: retry_after_ms(&reply.headers, SystemTime::now()),
        }
    }
}

fn said(status: StatusCode, text: &str) -> String {
    match text {
        "" => format!("the model's server answered {}", status.as_u16()),
        text => format!("the model's server answered {}: {text}", status.as_u16()),
    }
}

fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/event-stream"))
}

/// Reads the stream to `[DONE]`, or to its end after a `finish_reason`; any other end is a cut.
async fn read_stream(
    body: &mut Incoming,
    assembly: &mut Assembly,
    delta: &dyn Fn(&str),
) -> Result<(), CallError> {
    let mut parser = sse::Parser::default();
    let mut bytes_len = 0;
    let mut events = Vec::new();
    loop {
        let next = if assembly.is_finished() {
            // Only the count of tokens is missing: not worth the whole time-out.
            let next = tokio::time::timeout(TOKENS_TIMEOUT, next_piece(body)).await;
            next.unwrap_or(Ok(None))
        } else {
            next_piece(body).await
        };
        let piece = match next {
            Ok(Some(piece)) => piece,
            // A cut after the finish has lost at most the count of tokens.
            Ok(None) | Err(_) if assembly.is_finished() => return Ok(()),
            Ok(None) => {
                if parser.finish().is_some_and(|last| last.trim_ascii() == b"[DONE]") {
                    return Ok(());
                }
                return Err(cut("the stream ended before the answer did".into()));
            }
            Err(error) => return Err(cut(error.to_string())),
        };
        bytes_len += piece.len();
        if STREAM_BYTES_MAX < bytes_len {
            return Err(CallError::TooLarge { bytes_max: STREAM_BYTES_MAX });
        }
        let pushed = parser.push(&piece, |data| events.push(data));
        pushed.map_err(|e| unusable(Unusable::Malformed(e.to_string())))?;
        for event in events.drain(..) {
            if event.trim_ascii() == b"[DONE]" {
                return Ok(());
            }
            let added = assembly.push(&event).map_err(unusable)?;
            if !added.is_empty() {
                delta(&added);
            }
        }
    }
}

fn cut(why: String) -> CallError {
    CallError::Coded {
        code: "model_stream_cut",
        message: format!("the model's answer was cut: {why}"),
        retryable: true,
        maybe_done: true,
        retry_after_ms: None,
    }
}

fn unusable(why: Unusable) -> CallError {
    let (code, retryable) = match &why {
        Unusable::Malformed(_) | Unusable::TooMuch(_) => ("model_answer_invalid", true),
        Unusable::Reported(_) => ("model_failed", true),
        Unusable::Length => ("model_length", false),
        Unusable::Filtered => ("model_filtered", false),
    };
    let message = why.to_string();
    CallError::Coded { code, message, retryable, maybe_done: true, retry_after_ms: None }
}

fn write_tool(tool: &Tool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"function\",\"function\":{\"name\":");
    write_string(tool.called(), out);
    let (description, parameters) = match tool.kind {
        ToolKind::Wait => (Some(WAIT_DESCRIPTION), WAIT_PARAMETERS),
        ToolKind::Http => (None, "{\"type\":\"object\"}"),
    };
    if let Some(description) = tool.description.as_deref().or(description) {
        out.extend_from_slice(b",\"description\":");
        write_string(description, out);
    }
    out.extend_from_slice(b",\"parameters\":");
    let own = tool.parameters.as_ref().map(|raw| raw.get());
    out.extend_from_slice(own.unwrap_or(parameters).as_bytes());
    out.extend_from_slice(b"}}");
}

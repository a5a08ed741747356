//! Why a request was not done, as RFC 9457 problem+json with a stable `code`.
//!
//! One exhaustive match turns a shard's refusal into a problem, so that a new refusal does not
//! compile until somebody has thought of its status. What goes wrong on our side is told to the log
//! alone.

use crate::body::OutBody;
use crate::json::{push_str, push_u64};
use crate::route::Response;
use hyper::StatusCode;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use no_engine::command::Refusal;
use std::borrow::Cow;

/// Longest `instance` that is given back, in bytes.
const INSTANCE_BYTES_MAX: usize = 256;

/// The stable codes (DESIGN §11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// The request is malformed.
    BadRequest,
    /// No token, or one that proves nothing.
    Unauthenticated,
    /// The principal lacks the permission.
    Forbidden,
    /// No such task for this tenant.
    TaskUnknown,
    /// No such agent.
    AgentUnknown,
    /// No such path.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The body did not come in time.
    RequestTimeout,
    /// The lease passed to another or ended.
    LeaseLost,
    /// The task has ended.
    TaskEnded,
    /// The task is in no state for this.
    WrongState,
    /// The agent still has live tasks.
    AgentInUse,
    /// The idempotency key was used for another body.
    KeyReused,
    /// The history of the task has reached its bound.
    HistoryFull,
    /// Body or field too large.
    TooLarge,
    /// Not a content type that is taken.
    UnsupportedMediaType,
    /// An expectation that is not met.
    ExpectationFailed,
    /// A field is wrong; the pointer says which.
    Invalid,
    /// A limit was reached; later it may do.
    OverLimit,
    /// Something went wrong here; the log knows.
    Internal,
    /// A queue is full.
    QueueFull,
    /// The shard acknowledges nothing any more.
    ShardHalted,
    /// No node has the partition now.
    PartitionUnowned,
    /// The node is stopping.
    Draining,
    /// The disk is short of room.
    DiskFull,
    /// The audit log cannot be written, and a control call needs it.
    AuditFailed,
    /// The OIDC issuer does not do its part of a login.
    IssuerUnavailable,
}

impl Code {
    /// Status, name and title.
    #[must_use]
    pub fn parts(self) -> (u16, &'static str, &'static str) {
        match self {
            Code::BadRequest => (400, "bad_request", "The request is malformed"),
            Code::Unauthenticated => (401, "unauthenticated", "A valid bearer token is required"),
            Code::Forbidden => (403, "forbidden", "The permission is missing"),
            Code::TaskUnknown => (404, "task_unknown", "There is no such task"),
            Code::AgentUnknown => (404, "agent_unknown", "There is no such agent"),
            Code::NotFound => (404, "not_found", "There is nothing at this path"),
            Code::MethodNotAllowed => (405, "method_not_allowed", "The path has no such method"),
            Code::RequestTimeout => (408, "request_timeout", "The body did not come in time"),
            Code::LeaseLost => (409, "lease_lost", "The lease is no longer held"),
            Code::TaskEnded => (409, "task_ended", "The task has ended"),
            Code::WrongState => (409, "wrong_state", "The task is in no state for this"),
            Code::AgentInUse => (409, "agent_in_use", "The agent has live tasks"),
            Code::KeyReused => (409, "key_reused", "The idempotency key was used for another body"),
            Code::HistoryFull => (409, "history_full", "The history of the task is full"),
            Code::TooLarge => (413, "too_large", "Too large"),
            Code::UnsupportedMediaType => {
                (415, "unsupported_media_type", "The content type is not taken")
            }
            Code::ExpectationFailed => (417, "expectation_failed", "The expectation is not met"),
            Code::Invalid => (422, "invalid", "A field is not valid"),
            Code::OverLimit => (429, "over_limit", "A limit was reached"),
            Code::Internal => (500, "internal", "Something went wrong"),
            Code::QueueFull => (503, "queue_full", "A queue is full"),
            Code::ShardHalted => (503, "shard_halted", "The journal failed"),
            Code::PartitionUnowned => (503, "partition_unowned", "No node has the partition now"),
            Code::Draining => (503, "draining", "The node is stopping"),
            Code::DiskFull => (507, "disk_full", "The disk is short of room"),
            Code::AuditFailed => (503, "audit_failed", "The audit log failed"),
            Code::IssuerUnavailable => {
                (503, "issuer_unavailable", "The OIDC issuer does not answer as it should")
            }
        }
    }

    /// The status.
    #[must_use]
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.parts().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// After how many seconds it may be tried again, for those where that helps.
    #[must_use]
    pub fn retry_after_s(self) -> Option<u64> {
        match self {
            Code::OverLimit | Code::QueueFull | Code::PartitionUnowned => Some(1),
            Code::ShardHalted | Code::Draining | Code::IssuerUnavailable => Some(5),
            Code::DiskFull | Code::AuditFailed => Some(30),
            _ => None,
        }
    }
}

/// One refusal, as the client sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The stable code.
    pub code: Code,
    /// A sentence about this one; left out for 5xx of our own making.
    pub detail: Cow<'static, str>,
    /// The field that is wrong: a JSON pointer into the body, or `?name` for the query.
    pub pointer: Option<String>,
    /// The methods of the path, for 405.
    pub allow: Option<Box<str>>,
    /// After how many seconds it may be tried again, where that is known better than by its code.
    pub retry_after_s: Option<u64>,
}

impl Problem {
    /// A problem with a sentence.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Problem {
        let (pointer, allow, retry_after_s) = (None, None, None);
        Problem { code, detail: detail.into(), pointer, allow, retry_after_s }
    }

    /// 422 for the field at `pointer`.
    #[must_use]
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem { pointer: Some(pointer.into()), ..Problem::new(Code::Invalid, detail) }
    }

    /// 500: `why` goes to the log, and nothing of it to the client. The router's own line says of
    /// which request.
    #[must_use]
    pub fn internal(why: &str) -> Problem {
        tracing::error!(target: "http", why, "a request failed");
        Problem::new(Code::Internal, "")
    }

    /// No such task, or one of another tenant: the same answer.
    #[must_use]
    pub fn task_unknown() -> Problem {
        Problem::new(Code::TaskUnknown, "")
    }

    /// The same below `prefix`, for an item of a batch.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Problem {
        if let Some(pointer) = &mut self.pointer {
            pointer.insert_str(0, prefix);
        }
        self
    }

    /// Appends the problem object.
    pub fn render(&self, instance: Option<&str>, out: &mut Vec<u8>) {
        let (status, name, title) = self.code.parts();
        out.extend_from_slice(br#"{"type":"urn:no:problem:"#);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(br#"","title":"#);
        push_str(out, title);
        out.extend_from_slice(br#","status":"#);
        push_u64(out, u64::from(status));
        if !self.detail.is_empty() {
            out.extend_from_slice(br#","detail":"#);
            push_str(out, &self.detail);
        }
        if let Some(instance) = instance {
            out.extend_from_slice(br#","instance":"#);
            let end = instance.floor_char_boundary(INSTANCE_BYTES_MAX);
            push_str(out, &instance[..end]);
        }
        out.extend_from_slice(br#","code":""#);
        out.extend_from_slice(name.as_bytes());
        out.push(b'"');
        if let Some(pointer) = &self.pointer {
            out.extend_from_slice(br#","pointer":"#);
            push_str(out, pointer);
        }
        out.push(b'}');
    }

    /// The whole response; `instance` is the request's path.
    #[must_use]
    pub fn response(&self, instance: &str) -> Response {
        let mut body = Vec::with_capacity(256);
        self.render(Some(instance), &mut body);
        let mut response = Response::new(OutBody::full(body));
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after_s) = self.retry_after_s.or_else(|| self.code.retry_after_s()) {
            headers.insert(RETRY_AFTER, HeaderValue::from(after_s));
        }
        if self.code == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = self.allow.as_ref().and_then(|allow| HeaderValue::from_str(allow).ok())
        {
            headers.insert(ALLOW, allow);
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let code = match &refusal {
            Refusal::NotLive(_) => Code::TaskUnknown,
            Refusal::TaskEnded { .. } => Code::TaskEnded,
            Refusal::WrongState { .. } => Code::WrongState,
            Refusal::AgentUnknown => Code::AgentUnknown,
            Refusal::KeyReused => Code::KeyReused,
            Refusal::LeaseLost => Code::LeaseLost,
            Refusal::QueueFull { .. } => Code::QueueFull,
            Refusal::OverLimit { .. } => Code::OverLimit,
            Refusal::HistoryFull => Code::HistoryFull,
            Refusal::DiskFull => Code::DiskFull,
            Refusal::Draining => Code::Draining,
            Refusal::Moved(_) => Code::PartitionUnowned,
            Refusal::Halted => Code::ShardHalted,
            Refusal::Unanswered => Code::QueueFull,
        };
        match code {
            Code::TaskUnknown => Problem::task_unknown(),
            code => Problem::new(code, refusal.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use no_engine::id::{PartitionId, TaskId};
    use no_engine::task::State;

    fn check(problem: &Problem, expected: Expect) {
        let mut body = Vec::new();
        problem.render(Some("/v1/tasks"), &mut body);
        expected.assert_eq(&String::from_utf8_lossy(&body));
    }

    #[test]
    fn bodies_are_problem_json() {
        check(
            &Problem::invalid("/priority", "must be 0 to 9"),
            expect![[
                r#"{"type":"urn:no:problem:invalid","title":"A field is not valid","status":422,"detail":"must be 0 to 9","instance":"/v1/tasks","code":"invalid","pointer":"/priority"}"#
            ]],
        );
        let task = TaskId::new(0, 0, PartitionId(0));
        check(
            &Refusal::TaskEnded { task, state: State::Cancelled }.into(),
            expect![[
                r#"{"type":"urn:no:problem:task_ended","title":"The task has ended","status":409,"detail":"task 00000000-0000-7000-8000-000000000000 has ended as cancelled","instance":"/v1/tasks","code":"task_ended"}"#
            ]],
        );
        check(
            &Problem::internal("a secret path"),
            expect![[
                r#"{"type":"urn:no:problem:internal","title":"Something went wrong","status":500,"instance":"/v1/tasks","code":"internal"}"#
            ]],
        );
    }

    #[test]
    fn refusals_for_now_say_when_to_come_back() {
        let full = Problem::from(Refusal::QueueFull { what: "ring" }).response("/");
        assert_eq!(full.status(), 503);
        assert_eq!(full.headers()[RETRY_AFTER], "1");
        assert_eq!(Problem::from(Refusal::OverLimit { what: "x" }).response("/").status(), 429);
        assert_eq!(Problem::from(Refusal::DiskFull).response("/").status(), 507);
    }
}

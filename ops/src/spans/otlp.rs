//! Spans as OTLP's JSON (OpenTelemetry Protocol 1.x, "JSON Protobuf Encoding"): ids in hex, 64-bit
//! numbers as text, enumerations as numbers. No protobuf crate is needed for it.

use no_engine::time::Millis;
use serde_json::{Value, json};

/// What a span says of its place: a call out, or work within.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Internal = 1,
    Client = 3,
}

/// One span.
pub(super) struct Span<'a> {
    pub(super) trace: u128,
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) began: Millis,
    pub(super) ended: Millis,
    /// As [`attributes`] writes them.
    pub(super) attributes: Value,
    /// What went wrong: code and words.
    pub(super) error: Option<(&'a str, &'a str)>,
}

impl Span<'_> {
    /// The span as OTLP writes it.
    pub(super) fn json(self) -> Value {
        let nanos = |at: Millis| (u128::from(at.0) * 1_000_000).to_string();
        let mut span = json!({
            "traceId": format!("{:032x}", self.trace),
            "spanId": format!("{:016x}", self.id),
            "name": self.name,
            "kind": self.kind as u8,
            "startTimeUnixNano": nanos(self.began),
            // A clock that was set back makes no span end before it began.
            "endTimeUnixNano": nanos(self.ended.max(self.began)),
            "attributes": self.attributes,
        });
        if let Some(parent) = self.parent {
            span["parentSpanId"] = format!("{parent:016x}").into();
        }
        if let Some((code, message)) = self.error {
            span["status"] = json!({"code": 2, "message": format!("{code}: {message}")});
        }
        span
    }
}

/// Attributes: texts, whole numbers and others.
pub(super) fn attributes(all: &[(&str, Value)]) -> Value {
    let of = |value: &Value| match value {
        Value::Number(number) if number.is_f64() => json!({"doubleValue": number}),
        Value::Number(number) => json!({"intValue": number.to_string()}),
        Value::Bool(is_so) => json!({"boolValue": is_so}),
        Value::String(text) => json!({"stringValue": text}),
        other => json!({"stringValue": other.to_string()}),
    };
    all.iter().map(|(key, value)| json!({"key": key, "value": of(value)})).collect()
}

/// What the node says of itself.
pub(super) fn resource(service_name: &str, environment: &str) -> Value {
    attributes(&[
        ("service.name", service_name.into()),
        ("service.version", env!("CARGO_PKG_VERSION").into()),
        ("deployment.environment.name", environment.into()),
        ("telemetry.sdk.language", "rust".into()),
    ])
}

/// A request with spans of one node.
pub(super) fn request(resource: &Value, spans: Vec<Value>) -> Vec<u8> {
    let scope = json!({"name": "no", "version": env!("CARGO_PKG_VERSION")});
    json!({
        "resourceSpans": [{
            "resource": {"attributes": resource},
            "scopeSpans": [{"scope": scope, "spans": spans}]
        }]
    })
    .to_string()
    .into_bytes()
}

//! The keys of traces.

use super::Kind::{Number, Secret, Text};
use super::{Key, works};

pub(super) const ENDPOINT: Key = works(
    "monitoring.otlp.endpoint",
    Text,
    "",
    &["NO_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
    "base URL of the collector that takes traces by OTLP over HTTP, such as \
     http://127.0.0.1:4318; spans go to /v1/traces below it, as JSON; none are made without it",
);

pub(super) const HEADERS: Key = works(
    "monitoring.otlp.headers",
    Secret,
    "",
    &["NO_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"],
    "headers for the collector: name=value,name=value, values percent-encoded",
);

pub(super) const SERVICE_NAME: Key = works(
    "monitoring.otlp.serviceName",
    Text,
    "\"no\"",
    &["NO_OTLP_SERVICE_NAME", "OTEL_SERVICE_NAME"],
    "service.name of the spans",
);

pub(super) const SAMPLE_RATIO: Key = works(
    "monitoring.otlp.sampleRatio",
    Number,
    "1",
    &["NO_OTLP_SAMPLE_RATIO"],
    "part of the tasks whose trace is kept, 0 to 1; a caller's traceparent decides for its own",
);

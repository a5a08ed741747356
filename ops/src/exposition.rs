//! Writes metrics as Prometheus text 0.0.4 or OpenMetrics 1.0.
//!
//! Our own writer, 200 lines, instead of the `prometheus` crate: the figures are already counted,
//! in HDR histograms and plain integers with one writer each, so a registry would hold them twice,
//! its histograms have fixed buckets and locks, and it does not write OpenMetrics.

use crate::metrics::{FAMILIES, Family, Snapshot, Type};
use no_engine::stats::Latency;
use std::fmt::Write as _;

/// The two forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The form that a scraper's `Accept` asks for.
    #[must_use]
    pub fn of_accept(accept: &str) -> Format {
        if accept.contains("application/openmetrics-text") {
            return Format::OpenMetrics;
        }
        Format::Text
    }

    /// The answer's `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Values by bucket, ready to be shown.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Distribution {
    /// Upper bounds, ascending, with the number of values up to each; the last is `count` at most.
    pub buckets: Vec<(f64, u64)>,
    /// All values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// A value of some of the buckets, in the order of `buckets` and then that beyond all bounds;
    /// may be shorter.
    pub exemplars: Vec<Option<Sample>>,
}

/// One value of a distribution, with the trace that it is of.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// The trace's id.
    pub trace_id: u128,
    /// The value.
    pub value: f64,
    /// When it was taken, in s since 1970.
    pub at_s: f64,
}

impl Distribution {
    /// The classic buckets of an HDR histogram; its values times `unit` are the bounds' unit.
    ///
    /// A value counts into the first bucket that its HDR cell begins in: at two significant digits
    /// that is at most 1 % beside the truth.
    #[must_use]
    pub fn of_hdr(latency: &Latency, unit: f64, bounds: &[f64]) -> Distribution {
        let histogram = &latency.0;
        let mut buckets: Vec<(f64, u64)> = bounds.iter().map(|bound| (*bound, 0)).collect();
        let mut sum = 0.0;
        for cell in histogram.iter_recorded() {
            let value = histogram.lowest_equivalent(cell.value_iterated_to()) as f64 * unit;
            let count = cell.count_since_last_iteration();
            let middle = histogram.median_equivalent(cell.value_iterated_to()) as f64 * unit;
            sum += middle * count as f64;
            if let Some(first) = buckets.iter().position(|(bound, _)| value <= *bound) {
                buckets[first].1 += count;
            }
        }
        let (count, exemplars) = (histogram.len(), Vec::new());
        Distribution { buckets: grown(buckets), count, sum, exemplars }
    }

    /// Buckets that were counted one by one: each with its upper bound, ascending, or `None` for
    /// the values beyond all bounds.
    #[must_use]
    pub fn of_counts(counts: impl IntoIterator<Item = (Option<f64>, u64)>, sum: f64) -> Self {
        let (mut buckets, mut count) = (Vec::new(), 0);
        for (bound, values) in counts {
            count += values;
            buckets.extend(bound.map(|bound| (bound, values)));
        }
        Distribution { buckets: grown(buckets), count, sum, exemplars: Vec::new() }
    }
}

/// Each bucket's own values to those up to its bound.
fn grown(mut buckets: Vec<(f64, u64)>) -> Vec<(f64, u64)> {
    let mut so_far = 0;
    for (_, count) in &mut buckets {
        so_far += *count;
        *count = so_far;
    }
    buckets
}

/// Takes the samples of one family; what a family's reader writes into.
pub struct Samples<'w> {
    family: &'static Family,
    format: Format,
    out: &'w mut String,
}

/// All families with their samples now.
#[must_use]
pub fn render(snapshot: &Snapshot, format: Format) -> String {
    let mut out = String::with_capacity(64 * 1024);
    for family in FAMILIES {
        head(family, format, &mut out);
        (family.read)(snapshot, &mut Samples { family, format, out: &mut out });
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

/// HELP and TYPE. OpenMetrics names a counter without `_total` and an info without `_info`.
fn head(family: &Family, format: Format, out: &mut String) {
    let (name, word) = match (format, family.kind) {
        (Format::OpenMetrics, Type::Counter) => {
            (family.name.strip_suffix("_total").unwrap_or(family.name), "counter")
        }
        (Format::OpenMetrics, Type::Info) => {
            (family.name.strip_suffix("_info").unwrap_or(family.name), "info")
        }
        (Format::Text, Type::Counter) => (family.name, "counter"),
        (_, Type::Gauge) | (Format::Text, Type::Info) => (family.name, "gauge"),
        (_, Type::Histogram) => (family.name, "histogram"),
        (_, Type::Summary) => (family.name, "summary"),
    };
    let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {word}");
}

impl Samples<'_> {
    /// One value; the labels in the family's order.
    pub fn value(&mut self, labels: &[&str], value: f64) {
        let is_single = !matches!(self.family.kind, Type::Histogram | Type::Summary);
        assert!(is_single, "{} wants more than one value", self.family.name);
        self.sample("", labels, None, value);
    }

    /// One whole number.
    pub fn count(&mut self, labels: &[&str], value: u64) {
        self.value(labels, value as f64);
    }

    /// One histogram.
    pub fn distribution(&mut self, labels: &[&str], values: &Distribution) {
        assert_eq!(self.family.kind, Type::Histogram, "{} has no buckets", self.family.name);
        let mut exemplars = values.exemplars.iter().map(Option::as_ref);
        for (bound, count) in &values.buckets {
            self.sample("_bucket", labels, Some(&number(*bound, self.format)), *count as f64);
            self.exemplar(exemplars.next().flatten());
        }
        self.sample("_bucket", labels, Some("+Inf"), values.count as f64);
        self.exemplar(exemplars.next().flatten());
        self.sample("_sum", labels, None, values.sum);
        self.sample("_count", labels, None, values.count as f64);
    }

    /// One summary, without quantiles: a sum and what it is shared by.
    pub fn summary(&mut self, labels: &[&str], sum: f64, count: u64) {
        assert_eq!(self.family.kind, Type::Summary, "{} is no summary", self.family.name);
        self.sample("_sum", labels, None, sum);
        self.sample("_count", labels, None, count as f64);
    }

    /// Adds an exemplar to the bucket just written, where the form has a place for it.
    fn exemplar(&mut self, sample: Option<&Sample>) {
        let (Some(sample), Format::OpenMetrics) = (sample, self.format) else { return };
        let line_break = self.out.pop();
        assert_eq!(line_break, Some('\n'), "an exemplar follows a bucket");
        let Sample { trace_id, value, at_s } = sample;
        let value = number(*value, Format::Text);
        let _ = writeln!(self.out, " # {{trace_id=\"{trace_id:032x}\"}} {value} {at_s:.3}");
    }

    fn sample(&mut self, suffix: &str, labels: &[&str], bound: Option<&str>, value: f64) {
        let names = self.family.labels;
        assert_eq!(labels.len(), names.len(), "labels of {}", self.family.name);
        let _ = write!(self.out, "{}{suffix}", self.family.name);
        let mut separator = '{';
        let pairs = names.iter().copied().zip(labels.iter().copied());
        for (name, text) in pairs.chain(bound.map(|bound| ("le", bound))) {
            let _ = write!(self.out, "{separator}{name}=\"{}\"", escaped(text));
            separator = ',';
        }
        if separator == ',' {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {}", number(value, Format::Text));
    }
}

/// A number; a whole one has `.0` in OpenMetrics, where a bucket's bound is always a float.
fn number(value: f64, format: Format) -> String {
    match format {
        Format::OpenMetrics if value.fract() == 0.0 => format!("{value:.1}"),
        _ if value.is_nan() => "NaN".to_owned(),
        _ if value.is_infinite() => if 0.0 < value { "+Inf" } else { "-Inf" }.to_owned(),
        _ => value.to_string(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hdr_values_fall_into_their_buckets() {
        let mut latency = Latency::default();
        for us in [90, 100, 150, 1_000, 5_000_000] {
            latency.record(us);
        }
        let values = Distribution::of_hdr(&latency, 1e-6, &[0.0001, 0.001, 1.0]);
        assert_eq!(values.buckets, [(0.0001, 2), (0.001, 4), (1.0, 4)]);
        assert_eq!(values.count, 5);
        assert!((values.sum - 5.001_34).abs() < 0.05, "{}", values.sum);
    }

    #[test]
    fn counted_buckets_are_added_up() {
        let values = Distribution::of_counts([(Some(0.1), 2), (Some(1.0), 3), (None, 1)], 7.5);
        assert_eq!(values.buckets, [(0.1, 2), (1.0, 5)]);
        assert_eq!((values.count, values.sum), (6, 7.5));
    }

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(escaped("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
    }

    #[test]
    fn numbers_have_one_form() {
        assert_eq!(number(1.0, Format::Text), "1");
        assert_eq!(number(1.0, Format::OpenMetrics), "1.0");
        assert_eq!(number(0.00025, Format::Text), "0.00025");
        assert_eq!(number(f64::NAN, Format::Text), "NaN");
        assert_eq!(number(1e15, Format::Text), "1000000000000000");
    }

    #[test]
    fn the_scraper_chooses_the_form() {
        let accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        assert_eq!(Format::of_accept(accept), Format::OpenMetrics);
        assert_eq!(Format::of_accept("*/*"), Format::Text);
    }
}

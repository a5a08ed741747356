//! Reports as pictures: latency over percentiles, and what each second saw.
//!
//! Drawn by hand, as a picture of lines and words needs no library. White ground and dark words, so
//! that it is the same on any page.

mod axis;
mod chart;

use crate::format::{percent, rate};
use crate::report::{Latency, Report};
use crate::table::headline;
use crate::timeline::Second;
use axis::Axis;
pub(crate) use chart::{BLUE, Chart, GREEN, GREY, ORANGE, PALETTE, RED, Series, page};

/// The picture of one load.
#[must_use]
pub fn render(report: &Report) -> String {
    let latency = &report.latency;
    let curves = [
        ("2xx, from the intended send", BLUE, false, &latency.accepted),
        ("2xx, from the real send", GREY, true, &latency.accepted_from_send),
        ("429 and 503", ORANGE, false, &latency.refused),
    ];
    let errors = format!("errors {}", percent(report.requests.error_ratio));
    let answered = format!("{}/s answered 2xx", rate(report.requests.accepted_per_second));
    let notes = [headline(&report.load), format!("{answered}, {errors} · {}", report.machine)];
    page("nO under load", &notes, &[latency_chart(&curves), over_time(&report.timeline)])
}

/// Latency over percentiles: a name, a colour, whether dashed, and the distribution of each curve.
pub(crate) fn latency_chart(curves: &[(&str, &'static str, bool, &Latency)]) -> Chart {
    let shown: Vec<_> = curves.iter().filter(|curve| 0 < curve.3.count).collect();
    let points = || shown.iter().flat_map(|curve| &curve.3.curve);
    let x = Axis::percentiles(points().map(|point| point.quantile).fold(0.9, f64::max));
    let least = points().map(|point| point.ms).fold(f64::MAX, f64::min);
    let most = points().map(|point| point.ms).fold(0.0, f64::max);
    let y = Axis::logarithmic(least.min(most), most, "latency, ms");
    let series = shown.iter().map(|(name, colour, is_dashed, latency)| {
        let points = latency.curve.iter();
        let points = points.map(|point| (x.place(point.quantile), y.place(point.ms))).collect();
        Series { name: (*name).to_owned(), colour, is_dashed: *is_dashed, points }
    });
    let series = series.collect();
    Chart { title: "Latency by percentile".to_owned(), x, y, series, marks: Vec::new() }
}

/// Rates over time.
fn over_time(timeline: &[Second]) -> Chart {
    rates(timeline, Vec::new(), None)
}

/// A line over seconds.
pub(crate) struct OverSeconds {
    pub(crate) name: &'static str,
    pub(crate) colour: &'static str,
    /// When, in seconds, and what.
    pub(crate) values: Vec<(f64, f64)>,
}

/// Values over seconds.
pub(crate) fn over_seconds(title: &str, label: &str, lines: &[OverSeconds]) -> Chart {
    let points = || lines.iter().flat_map(|line| &line.values);
    let x = Axis::linear(points().map(|point| point.0).fold(1.0, f64::max), "seconds");
    let y = Axis::linear(points().map(|point| point.1).fold(1.0, f64::max), label);
    let series = lines.iter().map(|line| {
        let points = line.values.iter().map(|(at, value)| (x.place(*at), y.place(*value)));
        let points = points.collect();
        Series { name: line.name.to_owned(), colour: line.colour, is_dashed: false, points }
    });
    let series = series.collect();
    Chart { title: title.to_owned(), x, y, series, marks: Vec::new() }
}

/// Rates over time, with marks at seconds where something else begins, and a level to compare with.
pub(crate) fn rates(
    timeline: &[Second],
    marks: Vec<(f64, String)>,
    level: Option<(&str, f64)>,
) -> Chart {
    let has_tasks = timeline.iter().any(|second| second.accepted < second.tasks);
    type Read = fn(&Second) -> u64;
    let mut lines: Vec<(&str, &'static str, bool, Read)> = vec![
        ("requests sent", GREY, true, |second| second.sent),
        ("answered 2xx", BLUE, false, |second| second.accepted),
        ("refused, 429 and 503", ORANGE, false, |second| second.refused),
        ("failed", RED, false, |second| second.failed),
    ];
    if has_tasks {
        lines.push(("tasks acknowledged", GREEN, false, |second| second.tasks));
    }
    let is_seen =
        |line: &(&str, &str, bool, Read)| timeline.iter().any(|second| 0 < line.3(second));
    lines.retain(is_seen);
    let values = || lines.iter().flat_map(|line| timeline.iter().map(line.3));
    let x = Axis::linear(timeline.len().max(1) as f64, "seconds");
    let most = values().max().unwrap_or(1) as f64;
    let y = Axis::linear(level.map_or(most, |(_, level)| level.max(most)), "per second");
    let series = lines.iter().map(|(name, colour, is_dashed, read)| {
        let point = |second: &Second| {
            // A second's count stands in its middle.
            (x.place(second.second as f64 + 0.5), y.place(read(second) as f64))
        };
        let points = timeline.iter().map(point).collect();
        Series { name: (*name).to_owned(), colour, is_dashed: *is_dashed, points }
    });
    let mut series: Vec<Series> = series.collect();
    if let Some((name, level)) = level {
        let points = vec![(0.0, y.place(level)), (1.0, y.place(level))];
        series.push(Series { name: name.to_owned(), colour: GREEN, is_dashed: true, points });
    }
    let marks = marks.into_iter().map(|(at, name)| (x.place(at), name)).collect();
    Chart { title: "Over time".to_owned(), x, y, series, marks }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::outcome::histogram;

    /// Whether every element that opens also closes, in order, and text has no bare bracket.
    pub(crate) fn assert_well_formed(svg: &str) {
        let mut open: Vec<&str> = Vec::new();
        for piece in svg.split('<').skip(1) {
            let (tag, text) = piece.split_once('>').expect(piece);
            assert!(!text.contains('>'), "{piece}");
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            let name = tag.split([' ', '/']).find(|name| !name.is_empty()).expect(tag);
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "{tag}");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
            for entity in text.split('&').skip(1) {
                assert!(["lt;", "gt;", "amp;"].iter().any(|end| entity.starts_with(end)), "{text}");
            }
        }
        assert!(open.is_empty(), "{open:?}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "a place that is none");
    }

    #[test]
    fn pictures_are_well_formed_even_of_nothing() {
        let mut values = histogram();
        (1..=1_000_u64).for_each(|i| values.saturating_record(i * 10_000));
        let (full, empty) = (Latency::of(&values), Latency::default());
        let timeline: Vec<Second> = (0..5)
            .map(|second| Second { second, sent: 10, accepted: 7, tasks: 70, ..Second::default() })
            .collect();
        for (latency, timeline) in [(&full, &timeline[..]), (&empty, &[])] {
            let curves = [("a < b & c", BLUE, true, latency)];
            let marks = vec![(1.0, "2 ×".to_owned())];
            let notes = ["one & <two>".to_owned()];
            let charts = [latency_chart(&curves), rates(timeline, marks, Some(("peak", 9.0)))];
            assert_well_formed(&page("title", &notes, &charts));
        }
    }
}

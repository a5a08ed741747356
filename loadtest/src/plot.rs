//! Latency over percentiles, in a terminal: bars on a logarithmic scale both ways, so that the tail
//! has as much room as the middle.

use crate::format::short;
use crate::report::{Latency, Point};
use std::fmt::Write;

const WIDTH: usize = 64;
const HEIGHT: usize = 10;
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Percentiles that are named under the plot.
const TICKS: [(&str, f64); 5] =
    [("50%", 0.5), ("90%", 0.9), ("99%", 0.99), ("99.9%", 0.999), ("99.99%", 0.9999)];

/// The plot; empty when there is too little to plot.
#[must_use]
pub fn render(latency: &Latency) -> String {
    let decades = match latency.curve.last() {
        Some(last) if 1 < latency.curve.len() => decades(last.quantile),
        _ => return String::new(),
    };
    // The least is drawn as well, so the scale begins below it.
    let low = (latency.min_ms.max(0.001) * 0.8).log10();
    let high = latency.curve.iter().fold(0.001, |max: f64, point| max.max(point.ms)).log10();
    let span = (high - low).max(0.1);
    let levels: Vec<usize> = (0..WIDTH)
        .map(|column| {
            let at = decades * column as f64 / (WIDTH - 1) as f64;
            let height = (at_decade(&latency.curve, at).max(0.001).log10() - low) / span;
            ((height * (HEIGHT * 8) as f64).round() as usize).clamp(1, HEIGHT * 8)
        })
        .collect();
    let mut out = String::from("latency in ms by percentile, both axes logarithmic\n");
    for row in (0..HEIGHT).rev() {
        // Every third line says where it is.
        let label = 10_f64.powf(low + span * (row + 1) as f64 / HEIGHT as f64);
        let label = if row % 3 == 0 { short(label) } else { String::new() };
        let _ = write!(out, "{label:>9} ┤");
        out.extend(levels.iter().map(|level| EIGHTHS[level.saturating_sub(row * 8).min(8)]));
        out.push('\n');
    }
    let _ = writeln!(out, "{:>9} └{}", "", "─".repeat(WIDTH));
    let mut names = vec![' '; WIDTH + 8];
    for (name, quantile) in TICKS {
        let column = (self::decades(quantile) / decades * (WIDTH - 1) as f64).round() as usize;
        if column < WIDTH {
            let place = names.iter_mut().skip(column);
            place.zip(name.chars()).for_each(|(place, letter)| *place = letter);
        }
    }
    let names: String = names.into_iter().collect();
    let _ = writeln!(out, "{:>9}  {}", "", names.trim_end());
    out
}

/// The place of a quantile on the axis log10(1 / (1 − q)).
pub(crate) fn decades(quantile: f64) -> f64 {
    -(1.0 - quantile).max(1e-9).log10()
}

/// The latency at a place on that axis: that of the last point not right of it.
fn at_decade(curve: &[Point], at: f64) -> f64 {
    let right = curve.partition_point(|point| decades(point.quantile) <= at + 1e-9);
    curve[right.saturating_sub(1)].ms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::histogram;

    #[test]
    fn the_plot_has_its_size_and_rises_to_the_right() {
        let mut values = histogram();
        (1..=10_000_u64).for_each(|i| values.saturating_record(i * 10_000));
        let plot = render(&Latency::of(&values));
        let lines: Vec<&str> = plot.lines().collect();
        assert_eq!(lines.len(), HEIGHT + 3, "{plot}");
        assert!(lines[1].ends_with('█'), "{plot}");
        assert!(lines[HEIGHT].chars().skip(11).all(|c| c != ' '), "{plot}");
        assert!(lines[HEIGHT + 2].contains("99.9%"), "{plot}");
    }

    #[test]
    fn nothing_gives_no_plot() {
        assert_eq!(render(&Latency::default()), "");
    }
}

//! Axes: where a value stands, 0 to 1, and which values are named.

use crate::format::{count, short};
use crate::plot::decades;

/// How values are spread.
#[derive(Clone, Copy, Debug)]
enum Scale {
    Linear {
        max: f64,
    },
    Logarithmic {
        low: f64,
        high: f64,
    },
    /// By log10(1 / (1 − q)): the tail gets as much room as the middle.
    Percentiles {
        decades: f64,
    },
}

/// One axis.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    scale: Scale,
    /// What it shows, with its unit.
    pub(super) label: String,
    /// Places that are named.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to a round number not below `max`.
    pub(crate) fn linear(max: f64, label: &str) -> Axis {
        let step = round_up(max.max(1.0) / 5.0);
        let count_of_steps = (max.max(1.0) / step).ceil().max(1.0);
        let max = step * count_of_steps;
        let tick = |i: u32| (f64::from(i) / count_of_steps, number(step * f64::from(i)));
        let ticks = (0..=count_of_steps as u32).map(tick).collect();
        Axis { scale: Scale::Linear { max }, label: label.to_owned(), ticks }
    }

    /// Whole decades around what is between `least` and `most`, both above 0.
    pub(crate) fn logarithmic(least: f64, most: f64, label: &str) -> Axis {
        let (least, most) = (least.clamp(0.001, 1e9), most.clamp(0.001, 1e9));
        let low = (least.log10() + 1e-9).floor();
        let high = (most.log10() - 1e-9).ceil().max(low + 1.0);
        let scale = Scale::Logarithmic { low, high };
        let mut axis = Axis { scale, label: label.to_owned(), ticks: Vec::new() };
        for decade in low as i32..=high as i32 {
            for digit in [1.0, 2.0, 5.0] {
                let value = digit * 10_f64.powi(decade);
                if value <= 10_f64.powf(high) * 1.001 {
                    axis.ticks.push((axis.place(value), short_tick(value)));
                }
            }
        }
        axis
    }

    /// Percentiles as far as `quantile_max`.
    pub(crate) fn percentiles(quantile_max: f64) -> Axis {
        let scale = Scale::Percentiles { decades: decades(quantile_max).max(1.0) };
        let mut axis = Axis { scale, label: "percentile".to_owned(), ticks: Vec::new() };
        for (quantile, name) in [
            (0.0, "0"),
            (0.5, "50"),
            (0.9, "90"),
            (0.99, "99"),
            (0.999, "99.9"),
            (0.9999, "99.99"),
            (0.99999, "99.999"),
        ] {
            if quantile <= quantile_max + 1e-9 {
                axis.ticks.push((axis.place(quantile), format!("{name} %")));
            }
        }
        axis
    }

    /// Where a value stands.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear { max } => value / max,
            Scale::Logarithmic { low, high } => (value.max(1e-6).log10() - low) / (high - low),
            Scale::Percentiles { decades: all } => decades(value) / all,
        };
        place.clamp(0.0, 1.0)
    }
}

/// The least of 1, 2, 5 times a power of ten that is not below.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let digits = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
    digits.into_iter().find(|round| value <= round * 1.000_001).unwrap_or(value)
}

fn number(value: f64) -> String {
    if value.fract().abs() < 1e-9 { count(value as u64) } else { short(value) }
}

/// Like `number`, without digits that say nothing.
fn short_tick(value: f64) -> String {
    if value < 1.0 {
        let text = format!("{value:.3}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    count(value.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_axes_end_round() {
        let axis = Axis::linear(34_500.0, "x");
        let names: Vec<&str> = axis.ticks.iter().map(|tick| tick.1.as_str()).collect();
        assert_eq!(names, ["0", "10,000", "20,000", "30,000", "40,000"]);
        assert!((axis.place(20_000.0) - 0.5).abs() < 1e-9);
        assert_eq!(Axis::linear(0.0, "x").ticks.len(), 6);
    }

    #[test]
    fn logarithmic_axes_span_whole_decades() {
        let axis = Axis::logarithmic(0.5, 30.0, "ms");
        assert_eq!(axis.ticks.first().map(|tick| tick.1.as_str()), Some("0.1"));
        assert_eq!(axis.ticks.last().map(|tick| tick.1.as_str()), Some("100"));
        assert!((axis.place(1.0) - 1.0 / 3.0).abs() < 1e-9);
        assert!(Axis::logarithmic(1.0, 1.0, "ms").ticks.len() == 4);
    }

    #[test]
    fn each_nine_takes_the_same_room() {
        let axis = Axis::percentiles(0.999);
        let places: Vec<f64> = [0.0, 0.9, 0.99, 0.999].map(|q| axis.place(q)).to_vec();
        for (i, place) in places.iter().enumerate() {
            assert!((place - i as f64 / 3.0).abs() < 1e-9, "{places:?}");
        }
        assert_eq!(axis.ticks.len(), 5);
    }
}

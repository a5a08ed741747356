//! The picture of a run: a bar for each figure with a goal, as long as measured ÷ goal on a
//! logarithmic axis. Drawn by hand, as bars and words need no library; on white ground, so that it
//! is the same on any page.

use crate::figure::{Figure, short, with_unit};
use crate::results::Results;
use std::fmt::Write as _;

const WIDTH: f64 = 1040.0;
const LEFT: f64 = 310.0;
const RIGHT: f64 = 240.0;
const TOP: f64 = 84.0;
const LINE: f64 = 24.0;
const BAR: f64 = 14.0;
/// Ends of the axis: a tenth of the goal, and ten times it.
const LEAST: f64 = 0.1;
const MOST: f64 = 10.0;
const MARKS: [f64; 7] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

const REACHED: &str = "#2f7d5b";
const MISSED: &str = "#c0562f";

/// Where a ratio stands across the picture; beyond the ends, at them.
fn place(ratio: f64) -> f64 {
    let share = (ratio.clamp(LEAST, MOST) / LEAST).ln() / (MOST / LEAST).ln();
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The picture.
#[must_use]
pub fn svg(results: &Results) -> String {
    let bars: Vec<&Figure> = results.figures.iter().filter(|f| f.goal.is_some()).collect();
    let bottom = TOP + LINE * bars.len() as f64;
    let height = bottom + 46.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#222\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"24\" y=\"30\" font-size=\"18\" font-weight=\"600\">nO: measured to goal</text>\n"
    );
    let line = format!("{} · {} · {}", results.host.version(), results.host.at, {
        results.host.machine()
    });
    let _ = writeln!(
        out,
        "<text x=\"24\" y=\"50\" font-size=\"12\" fill=\"#666\">{}</text>",
        escaped(&line)
    );
    for mark in MARKS {
        let x = place(mark);
        let (colour, width) = if mark == 1.0 { ("#222", 1.5) } else { ("#ddd", 1.0) };
        let label = if mark == 1.0 { "goal".to_owned() } else { format!("{mark} ×") };
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"{colour}\" \
             stroke-width=\"{width}\"/>\n<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" \
             font-size=\"11\" fill=\"#666\">{label}</text>",
            TOP - 6.0,
            bottom + 18.0
        );
    }
    for (i, figure) in bars.iter().enumerate() {
        out.push_str(&bar(figure, TOP + LINE * i as f64));
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#666\">\
         further right is better; a bar that crosses the line reaches its goal</text>\n</svg>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        bottom + 38.0
    );
    out
}

fn bar(figure: &Figure, top: f64) -> String {
    let reach = figure.reach().unwrap_or_default();
    let colour = if figure.is_reached() == Some(true) { REACHED } else { MISSED };
    let (from, to) = (place(LEAST), place(reach));
    let text = top + LINE / 2.0 + 4.5;
    let (what, value) = (escaped(&figure.what), with_unit(figure.value, &figure.unit));
    let beyond = if MOST < reach { format!(" ({} ×)", short(reach)) } else { String::new() };
    let goal = figure.goal.map(|goal| format!(" to {}", with_unit(goal.limit, &figure.unit)));
    format!(
        "<text x=\"{:.1}\" y=\"{text:.1}\" text-anchor=\"end\">{what}</text>\n\
         <rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\" \
         fill=\"{colour}\"/>\n<text x=\"{:.1}\" y=\"{text:.1}\" font-size=\"12\" \
         fill=\"#222\" paint-order=\"stroke\" stroke=\"#fff\" stroke-width=\"3\">{}<tspan \
         fill=\"#777\">{}{}</tspan></text>\n",
        LEFT - 10.0,
        top + (LINE - BAR) / 2.0,
        (to - from).max(2.0),
        to.max(from + 2.0) + 6.0,
        escaped(&value),
        escaped(&goal.unwrap_or_default()),
        escaped(&beyond)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::results;

    #[test]
    fn the_axis_is_logarithmic_and_the_goal_is_in_its_middle() {
        let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
        assert!((place(1.0) - middle).abs() < 1e-9);
        assert!((place(0.5) + place(2.0) - 2.0 * middle).abs() < 1e-9);
        assert_eq!((place(0.0), place(f64::INFINITY)), (LEFT, WIDTH - RIGHT));
    }

    #[test]
    fn a_bar_for_each_goal_in_its_colour() {
        let svg = svg(&results());
        assert_eq!(svg.matches(REACHED).count(), 1);
        assert_eq!(svg.matches(MISSED).count(), 1);
        assert!(svg.contains("single submissions") && !svg.contains(">link<"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }
}

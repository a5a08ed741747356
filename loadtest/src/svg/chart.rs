//! One chart: a frame, a grid, lines, a legend; and a page of several under each other.

use super::axis::Axis;
use std::fmt::Write;

pub(crate) const BLUE: &str = "#1d4ed8";
pub(crate) const ORANGE: &str = "#c2410c";
pub(crate) const GREEN: &str = "#15803d";
pub(crate) const RED: &str = "#b91c1c";
pub(crate) const GREY: &str = "#6b7280";
/// Colours for lines that have no meaning of their own, in order.
pub(crate) const PALETTE: [&str; 5] = [BLUE, GREEN, ORANGE, "#7e22ce", RED];

const WIDTH: f64 = 860.0;
const CHART_HEIGHT: f64 = 356.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 74.0;
const BOTTOM: f64 = 52.0;
const LINE_HEIGHT: f64 = 19.0;

/// A line.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) colour: &'static str,
    pub(crate) is_dashed: bool,
    /// Places on both axes, 0 to 1.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
    /// Places on the x axis where something begins, with its name.
    pub(crate) marks: Vec<(f64, String)>,
}

/// A whole picture: a title, lines of text, and charts.
pub(crate) fn page(title: &str, notes: &[String], charts: &[Chart]) -> String {
    let head = 44.0 + LINE_HEIGHT * notes.len() as f64;
    let height = head + CHART_HEIGHT * charts.len() as f64 + 8.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#111827\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    text(&mut out, (24.0, 32.0), "font-size=\"19\" font-weight=\"600\"", title);
    for (i, note) in notes.iter().enumerate() {
        let y = 54.0 + LINE_HEIGHT * i as f64;
        text(&mut out, (24.0, y), "fill=\"#374151\"", note);
    }
    for (i, chart) in charts.iter().enumerate() {
        let top = head + CHART_HEIGHT * i as f64;
        let _ = writeln!(out, "<g transform=\"translate(0 {top:.1})\">");
        chart.draw(&mut out);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn x_of(place: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * place
}

fn y_of(place: f64) -> f64 {
    CHART_HEIGHT - BOTTOM - (CHART_HEIGHT - TOP - BOTTOM) * place
}

fn text(out: &mut String, (x, y): (f64, f64), style: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{words}</text>");
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
    );
}

impl Chart {
    fn draw(&self, out: &mut String) {
        text(out, (LEFT, 24.0), "font-size=\"14\" font-weight=\"600\"", &self.title);
        self.grid(out);
        self.legend(out);
        for series in &self.series {
            series.draw(out);
        }
    }

    fn grid(&self, out: &mut String) {
        let (left, right, top, bottom) = (x_of(0.0), x_of(1.0), y_of(1.0), y_of(0.0));
        for (place, name) in &self.y.ticks {
            let y = y_of(*place);
            line(out, (left, y), (right, y), "#e5e7eb");
            text(out, (left - 8.0, y + 4.0), "text-anchor=\"end\" fill=\"#374151\"", name);
        }
        for (place, name) in &self.x.ticks {
            let x = x_of(*place);
            line(out, (x, top), (x, bottom), "#f3f4f6");
            let style = "text-anchor=\"middle\" fill=\"#374151\"";
            text(out, (x, bottom + 18.0), style, name);
        }
        for (place, name) in &self.marks {
            let x = x_of(*place);
            line(out, (x, top), (x, bottom), "#9ca3af");
            // A name at the right end stands left of its mark.
            let (x, anchor) = if *place < 0.93 { (x + 4.0, "start") } else { (x - 4.0, "end") };
            let style = format!("text-anchor=\"{anchor}\" fill=\"#374151\"");
            text(out, (x, top + 12.0), &style, name);
        }
        line(out, (left, top), (left, bottom), "#6b7280");
        line(out, (left, bottom), (right, bottom), "#6b7280");
        let middle = (left + right) / 2.0;
        let style = "text-anchor=\"middle\" fill=\"#374151\"";
        text(out, (middle, bottom + 38.0), style, &self.x.label);
        let (x, y) = (18.0, (top + bottom) / 2.0);
        let turned = format!("{style} transform=\"rotate(-90 {x} {y:.1})\"");
        text(out, (x, y), &turned, &self.y.label);
    }

    fn legend(&self, out: &mut String) {
        let (mut x, mut y) = (LEFT, 40.0);
        for series in &self.series {
            // Letters of this size are about this wide; a little more keeps names apart.
            let width = 52.0 + 6.4 * series.name.chars().count() as f64;
            if WIDTH - RIGHT < x + width {
                (x, y) = (LEFT, y + 18.0);
            }
            let dash = if series.is_dashed { " stroke-dasharray=\"5 4\"" } else { "" };
            let _ = writeln!(
                out,
                "<path d=\"M{x:.1} {y}h22\" stroke=\"{}\" stroke-width=\"2\"{dash}/>",
                series.colour
            );
            text(out, (x + 28.0, y + 4.0), "fill=\"#374151\"", &series.name);
            x += width;
        }
    }
}

impl Series {
    fn draw(&self, out: &mut String) {
        if self.points.is_empty() {
            return;
        }
        let dash = if self.is_dashed { " stroke-dasharray=\"5 4\"" } else { "" };
        out.push_str("<polyline points=\"");
        for (i, (x, y)) in self.points.iter().enumerate() {
            let gap = if i == 0 { "" } else { " " };
            let _ = write!(out, "{gap}{:.1},{:.1}", x_of(*x), y_of(*y));
        }
        let _ = writeln!(
            out,
            "\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\" stroke-linejoin=\"round\"{dash}/>",
            self.colour
        );
    }
}

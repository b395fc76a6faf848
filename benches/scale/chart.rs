//! The curves of the part `idle` as an SVG.

use std::fmt::Write as _;

/// The items per second of a busy pair beside each number of idle clients.
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) points: Vec<(usize, f64)>,
}

const COLOURS: [&str; 6] = ["#2a7f62", "#c8553d", "#8a4fa3", "#d79b00", "#777777", "#3b6ea5"];
const LEFT: f64 = 60.0;
const RIGHT: f64 = 300.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 310.0;
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 350.0;
/// The logarithmic scale: from ten thousand to ten million.
const DECADES: (f64, f64) = (4.0, 7.0);

fn y(rate: f64) -> f64 {
    let part = (rate.log10().clamp(DECADES.0, DECADES.1) - DECADES.0) / (DECADES.1 - DECADES.0);
    BOTTOM - part * (BOTTOM - TOP)
}

/// Draws a line for each curve. The numbers of clients are as far apart as their indices.
pub(crate) fn svg(counts: &[usize], curves: &[Curve]) -> String {
    let step = (WIDTH - LEFT - RIGHT) / (counts.len().max(2) - 1) as f64;
    let x = |count: usize| {
        let index = counts.iter().position(|&other| other == count).unwrap_or(0);
        LEFT + step * index as f64
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"16\" y=\"22\" font-size=\"15\" font-weight=\"bold\">Items per second through a queue of 64, beside idle clients (logarithmic)</text>\n"
    );
    for (rate, name) in [(1e4, "10,000"), (1e5, "100,000"), (1e6, "1 M"), (1e7, "10 M")] {
        let at = y(rate);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\n<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#666\">{name}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0
        );
    }
    for &count in counts {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666\">{count}</text>",
            x(count),
            BOTTOM + 18.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666\">idle clients</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        BOTTOM + 34.0
    );
    for (index, (curve, colour)) in curves.iter().zip(COLOURS).enumerate() {
        let points: Vec<String> = curve
            .points
            .iter()
            .map(|&(count, rate)| format!("{:.1},{:.1}", x(count), y(rate)))
            .collect();
        let line = TOP + 12.0 + 20.0 * index as f64;
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n<rect x=\"{}\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\n<text x=\"{}\" y=\"{line}\">{}</text>",
            points.join(" "),
            WIDTH - RIGHT + 20.0,
            line - 10.0,
            WIDTH - RIGHT + 38.0,
            curve.name
        );
    }
    svg + "</svg>\n"
}

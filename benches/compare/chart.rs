//! The table as an SVG.

use std::fmt::Write as _;

/// How many times better ours is than another system; `None` where there is no counterpart.
pub(crate) struct Bars {
    pub(crate) name: String,
    pub(crate) times: [Option<f64>; 2],
}

const OTHERS: [(&str, &str); 2] =
    [("Python's multiprocessing", "#3b6ea5"), ("raw ipc-channel (starts: procspawn)", "#c8553d")];

const LEFT: f64 = 190.0;
const WIDTH: f64 = 760.0;
const RIGHT: f64 = 70.0;
const BAR: f64 = 12.0;
const ROW: f64 = 36.0;
const TOP: f64 = 64.0;
/// The logarithmic scale: from a tenth to a thousand.
const DECADES: (f64, f64) = (-1.0, 3.0);

fn x(times: f64) -> f64 {
    let share = (times.log10().clamp(DECADES.0, DECADES.1) - DECADES.0) / (DECADES.1 - DECADES.0);
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

/// Draws an SVG with one bar per ratio, to the right of 1 where offspring is better.
pub(crate) fn svg(rows: &[Bars]) -> String {
    let height = TOP + rows.len() as f64 * ROW + 30.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"16\" y=\"22\" font-size=\"15\" font-weight=\"bold\">How many times better offspring is (logarithmic)</text>\n"
    );
    for (index, (name, colour)) in OTHERS.iter().enumerate() {
        let at = 16.0 + 210.0 * index as f64;
        let _ = writeln!(
            svg,
            "<rect x=\"{at}\" y=\"32\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"
        );
        let _ = writeln!(svg, "<text x=\"{}\" y=\"42\">than {name}</text>", at + 18.0);
    }
    for times in [0.1, 1.0, 10.0, 100.0, 1000.0] {
        let (at, end) = (x(times), height - 24.0);
        let colour = if times == 1.0 { "#444" } else { "#ddd" };
        let _ = writeln!(
            svg,
            "<line x1=\"{at}\" x2=\"{at}\" y1=\"{}\" y2=\"{end}\" stroke=\"{colour}\"/>",
            TOP - 8.0
        );
        let _ = writeln!(
            svg,
            "<text x=\"{at}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666\">{times}</text>",
            height - 8.0
        );
    }
    for (index, row) in rows.iter().enumerate() {
        let top = TOP + index as f64 * ROW;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 10.0,
            top + 16.0,
            row.name
        );
        for (lane, (times, (_, colour))) in row.times.iter().zip(OTHERS).enumerate() {
            let Some(times) = times else { continue };
            let (y, from, to) =
                (top + lane as f64 * (BAR + 2.0), x(1.0).min(x(*times)), x(1.0).max(x(*times)));
            let width = (to - from).max(1.0);
            let _ = writeln!(
                svg,
                "<rect x=\"{from:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
            );
            let _ =
                writeln!(svg, "<text x=\"{:.1}\" y=\"{}\">{times:.1}</text>", to + 4.0, y + 10.0);
        }
    }
    svg + "</svg>\n"
}

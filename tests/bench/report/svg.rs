//! Horizontal stacked bar charts as SVG, readable on light and dark backgrounds.

use std::fmt::Write;

use super::table::number;

/// Colours of the parts of a bar: distinct for colour-blind readers, on light and dark backgrounds.
const COLOURS: [&str; 4] = ["#3b82c4", "#e08a1e", "#c8503c", "#7a5fb5"];
/// Text colour: a grey that is readable on light and dark backgrounds.
const INK: &str = "#7b8794";
const WIDTH: f64 = 760.0;
/// X coordinate at which bars begin.
const LEFT: f64 = 236.0;
/// Length of the longest bar.
const LONGEST: f64 = 430.0;
/// Height of a bar.
const BAR: f64 = 22.0;
/// Distance from bar to bar.
const STEP: f64 = 32.0;
/// Space for the heading of a group.
const HEADING: f64 = 26.0;
const FONT: &str = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif";

/// A bar chart.
pub(super) struct Chart {
    pub(super) title: String,
    /// The unit, the load, and which direction is better.
    pub(super) note: String,
    /// Names of the parts of a bar.
    pub(super) parts: Vec<&'static str>,
    pub(super) groups: Vec<Group>,
}

/// Bars under a heading. The heading may be empty.
pub(super) struct Group {
    pub(super) heading: String,
    pub(super) bars: Vec<Bar>,
}

/// A stacked bar.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) values: Vec<f64>,
    /// Whether it is of plugnode, and emphasised.
    pub(super) is_ours: bool,
}

impl Chart {
    pub(super) fn to_svg(&self) -> String {
        let bars = || self.groups.iter().flat_map(|group| &group.bars);
        let scale = LONGEST / bars().map(Bar::total).fold(f64::MIN_POSITIVE, f64::max);
        let mut body = String::new();
        text(
            &mut body,
            20.0,
            32.0,
            "font-size=\"17\" font-weight=\"600\"",
            &self.title,
        );
        text(&mut body, 20.0, 54.0, "font-size=\"13\"", &self.note);
        let mut y = 72.0;
        if self.parts.len() > 1 {
            self.legend(&mut body, y + 12.0);
            y += 30.0;
        }
        for group in &self.groups {
            if !group.heading.is_empty() {
                y += HEADING;
                text(
                    &mut body,
                    20.0,
                    y - 8.0,
                    "font-size=\"13\" font-weight=\"600\"",
                    &group.heading,
                );
            }
            for bar in &group.bars {
                self.bar(&mut body, bar, y, scale);
                y += STEP;
            }
        }
        let height = y + 12.0;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"{FONT}\" fill=\"{INK}\" role=\"img\">\n<title>{}</title>\n{body}</svg>\n",
            escaped(&self.title)
        )
    }

    fn legend(&self, body: &mut String, y: f64) {
        let mut x = LEFT;
        for (part, colour) in self.parts.iter().zip(COLOURS) {
            let top = y - 10.0;
            let _ = writeln!(
                body,
                "<rect x=\"{x}\" y=\"{top}\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>"
            );
            text(body, x + 18.0, y, "font-size=\"13\"", part);
            x += 46.0 + 7.5 * part.len() as f64;
        }
    }

    fn bar(&self, body: &mut String, bar: &Bar, y: f64, scale: f64) {
        let weight = if bar.is_ours { "font-weight=\"600\"" } else { "" };
        let middle = y + BAR / 2.0 + 4.5;
        let label = format!("font-size=\"13\" text-anchor=\"end\" {weight}");
        text(body, LEFT - 12.0, middle, &label, &bar.label);
        let mut x = LEFT;
        let shade = if bar.is_ours || self.parts.len() > 1 {
            "1"
        } else {
            "0.45"
        };
        for (value, colour) in bar.values.iter().zip(COLOURS) {
            let width = (value * scale).max(0.0);
            let _ = writeln!(
                body,
                "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\" fill=\"{colour}\" \
                 fill-opacity=\"{shade}\"/>"
            );
            x += width;
        }
        let value = format!("font-size=\"13\" {weight}");
        text(body, x + 8.0, middle, &value, &number(bar.total()));
    }
}

impl Bar {
    fn total(&self) -> f64 {
        self.values.iter().sum()
    }
}

fn text(body: &mut String, x: f64, y: f64, style: &str, text: &str) {
    let _ = writeln!(body, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{}</text>", escaped(text));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

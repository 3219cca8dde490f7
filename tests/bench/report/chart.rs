//! Horizontal stacked bar charts as SVG, readable on light and dark backgrounds.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::table::number;

/// Colours of the parts of a bar: distinct for colour-blind readers, on light and dark backgrounds.
const COLOURS: [RGBColor; 4] = [
    RGBColor(0x3b, 0x82, 0xc4),
    RGBColor(0xe0, 0x8a, 0x1e),
    RGBColor(0xc8, 0x50, 0x3c),
    RGBColor(0x7a, 0x5f, 0xb5),
];
/// Text colour: a grey that is readable on light and dark backgrounds.
const INK: RGBColor = RGBColor(0x7b, 0x87, 0x94);
const WIDTH: i32 = 760;
/// X coordinate at which bars begin.
const LEFT: i32 = 236;
/// Length of the longest bar.
const LONGEST: f64 = 430.0;
/// Height of a bar.
const BAR: i32 = 22;
/// Distance from bar to bar, and to a legend or a heading.
const STEP: i32 = 32;
/// Font sizes in ems of plotters, which the SVG backend divides by 1.24: 17 and 13 pixels.
const TITLE: f64 = 21.0;
const TEXT: f64 = 16.0;

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
    pub(super) fn to_svg(&self) -> anyhow::Result<String> {
        let mut svg = String::new();
        let bars = || self.groups.iter().flat_map(|group| &group.bars);
        let scale = LONGEST / bars().map(Bar::total).fold(f64::MIN_POSITIVE, f64::max);
        let headings = self.groups.iter().filter(|group| !group.heading.is_empty()).count();
        let rows = bars().count() + headings + usize::from(self.parts.len() > 1);
        let height = 84 + STEP * rows as i32;
        {
            let area = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32)).into_drawing_area();
            let text = |text: &str, x, y, size, is_bold, anchor| {
                let style = if is_bold { FontStyle::Bold } else { FontStyle::Normal };
                let font = FontDesc::new(FontFamily::SansSerif, size, style).color(&INK);
                area.draw_text(text, &font.pos(Pos::new(anchor, VPos::Center)), (x, y))
            };
            text(&self.title, 20, 26, TITLE, true, HPos::Left)?;
            text(&self.note, 20, 50, TEXT, false, HPos::Left)?;
            let mut y = 84;
            if self.parts.len() > 1 {
                let mut x = LEFT;
                for (part, colour) in self.parts.iter().zip(COLOURS) {
                    area.draw(&Rectangle::new([(x, y - 6), (x + 12, y + 6)], colour.filled()))?;
                    text(part, x + 18, y, TEXT, false, HPos::Left)?;
                    x += 46 + 15 * part.len() as i32 / 2;
                }
                y += STEP;
            }
            for group in &self.groups {
                if !group.heading.is_empty() {
                    text(&group.heading, 20, y, TEXT, true, HPos::Left)?;
                    y += STEP;
                }
                for bar in &group.bars {
                    text(&bar.label, LEFT - 12, y, TEXT, bar.is_ours, HPos::Right)?;
                    let opacity = if bar.is_ours || self.parts.len() > 1 { 1.0 } else { 0.45 };
                    let (mut sum, x) = (0.0, |sum: f64| LEFT + (sum * scale) as i32);
                    for (value, colour) in bar.values.iter().zip(COLOURS) {
                        let corners = [(x(sum), y - BAR / 2), (x(sum + value), y + BAR / 2)];
                        area.draw(&Rectangle::new(corners, colour.mix(opacity).filled()))?;
                        sum += value;
                    }
                    text(&number(sum), x(sum) + 8, y, TEXT, bar.is_ours, HPos::Left)?;
                    y += STEP;
                }
            }
            area.present()?;
        }
        Ok(svg)
    }
}

impl Bar {
    fn total(&self) -> f64 {
        self.values.iter().sum()
    }
}

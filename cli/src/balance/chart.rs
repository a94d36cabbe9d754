//! The counts as a chart: two bars a Pod, what was expected and what was counted, under the name of its node.

use super::count::{Balance, Load};
use plotters::prelude::{
    Color, IntoDrawingArea as _, IntoFont as _, RGBColor, Rectangle, SVGBackend, Text, TextStyle, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;

const WIDTH: u32 = 960;
/// Where bars begin, and the most that they are long; what is said of them stands behind.
const LEFT: i32 = 300;
const LONGEST: i32 = 430;
const HEAD: i32 = 84;
const NODE: i32 = 30;
const POD: i32 = 40;
const FOOT: i32 = 24;
const EXPECTED: RGBColor = RGBColor(176, 184, 196);
const COUNTED: RGBColor = RGBColor(32, 108, 180);
const INK: RGBColor = RGBColor(28, 32, 38);
const PALE: RGBColor = RGBColor(96, 104, 114);
/// Most characters of the name of a Pod, and of a node, in whose place there is room for fewer.
const OF_POD: usize = 38;
const OF_NODE: usize = 32;

type Drawn = Result<(), Box<dyn Error>>;

/// An SVG document, the same for the same counts.
pub(super) fn svg(balance: &Balance) -> Result<String, Box<dyn Error>> {
    let rows = i32::try_from(balance.pods.len())? * POD + i32::try_from(balance.nodes.len())? * NODE;
    let height = u32::try_from(HEAD + rows + FOOT)?;
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE)?;
        let pen = Pen { area: &area };
        pen.head(balance)?;
        let most = balance.pods.values().flat_map(|load| [load.counted, load.expected]).map(|share| share.permille());
        let most = most.max().unwrap_or(0).max(1);
        let mut y = HEAD;
        for (node, whole) in &balance.nodes {
            pen.write(&short(node, OF_NODE), (24, y + NODE / 2), 20, &INK, HPos::Left)?;
            let sum = format!(
                "{} flows, {} ‰, expected {} ‰",
                whole.flows,
                whole.counted.permille(),
                whole.expected.permille()
            );
            pen.write(&sum, (LEFT, y + NODE / 2), 16, &PALE, HPos::Left)?;
            y += NODE;
            for ((_, pod), load) in balance.pods.iter().filter(|((on, _), _)| on == node) {
                pen.pod(pod, load, y, most)?;
                y += POD;
            }
        }
        area.present()?;
    }
    Ok(text)
}

/// The first so many characters of a name.
fn short(name: &str, characters: usize) -> String {
    match name.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

struct Pen<'a, 'b> {
    area: &'a plotters::drawing::DrawingArea<SVGBackend<'b>, plotters::coord::Shift>,
}

impl Pen<'_, '_> {
    fn head(&self, balance: &Balance) -> Drawn {
        let title = format!("New flows of {} by Pod", balance.service);
        self.write(&title, (24, 26), 25, &INK, HPos::Left)?;
        let seconds = balance.window.as_secs_f64();
        let sum = match (balance.flows, balance.complete()) {
            (0, _) => format!("no new flow in {seconds:.1} s"),
            (flows, true) => format!("{flows} in {seconds:.1} s"),
            (flows, false) => format!("{flows} in {seconds:.1} s; some may be missing"),
        };
        self.write(&sum, (24, 54), 17, &PALE, HPos::Left)?;
        for (x, color, word) in [(LEFT, EXPECTED, "expected"), (LEFT + 110, COUNTED, "counted")] {
            self.area.draw(&Rectangle::new([(x, 48), (x + 12, 60)], color.filled()))?;
            self.write(word, (x + 18, 54), 17, &INK, HPos::Left)?;
        }
        Ok(())
    }

    fn pod(&self, pod: &str, load: &Load, y: i32, most: u64) -> Drawn {
        self.write(&short(pod, OF_POD), (LEFT - 12, y + POD / 2), 16, &INK, HPos::Right)?;
        let length = |permille: u64| -> Result<i32, Box<dyn Error>> {
            Ok(i32::try_from(u64::try_from(LONGEST)? * permille / most)?)
        };
        let (expected, counted) = (length(load.expected.permille())?, length(load.counted.permille())?);
        for (top, length, color) in [(y + 6, expected, EXPECTED), (y + 20, counted, COUNTED)] {
            self.area.draw(&Rectangle::new([(LEFT, top), (LEFT + length, top + 13)], color.filled()))?;
        }
        let deviation = load.deviation().map_or_else(String::new, |deviation| format!(" ({deviation:+} ‰)"));
        let said = format!("{} ‰, {} flows{deviation}", load.counted.permille(), load.flows);
        self.write(&said, (LEFT + counted.max(expected) + 8, y + POD / 2), 16, &PALE, HPos::Left)
    }

    fn write(&self, text: &str, at: (i32, i32), size: i32, color: &RGBColor, side: HPos) -> Drawn {
        // The library counts as points what SVG reads as pixels, which makes letters smaller by a fifth.
        let style = TextStyle::from(("sans-serif", size).into_font()).color(color).pos(Pos::new(side, VPos::Center));
        Ok(self.area.draw(&Text::new(text.to_owned(), at, style))?)
    }
}

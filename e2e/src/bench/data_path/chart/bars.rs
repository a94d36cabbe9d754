//! Bars on a logarithmic scale, in a group for each number of Services.

use anyhow::Result;
use plotters::prelude::*;

use super::{NAMES, SIZE, failed, thin};
use crate::bench::data_path::rows::number;

/// The bars of one size.
pub(super) struct Group {
    pub(super) services: usize,
    pub(super) bars: Vec<Bar>,
}

/// One bar.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) colour: RGBColor,
    /// Filled, or an outline only.
    pub(super) filled: bool,
    pub(super) value: f64,
    /// Where its whisker ends.
    pub(super) tail: Option<f64>,
}

/// Bars take a unit each, and between groups one is left free.
pub(super) fn draw(title: &str, axis: &str, groups: &[Group]) -> Result<String> {
    let bars = || groups.iter().flat_map(|group| &group.bars);
    let most = bars().map(|bar| bar.tail.unwrap_or(bar.value).max(bar.value)).fold(1.0, f64::max) * 2.0;
    let least = bars().map(|bar| bar.value).filter(|value| *value > 0.0).fold(1.0, f64::min) / 2.0;
    let width = groups.iter().map(|group| group.bars.len() + 1).sum::<usize>() as f64;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (left, right) = root.split_horizontally(SIZE.0 - NAMES);
        let mut chart = ChartBuilder::on(&left)
            .caption(title, ("sans-serif", 22))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..width, (least..most).log_scale())
            .map_err(failed)?;
        let value = |y: &f64| number(*y);
        let mut mesh = chart.configure_mesh();
        mesh.disable_x_mesh().x_labels(0).x_desc("Services").y_desc(axis).y_label_formatter(&value);
        mesh.label_style(("sans-serif", 16)).axis_desc_style(("sans-serif", 17));
        mesh.light_line_style(TRANSPARENT).bold_line_style(thin());
        mesh.draw().map_err(failed)?;
        let mut from = 0.5;
        for group in groups {
            for (bar, number_of_bar) in group.bars.iter().zip(0_u32..) {
                draw_bar(&mut chart, bar, from + f64::from(number_of_bar), least)?;
            }
            let middle = from + group.bars.len() as f64 / 2.0;
            let (x, y) = chart.backend_coord(&(middle, least));
            let style = TextStyle::from(("sans-serif", 17).into_font()).pos(plotters::style::text_anchor::Pos::new(
                plotters::style::text_anchor::HPos::Center,
                plotters::style::text_anchor::VPos::Top,
            ));
            root.draw(&Text::new(number(group.services as f64), (x, y + 6), style)).map_err(failed)?;
            from += group.bars.len() as f64 + 1.0;
        }
        let mut named: Vec<&Bar> = Vec::new();
        bars().for_each(|bar| {
            if named.iter().all(|other| other.name != bar.name) {
                named.push(bar);
            }
        });
        for (place, bar) in (0_i32..).zip(named) {
            let at = 70 + place * 36;
            // What is said beyond the variant's name gets a line of its own.
            let (first, rest) = bar.name.rsplit_once(", at ").unwrap_or((&bar.name, ""));
            let rest = if rest.is_empty() { String::new() } else { format!("at {rest}") };
            right.draw(&Rectangle::new([(4, at - 7), (30, at + 7)], style(bar))).map_err(failed)?;
            right.draw(&Text::new(first.to_owned(), (38, at - 7), ("sans-serif", 17))).map_err(failed)?;
            right.draw(&Text::new(rest, (38, at + 8), ("sans-serif", 15))).map_err(failed)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(text)
}

type Plot<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::combinators::LogCoord<f64>>,
>;

fn draw_bar(chart: &mut Plot<'_, '_>, bar: &Bar, x: f64, floor: f64) -> Result<()> {
    let (left, right, middle) = (x + 0.08, x + 0.92, x + 0.5);
    let top = bar.value.max(floor);
    chart.draw_series([Rectangle::new([(left, floor), (right, top)], style(bar))]).map_err(failed)?;
    let mut highest = top;
    if let Some(tail) = bar.tail.filter(|tail| *tail > top) {
        highest = tail;
        let whisker = BLACK.stroke_width(1);
        chart
            .draw_series([
                PathElement::new([(middle, top), (middle, tail)], whisker),
                PathElement::new([(x + 0.35, tail), (x + 0.65, tail)], whisker),
            ])
            .map_err(failed)?;
    }
    let label = TextStyle::from(("sans-serif", 15).into_font()).pos(plotters::style::text_anchor::Pos::new(
        plotters::style::text_anchor::HPos::Center,
        plotters::style::text_anchor::VPos::Bottom,
    ));
    let above = EmptyElement::at((middle, highest)) + Text::new(number(bar.value), (0, -4), label);
    chart.draw_series([above]).map_err(failed)?;
    Ok(())
}

fn style(bar: &Bar) -> ShapeStyle {
    if bar.filled { bar.colour.filled() } else { bar.colour.stroke_width(2) }
}

//! A line for each variant over the number of Services.

use anyhow::Result;
use plotters::element::DashedPathElement;
use plotters::prelude::*;

use super::{NAMES, SIZE, colour, failed, thin};
use crate::bench::data_path::rows::number;
use crate::bench::data_path::variant::Variant;

/// Points are (Services, value).
pub(super) fn draw(title: &str, axis: &str, series: &[(Variant, Vec<(f64, f64)>)]) -> Result<String> {
    let points = || series.iter().flat_map(|(_, points)| points.iter().copied());
    let most = points().map(|(_, y)| y).fold(0.0, f64::max) * 1.08;
    let widest = points().map(|(x, _)| x).fold(10.0, f64::max) * 1.3;
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
            .build_cartesian_2d((0.8..widest).log_scale(), 0.0..most)
            .map_err(failed)?;
        let services = |x: &f64| number(*x);
        let value = |y: &f64| number(*y);
        let mut mesh = chart.configure_mesh();
        mesh.x_desc("Services").y_desc(axis).label_style(("sans-serif", 16)).axis_desc_style(("sans-serif", 17));
        mesh.x_label_formatter(&services)
            .y_label_formatter(&value)
            .light_line_style(TRANSPARENT)
            .bold_line_style(thin());
        mesh.draw().map_err(failed)?;
        for (place, (variant, points)) in (0_i32..).zip(series) {
            let style = colour(*variant).stroke_width(if variant.engine().is_some() { 3 } else { 2 });
            let at = 70 + place * 26;
            let legend = [(4, at), (34, at)];
            if variant.proxy().is_some() {
                chart.draw_series(DashedLineSeries::new(points.iter().copied(), 6, 4, style)).map_err(failed)?;
                right.draw(&DashedPathElement::new(legend, 6, 4, style)).map_err(failed)?;
            } else {
                chart.draw_series(LineSeries::new(points.iter().copied(), style)).map_err(failed)?;
                right.draw(&PathElement::new(legend, style)).map_err(failed)?;
            }
            let dot = colour(*variant).filled();
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, dot))).map_err(failed)?;
            right.draw(&Circle::new((19, at), 4, dot)).map_err(failed)?;
            right.draw(&Text::new(variant.legend(), (42, at - 7), ("sans-serif", 17))).map_err(failed)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(text)
}

//! Charts as a picture: small ones side by side, both axes logarithmic, one SVG for each axis.
//!
//! The ground is painted, so that a page may be light or dark around it; colours are Okabe and Ito's, which people tell apart who do
//! not see all of them.
//!
//! Always true: an engine has the same colour in every picture, and every engine that is drawn is in the legend.

use anyhow::{Result, anyhow};
use plotters::{
    backend::SVGBackend,
    chart::ChartBuilder,
    coord::{
        Shift,
        combinators::{BindKeyPoints as _, IntoLogRange as _},
    },
    drawing::{DrawingArea, IntoDrawingArea as _},
    element::{Circle, PathElement, Text},
    series::LineSeries,
    style::{Color as _, IntoFont as _, RGBColor, ShapeStyle},
};

use super::{
    goals::{PEERS, called},
    scale::{Axis, Chart},
};
use crate::figure::OURS;

const WIDE: u32 = 360;
const HIGH: u32 = 270;
const LEGEND: u32 = 40;
const COLUMNS: usize = 3;
/// Beside an axis.
const MOST_LABELS: usize = 8;
const GROUND: RGBColor = RGBColor(255, 255, 255);
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);
const OTHER: RGBColor = RGBColor(120, 120, 120);
const COLOURS: [(&str, RGBColor); 5] = [
    (OURS, RGBColor(0, 114, 178)),
    (PEERS[0].0, RGBColor(230, 159, 0)),
    (PEERS[1].0, RGBColor(204, 121, 167)),
    (PEERS[2].0, RGBColor(213, 94, 0)),
    (PEERS[3].0, RGBColor(0, 158, 115)),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The picture of `charts`.
pub(crate) fn svg(charts: &[Chart], axis: Axis) -> Result<String> {
    let mut text = String::new();
    draw(&mut text, charts, axis)
        .map_err(|error| anyhow!("the plot of {} could not be drawn: {error}", axis.name()))?;
    Ok(text)
}

fn draw(text: &mut String, charts: &[Chart], axis: Axis) -> Result<(), Box<dyn std::error::Error>> {
    let columns = charts.len().clamp(1, COLUMNS);
    let lines = charts.len().div_ceil(columns).max(1);
    let size = (WIDE * u32::try_from(columns)?, HIGH * u32::try_from(lines)? + LEGEND);
    let root = SVGBackend::with_string(text, size).into_drawing_area();
    root.fill(&GROUND)?;
    let (head, rest) = root.split_vertically(LEGEND);
    legend(&head, charts)?;
    for (chart, area) in charts.iter().zip(rest.split_evenly((lines, columns))) {
        one(&area, chart, axis)?;
    }
    root.present()?;
    Ok(())
}

fn legend(area: &Area<'_>, charts: &[Chart]) -> Result<(), Box<dyn std::error::Error>> {
    const STEP: i32 = 150;
    let mut x = 16;
    for engine in drawn(charts) {
        let colour = colour(engine);
        area.draw(&PathElement::new([(x, 20), (x + 18, 20)], stroke(engine)))?;
        area.draw(&Circle::new((x + 9, 20), 3, colour.filled()))?;
        area.draw(&Text::new(
            called(engine).to_owned(),
            (x + 24, 13),
            ("sans-serif", 16).into_font().color(&INK),
        ))?;
        x += STEP;
    }
    Ok(())
}

/// The engines that have a point in some chart, in the order of the colours.
fn drawn(charts: &[Chart]) -> Vec<&str> {
    let mut engines: Vec<&str> = Vec::new();
    for (engine, points) in charts.iter().flat_map(|chart| &chart.lines) {
        if !points.is_empty() && !engines.contains(&engine.as_str()) {
            engines.push(engine);
        }
    }
    let rank = |engine: &str| COLOURS.iter().position(|(name, _)| *name == engine);
    engines.sort_by_key(|engine| rank(engine).unwrap_or(COLOURS.len()));
    engines
}

fn one(area: &Area<'_>, chart: &Chart, axis: Axis) -> Result<(), Box<dyn std::error::Error>> {
    let places = chart.places();
    let values: Vec<f64> =
        chart.lines.iter().flat_map(|(_, p)| p.iter().map(|(_, y)| *y)).filter(|y| *y > 0.0).collect();
    let (Some(first), Some(last)) = (places.first(), places.last()) else { return Ok(()) };
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    if !low.is_finite() {
        return Ok(());
    }
    let small = |size: u32| ("sans-serif", size).into_font().color(&INK);
    let x = (*first as f64) / 1.15..(*last as f64) * 1.15;
    let x = x.log_scale().with_key_points(places.iter().map(|place| *place as f64).collect());
    let (low, high) = (low / 1.6, high * 1.6);
    let y = (low..high).log_scale().with_key_points(round_values(low, high));
    let mut builder = ChartBuilder::on(area);
    builder.margin(8).margin_right(16).x_label_area_size(34).y_label_area_size(62);
    let title = format!("{}, {}", chart.title, chart.figure.name());
    let mut drawing = builder.caption(title, small(16)).build_cartesian_2d(x, y)?;
    drawing
        .configure_mesh()
        .x_desc(axis.name())
        .x_labels(places.len())
        .y_labels(MOST_LABELS)
        .x_label_formatter(&|x| axis.write(*x))
        .y_label_formatter(&|y| chart.figure.write(*y))
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(GROUND)
        .label_style(small(13))
        .axis_desc_style(small(13))
        .draw()?;
    for (engine, points) in &chart.lines {
        let points = points.iter().filter(|(_, y)| *y > 0.0).map(|(x, y)| (*x as f64, *y));
        drawing.draw_series(LineSeries::new(points.clone(), stroke(engine)))?;
        drawing.draw_series(points.map(|point| Circle::new(point, 3, colour(engine).filled())))?;
    }
    Ok(())
}

/// Powers of ten between `low` and `high`, and, if those are few, twice and five times each too.
fn round_values(low: f64, high: f64) -> Vec<f64> {
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let values = |steps: &[f64]| -> Vec<f64> {
        let all = powers.clone().flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        all.filter(|value| (low..=high).contains(value)).collect()
    };
    let fine = values(&[1.0, 2.0, 5.0]);
    if fine.len() <= MOST_LABELS { fine } else { values(&[1.0]) }
}

fn colour(engine: &str) -> RGBColor {
    COLOURS.iter().find(|(name, _)| *name == engine).map_or(OTHER, |(_, colour)| *colour)
}

/// Ours is wider.
fn stroke(engine: &str) -> ShapeStyle {
    colour(engine).stroke_width(if engine == OURS { 3 } else { 2 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Figure;

    #[test]
    fn a_picture_is_painted_on_a_ground_and_its_legend_names_who_is_drawn() {
        let chart = |title: &str, figure| Chart {
            title: title.into(),
            figure,
            lines: vec![
                ("esker".into(), vec![(1_000_000, 9e5), (30_000_000, 7e5)]),
                ("fjall".into(), vec![(1_000_000, 3e5), (30_000_000, 0.0)]),
                ("rocksdb".into(), Vec::new()),
            ],
        };
        let charts = [chart("read-random on dir", Figure::Rate), chart("open <on> dir", Figure::Median)];
        let text = svg(&charts, Axis::Rows).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        assert!(text.contains("#FFFFFF") && text.contains("#0072B2"), "{text}");
        assert!(text.contains("\nEsker\n") && text.contains("\nfjall\n"), "{text}");
        assert!(!text.contains("RocksDB"), "it has no point: {text}");
        assert!(!text.contains("<on>"), "{text}");
        assert!(text.contains("\n30.0 M\n") && text.contains("\n500 k\n"), "{text}");
        let nothing = Chart {
            title: "none".into(),
            figure: Figure::Rate,
            lines: vec![("esker".into(), vec![(1, 0.0), (2, 0.0)])],
        };
        assert!(svg(&[nothing], Axis::Callers).is_ok());
        assert!(svg(&[], Axis::Callers).is_ok());
    }

    #[test]
    fn an_axis_has_round_values_and_not_too_many() {
        assert_eq!(round_values(1.5, 25.0), [2.0, 5.0, 10.0, 20.0]);
        assert_eq!(round_values(1.5, 2e5), [10.0, 100.0, 1e3, 1e4, 1e5]);
    }
}

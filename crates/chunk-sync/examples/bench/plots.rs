//! The figures of a report as SVG: throughput beside its limit or peer, latency against load, cost against size.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use plotters::prelude::*;
use serde_json::Value;

type Drawn = Result<(), Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

const SIZE: (u32, u32) = (760, 420);

/// Writes `throughput.svg`, `latency.svg` and `size.svg`, each if the report has figures for it.
pub(crate) fn draw(report: &Value, directory: &Path) -> Drawn {
    std::fs::create_dir_all(directory)?;
    throughput(report, &directory.join("throughput.svg"))?;
    latency(report, &directory.join("latency.svg"))?;
    size(report, &directory.join("size.svg"))
}

fn area(path: &Path) -> Result<Area<'_>, Box<dyn Error>> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    Ok(area)
}

fn figures(report: &Value) -> impl Iterator<Item = (&str, f64, &Value)> {
    report["figures"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|figure| Some((figure["name"].as_str()?, figure["median"].as_f64()?, figure)))
}

/// A bar for each figure that has a limit or peer, in per cent of it.
fn throughput(report: &Value, path: &Path) -> Drawn {
    let bars: Vec<(String, f64)> = figures(report)
        .filter_map(|(name, median, figure)| {
            let (peer, ratio) = (figure["beside"].as_str()?, figure["ratio"].as_f64()?);
            Some((format!("{name}: {median:.0} {}, beside {peer}", figure["unit"].as_str()?), 100.0 * ratio))
        })
        .collect();
    let Some(most) = bars.iter().map(|(_, share)| *share).reduce(f64::max) else { return Ok(()) };
    let area = area(path)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Throughput in per cent of the limit or peer of the same run", ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(32)
        .build_cartesian_2d(0.0..most.max(105.0), 0.0..bars.len() as f64)?;
    chart.configure_mesh().disable_y_axis().disable_y_mesh().x_desc("%").draw()?;
    for (row, (label, share)) in bars.iter().rev().enumerate() {
        let row = row as f64;
        let bar = Rectangle::new([(0.0, row + 0.1), (*share, row + 0.5)], BLUE.mix(0.6).filled());
        chart.draw_series([bar])?;
        let text = format!("{share:.0} %  {label}");
        chart.draw_series([Text::new(text, (0.5, row + 0.85), ("sans-serif", 12).into_font())])?;
    }
    chart.draw_series(LineSeries::new([(100.0, 0.0), (100.0, bars.len() as f64)], BLACK))?;
    area.present()?;
    Ok(())
}

/// Percentiles of commit to visible, by store, against the commits per second.
fn latency(report: &Value, path: &Path) -> Drawn {
    let mut lines: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (name, median, _) in figures(report) {
        let parts = name.strip_prefix("latency: ").and_then(|rest| rest.split_once(", "));
        let Some((store, (rate, share))) = parts.and_then(|(store, rest)| Some((store, rest.split_once("/s, ")?)))
        else {
            continue;
        };
        if let (Ok(rate), "p50" | "p95" | "p99") = (rate.parse::<f64>(), share) {
            lines.entry(format!("{store} {share}")).or_default().push((rate, median));
        }
    }
    logarithmic(&lines, path, "Latency from commit to visible", "commits per second", "milliseconds")
}

/// The rate of loading against the length of the content.
fn size(report: &Value, path: &Path) -> Drawn {
    let mut lines: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (name, median, _) in figures(report) {
        let length = name.strip_prefix("scale: chunks of ").and_then(|rest| rest.strip_suffix(" bytes"));
        if let Some(length) = length.and_then(|length| length.parse::<f64>().ok()) {
            lines.entry("load".to_owned()).or_default().push((length, 1e6 / median));
        }
    }
    logarithmic(&lines, path, "Cost of a chunk against its size", "bytes of content", "microseconds per chunk")
}

fn logarithmic(lines: &BTreeMap<String, Vec<(f64, f64)>>, path: &Path, caption: &str, x: &str, y: &str) -> Drawn {
    let points: Vec<(f64, f64)> = lines.values().flatten().copied().collect();
    if points.len() < 2 {
        return Ok(());
    }
    let area = area(path)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(
            axis(points.iter().map(|(x, _)| *x)).log_scale(),
            axis(points.iter().map(|(_, y)| *y)).log_scale(),
        )?;
    chart.configure_mesh().x_desc(x).y_desc(y).draw()?;
    for (number, (label, points)) in lines.iter().enumerate() {
        let mut points = points.clone();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        let color = Palette99::pick(number).stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.clone(), color))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color));
        chart.draw_series(points.into_iter().map(|point| Circle::new(point, 3, color.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.4))
        .draw()?;
    area.present()?;
    Ok(())
}

/// From a little below the least to a little above the greatest value.
fn axis(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (least, greatest) =
        values.fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(value), most.max(value)));
    (least / 1.3).max(0.1)..greatest * 1.3
}

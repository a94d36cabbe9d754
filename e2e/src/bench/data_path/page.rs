//! All rows as the data path's part of `config/docs/benchmarks.md`. Pure but for the page's file.

use super::rows::{Metric, Wide, number};
use super::variant::Variant;

/// Between these lines the page is ours.
pub(super) const BEGIN: &str = "<!-- data path: written by `make bench` -->";
pub(super) const END: &str = "<!-- end of the data path -->";

/// Both tables: what clients see, and what changes cost.
pub(super) fn tables(rows: &[Wide]) -> String {
    let packets: Vec<&Wide> = rows.iter().filter(|row| row.metric.is_of_packets()).collect();
    let updates: Vec<&Wide> = rows.iter().filter(|row| !row.metric.is_of_packets()).collect();
    let mut text = String::from(
        "Packets: `plain` as measured, every other column its ratio to plain (± spread of the rounds).\n\n",
    );
    text.push_str(&table(&packets, &Variant::ALL));
    text.push_str("\nChanges: as measured, one daemon at a time.\n\n");
    text.push_str(&table(&updates, &Variant::DAEMONS));
    text
}

fn table(rows: &[&Wide], columns: &[Variant]) -> String {
    let heads: Vec<_> = columns.iter().map(|variant| variant.column()).collect();
    let mut text = format!("| what | Services | {} | held to |\n", heads.join(" | "));
    text.push_str(&format!("|---|--:|{}---|\n", "--:|".repeat(columns.len())));
    for row in rows {
        let cells: Vec<_> = columns.iter().map(|variant| cell(row, *variant)).collect();
        let (what, services) = (row.metric.what(), number(row.services as f64));
        text.push_str(&format!("| {what} | {services} | {} | {} |\n", cells.join(" | "), held(row)));
    }
    text
}

fn cell(row: &Wide, variant: Variant) -> String {
    let Some(figure) = row.figures.get(&variant) else { return String::new() };
    match figure.ratio {
        Some(ratio) if variant != Variant::Plain => {
            format!("{} ±{}", number(ratio), number(round(figure.spread)))
        }
        _ => format!("{} {}", number(figure.value), row.unit),
    }
}

/// A spread needs no more than two digits after the point.
fn round(spread: f64) -> f64 {
    (spread * 100.0).ceil() / 100.0
}

/// The goal, and who misses it by how much.
fn held(row: &Wide) -> String {
    let Some(goal) = row.metric.goal(row.services) else { return String::new() };
    let ours = row.figures.iter().filter(|(variant, _)| variant.engine().is_some());
    let unit = if row.metric.is_of_packets() { "of plain" } else { &row.unit };
    let missed = ours.filter_map(|(variant, figure)| {
        let by = goal.missed_by(figure.ratio.unwrap_or(figure.value))?;
        Some(format!("**{} misses it by {}**", variant.column().replace("**", ""), number(by)))
    });
    let missed: Vec<_> = missed.collect();
    let mut verdict = if missed.is_empty() { "met".to_owned() } else { missed.join("; ") };
    let floor = row.figures.get(&Variant::OneRule).and_then(|figure| figure.ratio);
    if let Some(by) = floor.and_then(|ratio| goal.missed_by(ratio)) {
        verdict.push_str(&format!("; one NAT rule itself lacks {}", number(by)));
    }
    format!("{}: {verdict}", goal.words(unit))
}

/// Whether any of ours misses the row's goal, for people while the bench runs.
pub(super) fn verdict(row: &Wide) -> String {
    held(row).replace("**", "")
}

/// The charts that can be drawn from these rows, as lines of the page.
pub(super) fn pictures(drawn: &[&super::chart::Chart]) -> String {
    drawn.iter().map(|chart| format!("\n![{}]({})\n\n{}\n", chart.title, chart.file, chart.sentence)).collect()
}

/// Sizes and metrics that a metric was measured at.
pub(super) fn of(rows: &[Wide], metric: Metric) -> Vec<&Wide> {
    rows.iter().filter(|row| row.metric == metric).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::data_path::sample::rows;

    #[test]
    fn the_tables_say_who_misses_what() {
        insta::assert_snapshot!(tables(&rows()));
    }
}

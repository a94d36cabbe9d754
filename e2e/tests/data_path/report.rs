//! What every scenario saw, variant by variant.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

/// One thing that was looked at, in one variant.
#[derive(Clone, Debug)]
struct Cell {
    seen: String,
    /// What should have been seen, if it was not.
    wanted: Option<String>,
}

/// Scenario and step, and a cell for each variant.
type Row = ((String, String), BTreeMap<String, Cell>);

/// Rows in the order in which they were first written.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Mutex<Vec<Row>>,
}

impl Report {
    /// Records what was seen; `wanted` is what should have been.
    pub(crate) fn record(&self, variant: &str, scenario: &str, step: &str, seen: &str, wanted: &str) {
        let cell = Cell { seen: seen.to_owned(), wanted: (seen != wanted).then(|| wanted.to_owned()) };
        let mut rows = self.rows.lock().unwrap();
        let key = (scenario.to_owned(), step.to_owned());
        match rows.iter_mut().find(|(have, _)| *have == key) {
            Some((_, cells)) => {
                cells.insert(variant.to_owned(), cell);
            }
            None => rows.push((key, [(variant.to_owned(), cell)].into())),
        }
    }

    /// A table in Markdown, scenario by scenario.
    pub(crate) fn table(&self, title: &str, variants: &[&str]) -> String {
        let mut rows = self.rows.lock().unwrap().clone();
        rows.sort_by(|a, b| a.0.0.cmp(&b.0.0));
        let mut text = format!("## {title}\n\n| scenario | step | {} |\n|---|---|", variants.join(" | "));
        text.push_str(&"---|".repeat(variants.len()));
        text.push('\n');
        for ((scenario, step), cells) in &rows {
            let _infallible = write!(text, "| {scenario} | {step} |");
            for variant in variants {
                let shown = match cells.get(*variant) {
                    None => String::new(),
                    Some(Cell { seen, wanted: None }) => seen.clone(),
                    Some(Cell { seen, wanted: Some(wanted) }) => format!("**{seen}**, not {wanted}"),
                };
                let _infallible = write!(text, " {shown} |");
            }
            text.push('\n');
        }
        text
    }

    /// Everything that was not as it should be, a line each.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let rows = self.rows.lock().unwrap();
        let cells = rows.iter().flat_map(|(key, cells)| cells.iter().map(move |(variant, cell)| (key, variant, cell)));
        cells
            .filter_map(|((scenario, step), variant, cell)| {
                let wanted = cell.wanted.as_ref()?;
                Some(format!("{variant}: {scenario}: {step}: saw {}, not {wanted}", cell.seen))
            })
            .collect()
    }

    /// Number of cells.
    pub(crate) fn len(&self) -> usize {
        self.rows.lock().unwrap().iter().map(|(_, cells)| cells.len()).sum()
    }
}

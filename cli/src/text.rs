//! Words and tables for people.

use crate::args::Color;
use crate::output::outln;
use comfy_table::{ContentArrangement, Table, TableStyle};
use std::io::IsTerminal as _;

/// A table without lines, as kubectl prints.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table
}

/// Prints `table` without the trailing blanks that column padding leaves.
pub(crate) fn print_table(table: Table) {
    lines(table).for_each(|line| outln!("{line}"));
}

/// The lines of `table`, as [`print_table`] prints them.
pub(crate) fn lines(mut table: Table) -> impl Iterator<Item = String> {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    lines.into_iter()
}

/// Whether stdout gets colours.
pub(crate) fn colored(color: Color) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    }
}

/// `text` without control characters: strings from a cluster or a file must not steer a terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// "1 Service", "2 Services".
pub(crate) fn count(number: usize, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

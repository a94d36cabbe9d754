//! All results of a run as the table of `config/docs/benchmarks.md`.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::Row;

const BEGIN: &str = "<!-- table: written by `make bench` -->";
const END: &str = "<!-- end of table -->";

/// Writes every `*.json` of `out` between the marks of `page`; if there is none, the page stays as it is.
pub(super) fn write(out: &Path, page: &Path) -> Result<()> {
    std::fs::create_dir_all(out)?;
    let mut files: Vec<_> = std::fs::read_dir(out)?.collect::<std::io::Result<Vec<_>>>()?;
    files.sort_by_key(std::fs::DirEntry::file_name);
    let mut table = String::from(
        "| what | ours | peer | ratio | unit | spread | rounds | held to |\n|---|---|---|---|---|---|---|---|\n",
    );
    files.retain(|file| file.path().extension().is_some_and(|end| end == "json"));
    if files.is_empty() {
        return Ok(());
    }
    for file in files {
        let path = file.path();
        let row: Row = serde_json::from_slice(&std::fs::read(&path)?).with_context(|| path.display().to_string())?;
        table.push_str(&line(&row));
    }
    replace(page, (BEGIN, END), &table)
}

/// Puts `table` between the marks of `page`.
pub(super) fn replace(page: &Path, marks: (&str, &str), table: &str) -> Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| page.display().to_string())?;
    std::fs::write(page, replaced(&text, marks, table)?).with_context(|| page.display().to_string())
}

fn line(row: &Row) -> String {
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let note = if row.note.is_empty() { String::new() } else { format!(" ({})", row.note) };
    let held = match row.met {
        Some(true) => format!("{}: met", row.goal),
        Some(false) => format!("{}: **not met**", row.goal),
        None => row.goal.clone(),
    };
    format!(
        "| {}{note} | {} | {} | {} | {} | {} | {} | {held} |\n",
        row.name,
        row.ours,
        number(row.peer),
        number(row.ratio),
        row.unit,
        row.spread,
        row.rounds
    )
}

fn replaced(page: &str, (begin, end): (&str, &str), table: &str) -> Result<String> {
    let (before, rest) = page.split_once(begin).with_context(|| format!("the page has no line {begin}"))?;
    let (_, after) = rest.split_once(end).with_context(|| format!("the page has no line {end}"))?;
    ensure!(!table.is_empty(), "invariant: a table has a head");
    Ok(format!("{before}{begin}\n\n{table}\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::{Row, line, replaced};

    #[test]
    fn only_what_lies_between_the_marks_is_replaced() {
        let page = format!("# Head\n{}\nold\n{}\nTail\n", super::BEGIN, super::END);
        let now = replaced(&page, (super::BEGIN, super::END), "new\n").expect("the marks are there");
        assert!(
            now.starts_with("# Head\n") && now.ends_with("\nTail\n") && now.contains("new") && !now.contains("old")
        );
    }

    #[test]
    fn without_any_result_the_page_stays_as_it_is() {
        let dir = crate::run_dir::scratch("bench-table");
        let page = dir.path().join("page.md");
        std::fs::write(&page, format!("{}\nold\n{}\n", super::BEGIN, super::END)).unwrap();
        super::write(&dir.path().join("results"), &page).unwrap();
        assert!(std::fs::read_to_string(&page).unwrap().contains("old"));
        let row = Row::new("id", "weight", "MiB", &[3.0]);
        row.write(&dir.path().join("results")).unwrap();
        super::write(&dir.path().join("results"), &page).unwrap();
        let now = std::fs::read_to_string(&page).unwrap();
        assert!(now.contains("| weight | 3 |") && !now.contains("old"), "{now}");
    }

    #[test]
    fn a_goal_that_is_missed_stands_out() {
        let row = Row::new("id", "weight", "MiB", &[3.0, 1.0, 2.0]).goal("< 1 MiB", false);
        assert_eq!(line(&row), "| weight | 2 |  |  | MiB | 2 | 3 | < 1 MiB: **not met** |\n");
    }
}

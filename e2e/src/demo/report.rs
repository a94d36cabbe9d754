//! What the acts found, for scripts: `target/demo/report.json`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

const FILE: &str = "report.json";

/// The whole play.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every act passed.
    pub passed: bool,
    /// Acts in the order in which they were played.
    pub acts: Vec<ActReport>,
}

/// One act.
#[derive(Debug, Serialize)]
pub struct ActReport {
    /// Stable id.
    pub id: &'static str,
    /// What it shows.
    pub title: &'static str,
    /// Whether it showed it.
    pub passed: bool,
    /// What was measured, by name.
    pub measured: BTreeMap<String, Value>,
    /// Seconds it took.
    pub seconds: f64,
    /// Why it did not pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Collects values while an act plays; what was measured before a failure is kept.
#[derive(Debug, Default)]
pub(crate) struct Measured(BTreeMap<String, Value>);

impl Measured {
    /// Records `value` and shows it.
    pub(crate) fn note(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        super::say(&format!("        {name}: {}", shown(&value)));
        self.0.insert(name.to_owned(), value);
    }

    /// Records a length of time, in seconds to the millisecond.
    pub(crate) fn time(&mut self, name: &str, took: Duration) {
        self.note(name, (took.as_secs_f64() * 1000.0).round() / 1000.0);
    }

    pub(super) fn take(self) -> BTreeMap<String, Value> {
        self.0
    }
}

/// Whether the report in `dir` says that every act passed.
pub fn passed(dir: &Path) -> Result<bool> {
    let path = dir.join(FILE);
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let report: Value = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    report["passed"].as_bool().with_context(|| format!("{}: no member `passed`", path.display()))
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains('\n') => {
            format!("\n          {}", text.trim_end().replace('\n', "\n          "))
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Report {
    /// Writes `report.json` into `dir`.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join(FILE);
        std::fs::write(&path, serde_json::to_vec_pretty(self)?).with_context(|| path.display().to_string())
    }

    /// A table of acts, and one line with the verdict.
    pub(super) fn summary(&self, dir: &Path) -> String {
        let mut text = String::from("\n");
        for act in &self.acts {
            let mark = if act.passed { "passed" } else { "FAILED" };
            text.push_str(&format!("  {mark}  {:<13} {:>6.1}s  {}\n", act.id, act.seconds, act.title));
            if let Some(error) = &act.error {
                text.push_str(&format!("          {}\n", error.replace('\n', "\n          ")));
            }
        }
        let passed = self.acts.iter().filter(|act| act.passed).count();
        text.push_str(&format!(
            "\ndemo: {passed} passed, {} failed; report in {}",
            self.acts.len() - passed,
            dir.join(FILE).display()
        ));
        text
    }
}

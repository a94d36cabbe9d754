//! One result.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// A figure, the peer's in the same run, and what we hold ourselves to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Our figure.
    pub ours: f64,
    /// The peer's, where there is one.
    #[serde(default)]
    pub peer: Option<f64>,
    /// `ours / peer`.
    #[serde(default)]
    pub ratio: Option<f64>,
    /// Unit of both.
    pub unit: String,
    /// Slices or repetitions behind the figure.
    pub rounds: usize,
    /// Least to greatest over the rounds, in the same unit.
    pub spread: f64,
    /// What we hold ourselves to, in words.
    #[serde(default)]
    pub goal: String,
    /// Whether it holds.
    #[serde(default)]
    pub met: Option<bool>,
    /// Who the peer is, and what else a reader should know.
    #[serde(default)]
    pub note: String,
    /// File name, without the end.
    #[serde(skip)]
    pub id: &'static str,
}

impl Row {
    /// A row without a peer. `rounds` must not be empty.
    pub(super) fn new(id: &'static str, name: &str, unit: &str, rounds: &[f64]) -> Self {
        let (ours, spread) = summary(rounds);
        let (name, unit) = (name.to_owned(), unit.to_owned());
        let (goal, note) = (String::new(), String::new());
        Self { name, ours, peer: None, ratio: None, unit, rounds: rounds.len(), spread, goal, met: None, note, id }
    }

    /// Beside a peer measured in the same slices.
    pub(super) fn beside(mut self, note: &str, peer: &[f64]) -> Self {
        let (peer, _) = summary(peer);
        (self.peer, self.ratio) = (Some(peer), Some(rounded(self.ours / peer)));
        note.clone_into(&mut self.note);
        self
    }

    pub(super) fn goal(mut self, goal: &str, met: bool) -> Self {
        (self.goal, self.met) = (goal.to_owned(), Some(met));
        self
    }

    pub(super) fn write(&self, out: &Path) -> Result<()> {
        std::fs::create_dir_all(out)?;
        let path = out.join(format!("{}.json", self.id));
        std::fs::write(&path, format!("{}\n", serde_json::to_string_pretty(self)?))
            .with_context(|| path.display().to_string())
    }

    /// For people, while the bench runs.
    pub(super) fn line(&self) -> String {
        let peer = self.peer.map(|peer| format!(", peer {peer} {}", self.unit)).unwrap_or_default();
        let met = self.met.map(|met| if met { ", met" } else { ", NOT met" }).unwrap_or_default();
        format!("{}: {} {} (± {}){peer} {}{met}", self.name, self.ours, self.unit, self.spread, self.goal)
    }
}

/// Median of the rounds, and the distance from their least to their greatest.
fn summary(rounds: &[f64]) -> (f64, f64) {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (first, last) = (sorted.first().copied().unwrap_or(f64::NAN), sorted.last().copied().unwrap_or(f64::NAN));
    (rounded(median(&mut sorted)), rounded(last - first))
}

/// The middle one; sorts.
pub(super) fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Two digits after the point are more than a shared machine can promise.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

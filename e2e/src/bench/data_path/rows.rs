//! One measured thing at one size, with a column for every variant; and what ours is held to.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::statistics::Figure;
use super::variant::Variant;

/// What is measured. The order is that of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Metric {
    Connections,
    RequestResponse,
    RequestResponseP50,
    RequestResponseP99,
    FirstPacket,
    Stream,
    ApplyP50,
    ApplyP99,
    ApplyMost,
    LoadedP50,
    LoadedP99,
    LoadedMost,
    CpuPerUpdate,
    Start,
    AfterLists,
    IdleMemory,
    Memory,
    IdleCpu,
    LoadedCpu,
}

/// A limit of ours, and on which side of it we should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Metric {
    #[cfg(test)]
    pub(super) const OF_PACKETS: [Self; 6] = [
        Self::Connections,
        Self::RequestResponse,
        Self::RequestResponseP50,
        Self::RequestResponseP99,
        Self::FirstPacket,
        Self::Stream,
    ];
    pub(super) const OF_UPDATES: [Self; 13] = [
        Self::ApplyP50,
        Self::ApplyP99,
        Self::ApplyMost,
        Self::LoadedP50,
        Self::LoadedP99,
        Self::LoadedMost,
        Self::CpuPerUpdate,
        Self::Start,
        Self::AfterLists,
        Self::IdleMemory,
        Self::Memory,
        Self::IdleCpu,
        Self::LoadedCpu,
    ];

    /// In words, for the table's first column.
    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::Connections => "new connections/s",
            Self::RequestResponse => "requests/s over an open connection",
            Self::RequestResponseP50 => "request to response, p50",
            Self::RequestResponseP99 => "request to response, p99",
            Self::FirstPacket => "SYN to SYN-ACK, p50",
            Self::Stream => "stream, offloads off",
            Self::ApplyP50 => "API write to packet, p50",
            Self::ApplyP99 => "API write to packet, p99",
            Self::ApplyMost => "API write to packet, most",
            Self::LoadedP50 => "the same at 100 changes/s, p50",
            Self::LoadedP99 => "the same at 100 changes/s, p99",
            Self::LoadedMost => "the same at 100 changes/s, most",
            Self::CpuPerUpdate => "CPU per update",
            Self::Start => "start to all Services in force",
            Self::AfterLists => "lists complete to all Services in force",
            Self::IdleMemory => "resident memory after the start",
            Self::Memory => "resident memory after the updates",
            Self::IdleCpu => "CPU when nothing changes",
            Self::LoadedCpu => "CPU at 100 changes/s",
        }
    }

    /// Unit of the measured value.
    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::Connections | Self::RequestResponse => "/s",
            Self::RequestResponseP50 | Self::RequestResponseP99 | Self::FirstPacket => "µs",
            Self::Stream => "MB/s",
            Self::ApplyP50 | Self::ApplyP99 | Self::ApplyMost => "ms",
            Self::LoadedP50 | Self::LoadedP99 | Self::LoadedMost | Self::CpuPerUpdate => "ms",
            Self::Start | Self::AfterLists => "s",
            Self::IdleMemory | Self::Memory => "MiB",
            Self::IdleCpu | Self::LoadedCpu => "cores",
        }
    }

    /// What ours is held to at this size, in ratios to plain where there is a plain, else in the metric's unit.
    pub(super) fn goal(self, services: usize) -> Option<Goal> {
        match self {
            Self::Connections => Some(Goal::AtLeast(0.86)),
            Self::RequestResponse => Some(Goal::AtLeast(0.91)),
            Self::ApplyP99 | Self::LoadedP99 => Some(Goal::AtMost(if services <= 1_000 { 100.0 } else { 250.0 })),
            Self::CpuPerUpdate => Some(Goal::AtMost(2.0)),
            Self::AfterLists => Some(Goal::AtMost(1.0)),
            Self::IdleMemory | Self::Memory => Some(Goal::AtMost(64.0)),
            // What a process that does nothing still does: timers, and the watches' own heartbeats.
            Self::IdleCpu => Some(Goal::AtMost(0.005)),
            Self::LoadedCpu => Some(Goal::AtMost(0.05)),
            _ => None,
        }
    }

    pub(super) const fn is_of_packets(self) -> bool {
        (self as u8) <= (Self::Stream as u8)
    }
}

impl Goal {
    /// In the table's words.
    pub(super) fn words(self, unit: &str) -> String {
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        match self {
            Self::AtLeast(limit) => format!("≥ {}{unit}", number(limit)),
            Self::AtMost(limit) => format!("≤ {}{unit}", number(limit)),
        }
    }

    /// By how much it is missed; nothing if it is met.
    pub(super) fn missed_by(self, value: f64) -> Option<f64> {
        let by = match self {
            Self::AtLeast(limit) => limit - value,
            Self::AtMost(limit) => value - limit,
        };
        // A figure that is not a number meets nothing.
        (by.is_nan() || by > 0.0).then_some(by)
    }
}

/// One metric at one size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Wide {
    pub(super) metric: Metric,
    pub(super) services: usize,
    /// Of the values; ratios have none.
    pub(super) unit: String,
    /// Rounds of slices, or changes that were waited for.
    pub(super) rounds: usize,
    pub(super) figures: BTreeMap<Variant, Figure>,
}

impl Wide {
    pub(super) fn new(
        metric: Metric,
        services: usize,
        rounds: usize,
        figures: impl Iterator<Item = (Variant, Figure)>,
    ) -> Self {
        Self { metric, services, unit: metric.unit().to_owned(), rounds, figures: figures.collect() }
    }

    /// Writes `OUT/METRIC-SERVICES.json`.
    pub(super) fn write(&self, out: &Path) -> Result<()> {
        std::fs::create_dir_all(out)?;
        let metric = serde_json::to_value(self.metric)?;
        let path = out.join(format!("{}-{}.json", metric.as_str().unwrap_or_default(), self.services));
        std::fs::write(&path, format!("{}\n", serde_json::to_string_pretty(self)?))
            .with_context(|| path.display().to_string())
    }

    /// Every row that lies in `out`, by metric and size; none if there is no such directory.
    pub(super) fn read_all(out: &Path) -> Result<Vec<Self>> {
        let mut rows = Vec::new();
        if !out.is_dir() {
            return Ok(rows);
        }
        for file in std::fs::read_dir(out)? {
            let path = file?.path();
            if path.extension().is_some_and(|end| end == "json") {
                let row = serde_json::from_slice(&std::fs::read(&path)?);
                rows.push(row.with_context(|| path.display().to_string())?);
            }
        }
        rows.sort_by_key(|row: &Self| (row.metric, row.services));
        Ok(rows)
    }

    /// For people, while the bench runs.
    pub(super) fn line(&self) -> String {
        let figures = self.figures.iter().map(|(variant, figure)| {
            let value = figure.ratio.filter(|_| *variant != Variant::Plain).unwrap_or(figure.value);
            format!("{} {}", variant.id(), number(value))
        });
        let figures: Vec<_> = figures.collect();
        format!("{} at {}: {} {}", self.metric.what(), self.services, figures.join(", "), self.unit)
    }
}

/// Three digits that matter: more are noise, and less would hide a miss.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".to_owned() } else { "–".to_owned() };
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    let text = format!("{value:.*}", usize::try_from(digits.clamp(0, 4)).unwrap_or(0));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    grouped(text)
}

/// `12345.6` as `12,345.6`.
fn grouped(text: &str) -> String {
    let (sign, text) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, rest) = text.find('.').map_or((text, ""), |at| text.split_at(at));
    let mut out = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    format!("{sign}{out}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_matter() {
        let shown = [0.0, 0.8613, 1.0, 12.34, 6511.4, 41234.0, 0.00123, f64::NAN].map(number);
        assert_eq!(shown, ["0", "0.861", "1", "12.3", "6,511", "41,234", "0.0012", "–"]);
    }

    #[test]
    fn a_goal_is_missed_by_what_is_lacking() {
        assert_eq!(Goal::AtLeast(0.75).missed_by(0.5), Some(0.25));
        assert_eq!(Goal::AtMost(2.0).missed_by(3.0), Some(1.0));
        assert_eq!((Goal::AtLeast(0.75).missed_by(0.75), Goal::AtMost(2.0).missed_by(1.0)), (None, None));
        assert!(Goal::AtMost(2.0).missed_by(f64::NAN).is_some());
    }

    #[test]
    fn packets_and_updates_are_all_there_is() {
        let all: Vec<_> = Metric::OF_PACKETS.into_iter().chain(Metric::OF_UPDATES).collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(Metric::OF_PACKETS.iter().all(|it| it.is_of_packets()));
        assert!(Metric::OF_UPDATES.iter().all(|it| !it.is_of_packets()));
    }

    #[test]
    fn what_is_written_is_read_back_in_order() {
        let dir = crate::run_dir::scratch("wide-rows");
        let figure = Figure { value: 2.5, ratio: Some(0.5), spread: 0.1 };
        let row = |metric, services| Wide::new(metric, services, 5, [(Variant::Iptables, figure)].into_iter());
        let rows = [row(Metric::Connections, 1), row(Metric::Connections, 1_000), row(Metric::Memory, 1)];
        rows.iter().rev().for_each(|row| row.write(dir.path()).unwrap());
        assert_eq!(Wide::read_all(dir.path()).unwrap(), rows);
        assert!(Wide::read_all(&dir.path().join("none")).unwrap().is_empty());
    }
}

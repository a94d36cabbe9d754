//! The charts beside the page: rows in, SVG out. Pure; the same rows always make the same text.
//!
//! Colours are those of Okabe and Ito, which colour-blind people tell apart; kube-proxy's lines are dashed as well, and
//! every series has its name beside it.

mod bars;
mod lines;

use anyhow::{Result, anyhow};
use plotters::prelude::{BLACK, Color as _, DrawingAreaErrorKind, RGBColor, ShapeStyle};

use super::page::of;
use super::rows::{Metric, Wide};
use super::variant::Variant;
use bars::{Bar, Group};

/// One picture, and what the page says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chart {
    pub(super) file: &'static str,
    pub(super) title: &'static str,
    pub(super) sentence: &'static str,
}

const CONNECTIONS: Chart = Chart {
    file: "data-path-connections.svg",
    title: "New connections a second, by number of Services",
    sentence: "New connections a second as a share of what plain routing does: rules that are looked up one after the other \
               cost more with every Service, maps do not; the thin line is a single rule, below which nothing gets that uses \
               the kernel's NAT.",
};
const FIRST_PACKET: Chart = Chart {
    file: "data-path-first-packet.svg",
    title: "Time from SYN to SYN-ACK, by number of Services",
    sentence: "What the first packet of a connection waits for, the only one that goes through the rules.",
};
const APPLY: Chart = Chart {
    file: "data-path-apply.svg",
    title: "Time from an API write to the first packet that meets the new Pod",
    sentence: "How long after the write of an EndpointSlice packets still meet the old Pod: bars are medians, whiskers reach \
               to the 99th percentile; note the logarithmic scale.",
};
const CPU: Chart = Chart {
    file: "data-path-cpu.svg",
    title: "CPU time per changed Service",
    sentence: "CPU time of the daemon and of the commands it runs for one changed EndpointSlice; note the logarithmic scale.",
};

const SIZE: (u32, u32) = (900, 460);
/// Room for the names of the series, right of the picture.
const NAMES: u32 = 250;

/// The nodes whose packets are drawn: those beside kube-proxy lie on those without it.
const DRAWN: [Variant; 6] = [
    Variant::PlainAgain,
    Variant::OneRule,
    Variant::ProxyIptables,
    Variant::ProxyNftables,
    Variant::Nftables,
    Variant::Iptables,
];

/// Every chart for which there are rows, with its text.
pub(super) fn draw(rows: &[Wide]) -> Result<Vec<(&'static Chart, String)>> {
    let mut drawn = Vec::new();
    let share = |variant: Variant, row: &Wide| row.figures.get(&variant)?.ratio;
    let value = |variant: Variant, row: &Wide| Some(row.figures.get(&variant)?.value);
    for (chart, metric, axis) in [
        (&CONNECTIONS, Metric::Connections, "share of plain routing"),
        (&FIRST_PACKET, Metric::FirstPacket, "µs, median"),
    ] {
        let found = of(rows, metric);
        let at = |variant| {
            let point = |row: &&Wide| {
                let y = if metric == Metric::Connections { share(variant, row) } else { value(variant, row) };
                Some((row.services as f64, y?))
            };
            (variant, found.iter().filter_map(point).collect())
        };
        if !found.is_empty() {
            drawn.push((chart, lines::draw(chart.title, axis, &DRAWN.map(at))?));
        }
    }
    let applied = groups(
        rows,
        &[(Metric::ApplyP50, Metric::ApplyP99, ""), (Metric::LoadedP50, Metric::LoadedP99, ", at 100 changes/s")],
    );
    let spent = groups(rows, &[(Metric::CpuPerUpdate, Metric::CpuPerUpdate, "")]);
    for (chart, axis, groups) in [(&APPLY, "milliseconds", applied), (&CPU, "milliseconds of CPU", spent)] {
        if !groups.is_empty() {
            drawn.push((chart, bars::draw(chart.title, axis, &groups)?));
        }
    }
    Ok(drawn)
}

/// One group of bars for each size, from (median, tail, what is said of it).
fn groups(rows: &[Wide], wanted: &[(Metric, Metric, &str)]) -> Vec<Group> {
    let Some((first, ..)) = wanted.first() else { return Vec::new() };
    let at = |metric, services, variant| {
        let row = of(rows, metric).into_iter().find(|row| row.services == services)?;
        Some(row.figures.get(&variant)?.value)
    };
    let group = |services: usize| {
        let bars = wanted.iter().flat_map(|&(half, tail, suffix)| {
            Variant::DAEMONS.into_iter().filter_map(move |variant| {
                let value = at(half, services, variant)?;
                let tail = at(tail, services, variant).filter(|_| half != tail);
                let name = format!("{}{suffix}", variant.legend());
                Some(Bar { name, colour: colour(variant), filled: suffix.is_empty(), value, tail })
            })
        });
        Group { services, bars: bars.collect() }
    };
    of(rows, *first).into_iter().map(|row| group(row.services)).collect()
}

/// Okabe and Ito (2008).
const fn colour(variant: Variant) -> RGBColor {
    match variant {
        Variant::ProxyIptables => RGBColor(213, 94, 0),
        Variant::ProxyNftables => RGBColor(230, 159, 0),
        Variant::Nftables => RGBColor(0, 114, 178),
        Variant::Iptables => RGBColor(86, 180, 233),
        Variant::OneRule => RGBColor(0, 0, 0),
        _ => RGBColor(150, 150, 150),
    }
}

fn thin() -> ShapeStyle {
    BLACK.mix(0.15).stroke_width(1)
}

fn failed<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> anyhow::Error {
    anyhow!("drawing: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::data_path::sample;

    #[test]
    fn charts_of_the_same_rows_are_the_same_text() {
        let rows = sample::rows();
        let drawn = draw(&rows).unwrap();
        assert_eq!(drawn.len(), 4);
        assert_eq!(drawn, draw(&rows).unwrap());
        for (chart, text) in drawn {
            insta::assert_snapshot!(chart.file, text);
        }
    }

    #[test]
    fn what_was_not_measured_is_not_drawn() {
        assert!(draw(&[]).unwrap().is_empty());
        let only: Vec<_> = sample::rows().into_iter().filter(|row| row.metric == Metric::FirstPacket).collect();
        let files: Vec<_> = draw(&only).unwrap().into_iter().map(|(chart, _)| chart.file).collect();
        assert_eq!(files, [FIRST_PACKET.file]);
    }
}

//! Made-up rows for tests of tables and charts; nothing of them was measured.

use super::rows::{Metric, Wide};
use super::statistics::Figure;
use super::variant::Variant;

/// Every metric at every size it is measured at.
pub(super) fn rows() -> Vec<Wide> {
    let mut rows = Vec::new();
    for services in [1, 1_000, 10_000] {
        let size = (services as f64).log10();
        for metric in Metric::OF_PACKETS {
            let figures = Variant::ALL.into_iter().zip(0..).map(|(variant, number)| {
                let slower = if variant == Variant::ProxyIptables { size * 0.17 } else { 0.0 };
                let ratio = if number == 0 { 1.0 } else { 1.0 - 0.02 * f64::from(number) - slower };
                (variant, Figure { value: 40_000.0 * ratio, ratio: Some(ratio), spread: 0.014 })
            });
            rows.push(Wide::new(metric, services, 5, figures));
        }
        for metric in Metric::OF_UPDATES.into_iter().filter(|_| services > 1) {
            let figures = Variant::DAEMONS
                .into_iter()
                .zip([60.0, 90.0, 1.1, 1.7])
                .map(|(variant, base)| (variant, Figure { value: base * (1.0 + size), ratio: None, spread: 0.0 }));
            rows.push(Wide::new(metric, services, 200, figures));
        }
    }
    rows.sort_by_key(|row| (row.metric, row.services));
    rows
}

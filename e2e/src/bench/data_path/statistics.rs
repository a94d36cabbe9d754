//! From samples to figures. Pure.

use serde::{Deserialize, Serialize};

/// What one lane did in one slice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Transactions (or bytes) a second.
    pub(super) rate: f64,
    /// Latencies of the slice in microseconds; not a number for a stream.
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// A figure and how far apart its rounds are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Figure {
    /// Median over the rounds, as measured.
    pub(super) value: f64,
    /// Median over the rounds of the ratio to plain in the same cycle, where there is a plain.
    #[serde(default)]
    pub(super) ratio: Option<f64>,
    /// From the least to the greatest round: of the ratio where there is one, else of the value.
    pub(super) spread: f64,
}

/// The value below which a share of `samples` lies, by the nearest rank; not a number without samples. Sorts.
pub(super) fn quantile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let rank = (share * samples.len() as f64).ceil() as usize;
    samples.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

/// The middle one.
pub(super) fn median(samples: impl IntoIterator<Item = f64>) -> f64 {
    quantile(&mut samples.into_iter().collect::<Vec<_>>(), 0.5)
}

/// Figures of every lane from `rounds[round][cycle][lane]`: the ratio is taken within each cycle, against its first lane, so
/// that both saw the same machine; then the median over the cycles of a round, then over the rounds.
pub(super) fn against_first(rounds: &[Vec<Vec<Sample>>], of: fn(&Sample) -> f64) -> Vec<Figure> {
    let lanes = rounds.first().and_then(|round| round.first()).map_or(0, Vec::len);
    let per_round = |lane: usize, value: &dyn Fn(&[Sample], usize) -> f64| -> Vec<f64> {
        rounds.iter().map(|cycles| median(cycles.iter().map(|cycle| value(cycle, lane)))).collect()
    };
    (0..lanes)
        .map(|lane| {
            let values = per_round(lane, &|cycle, lane| of(&cycle[lane]));
            let ratios = per_round(lane, &|cycle, lane| of(&cycle[lane]) / of(&cycle[0]));
            Figure { value: median(values), ratio: Some(median(ratios.iter().copied())), spread: spread(&ratios) }
        })
        .collect()
}

/// A figure without a plain.
pub(super) fn figure(rounds: &[f64]) -> Figure {
    Figure { value: median(rounds.iter().copied()), ratio: None, spread: spread(rounds) }
}

fn spread(values: &[f64]) -> f64 {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if values.is_empty() { 0.0 } else { greatest - least }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rate: f64) -> Sample {
        Sample { rate, p50: 0.0, p99: 0.0 }
    }

    #[test]
    fn quantiles_are_samples_by_the_nearest_rank() {
        let mut hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|share| quantile(&mut hundred, share)), [50.0, 99.0, 100.0]);
        assert_eq!(quantile(&mut [7.0], 0.01), 7.0);
        assert!(quantile(&mut [], 0.5).is_nan());
    }

    #[test]
    fn a_slow_cycle_slows_both_and_leaves_their_ratio() {
        let cycle = |plain: f64, ratio: f64| vec![sample(plain), sample(plain * ratio)];
        let rounds = vec![
            vec![cycle(100.0, 0.5), cycle(10.0, 0.5), cycle(1.0, 0.5)],
            vec![cycle(100.0, 0.25), cycle(3.0, 0.25)],
        ];
        let [plain, other] = against_first(&rounds, |it| it.rate)[..] else { panic!("two lanes") };
        assert_eq!((plain.ratio, plain.spread), (Some(1.0), 0.0));
        assert_eq!((other.ratio, other.spread), (Some(0.25), 0.25));
        assert_eq!(plain.value, 3.0);
    }

    #[test]
    fn one_wild_cycle_does_not_move_a_round() {
        let cycles = [0.9, 0.9, 40.0].map(|ratio| vec![sample(1.0), sample(ratio)]);
        assert_eq!(against_first(&[cycles.to_vec()], |it| it.rate)[1].ratio, Some(0.9));
    }

    #[test]
    fn nothing_measured_is_no_lane() {
        assert!(against_first(&[], |it| it.rate).is_empty());
        assert_eq!(figure(&[3.0, 1.0, 2.0]), Figure { value: 2.0, ratio: None, spread: 2.0 });
    }
}

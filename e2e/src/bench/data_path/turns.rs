//! Whose turn it is. Pure.

/// The order of `lanes` lanes in cycle number `cycle`: each takes one turn, each stands in each place equally often, and the
/// one before it changes, so that what a lane leaves behind (warm caches, timers) does not always fall to the same one.
pub(super) fn order(lanes: usize, cycle: usize) -> Vec<usize> {
    let steps: Vec<usize> = (1..lanes.max(2)).filter(|step| divisor(*step, lanes.max(1)) == 1).collect();
    let step = steps.get(cycle / lanes.max(1) % steps.len().max(1)).copied().unwrap_or(1);
    (0..lanes).map(|turn| (cycle + turn * step) % lanes).collect()
}

fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::order;

    #[test]
    fn every_lane_takes_one_turn_in_every_cycle() {
        for (lanes, cycle) in (1..12).flat_map(|lanes| (0..50).map(move |cycle| (lanes, cycle))) {
            let seen: BTreeSet<_> = order(lanes, cycle).into_iter().collect();
            assert_eq!(seen, (0..lanes).collect(), "{lanes} lanes, cycle {cycle}");
        }
    }

    #[test]
    fn over_ten_cycles_every_lane_stands_in_every_place_once() {
        let mut places = BTreeMap::<usize, BTreeSet<usize>>::new();
        for cycle in 0..10 {
            for (place, lane) in order(10, cycle).into_iter().enumerate() {
                places.entry(lane).or_default().insert(place);
            }
        }
        assert!(places.values().all(|it| it.len() == 10), "{places:?}");
    }

    #[test]
    fn a_lane_follows_others_than_its_neighbour_in_time() {
        let mut before = BTreeSet::new();
        for cycle in 0..50 {
            let turns = order(10, cycle);
            let place = turns.iter().position(|lane| *lane == 3).expect("it has a turn");
            before.extend(place.checked_sub(1).map(|place| turns[place]));
        }
        assert!(before.len() >= 4, "{before:?}");
    }
}

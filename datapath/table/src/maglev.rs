//! Weighted Maglev: a table of slots from which an engine draws a target by the hash of a flow.
//!
//! "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016), section 3.4: each target has a permutation
//! of the slots of its own, and targets take turns to occupy the next free slot of theirs. With weights, a target of
//! weight w has a turn each time its credit, which grows by w per round, has reached the largest weight: shares follow
//! weights, and a target keeps most of its slots when others come, go or change.
//!
//! Integers and a fixed hash only: every node and every version computes the same table from the same targets. The hash
//! is of the target alone, so that neither a Service's name nor the order of its Pods matters.

use crate::table::{Hop, Target};
use std::net::{IpAddr, SocketAddr};

/// Number of slots of a table: a prime, so that every step but zero visits all slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slots(u32);

impl Slots {
    /// The sizes on offer, ascending, as Cilium has them: of about 2^n.
    pub const SIZES: [Self; 7] = [Self(251), Self(509), Self(1021), Self(2039), Self(4093), Self(8191), Self(16381)];

    /// The least size that holds shares to about 1 % for this number of targets (the paper's advice: a hundred slots for
    /// each), or the largest there is.
    #[must_use]
    pub fn for_targets(targets: usize) -> Self {
        let [.., largest] = Self::SIZES;
        Self::SIZES.into_iter().find(|size| size.count() / 100 >= targets).unwrap_or(largest)
    }

    /// How many.
    #[must_use]
    pub const fn count(self) -> usize {
        self.0 as usize
    }
}

/// Fills a table. Each slot holds an index into `targets`; targets of weight 0 get none, and without any other the table
/// is empty. `targets` in another order give the same table of hops.
///
/// With more targets than slots the ones that come last by hop get none.
#[must_use]
pub fn maglev(targets: &[Target], slots: Slots) -> Vec<u32> {
    let mut walks: Vec<Walk> =
        (0..).zip(targets).filter_map(|(index, target)| Walk::new(index, target, slots)).collect();
    walks.sort_unstable_by_key(|walk| walk.hop);
    let Some(heaviest) = walks.iter().map(|walk| walk.weight).max() else { return Vec::new() };
    let mut table: Vec<Option<u32>> = vec![None; slots.count()];
    let mut free = slots.count();
    while free > 0 {
        for walk in &mut walks {
            walk.credit += walk.weight;
            if walk.credit < heaviest {
                continue;
            }
            walk.credit -= heaviest;
            walk.occupy(&mut table, slots);
            free -= 1;
            if free == 0 {
                break;
            }
        }
    }
    table.into_iter().flatten().collect()
}

/// One target on its way through its permutation of the slots.
struct Walk {
    hop: Hop,
    index: u32,
    weight: u64,
    credit: u64,
    at: u32,
    step: u32,
}

impl Walk {
    /// `None` for a target that takes nothing.
    fn new(index: u32, target: &Target, slots: Slots) -> Option<Self> {
        let Target { hop, weight } = *target;
        let size = u64::from(slots.0);
        let narrow = |value: u64| u32::try_from(value).expect("invariant: a remainder is below the number of slots");
        let at = narrow(hash(hop, 0x9e37_79b9_7f4a_7c15) % size);
        let step = narrow(hash(hop, 0xc2b2_ae3d_27d4_eb4f) % (size - 1)) + 1;
        (weight > 0).then_some(Self { hop, index, weight: weight.into(), credit: 0, at, step })
    }

    /// Takes the next free slot of the permutation; the caller knows that there is one.
    fn occupy(&mut self, table: &mut [Option<u32>], slots: Slots) {
        loop {
            let slot = &mut table[self.at as usize];
            self.at = (self.at + self.step) % slots.0;
            if slot.is_none() {
                *slot = Some(self.index);
                return;
            }
        }
    }
}

/// Hash of a target: FNV-1a over its bytes, then the finalizer of `MurmurHash3`, since FNV alone leaves the low bits of near
/// addresses alike.
fn hash(hop: Hop, seed: u64) -> u64 {
    let Hop::Pod(pod) = hop;
    let mut state = 0xcbf2_9ce4_8422_2325 ^ seed;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    match pod.ip() {
        IpAddr::V4(address) => eat(&address.octets()),
        IpAddr::V6(address) => eat(&address.octets()),
    }
    eat(&SocketAddr::port(&pod).to_be_bytes());
    state = (state ^ (state >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    state = (state ^ (state >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    state ^ (state >> 33)
}

#[cfg(test)]
mod tests;

//! Reports that we write and that watches tell of at the same time. Our own write, told back to us, is no reason to look
//! at its Service again; somebody else's is.

use crate::index::{Delta, Event, Index};
use crate::key::Key;
use portreeve_crds::ServiceTraffic;
use std::collections::BTreeSet;

/// What watches told of reports while they were being written.
#[derive(Debug, Default)]
pub(super) struct OwnWrites {
    /// Reports that went away.
    vanished: BTreeSet<Key>,
}

impl OwnWrites {
    /// The report of `key` changed in the index while it is being written.
    pub(super) fn saw(&mut self, index: &Index, key: Key) {
        if index.reports.get(&key).is_none() {
            self.vanished.insert(key);
        }
    }

    /// The write was answered with this object. True: somebody else changed the report since.
    pub(super) fn wrote(&mut self, index: &mut Index, key: &Key, traffic: ServiceTraffic) -> bool {
        if self.vanished.remove(key) {
            // Taken in now, it would stay in the index for ever: its deletion has been told already.
            return true;
        }
        let version = traffic.metadata.resource_version.clone();
        drop(index.apply(Event::Traffic(Delta::Applied(traffic))));
        index.reports.get(key).and_then(|report| report.version.as_deref()) != version.as_deref()
    }

    /// No object came of the write. True: one has gone away meanwhile, and what should take its place is to be seen.
    pub(super) fn removed(&mut self, key: &Key) -> bool {
        self.vanished.remove(key)
    }
}

#[cfg(test)]
mod tests {
    use super::OwnWrites;
    use crate::index::tests::{mk_index, object, web};
    use crate::index::{Delta, Event, Index};
    use portreeve_crds::ServiceTraffic;
    use serde_json::json;

    fn report(version: u32) -> ServiceTraffic {
        object(
            json!({"metadata": {"namespace": "shop", "name": "web", "uid": "t", "resourceVersion": version.to_string()},
            "spec": {}}),
        )
    }

    fn told(writes: &mut OwnWrites, index: &mut Index, delta: Delta<ServiceTraffic>) {
        for key in index.apply(Event::Traffic(delta)).reports {
            writes.saw(index, key);
        }
    }

    #[test]
    fn our_own_write_told_back_before_or_after_its_answer_is_no_reason_to_look_again() {
        let (mut writes, mut index) = (OwnWrites::default(), mk_index());
        told(&mut writes, &mut index, Delta::Applied(report(7)));
        assert!(!writes.wrote(&mut index, &web(), report(8)));
        told(&mut writes, &mut index, Delta::Applied(report(9)));
        assert!(!writes.wrote(&mut index, &web(), report(9)));
        assert!(index.apply(Event::Traffic(Delta::Applied(report(9)))).reports.is_empty());
    }

    #[test]
    fn a_change_by_another_after_ours_is() {
        let (mut writes, mut index) = (OwnWrites::default(), mk_index());
        told(&mut writes, &mut index, Delta::Applied(report(9)));
        assert!(writes.wrote(&mut index, &web(), report(8)));
    }

    #[test]
    fn a_report_that_was_deleted_before_our_answer_came_does_not_come_back() {
        let (mut writes, mut index) = (OwnWrites::default(), mk_index());
        told(&mut writes, &mut index, Delta::Applied(report(7)));
        told(&mut writes, &mut index, Delta::Deleted(report(9)));
        assert!(writes.wrote(&mut index, &web(), report(8)));
        assert!(index.reports.get(&web()).is_none());
        assert!(!writes.removed(&web()), "it is told once");
    }
}

//! One watched kind: objects by key, and what a relist has not seen.

use std::collections::{BTreeMap, BTreeSet};

/// What a watch tells about one kind. A relist is `Restarted`, any number of `Listed`, then `Synced`.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta<T> {
    /// An object was added or changed.
    Applied(T),
    /// An object is gone.
    Deleted(T),
    /// A list begins: whatever it does not name is gone, but only once it is complete.
    Restarted,
    /// An object of the list.
    Listed(T),
    /// The list is complete.
    Synced,
}

impl<T> Delta<T> {
    /// The same delta about the part of the object that is worth keeping.
    pub fn map<U>(self, keep: impl FnOnce(T) -> U) -> Delta<U> {
        match self {
            Self::Applied(object) => Delta::Applied(keep(object)),
            Self::Deleted(object) => Delta::Deleted(keep(object)),
            Self::Restarted => Delta::Restarted,
            Self::Listed(object) => Delta::Listed(keep(object)),
            Self::Synced => Delta::Synced,
        }
    }
}

/// One object's change, after a delta was taken in: what it was and what it is.
#[derive(Debug)]
pub(crate) struct Changed<K, V> {
    pub(crate) key: K,
    pub(crate) old: Option<V>,
}

/// Objects of one kind by key.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    items: BTreeMap<K, V>,
    unseen: Option<BTreeSet<K>>,
    synced: bool,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { items: BTreeMap::new(), unseen: None, synced: false }
    }
}

impl<K: Ord + Clone, V> Table<K, V> {
    /// Takes a delta in and names what changed. `newer(old, new)` says whether `new` may replace `old`: a watch may lag
    /// behind the answer to our own write, and must not undo it.
    pub(crate) fn apply(
        &mut self,
        delta: Delta<V>,
        key: impl Fn(&V) -> K,
        newer: impl Fn(&V, &V) -> bool,
    ) -> Vec<Changed<K, V>> {
        match delta {
            Delta::Restarted => {
                self.unseen = Some(self.items.keys().cloned().collect());
                Vec::new()
            }
            Delta::Synced => {
                self.synced = true;
                let gone = self.unseen.take().unwrap_or_default();
                gone.into_iter()
                    .filter_map(|key| self.items.remove(&key).map(|old| Changed { key, old: Some(old) }))
                    .collect()
            }
            Delta::Deleted(object) => {
                let key = key(&object);
                match self.items.remove(&key) {
                    Some(old) => vec![Changed { key, old: Some(old) }],
                    None => Vec::new(),
                }
            }
            Delta::Applied(object) | Delta::Listed(object) => {
                let key = key(&object);
                if let Some(unseen) = &mut self.unseen {
                    unseen.remove(&key);
                }
                if self.items.get(&key).is_some_and(|old| !newer(old, &object)) {
                    return Vec::new();
                }
                let old = self.items.insert(key.clone(), object);
                vec![Changed { key, old }]
            }
        }
    }

    /// Whether the first list is complete.
    pub(crate) const fn synced(&self) -> bool {
        self.synced
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.items.get(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.items.iter()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.items.values()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.items.keys()
    }

    /// Keys from `first` on, in order.
    pub(crate) fn range_from(&self, first: &K) -> impl Iterator<Item = &K> {
        self.items.range(first..).map(|(key, _)| key)
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{Delta, Table};

    fn feed(table: &mut Table<u32, (u32, u32)>, delta: Delta<(u32, u32)>) -> Vec<u32> {
        table.apply(delta, |value| value.0, |old, new| new.1 >= old.1).into_iter().map(|changed| changed.key).collect()
    }

    #[test]
    fn a_relist_removes_what_it_does_not_name_and_only_when_it_is_complete() {
        let mut table = Table::default();
        feed(&mut table, Delta::Applied((1, 0)));
        feed(&mut table, Delta::Applied((2, 0)));
        feed(&mut table, Delta::Restarted);
        feed(&mut table, Delta::Listed((2, 0)));
        assert_eq!(table.len(), 2, "nothing is dropped while the list is under way");
        assert_eq!(feed(&mut table, Delta::Synced), [1]);
        assert!(table.synced() && table.get(&1).is_none());
    }

    #[test]
    fn an_older_version_never_replaces_a_newer_one() {
        let mut table = Table::default();
        feed(&mut table, Delta::Applied((1, 7)));
        assert!(feed(&mut table, Delta::Applied((1, 6))).is_empty());
        assert_eq!(table.get(&1), Some(&(1, 7)));
    }
}

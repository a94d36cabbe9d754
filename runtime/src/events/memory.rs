//! What was said lately.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;

/// How long the same words are not repeated.
const QUIET: Duration = Duration::from_secs(600);
/// Most words remembered; the oldest go first, at the price of a repetition.
const MOST: usize = 4096;

/// Words about an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said {
    kind: String,
    namespace: String,
    name: String,
    /// An object made anew under an old name is another object.
    uid: String,
    reason: &'static str,
    note: String,
}

impl Said {
    pub(super) fn new(regarding: &ObjectReference, reason: &'static str, note: &str) -> Self {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        Self {
            kind: text(&regarding.kind),
            namespace: text(&regarding.namespace),
            name: text(&regarding.name),
            uid: text(&regarding.uid),
            reason,
            note: note.to_owned(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    said: BTreeMap<Said, Duration>,
}

impl Memory {
    /// Whether the words are new at `now` (time since the start); if so, they are remembered.
    pub(super) fn is_news(&mut self, said: &Said, now: Duration) -> bool {
        if self.said.get(said).is_some_and(|at| now.saturating_sub(*at) < QUIET) {
            return false;
        }
        if self.said.len() >= MOST {
            self.said.retain(|_, at| now.saturating_sub(*at) < QUIET);
        }
        if self.said.len() >= MOST {
            let oldest = self.said.iter().min_by_key(|(_, at)| **at).map(|(said, _)| said.clone());
            if let Some(oldest) = oldest {
                self.said.remove(&oldest);
            }
        }
        self.said.insert(said.clone(), now);
        true
    }

    /// They were not said after all.
    pub(super) fn forget(&mut self, said: &Said) {
        self.said.remove(said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(name: &str, uid: &str, note: &str) -> Said {
        let regarding =
            ObjectReference { name: Some(name.to_owned()), uid: Some(uid.to_owned()), ..ObjectReference::default() };
        Said::new(&regarding, "Overridden", note)
    }

    #[test]
    fn the_same_words_are_said_again_only_after_ten_minutes() {
        let mut memory = Memory::default();
        assert!(memory.is_news(&said("a", "1", "x"), Duration::ZERO));
        assert!(!memory.is_news(&said("a", "1", "x"), Duration::from_secs(599)));
        assert!(memory.is_news(&said("a", "1", "x"), Duration::from_secs(600)));
    }

    #[test]
    fn other_words_or_another_object_are_news() {
        let mut memory = Memory::default();
        for said in [said("a", "1", "x"), said("a", "1", "y"), said("a", "2", "x"), said("b", "1", "x")] {
            assert!(memory.is_news(&said, Duration::ZERO), "{said:?}");
        }
    }

    #[test]
    fn words_that_could_not_be_said_may_be_tried_again() {
        let mut memory = Memory::default();
        assert!(memory.is_news(&said("a", "1", "x"), Duration::ZERO));
        memory.forget(&said("a", "1", "x"));
        assert!(memory.is_news(&said("a", "1", "x"), Duration::ZERO));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_words_go_first() {
        let mut memory = Memory::default();
        for n in 0..=MOST {
            assert!(memory.is_news(&said(&n.to_string(), "1", "x"), Duration::from_millis(n as u64)));
        }
        assert_eq!(memory.said.len(), MOST);
        let now = Duration::from_secs(5);
        assert!(!memory.is_news(&said("1", "1", "x"), now));
        assert!(memory.is_news(&said("0", "1", "x"), now), "the oldest was forgotten");
    }
}

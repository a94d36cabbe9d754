//! The rules: one file each, with the code and the text that explains it.

mod etp001;
mod etp002;
mod etp003;
mod etp004;
mod etp005;
mod etp006;
mod etp008;
mod etp013;
mod etp015;
mod etp016;
mod mend;

use crate::docs::RuleDoc;
use crate::facts::{ClusterFacts, EndpointFacts};
use crate::policies::{Effective, EffectiveRule};
use crate::subject::Subject;
use mend::Mend;
use portreeve_crds::RuleId;
use std::collections::BTreeSet;

/// One rule.
pub(crate) struct Rule {
    pub(crate) doc: &'static RuleDoc,
    check: fn(&Context<'_>) -> Vec<Hit>,
}

impl Rule {
    /// What the rule finds, whatever its action.
    pub(crate) fn hits(&self, context: &Context<'_>) -> Vec<Hit> {
        (self.check)(context)
    }
}

/// What a rule may look at.
pub(crate) struct Context<'a> {
    pub(crate) subject: Subject<'a>,
    /// The stored object, where an update is reviewed.
    pub(crate) old: Option<Subject<'a>>,
    pub(crate) effective: &'a Effective,
    /// The rule's own entry of `effective`.
    pub(crate) rule: &'a EffectiveRule,
    /// `None`: unknown, or of no meaning for this object; stay silent.
    pub(crate) endpoints: Option<&'a EndpointFacts>,
    pub(crate) cluster: ClusterFacts,
}

/// Something that a rule found.
pub(crate) struct Hit {
    pub(crate) field: String,
    pub(crate) problem: String,
    pub(crate) fix: String,
    /// Problem and fix for a warning; together at most 86 characters.
    pub(crate) brief: (String, String),
    /// The offending values, for the ratchet: an update that adds none of them is not denied.
    pub(crate) values: BTreeSet<String>,
    /// What action Fix does about it.
    pub(crate) mend: Option<Mend>,
    /// The rule itself knows that the update did not bring the value.
    pub(crate) unchanged: bool,
}

impl Hit {
    /// A finding about one value.
    fn new(field: &str, value: &str, problem: String, fix: &str, brief: (&str, &str)) -> Self {
        Self {
            field: field.to_owned(),
            problem,
            fix: fix.to_owned(),
            brief: (brief.0.to_owned(), brief.1.to_owned()),
            values: BTreeSet::from([value.to_owned()]),
            mend: None,
            unchanged: false,
        }
    }

    fn mended_by(self, mend: Option<Mend>) -> Self {
        Self { mend, ..self }
    }

    /// Whether the stored object had all of this already.
    pub(crate) fn was_in(&self, old: &Self) -> bool {
        self.field == old.field && self.values.is_subset(&old.values)
    }
}

/// The field of an annotation, as causes write it.
fn annotation_field(key: &str) -> String {
    format!("metadata.annotations[{key}]")
}

/// The rule of an id.
pub(crate) fn of(id: RuleId) -> Rule {
    match id {
        RuleId::ETP001 => etp001::RULE,
        RuleId::ETP002 => etp002::RULE,
        RuleId::ETP003 => etp003::RULE,
        RuleId::ETP004 => etp004::RULE,
        RuleId::ETP005 => etp005::RULE,
        RuleId::ETP006 => etp006::RULE,
        RuleId::ETP008 => etp008::RULE,
        RuleId::ETP013 => etp013::RULE,
        RuleId::ETP015 => etp015::RULE,
        RuleId::ETP016 => etp016::RULE,
    }
}

#[cfg(test)]
mod tests;

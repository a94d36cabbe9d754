//! Label selectors: one reading for all rooms.
//!
//! A selector that Kubernetes would refuse is an error here, never "matches nothing": a policy that silently matches
//! nothing is a door left open.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use std::collections::{BTreeMap, BTreeSet};

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Why a selector cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The operator is none of the four.
    #[error("operator {0:?} is none of In, NotIn, Exists and DoesNotExist")]
    Operator(String),
    /// `In` and `NotIn` compare with values.
    #[error("operator {operator} on key {key:?} needs at least one value")]
    NoValues {
        /// `In` or `NotIn`.
        operator: &'static str,
        /// The label key.
        key: String,
    },
    /// `Exists` and `DoesNotExist` take none.
    #[error("operator {operator} on key {key:?} takes no values")]
    Values {
        /// `Exists` or `DoesNotExist`.
        operator: &'static str,
        /// The label key.
        key: String,
    },
    /// The key is no label key, so nothing could carry it.
    #[error("{0:?} is not a label key")]
    Key(String),
    /// The value is no label value, so nothing could carry it.
    #[error("{0:?} is not a label value")]
    Value(String),
}

/// A label selector that has been understood. An empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    DoesNotExist(String),
}

impl Selector {
    /// Understands `selector`.
    ///
    /// # Errors
    /// What the API server's own `LabelSelectorAsSelector` would refuse.
    pub fn compile(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            let values = BTreeSet::from([checked_value(value)?]);
            requirements.push(Requirement::In(checked_key(key)?, values));
        }
        for expression in selector.match_expressions.iter().flatten() {
            requirements.push(Requirement::compile(expression)?);
        }
        Ok(Self { requirements })
    }

    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn compile(expression: &LabelSelectorRequirement) -> Result<Self, SelectorError> {
        let key = checked_key(&expression.key)?;
        let values = expression.values.iter().flatten().map(|value| checked_value(value)).collect::<Result<_, _>>()?;
        let some = |values: BTreeSet<String>, operator| match values.is_empty() {
            true => Err(SelectorError::NoValues { operator, key: crate::text::clean(&expression.key) }),
            false => Ok(values),
        };
        let none = |values: &BTreeSet<String>, operator| match values.is_empty() {
            true => Ok(()),
            false => Err(SelectorError::Values { operator, key: crate::text::clean(&expression.key) }),
        };
        match expression.operator.as_str() {
            "In" => Ok(Self::In(key, some(values, "In")?)),
            "NotIn" => Ok(Self::NotIn(key, some(values, "NotIn")?)),
            "Exists" => none(&values, "Exists").map(|()| Self::Exists(key)),
            "DoesNotExist" => none(&values, "DoesNotExist").map(|()| Self::DoesNotExist(key)),
            other => Err(SelectorError::Operator(crate::text::clean(other))),
        }
    }

    fn holds(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            // As in Kubernetes, an absent key is not in any set.
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}

/// Whether the selector of a Service selects a Pod with these labels. A Service without a selector, or with an empty
/// one, selects nothing: its endpoints are somebody else's business.
#[must_use]
pub fn service_selects(selector: Option<&Labels>, labels: &Labels) -> bool {
    selector.is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    })
}

/// A label key: an optional DNS prefix of at most 253 characters and a name of at most 63.
fn checked_key(key: &str) -> Result<String, SelectorError> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefix_fits = prefix.is_none_or(is_dns_subdomain);
    if prefix_fits && !name.is_empty() && is_label_word(name) {
        Ok(key.to_owned())
    } else {
        Err(SelectorError::Key(crate::text::clean(key)))
    }
}

fn checked_value(value: &str) -> Result<String, SelectorError> {
    if is_label_word(value) { Ok(value.to_owned()) } else { Err(SelectorError::Value(crate::text::clean(value))) }
}

/// At most 63 of letters, digits, `-`, `_`, `.`, with a letter or digit at both ends; may be empty.
fn is_label_word(word: &str) -> bool {
    let bytes = word.as_bytes();
    let edges = [bytes.first(), bytes.last()].into_iter().flatten().all(u8::is_ascii_alphanumeric);
    bytes.len() <= 63 && edges && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

fn is_dns_subdomain(name: &str) -> bool {
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let small = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        bytes.first().is_some_and(small)
            && bytes.last().is_some_and(small)
            && bytes.iter().all(|b| small(b) || *b == b'-')
    };
    name.len() <= 253 && name.split('.').all(part)
}

#[cfg(test)]
mod tests;

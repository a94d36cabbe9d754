//! Manifests from files, directories and standard input, with the place of every field.

mod files;
mod spans;

pub use files::{Input, InputError, read};
pub use spans::{Place, Places};

use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// One object of a file, as it was written (no defaults added).
#[derive(Clone, Debug)]
pub struct Document {
    /// File name as it was given, or `<stdin>`.
    pub file: Arc<str>,
    /// The whole text of the file, for carets.
    pub text: Arc<str>,
    /// The object.
    pub value: Value,
    /// Where its fields are.
    pub places: Places,
}

impl Document {
    /// `kind` of the object, empty if it has none.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    /// `apiVersion` of the object, empty if it has none.
    #[must_use]
    pub fn api_version(&self) -> &str {
        self.value["apiVersion"].as_str().unwrap_or_default()
    }

    /// `metadata.name`, or `metadata.generateName` of an object that has none yet.
    #[must_use]
    pub fn name(&self) -> &str {
        let metadata = &self.value["metadata"];
        metadata["name"].as_str().or_else(|| metadata["generateName"].as_str()).unwrap_or_default()
    }

    /// `metadata.namespace`; of an object that names none, `namespace` or else kubectl's own default.
    pub(crate) fn namespace<'a>(&'a self, namespace: Option<&'a str>) -> &'a str {
        self.value["metadata"]["namespace"].as_str().or(namespace).unwrap_or("default")
    }

    /// Whether its kind is one of Portreeve's.
    pub(crate) fn is_ours(&self) -> bool {
        self.api_version().split_once('/').is_some_and(|(group, _)| group == portreeve_crds::names::GROUP)
    }

    /// The object as its kind has it; the error names the object and its place.
    pub(crate) fn typed<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_value(self.value.clone()).map_err(|error| {
            format!("{}: {} '{}' does not have the shape of its kind: {error}", self.origin(), self.kind(), self.name())
        })
    }

    /// Where the object begins, for messages: `file:line`.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}:{}", self.file, self.places.start().line)
    }
}

/// The objects of one text: each YAML document, and each item of a `List`.
///
/// # Errors
/// The parser's words, with line and column, if the text is not YAML.
pub fn parse(file: &str, text: &str) -> Result<Vec<Document>, InputError> {
    let nodes: Vec<serde_saphyr::Spanned<spans::Node>> = serde_saphyr::from_multiple(text).map_err(|error| {
        let place = error.location().map(|at| format!(":{}:{}", at.line(), at.column())).unwrap_or_default();
        InputError::Syntax { place: format!("{file}{place}"), problem: error.without_snippet().to_string() }
    })?;
    let (file, text): (Arc<str>, Arc<str>) = (file.into(), text.into());
    let mut documents = Vec::new();
    for node in nodes {
        let (value, places) = spans::split(node);
        if value.is_null() {
            continue;
        }
        if !value.is_object() {
            return Err(InputError::NotAnObject { place: format!("{file}:{}", places.start().line) });
        }
        let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List")) && value["items"].is_array();
        if is_list {
            for (index, item) in value["items"].as_array().into_iter().flatten().enumerate() {
                let places = places.below(&format!("/items/{index}"));
                documents.push(Document { file: file.clone(), text: text.clone(), value: item.clone(), places });
            }
        } else {
            documents.push(Document { file: file.clone(), text: text.clone(), value, places });
        }
    }
    Ok(documents)
}

#[cfg(test)]
mod tests;

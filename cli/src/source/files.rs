//! From arguments to texts: files, directories, standard input.

use super::{Document, parse};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// What was read.
#[derive(Debug, Default)]
pub struct Input {
    /// Objects in the order of the arguments, files of a directory by name.
    pub documents: Vec<Document>,
    /// How many files were read.
    pub files: usize,
}

/// Why input cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// No such file, no permission, not UTF-8.
    #[error("{path}: {problem}")]
    Unreadable {
        /// The path.
        path: String,
        /// The operating system's words.
        problem: String,
    },
    /// Not YAML.
    #[error("{place}: not YAML: {problem}")]
    Syntax {
        /// `file:line:column`.
        place: String,
        /// The parser's words.
        problem: String,
    },
    /// A document that is a list or a plain value.
    #[error(
        "{place}: a Kubernetes manifest is a mapping with `apiVersion` and `kind`; this document is something else"
    )]
    NotAnObject {
        /// `file:line`.
        place: String,
    },
    /// A directory in which no manifest lies.
    #[error("{path}: no *.yaml, *.yml or *.json file in it")]
    Empty {
        /// The directory.
        path: String,
    },
}

/// Reads every path; `-` is standard input.
///
/// # Errors
/// The first path that cannot be read. Nothing is skipped in silence.
pub fn read(paths: &[String]) -> Result<Input, InputError> {
    let mut input = Input::default();
    let mut add = |name: &str, text: &str| -> Result<(), InputError> {
        input.documents.extend(parse(name, text)?);
        input.files += 1;
        Ok(())
    };
    for path in paths {
        if path == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| unreadable("<stdin>", &error))?;
            add("<stdin>", &text)?;
            continue;
        }
        if !Path::new(path).is_dir() {
            add(path, &text_of(Path::new(path))?)?;
            continue;
        }
        let mut found = BTreeSet::new();
        manifests_in(Path::new(path), &mut found)?;
        if found.is_empty() {
            return Err(InputError::Empty { path: path.clone() });
        }
        for file in found {
            add(&file.display().to_string(), &text_of(&file)?)?;
        }
    }
    Ok(input)
}

fn text_of(path: &Path) -> Result<String, InputError> {
    std::fs::read_to_string(path).map_err(|error| unreadable(&path.display().to_string(), &error))
}

fn unreadable(path: &str, error: &std::io::Error) -> InputError {
    InputError::Unreadable { path: path.to_owned(), problem: error.to_string() }
}

fn manifests_in(folder: &Path, into: &mut BTreeSet<PathBuf>) -> Result<(), InputError> {
    let problem = |error: &std::io::Error| unreadable(&folder.display().to_string(), error);
    for entry in std::fs::read_dir(folder).map_err(|error| problem(&error))? {
        let entry = entry.map_err(|error| problem(&error))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(|error| problem(&error))?);
        // A link to a directory may lead back up; `file_type` does not follow it, so it is not entered.
        if kind.is_dir() {
            manifests_in(&path, into)?;
        } else if path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml" || ext == "json") {
            into.insert(path);
        }
    }
    Ok(())
}

//! Findings for people, with carets into the manifest, and for scripts.

use super::objects::Judged;
use crate::output::outln;
use crate::source::Place;
use crate::text::clean;
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, Severity, SourceCode};
use portreeve_crds::Action;
use serde_json::{Value, json};
use std::fmt;

/// `{"findings": […]}`; the shape is an interface.
pub(super) fn json(judged: &[Judged]) -> Value {
    let findings: Vec<Value> = judged
        .iter()
        .map(|one| {
            json!({
                "rule": one.finding.rule,
                "action": one.finding.action,
                "field": one.finding.field,
                "object": {"kind": "Service", "namespace": one.namespace, "name": one.name},
                "message": one.finding.problem,
                "fix": one.finding.fix,
                "policy": policy(one),
                "file": one.document.as_ref().map(|document| document.file.as_ref()),
                "line": one.place.map(|place| place.line),
            })
        })
        .collect();
    json!({ "findings": findings })
}

fn policy(one: &Judged) -> String {
    one.finding.policy.as_ref().map_or_else(|| "built-in".to_owned(), ToString::to_string)
}

/// One block per finding, then one line that sums up.
pub(super) fn people(judged: &[Judged], looked_at: &str, color: bool) {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(110).with_links(false);
    for one in judged {
        let mut block = String::new();
        if handler.render_report(&mut block, &Block::new(one)).is_ok() {
            outln!("{}", block.trim_end());
        }
        outln!();
    }
    let number = |action: Action| judged.iter().filter(|one| one.finding.action == action).count();
    let parts: Vec<String> = [Action::Deny, Action::Fix, Action::Warn, Action::Audit]
        .into_iter()
        .filter(|action| number(*action) > 0)
        .map(|action| format!("{} {action}", number(action)))
        .collect();
    if parts.is_empty() {
        outln!("No findings: {looked_at}.");
    } else {
        outln!("{}: {looked_at}. `kubectl portreeve explain RULE` tells more.", parts.join(", "));
    }
}

/// One finding, as miette wants it.
#[derive(Debug)]
struct Block<'a> {
    one: &'a Judged,
    source: Option<NamedSource<String>>,
    label: Option<LabeledSpan>,
}

impl<'a> Block<'a> {
    fn new(one: &'a Judged) -> Self {
        let (source, label) = match (&one.document, one.place) {
            (Some(document), Some(place)) => {
                let span = span(&document.text, place);
                let label = LabeledSpan::new(Some(one.finding.field.clone()), span.0, span.1);
                (Some(NamedSource::new(document.file.as_ref(), document.text.to_string())), Some(label))
            }
            _ => (None, None),
        };
        Self { one, source, label }
    }
}

impl fmt::Display for Block<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Judged { finding, namespace, name, .. } = self.one;
        write!(f, "{}: Service {}/{}: {}", finding.action, clean(namespace), clean(name), finding.problem)
    }
}

impl std::error::Error for Block<'_> {}

impl Diagnostic for Block<'_> {
    fn code<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        Some(Box::new(format!("{} policy={}", self.one.finding.rule, policy(self.one))))
    }

    fn severity(&self) -> Option<Severity> {
        Some(match self.one.finding.action {
            Action::Deny => Severity::Error,
            Action::Fix | Action::Warn => Severity::Warning,
            Action::Audit | Action::Off => Severity::Advice,
        })
    }

    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        (!self.one.finding.fix.is_empty()).then(|| Box::new(&self.one.finding.fix) as Box<dyn fmt::Display + 'b>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.label.clone().into_iter()))
    }
}

/// Byte offset and length of the word that begins at `place`.
fn span(text: &str, place: Place) -> (usize, usize) {
    let mut start = text.split_inclusive('\n').take(place.line - 1).map(str::len).sum::<usize>();
    let line = text[start..].lines().next().unwrap_or_default();
    start += line.chars().take(place.column - 1).map(char::len_utf8).sum::<usize>();
    let rest = &text[start.min(text.len())..];
    let word = rest.lines().next().unwrap_or_default().trim_end();
    let end = word.find(" #").unwrap_or(word.len());
    (start, end.max(1).min(rest.len()))
}

//! A rule's whole story, offline.

use crate::args::Output;
use crate::exit::{Exit, Failure};
use crate::output::outln;
use crate::text::{print_table, table};
use portreeve_crds::RuleId;
use portreeve_policy::{default_action, rule_docs};
use serde_json::{Value, json};

/// Tells one rule, or all of them in short.
pub(super) fn run(rule: Option<&str>, output: Output) -> Result<Exit, Failure> {
    let rules = match rule {
        Some(text) => vec![parse(text)?],
        None => RuleId::ALL.to_vec(),
    };
    match (output, rule.is_some()) {
        (Output::Json, _) => outln!("{}", json!({"rules": rules.into_iter().map(as_json).collect::<Vec<_>>()})),
        (Output::Table, true) => rules.into_iter().for_each(tell),
        (Output::Table, false) => {
            let mut overview = table(["RULE", "DEFAULT", "FINDS"]);
            for id in rules {
                overview.add_row([id.as_str(), default_action(id).as_str(), rule_docs(id).title]);
            }
            print_table(overview);
        }
    }
    Ok(Exit::Clean)
}

fn parse(text: &str) -> Result<RuleId, Failure> {
    RuleId::ALL.into_iter().find(|id| id.as_str().eq_ignore_ascii_case(text)).ok_or_else(|| {
        let known: Vec<_> = RuleId::ALL.iter().map(|id| id.as_str()).collect();
        Failure::Usage(format!(
            "there is no rule '{text}'; the rules are {}. A Service is written svc/NAME, with --from",
            known.join(", ")
        ))
    })
}

fn as_json(id: RuleId) -> Value {
    let doc = rule_docs(id);
    json!({
        "id": id, "title": doc.title, "defaultAction": default_action(id), "finds": doc.finds, "why": doc.why, "fix": doc.fix,
        "bad": doc.example.bad, "good": doc.example.good, "sources": doc.sources,
    })
}

fn tell(id: RuleId) {
    let doc = rule_docs(id);
    outln!("{id}: {}\nDefault action: {}\n", doc.title, default_action(id));
    outln!("{}\n\n{}\n\nFix: {}\n", doc.finds, doc.why, doc.fix);
    outln!("Found:\n{}\n\nFine:\n{}", indent(doc.example.bad), indent(doc.example.good));
    if !doc.sources.is_empty() {
        outln!("\nSources: {}", doc.sources.join("; "));
    }
}

fn indent(yaml: &str) -> String {
    yaml.trim().lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

use super::*;
use crate::nftables::testing::{sample, uplinks};
use portreeve_table::Goal;

const OTHERS: &str = "*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A KUBE-SERVICES -m comment --comment \"-j PORTREEVE-ENTRY\" -j RETURN
-A KUBE-SERVICES -m comment --comment \"-j PORTREEVE-ENTRY\"
COMMIT
";

fn ruleset() -> Ruleset {
    Ruleset::render(Goal { table: &sample(), uplinks: &uplinks(&["eth0"]) })
}

/// The tables as they are shown when `ruleset` is in force before others' rules.
fn shown(ruleset: &Ruleset) -> String {
    let mut text = OTHERS.to_owned();
    for table in Table::ALL {
        let section = Section { put: ruleset.chains(Family::V4, table), ..Section::new(table) }.to_string();
        let hooks: String = table.hooks().iter().map(|built_in| format!("-A {built_in} {}\n", hook())).collect();
        let at = format!("*{}\n", table.as_str());
        let section = section.replace("COMMIT\n", "");
        text = match table {
            Table::Nat => text.replace(&at, &format!("{section}{hooks}")),
            Table::Mangle | Table::Filter => format!("{text}{section}{hooks}COMMIT\n"),
        };
    }
    text
}

#[test]
fn what_was_written_is_what_is_found_and_others_are_not_looked_at() {
    let ruleset = ruleset();
    let text = shown(&ruleset);
    assert_eq!(Found::read(&text).difference(&ruleset, Family::V4), Difference::None);
    assert_eq!(Found::read(OTHERS).replace(None, Family::V4), []);
    let renumbered = text.replace("-p sctp", "-p 132");
    assert_eq!(Found::read(&renumbered).difference(&ruleset, Family::V4), Difference::None);
}

#[test]
fn a_rule_more_or_less_or_another_is_found() {
    let ruleset = ruleset();
    let text = shown(&ruleset);
    let drop = text.lines().position(|line| line.ends_with("-j DROP")).unwrap();
    let without: Vec<&str> =
        text.lines().enumerate().filter(|(number, _)| *number != drop).map(|(_, line)| line).collect();
    let ways = [
        without.join("\n"),
        text.replace("-A PORTREEVE-HOLD", "-A PORTREEVE-HOLD -j LOG\n-A PORTREEVE-HOLD"),
        text.replace("--dport 53 ", "--dport 54 "),
        text.replace("*filter\n", "*filter\n:PORTREEVE-OLD - [0:0]\n"),
        text.replace("*filter\n", "*filter\n:PORTREEVE-of_another_time - [0:0]\n"),
    ];
    for way in ways {
        let found = Found::read(&way);
        assert!(matches!(found.difference(&ruleset, Family::V4), Difference::Chain(..)), "{way}");
    }
}

#[test]
fn who_came_before_us_is_found_and_put_behind() {
    let ruleset = ruleset();
    let text = shown(&ruleset);
    let jump = format!("-A PREROUTING {}\n", hook());
    for way in [
        text.replacen(&jump, &format!("-A PREROUTING -j THEIRS\n{jump}"), 2),
        text.replacen(&jump, &format!("{jump}{jump}"), 2),
        text.replacen(&jump, "", 2),
    ] {
        let found = Found::read(&way);
        assert!(matches!(found.difference(&ruleset, Family::V4), Difference::Hook(_)), "{way}");
        for section in found.mend(&ruleset, Family::V4) {
            let strays = way.matches(&jump).count() / 2;
            assert_eq!((section.strays.len(), section.hook), (strays, Some(true)), "{section}");
            assert!(section.put.is_empty() && section.remove.is_empty());
        }
    }
}

#[test]
fn what_an_earlier_life_left_goes_within_the_same_transaction() {
    let ruleset = ruleset();
    let left = "*nat\n:PORTREEVE-OLD - [0:0]\n-A PREROUTING -i eth0 -j PORTREEVE-OLD\nCOMMIT\n";
    let sections = Found::read(left).replace(Some(&ruleset), Family::V4);
    let nat = sections.last().unwrap();
    assert_eq!(nat.table, Table::Nat);
    let text = nat.to_string();
    let at = |line: &str| text.lines().position(|have| have == line).unwrap_or_else(|| panic!("{line}: {text}"));
    assert!(at(":PORTREEVE-OLD - [0:0]") < at("-D PREROUTING -i eth0 -j PORTREEVE-OLD"));
    assert!(at("-D PREROUTING -i eth0 -j PORTREEVE-OLD") < at("-X PORTREEVE-OLD"));
    assert_eq!(Found::read(left).replace(None, Family::V4).len(), 1);
}

//! Making strings from the outside fit to be shown.

/// The longest piece of a user's string that enters a text.
pub(crate) const SHOWN: usize = 63;

/// `raw` without control characters and cut to [`SHOWN`] characters, so that nobody's object can break a line, colour a
/// terminal or fill a log through our texts.
pub(crate) fn clean(raw: &str) -> String {
    shorten(raw, SHOWN)
}

/// As [`clean`], with a limit of its own. A cut shows as `…` in the middle: both ends of a name tell names apart.
pub(crate) fn shorten(raw: &str, limit: usize) -> String {
    let printable: Vec<char> = raw.chars().filter(|c| !is_unprintable(*c)).collect();
    if printable.len() <= limit {
        return printable.into_iter().collect();
    }
    let kept = limit.saturating_sub(1);
    let head = kept.div_ceil(2);
    let tail = kept - head;
    let mut shown: String = printable[..head].iter().collect();
    shown.push('…');
    shown.extend(&printable[printable.len() - tail..]);
    shown
}

/// Control characters, and the invisible ones that reorder or hide text (Unicode bidi controls, joiners, separators).
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The first three of `items`, cleaned, and how many more there are.
pub(crate) fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<&str> = items.into_iter().collect();
    let shown = all.iter().take(3).map(|item| shorten(item, 45)).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(3) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::{SHOWN, clean, list, shorten};

    #[test]
    fn control_and_bidi_characters_never_reach_a_text() {
        assert_eq!(clean("a\u{1b}[31mb\nc\u{202e}d"), "a[31mbcd");
    }

    #[test]
    fn a_long_name_keeps_both_ends() {
        assert_eq!(shorten("abcdefghij", 5), "ab…ij");
        assert_eq!(clean(&"x".repeat(500)).chars().count(), SHOWN);
    }

    #[test]
    fn a_long_list_says_how_much_is_left_out() {
        assert_eq!(list(["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
        assert_eq!(list(["a"]), "a");
    }
}

//! How deep a JSON text is nested, without parsing it.

/// Whether no value of `json` lies in more than `limit` arrays and objects.
///
/// serde_json limits only what it builds; a part that is skipped may be nested without end. On text that is no JSON
/// the answer means nothing, and the parser that comes after refuses it.
pub(super) fn within(json: &[u8], limit: usize) -> bool {
    let mut depth = 0_usize;
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return false;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    true
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::within;

    #[test]
    fn the_limit_itself_passes_and_one_more_does_not() {
        for (depth, passes) in [(0, true), (127, true), (128, true), (129, false), (100_000, false)] {
            let json = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            assert_eq!(within(json.as_bytes(), 128), passes, "depth {depth}");
        }
    }

    #[test]
    fn siblings_do_not_add_up() {
        assert!(within("[[],[],{}]".repeat(500).as_bytes(), 2));
    }

    #[test]
    fn brackets_and_escaped_quotes_in_strings_do_not_count() {
        assert!(within(br#"["[[[[\"[[[[\\"]"#, 1));
        assert!(!within(br#"["\\",[[]]]"#, 2));
    }
}

//! The last stop of every log line before the outside world.

use std::fmt::Write as _;
use std::io::{self, Write};

/// A writer that passes text on with its control characters spelled out as `\u001b`.
///
/// That spelling is valid inside JSON strings too, so one writer serves both formats. Each call must carry whole lines,
/// which is what the formatter does: only the final newline is kept.
#[derive(Debug)]
pub struct EscapingWriter<W> {
    inner: W,
}

impl<W: Write> EscapingWriter<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner }
    }
}

impl<W: Write> Write for EscapingWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let (body, end) = text.strip_suffix('\n').map_or((&*text, ""), |body| (body, "\n"));
        if body.chars().any(is_dangerous) {
            let mut safe = String::with_capacity(body.len() + 16);
            for c in body.chars() {
                if is_dangerous(c) {
                    // All dangerous characters lie below U+10000: four digits are enough.
                    write!(safe, "\\u{:04x}", u32::from(c)).map_err(io::Error::other)?;
                } else {
                    safe.push(c);
                }
            }
            safe.push_str(end);
            self.inner.write_all(safe.as_bytes())?;
        } else {
            self.inner.write_all(text.as_bytes())?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Control characters (C0, DEL, C1), line separators, and the marks that reorder text on screen (Unicode UAX #9).
fn is_dangerous(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, hostile: &str) -> String {
        let sink = Sink::default();
        let out = sink.clone();
        let logs = tracing_subscriber::fmt().with_ansi(false).with_writer(move || EscapingWriter::new(out.clone()));
        let say = || tracing::info!(name = hostile, "Saw {hostile}");
        if json {
            tracing::subscriber::with_default(logs.json().finish(), say);
        } else {
            tracing::subscriber::with_default(logs.finish(), say);
        }
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const HOSTILE: &str = "a\nERROR forged\u{1b}[2J\r\u{9b}1m\u{202e}b\0";

    #[test]
    fn a_hostile_name_stays_on_one_line_of_text() {
        let line = logged(false, HOSTILE);
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        assert!(!line.trim_end_matches('\n').chars().any(is_dangerous), "{line:?}");
    }

    #[test]
    fn a_hostile_name_leaves_json_valid_and_readable_back() {
        let line = logged(true, HOSTILE);
        assert!(!line.trim_end_matches('\n').chars().any(is_dangerous), "{line:?}");
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["fields"]["name"], HOSTILE);
    }

    #[test]
    fn ordinary_text_passes_unchanged() {
        let mut out = Vec::new();
        EscapingWriter::new(&mut out).write_all("Grüße 🚢\n".as_bytes()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "Grüße 🚢\n");
    }
}

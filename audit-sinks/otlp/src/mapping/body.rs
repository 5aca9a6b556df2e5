//! The body of a record: one line that an operator can read, without content.

use std::fmt;

use agent_audit_core::timeline::visible;

/// The most characters of a line.
const LONGEST: usize = 300;

/// Writes a line. Names that come from outside can neither break it nor act on a terminal, and a
/// line that is too long ends with `…`; the attributes hold every name whole.
pub(super) fn line(arguments: fmt::Arguments<'_>) -> String {
    let line = visible(&arguments.to_string()).to_string();
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A time that something took, as a person says it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Took(pub(super) u64);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            micros @ ..1_000 => write!(f, "{micros} us"),
            micros @ ..10_000_000 => write!(f, "{} ms", micros / 1_000),
            micros => write!(f, "{} s", micros / 1_000_000),
        }
    }
}

/// Something to say where it is known, after other words.
pub(super) fn known<T: fmt::Display>(before: &str, value: Option<T>) -> String {
    value.map_or(String::new(), |value| format!("{before}{value}"))
}

/// How many there are, with a word for them.
pub(super) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        let hostile = "refund\n2026 ERROR \u{1b}[31m\u{202e}";
        let line = line(format_args!("tool {hostile} ok"));
        assert!(!line.contains(['\n', '\u{1b}', '\u{202e}']), "{line}");
        let long = "é".repeat(2 * LONGEST);
        let line = super::line(format_args!("{long}"));
        assert_eq!(line.chars().count(), LONGEST + 1);
    }

    #[test]
    fn times_are_said_as_a_person_says_them() {
        let said = |micros| Took(micros).to_string();
        assert_eq!((said(950), said(12_345)), ("950 us".to_owned(), "12 ms".to_owned()));
        assert_eq!((said(9_999_999), said(75_000_000)), ("9999 ms".to_owned(), "75 s".to_owned()));
    }
}

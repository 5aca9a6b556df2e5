//! Values and names in the text of a query.

use std::fmt::Write as _;

/// A string literal, whatever the text holds.
pub(crate) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for char in text.chars() {
        match char {
            '\'' => out.push_str("\\'"),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            char => out.push(char),
        }
    }
    out.push('\'');
    out
}

/// Whether a name can stand in a query as it is: a letter or `_`, and then these and digits.
pub(crate) fn is_identifier(name: &str) -> bool {
    let first = name.bytes().next();
    name.len() <= 64
        && first.is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A value in the query of a URL.
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// What a percent-encoded text says, where it is one.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_ends_where_it_should() {
        assert_eq!(literal("acme"), "'acme'");
        assert_eq!(literal("a' OR 1=1 --"), r"'a\' OR 1=1 --'");
        assert_eq!(literal(r"a\"), r"'a\\'");
        assert_eq!(literal("\\' OR '"), r"'\\\' OR \''");
    }

    #[test]
    fn only_plain_names_are_identifiers() {
        for name in ["audit", "_a", "Audit_2"] {
            assert!(is_identifier(name), "{name}");
        }
        for name in ["", "2a", "a-b", "a.b", "a`b", "a b", "ä", &"a".repeat(65)] {
            assert!(!is_identifier(name), "{name}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for text in ["", "a b&c=d?#%", "äöü/👩"] {
            assert_eq!(percent_decoded(&percent_encoded(text)).as_deref(), Some(text));
        }
        assert_eq!(percent_decoded("%4"), None);
        assert_eq!(percent_decoded("%zz"), None);
    }
}

//! Text as the database can keep it.
//!
//! PostgreSQL text holds every character but U+0000. That one is written as U+F8FF followed by `0`, and
//! U+F8FF, which is for private use and hardly occurs, as itself twice.

use std::borrow::Cow;

const MARK: char = '\u{f8ff}';

/// What to store for a text.
pub(crate) fn encode(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', MARK]) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => out.extend([MARK, '0']),
            MARK => out.extend([MARK, MARK]),
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

/// The text that was stored. What [`encode`] never writes stays as it is.
pub(crate) fn decode(stored: &str) -> Cow<'_, str> {
    if !stored.contains(MARK) {
        return Cow::Borrowed(stored);
    }
    let mut out = String::with_capacity(stored.len());
    let mut characters = stored.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            (MARK, Some('0')) => {
                characters.next();
                out.push('\0');
            }
            (MARK, Some(&MARK)) => {
                characters.next();
                out.push(MARK);
            }
            (other, _) => out.push(other),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_and_none_holds_what_cannot_be_kept() {
        for text in
            ["", "plain", "a\0b", "\0", "\0\0", "\u{f8ff}", "\u{f8ff}0", "\0\u{f8ff}\0", "ü💶"]
        {
            let stored = encode(text);
            assert!(!stored.contains('\0'));
            assert_eq!(decode(&stored), text, "{text:?}");
        }
        assert!(matches!(encode("plain"), Cow::Borrowed(_)));
    }
}

//! Texts that a queue takes.
//!
//! A message may hold tab, line feed, carriage return and every character from U+0020 on but U+FFFE
//! and U+FFFF. A record's line has no control characters; it can have these two. Such a line is
//! sent as base64 (RFC 4648 section 4, with padding): a text that does not begin with `{`.

use std::borrow::Cow;

use agent_audit_aws::internal::Unreadable;
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The form in which the queue takes a text.
pub(crate) fn encode(text: String) -> String {
    if is_taken(text.as_bytes()) { text } else { STANDARD.encode(text) }
}

/// Whether neither of the two is in it. In UTF-8 they are EF BF BE and EF BF BF; few characters
/// begin with EF, and looking for that byte costs next to nothing.
fn is_taken(text: &[u8]) -> bool {
    memchr::memchr_iter(0xef, text)
        .all(|at| !matches!(text.get(at + 1..at + 3), Some([0xbf, 0xbe | 0xbf])))
}

/// The text of that form.
pub(crate) fn decode(body: &str) -> Result<Cow<'_, str>, Unreadable> {
    if body.starts_with('{') {
        return Ok(Cow::Borrowed(body));
    }
    let text = STANDARD.decode(body).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let not = || Unreadable::Never("a message is neither JSON nor base64 of it".to_owned());
    text.map(Cow::Owned).ok_or_else(not)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_a_queue_does_not_take_is_base64_and_comes_back() {
        for (text, plain) in [
            ("{\"a\":\"\u{7f}\u{2028}\u{1f4a9}\"}", true),
            ("{\"a\":\"\u{feff}\u{fffd}\u{ff21}\u{ffef}\u{f8ff}\"}", true),
            ("{\"a\":\"\u{fffe}\"}", false),
            ("{\"a\":\"\u{ffff}\"}", false),
        ] {
            let body = encode(text.to_owned());
            assert_eq!(body == text, plain);
            assert!(!body.contains(['\u{fffe}', '\u{ffff}']));
            assert_eq!(decode(&body).unwrap(), text);
        }
        assert!(decode("hello").is_err());
        assert!(decode("/////w==").is_err());
    }
}

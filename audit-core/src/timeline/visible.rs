//! Recorded text made harmless for the eye and the terminal.

use std::fmt;

/// Shows text so that it can neither draw on a terminal nor hide from the reader.
///
/// Control characters (with them line ends and ANSI escapes), overrides of the writing direction
/// and characters that cannot be seen are written as escapes; everything else as it is.
///
/// ```
/// use agent_audit_core::timeline::visible;
/// assert_eq!(visible("paid\u{1b}[2K\rrefused").to_string(), r"paid\u{1b}[2K\rrefused");
/// assert_eq!(visible("invoice\u{202e}fdp.exe").to_string(), r"invoice\u{202e}fdp.exe");
/// assert_eq!(visible("Zoë, 😀").to_string(), "Zoë, 😀");
/// ```
#[must_use]
pub fn visible(text: &str) -> Visible<'_> {
    Visible(text)
}

/// Text that is shown by [`visible`].
///
/// ```
/// let shown: agent_audit_core::timeline::Visible<'_> = agent_audit_core::timeline::visible("a\tb");
/// assert_eq!(format!("{shown:>6}"), r"  a\tb");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Visible<'a>(&'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.width().is_some() || f.precision().is_some() {
            let mut text = String::new();
            write(&mut text, self.0)?;
            return f.pad(&text);
        }
        write(f, self.0)
    }
}

fn write(out: &mut impl fmt::Write, text: &str) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.find(hides) {
        out.write_str(&rest[..at])?;
        let mut chars = rest[at..].chars();
        if let Some(c) = chars.next() {
            match c {
                '\n' | '\r' | '\t' => write!(out, "{}", c.escape_default())?,
                _ => write!(out, "{}", c.escape_unicode())?,
            }
        }
        rest = chars.as_str();
    }
    out.write_str(rest)
}

/// Whether a character acts on the display, or is not seen there.
fn hides(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

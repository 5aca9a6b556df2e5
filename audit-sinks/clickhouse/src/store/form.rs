//! A statement with its parameters, as the form that the server takes.
//!
//! Parameters go in the body and not in the URL: URLs are short, and are written to the logs of what
//! stands between.

use std::fmt::Write as _;

use agent_audit_core::hash;
use bytes::Bytes;

/// The values of a statement's parameters. They reach the server as values and never as a part of
/// the statement.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(Vec<String>);

impl Params {
    /// A text, as it is named in the statement.
    pub(crate) fn text(&mut self, text: &str) -> String {
        let mut value = String::with_capacity(text.len());
        escape(&mut value, text);
        self.push("String", value)
    }

    /// A list of texts.
    pub(crate) fn texts<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) -> String {
        let mut value = String::new();
        for text in texts {
            value.push(if value.is_empty() { '[' } else { ',' });
            quote(&mut value, text);
        }
        self.list("Array(String)", value)
    }

    /// A number.
    pub(crate) fn number(&mut self, number: i64) -> String {
        self.push("Int64", number.to_string())
    }

    /// How many.
    pub(crate) fn count(&mut self, count: usize) -> String {
        self.push("UInt64", count.to_string())
    }

    /// A list of positions, each of a chain.
    pub(crate) fn places<'a>(
        &mut self,
        places: impl IntoIterator<Item = (&'a str, i64)>,
    ) -> String {
        let mut value = String::new();
        for (chain, sequence) in places {
            value.push(if value.is_empty() { '[' } else { ',' });
            value.push('(');
            quote(&mut value, chain);
            let _ = write!(value, ",{sequence})");
        }
        self.list("Array(Tuple(String, Int64))", value)
    }

    fn list(&mut self, kind: &str, mut value: String) -> String {
        value.push_str(if value.is_empty() { "[]" } else { "]" });
        self.push(kind, value)
    }

    fn push(&mut self, kind: &str, value: String) -> String {
        let name = format!("{{p{}:{kind}}}", self.0.len());
        self.0.push(value);
        name
    }

    /// The media type and the body of a form with a statement.
    pub(crate) fn form(&self, statement: &str) -> (String, Bytes) {
        let fields = || {
            let params = self
                .0
                .iter()
                .enumerate()
                .map(|(at, value)| (format!("param_p{at}"), value.as_str()));
            std::iter::once(("query".to_owned(), statement)).chain(params)
        };
        let mut values = Vec::new();
        fields().for_each(|(_, value)| values.extend_from_slice(value.as_bytes()));
        // No value holds the hash of all of them.
        let boundary = hash::leaf(&values).to_string();
        let mut body = String::with_capacity(values.len() + 160 * (self.0.len() + 2));
        for (name, value) in fields() {
            let _ = write!(
                body,
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
        }
        let _ = write!(body, "--{boundary}--\r\n");
        (format!("multipart/form-data; boundary={boundary}"), body.into())
    }
}

fn quote(out: &mut String, text: &str) {
    out.push('\'');
    escape(out, text);
    out.push('\'');
}

/// As values are read: what could end or continue one is escaped.
fn escape(out: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '\'' => out.push_str("\\'"),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            char => out.push(char),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_a_value() {
        let mut params = Params::default();
        assert_eq!(params.text("a'\\\t\r\n\0b"), "{p0:String}");
        assert_eq!(params.texts(["x", "','y"]), "{p1:Array(String)}");
        assert_eq!(params.texts([]), "{p2:Array(String)}");
        assert_eq!(params.number(-7), "{p3:Int64}");
        assert_eq!(params.count(7), "{p4:UInt64}");
        assert_eq!(params.places([("c", 1), ("d", 2)]), "{p5:Array(Tuple(String, Int64))}");
        let values = [r"a\'\\\t\r\n\0b", r"['x','\',\'y']", "[]", "-7", "7", "[('c',1),('d',2)]"];
        assert_eq!(params.0, values);
    }

    #[test]
    fn a_form_has_a_field_for_each() {
        let mut params = Params::default();
        params.text("--x");
        let (kind, body) = params.form("SELECT 1");
        let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
        let head = "\r\nContent-Disposition: form-data; name=";
        let body = str::from_utf8(&body).unwrap();
        assert_eq!(
            body,
            format!(
                "--{boundary}{head}\"query\"\r\n\r\nSELECT 1\r\n\
                 --{boundary}{head}\"param_p0\"\r\n\r\n--x\r\n--{boundary}--\r\n"
            )
        );
        params.text(boundary);
        assert!(!params.form("SELECT 1").0.ends_with(boundary));
    }
}

//! A value as one line of canonical JSON.

use std::error::Error;

use agent_audit_core::canonical;
use serde::Serialize;

/// The canonical bytes of a value.
///
/// By way of plain JSON: what is hashed knows no enumerations with fields, and proofs of completeness
/// have some.
pub(super) fn canonical_line(
    value: &impl Serialize,
) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
    Ok(canonical::to_vec(&serde_json::to_value(value)?)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[derive(Serialize)]
    enum Either {
        One { z: u64, a: Vec<Self> },
    }

    #[test]
    fn enumerations_with_fields_have_a_line_too() {
        let value = Either::One { z: 7, a: vec![Either::One { z: 8, a: Vec::new() }] };
        let line = String::from_utf8(canonical_line(&value).unwrap()).unwrap();
        assert_eq!(line, r#"{"One":{"a":[{"One":{"a":[],"z":8}}],"z":7}}"#);
        assert!(canonical_line(&0.5).is_err());
    }
}

//! Canonical bytes: what is hashed (RFC 8785, JSON Canonicalization Scheme).
//!
//! [`to_vec`] writes any `Serialize` value directly in canonical form, without an intermediate tree.
//! Only a subset of JSON occurs under a hash, so that no reader in any language can disagree about
//! it: objects, arrays, strings, booleans, and integers within ±(2^53−1). Floats, `null`, larger
//! integers, duplicate keys and keys outside printable ASCII (without `"` and `\`) are refused with
//! the path of the field. Within that subset RFC 8785 reduces to: no white space, keys sorted
//! bytewise, shortest escapes, integers in plain decimal.
//!
//! Keys that begin with `$serde_json::private::` are refused as well: under features that any crate
//! of a program can turn on, `serde_json` takes them for numbers.
//!
//! [`scan`] is the way back for verifiers: it reads canonical bytes strictly, in one pass without
//! allocation, and refuses every other spelling of the same JSON.

mod key;
mod likely;
mod plain;
mod scan;
mod write;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod write_tests;

pub use scan::{ContentView, EventView, NotCanonical, scan};
pub(crate) use write::write_string;
pub use write::{CanonicalError, append, to_vec};

/// The largest integer that every JSON reader keeps exactly (RFC 8259 section 6): 2^53−1.
///
/// ```
/// assert_eq!(agent_audit_core::canonical::MAX_INTEGER, 9_007_199_254_740_991);
/// ```
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// How deep arrays and objects may nest in an event.
///
/// ```
/// assert_eq!(agent_audit_core::canonical::MAX_DEPTH, 64);
/// ```
pub const MAX_DEPTH: usize = 64;

/// Names by which `serde_json` passes numbers and raw JSON through serde, under features that any
/// crate of a program can turn on.
const RESERVED: &str = "$serde_json::private::";

/// The name of a number of `serde_json` with `arbitrary_precision`.
pub(crate) const NUMBER: &str = "$serde_json::private::Number";

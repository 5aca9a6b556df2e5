//! What agent-audit's sinks of Amazon's services share: access, errors, large events by reference,
//! sending chain by chain, and putting what arrives in order again.
//!
//! [`AwsConfig`], [`ClaimConfig`], [`Received`] and [`Arrivals`] are re-exported by the sinks.
//! [`internal`] is for the sinks alone and may change with any release.
//!
//! # Messages
//!
//! A message is one record. Its text is the record's line of JSON
//! ([`Record::to_json_line`](agent_audit_core::record::Record::to_json_line)), or, where that is
//! larger than the service takes, a claim on an object that holds the line:
//!
//! ```text
//! {"claim":{"bucket":"…","key":"…","sha256":"<hex>","bytes":<n>},
//!  "tenant_id":"…","chain_id":"…","sequence":<n>,"event_hash":"<hex>"}          (in one line)
//! ```
//!
//! - A text that begins with `{"claim":` is a claim, every other one is a record.
//! - The object is put before the message is sent, so that a claim that a reader finds can be
//!   redeemed. Its key is `<prefix><tenant>/<chain>/<sequence, 20 digits>-<sha256>.json`: the same
//!   line again is the same object.
//! - A reader MUST fetch from the configured bucket and prefix alone, whatever the claim says, and
//!   MUST hold size, SHA-256, event hash and position against the claim.
//! - Nothing is ever truncated.

mod arrivals;
mod claim;
mod config;
mod error;
mod lanes;
mod message;
mod settings;

pub use arrivals::{Arrival, Arrivals};
pub use claim::ClaimConfig;
pub use config::AwsConfig;
pub use message::Received;

/// For the sinks of Amazon's services alone; no promise of stability.
#[doc(hidden)]
pub mod internal {
    pub use crate::{
        __message_settings as message_settings,
        claim::{Claim, Claims},
        config::{Variables, client_config},
        error::Fault,
        lanes::{Limits, Transport, append},
        message::{Message, Unreadable, chain_key, read},
    };
}

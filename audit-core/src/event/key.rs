//! Keys: the keys that seal content come, are wrapped anew, and go.
//!
//! Destroying a key is how content is erased: the event that records it is the evidence that what is
//! missing went lawfully. Content: `request` (what asked for the destruction) with `key.destroyed`.

use super::payload::{payload, words};
use crate::id::SubjectId;

words! {
    /// What a key seals.
    ///
    /// ```
    /// use agent_audit_core::event::key::KeyScope;
    /// assert_eq!(KeyScope::Subject.as_str(), "subject");
    /// ```
    KeyScope {
        /// The content of a tenant.
        Tenant = "tenant",
        /// The content about one person.
        Subject = "subject",
        /// Other keys: a key-encryption key.
        Wrapping = "wrapping",
        /// Nothing: the key signs checkpoints.
        Signing = "signing",
    }
}

payload! {
    /// `key.created`: a key came into being.
    ///
    /// ```
    /// use agent_audit_core::event::key::{KeyCreated, KeyScope};
    /// let payload = KeyCreated::new("tenant-key-1", KeyScope::Tenant, "AES-256-GCM");
    /// assert_eq!(payload.algorithm, "AES-256-GCM");
    /// ```
    KeyCreated {
        /// The name of the key.
        key_id: String,
        /// What it seals.
        scope: KeyScope,
        /// The algorithm it is for.
        algorithm: String,
        [optional]
        /// A token of the person whose content it seals.
        subject_id: SubjectId,
        /// The key that wraps it, by name.
        wrapped_by: String,
    }
    /// `key.rotated`: a key was wrapped anew, or another one took its place.
    ///
    /// ```
    /// use agent_audit_core::event::key::{KeyRotated, KeyScope};
    /// let payload = KeyRotated::new("tenant-key-1", KeyScope::Tenant).with_wrapped_by("kek-2");
    /// assert_eq!(payload.successor_key_id, None);
    /// ```
    KeyRotated {
        /// The name of the key.
        key_id: String,
        /// What it seals.
        scope: KeyScope,
        [optional]
        /// A token of the person whose content it seals.
        subject_id: SubjectId,
        /// The key that wraps it from here on, by name.
        wrapped_by: String,
        /// The key that takes its place for new content, by name.
        successor_key_id: String,
        /// Who asked for it, as a token.
        authority: String,
        /// A code for why.
        reason: String,
    }
    /// `key.destroyed`: a key was destroyed, and with it all content that it sealed, in every copy.
    ///
    /// ```
    /// use agent_audit_core::event::key::{KeyDestroyed, KeyScope};
    /// let payload = KeyDestroyed::new("key-81f3", KeyScope::Subject, "dpo-1", "GDPR Art. 17")
    ///     .with_affected_parts(12u64);
    /// assert_eq!(payload.affected_parts, Some(12));
    /// ```
    KeyDestroyed {
        /// The name of the key.
        key_id: String,
        /// What it sealed.
        scope: KeyScope,
        /// Who ordered it, as a token; never a name or an address itself.
        authority: String,
        /// The law or contract that asks for it.
        legal_basis: String,
        [optional]
        /// A token of the person whose content it sealed.
        subject_id: SubjectId,
        /// How many events lost content.
        affected_events: u64,
        /// How many parts were lost.
        affected_parts: u64,
    }
}

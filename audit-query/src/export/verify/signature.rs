//! Is the manifest the one that the exporter signed?

use agent_audit_core::{
    hash::Hash,
    key::VerifyingKey,
    note::{NoteErrorKind, SignedNote},
    verify::FindingKind,
};

use super::{VerifyOptions, report::Draft};
use crate::export::manifest::{self, MANIFEST, Manifest, SIGNATURE};

/// Holds a signed note against a manifest and the digest of its bytes.
pub(super) fn check(
    note: &[u8],
    manifest: &Manifest,
    digest: &Hash,
    options: &VerifyOptions<'_>,
    draft: &mut Draft,
) {
    let text = String::from_utf8_lossy(note);
    let note = match SignedNote::parse(&text) {
        Ok(note) => note,
        Err(error) => {
            let detail = format!("the signature was changed and cannot be read: {error}");
            draft.find(FindingKind::BadSignature, SIGNATURE, detail);
            return;
        }
    };
    if !manifest::is_of(&note, digest) {
        draft.find(
            FindingKind::BadSignature,
            MANIFEST,
            "the manifest is not the one that was signed: it was changed afterwards",
        );
        return;
    }
    let trusted = !options.exporter_keys.is_empty();
    let named = manifest.exporter.public_key;
    let keys = if trusted { options.exporter_keys.clone() } else { vec![named] };
    let known: Vec<_> = keys.iter().map(manifest::verifier).collect();
    match note.verify(&known) {
        Ok(signatures) => {
            let made = |key: &&VerifyingKey| {
                let verifier = manifest::verifier(key);
                signatures.iter().any(|signature| verifier.made(signature))
            };
            draft.report.signer = keys.iter().find(made).copied();
            draft.report.signer_is_trusted = trusted;
            if draft.report.signer != Some(named) {
                draft.find(
                    FindingKind::BadSignature,
                    MANIFEST,
                    "the manifest names another key than the one that signed it",
                );
            }
        }
        Err(error) if error.kind() == NoteErrorKind::UnknownKey => {
            let detail = format!(
                "the manifest is not signed by a key that you trust, it names the key {}: give the \
                 exporter's key",
                named.id()
            );
            draft.find(FindingKind::UnknownKey, SIGNATURE, detail);
        }
        Err(error) => {
            let detail = format!(
                "the signature does not verify: the manifest or the signature was changed ({error})"
            );
            draft.find(FindingKind::BadSignature, SIGNATURE, detail);
        }
    }
}

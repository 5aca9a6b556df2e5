//! What an export is verified against.

use std::{fmt, path::PathBuf};

use agent_audit_core::key::VerifyingKey;

use crate::export::Progress;

/// What an export is verified against.
///
/// Without any, the keys that the export itself names are taken, and the report says so: whoever
/// could write the export could then have made all of it.
///
/// ```
/// use agent_audit_query::export::VerifyOptions;
/// let options = VerifyOptions::default().with_checkpoints("copies/000001.ndjson");
/// assert_eq!(options.checkpoints.len(), 1);
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct VerifyOptions<'a> {
    /// Keys of exporters: one of them must have signed.
    pub exporter_keys: Vec<VerifyingKey>,
    /// Keys of logs: one of them must have signed the checkpoints.
    pub log_keys: Vec<VerifyingKey>,
    /// Files of checkpoints, or directories of these, that were kept apart from log and export.
    pub checkpoints: Vec<PathBuf>,
    /// Called from time to time on the calling thread.
    pub progress: Option<&'a (dyn Fn(Progress) + Sync)>,
}

impl<'a> VerifyOptions<'a> {
    /// Believes manifests that one of these keys signed, and no others.
    #[must_use]
    pub fn with_exporter_keys(mut self, keys: impl IntoIterator<Item = VerifyingKey>) -> Self {
        self.exporter_keys.extend(keys);
        self
    }

    /// Believes checkpoints that one of these keys signed, and no others, and demands one of every
    /// chain.
    #[must_use]
    pub fn with_log_keys(mut self, keys: impl IntoIterator<Item = VerifyingKey>) -> Self {
        self.log_keys.extend(keys);
        self
    }

    /// Holds the export against checkpoints that were kept apart, and demands one of every chain.
    #[must_use]
    pub fn with_checkpoints(mut self, path: impl Into<PathBuf>) -> Self {
        self.checkpoints.push(path.into());
        self
    }

    /// Reports progress to a function.
    #[must_use]
    pub fn with_progress(mut self, progress: &'a (dyn Fn(Progress) + Sync)) -> Self {
        self.progress = Some(progress);
        self
    }
}

impl fmt::Debug for VerifyOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyOptions")
            .field("exporter_keys", &self.exporter_keys)
            .field("log_keys", &self.log_keys)
            .field("checkpoints", &self.checkpoints)
            .finish_non_exhaustive()
    }
}

//! S3 archive of agent-audit, with Object Lock.
//!
//! ```no_run
//! use std::time::Duration;
//! use agent_audit_core::{key::SigningKey, sink::Sink};
//! use agent_audit_s3::{Lock, S3Config, S3Sink};
//! # async fn example(key: SigningKey) -> Result<(), Box<dyn std::error::Error>> {
//! let config = S3Config::new("ledger")
//!     .with_prefix("audit")
//!     .with_region("eu-central-1")
//!     .with_lock(Lock::compliance(Duration::from_secs(7 * 365 * 86_400)))
//!     .with_manifest_key(&key);
//! let sink = S3Sink::open(config).await?;
//! sink.check().await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`S3Sink`] writes; [`S3Archive`] lists, reads and verifies; [`S3Store`] hands an archive to the
//! verifier of a log directory. Writer and reader need different permissions: the crate's folder
//! `policies` has both.
//!
//! # What is promised
//!
//! - An acknowledgement MUST mean that an object with the events and a manifest of it are stored,
//!   each with its lock, where one is configured.
//! - An event MUST be in the archive once, however often and however cut its segment comes, and
//!   however many writers are at work.
//! - What was written first MUST count: neither a second version of a key nor a deletion without a
//!   version changes what a reader reads, and both are found out.
//! - An object MUST attach to what is stored before it; there are no holes.
//! - Memory of the sink is bounded by [`max_object_bytes`](S3Config::max_object_bytes) times
//!   [`parallelism`](S3Config::parallelism), and by 10,000 chains that it remembers.
//! - No error carries content, a credential or a text of the service, which may repeat one.
//!
//! # Format
//!
//! Version 1. `PREFIX` is empty or ends in a slash; `TENANT` and `CHAIN` are the ids as they are:
//! their alphabet, `A-Z a-z 0-9 . _ -`, needs no escape in S3, whose keys are case-sensitive. A
//! position has 20 decimal digits, so that a listing is sorted.
//!
//! ```text
//! PREFIX TENANT/yyyy/mm/dd/CHAIN-FIRST-LAST.ndjson.zst       events FIRST to LAST of a chain
//! PREFIX TENANT/yyyy/mm/dd/CHAIN-FIRST-LAST.parquet          the same, in the other form
//! PREFIX TENANT/chains/CHAIN/NUMBER.manifest                 NUMBER = 2^64 - 1 - FIRST
//! ```
//!
//! The date is that of event FIRST, `timestamp_utc`, in UTC. The name of an object is read from its
//! end, because a chain id may hold what looks like positions. The number of a manifest counts down,
//! so that the newest is the first of a listing. A year has four digits, so that no tenant's folder
//! `chains` is one.
//!
//! ## Objects
//!
//! `.ndjson.zst` is one or more frames of Zstandard (RFC 8878), with checksums, around lines that
//! each end in a line feed; line *n* is the JSON line of the record of event FIRST + *n* (see
//! [`Record::to_json_line`](agent_audit_core::record::Record::to_json_line)).
//!
//! `.parquet` is an Apache Parquet file with one row for each event, in order:
//!
//! | column | type | what |
//! |---|---|---|
//! | those of [`COLUMNS`](agent_audit_core::columns::COLUMNS) | text; `sequence` and `decided_after_us` INT64; `timestamp_utc` and `occurred_at` TIMESTAMP(nanoseconds, UTC); `event_hash` bytes | extracted from the event, null where it does not have them |
//! | `external_ids` | list of (`key`, `value`), text | things outside that a call touched |
//! | `event` | bytes | the canonical bytes, which are hashed |
//! | `content` | list of parts | the bodies of content, in the order of the event |
//!
//! A part has `name`, `media_type` and `state`, and by its state: `clear` has `salt` and `bytes`;
//! `sealed` has `key_id`, `algorithm`, `nonce` and, as `bytes`, the ciphertext; `absent` has
//! `reason` (`erased` or `purged`) and, where they are known, `at` and `evidence`.
//!
//! ## Manifests
//!
//! A manifest is a [checkpoint](agent_audit_core::checkpoint) of its chain, a signed note of C2SP
//! `tlog-checkpoint`, with these lines behind the root:
//!
//! ```text
//! agent-audit/chain/CHAIN          the origin
//! SIZE                             LAST + 1, in decimal
//! ROOT                             base64 of the root of the tree over events 0 to LAST
//! agent-audit/archive/v1
//! tenant TENANT
//! object KEY                       without PREFIX TENANT/
//! version ID                       the version of the object; - where the bucket has none
//! sha256 HEX                       of the object's bytes
//! bytes N                          how many those are
//! first FIRST                      in decimal
//! head HEX                         the event hash of event LAST
//! previous HEX                     SHA-256 of the manifest before, as stored; zeros in the first
//! tree HEX HEX …                   the hashes of the compact range of SIZE, largest subtree first
//!
//! — agent-audit/chain/CHAIN SIGNATURE
//! ```
//!
//! So the checkpoint lies beside the events, and a verifier of checkpoints takes a manifest as it
//! is. With the key of the log, a manifest is one more checkpoint of that log; a key of the archive's
//! own says apart who recorded and who archived. A manifest without a signature ends behind the
//! line `tree`; it is written only where the configuration allows that.
//!
//! ## What counts
//!
//! - The manifest is the commit. An object without one was never acknowledged.
//! - Of a manifest's key, the version that was written first counts; of an object's, the one that the
//!   manifest names. On a service that honours `If-None-Match: *` there is no second one; on another,
//!   the writer looks, after it has written, whether its version is the first
//!   ([`CreateOnce::Versions`]).
//! - Of two writers at one position, the first manifest wins, because its key holds no more than the
//!   position: the other reads it and goes on behind it, or is told of the conflict. Its object stays,
//!   without a manifest.
//! - A writer that finds an object without a manifest where its own belongs, and that attaches, takes
//!   it over.
//!
//! ## What truncation shows
//!
//! A manifest or object removed from the middle is a gap. Removed from the end:
//!
//! | removed | shown by |
//! |---|---|
//! | locked versions, before their time | nobody can: the service refuses |
//! | hidden by a deletion without a version | the archive: the versions are still there |
//! | the last manifest, not its object | the archive, as [`Pending`](ArchiveFindingKind::Pending): an interrupted writer leaves the same |
//! | the last manifests and their objects, when they are not locked any more | a checkpoint that was kept elsewhere, and nothing else: what is left is a sound, shorter archive |
//! | everything of a chain | the same |
//!
//! Give such checkpoints to [`ArchiveOptions::with_checkpoint`]. Each manifest is one: whoever keeps
//! the newest manifest of each chain elsewhere can show any later truncation.

mod archive;
mod config;
mod error;
mod layout;
#[cfg(feature = "query")]
mod query;
mod sink;
mod store;

pub use archive::{
    ArchiveFinding, ArchiveFindingKind, ArchiveOptions, ArchiveReport, ArchivedObject, Records,
    S3Archive, S3Store,
};
pub use config::{CreateOnce, Lock, LockMode, ObjectFormat, S3Config, S3Credentials};
#[cfg(feature = "query")]
pub use query::S3Events;
pub use sink::S3Sink;

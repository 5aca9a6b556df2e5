//! What lies in the bucket: requests, bodies, manifests, and how a chain grows.

mod body;
mod bucket;
mod chain;
mod connect;
mod manifest;
#[cfg(feature = "parquet")]
mod parquet;
mod piece;
mod shelf;

pub(crate) use body::Body;
pub(crate) use bucket::{Bucket, KeyVersions, Object, Page};
pub(crate) use chain::{Chains, Grown};
pub(crate) use connect::connect;
pub(crate) use manifest::{Manifest, Signature, SignedManifest, digest};
pub(crate) use shelf::{Shelf, format_of};

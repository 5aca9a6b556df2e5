//! Exports, and attacks on them.

//! What the tests of all sinks share.

//! S3 archive of agent-audit, with Object Lock.

-- The ledger of all tenants. See the documentation of the crate `agent-audit-clickhouse`.
--
-- Columns of `audit_events` other than `tenant_id`, `external_ids`, `event_hash` and `event` are
-- extracted from the canonical bytes in `event`, and are NULL where the event does not have them.
--
-- Every part is synced before an insert is answered, and what a merge writes is synced before the
-- parts that it replaces go away. Block numbers are kept, so that of two rows at one position the
-- one that was there first is known for ever.

CREATE TABLE IF NOT EXISTS audit_schema (
    version UInt32,
    applied_at DateTime DEFAULT now()
) ENGINE = MergeTree ORDER BY version
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS audit_events (
    tenant_id LowCardinality(String),
    chain_id String CODEC(ZSTD(1)),
    sequence Int64 CODEC(Delta, ZSTD(1)),
    event_hash FixedString(32) CODEC(NONE),
    event_id String CODEC(ZSTD(1)),
    event_type LowCardinality(String),
    session_id String CODEC(ZSTD(1)),
    agent_id LowCardinality(String),
    timestamp_utc DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    occurred_at Nullable(DateTime64(9, 'UTC')) CODEC(ZSTD(1)),
    parent_event_id Nullable(String) CODEC(ZSTD(1)),
    trace_id Nullable(String) CODEC(ZSTD(1)),
    span_id Nullable(String) CODEC(ZSTD(1)),
    subject_id Nullable(String) CODEC(ZSTD(1)),
    writer_id Nullable(String) CODEC(ZSTD(1)),
    status LowCardinality(Nullable(String)),          -- how a model call, tool call or session ended
    provider LowCardinality(Nullable(String)),        -- of a model
    model LowCardinality(Nullable(String)),           -- that answered, or else that was asked
    requested_model LowCardinality(Nullable(String)),
    model_version LowCardinality(Nullable(String)),
    tool_name LowCardinality(Nullable(String)),
    call_id Nullable(String) CODEC(ZSTD(1)),          -- of a tool call, or that a review proposes
    approval_event_id Nullable(String) CODEC(ZSTD(1)), -- the review.decided that a tool call relies on
    review_id Nullable(String) CODEC(ZSTD(1)),
    reviewer_id Nullable(String) CODEC(ZSTD(1)),
    decision LowCardinality(Nullable(String)),        -- of a reviewer
    presented_event_id Nullable(String) CODEC(ZSTD(1)), -- the review.presented that a decision rests on
    decided_after_us Nullable(Int64) CODEC(ZSTD(1)),  -- from presentation to decision
    parent_session_id Nullable(String) CODEC(ZSTD(1)), -- of a session that another one spawned
    spawned_by Nullable(String) CODEC(ZSTD(1)),       -- the event that spawned the session
    external_ids Nested(key String, value String) CODEC(ZSTD(1)), -- what a tool call touched outside
    event String CODEC(ZSTD(1)),                      -- the canonical bytes: what is hashed
    INDEX by_time timestamp_utc TYPE minmax GRANULARITY 1,
    INDEX by_session session_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_event event_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_parent parent_event_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_type event_type TYPE set(64) GRANULARITY 1,
    INDEX by_agent agent_id TYPE set(64) GRANULARITY 1,
    INDEX by_model model TYPE set(64) GRANULARITY 1,
    INDEX by_tool tool_name TYPE set(64) GRANULARITY 1,
    INDEX by_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_subject subject_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_call call_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_approval approval_event_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_review review_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_reviewer reviewer_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_parent_session parent_session_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_spawner spawned_by TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_external_id external_ids.value TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = MergeTree ORDER BY (tenant_id, chain_id, sequence)
SETTINGS
    index_granularity = 1024,
    non_replicated_deduplication_window = 10000,
    enable_block_number_column = 1,
    enable_block_offset_column = 1,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1;

CREATE TABLE IF NOT EXISTS audit_content (
    tenant_id LowCardinality(String),
    chain_id String CODEC(ZSTD(1)),
    sequence Int64 CODEC(Delta, ZSTD(1)),
    event_hash FixedString(32) CODEC(NONE),           -- the event that it belongs to
    ordinal UInt32 CODEC(ZSTD(1)),                    -- its place in the content of the event, from 0
    name String CODEC(ZSTD(1)),
    media_type LowCardinality(String),
    purge_after DateTime('UTC') CODEC(ZSTD(1)),       -- when its term ends; the last moment there is: never
    state LowCardinality(String),                     -- 'clear', 'sealed' or 'absent'
    kept UInt8 TTL purge_after,                       -- 1 until the term ends
    salt String CODEC(NONE) TTL purge_after,          -- clear
    bytes String CODEC(ZSTD(1)) TTL purge_after,      -- clear: the plaintext; sealed: the ciphertext
    key_id String CODEC(ZSTD(1)),                     -- sealed
    algorithm UInt8 CODEC(ZSTD(1)),                   -- sealed
    nonce String CODEC(NONE) TTL purge_after,         -- sealed
    absent_reason LowCardinality(String),             -- absent: 'erased' or 'purged'
    absent_at Nullable(UInt64) CODEC(ZSTD(1)),        -- absent, where it is known: nanoseconds since 1970
    absent_evidence Nullable(String) CODEC(ZSTD(1))   -- absent, where it is known: the event that records it
) ENGINE = MergeTree ORDER BY (tenant_id, chain_id, sequence, ordinal)
SETTINGS
    index_granularity = 1024,
    non_replicated_deduplication_window = 10000,
    enable_block_number_column = 1,
    enable_block_offset_column = 1,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1,
    merge_with_ttl_timeout = 3600;

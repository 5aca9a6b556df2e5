-- The ledger of one tenant. See the documentation of the crate `agent-audit-sqlite`.
--
-- Points in time are nanoseconds since 1970-01-01T00:00:00Z. Columns of `events` other than
-- `event_row`, `event_hash` and `event` are extracted from the canonical bytes in `event`, and are
-- NULL where the event does not have them.

CREATE TABLE ledger (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    tenant_id TEXT NOT NULL
) STRICT;

CREATE TABLE events (
    event_row INTEGER PRIMARY KEY,
    chain_id TEXT NOT NULL,
    sequence INTEGER NOT NULL CHECK (sequence >= 0),
    event_hash BLOB NOT NULL CHECK (length(event_hash) = 32),
    event_id TEXT NOT NULL UNIQUE,
    event_type TEXT NOT NULL,
    session_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    timestamp_utc INTEGER NOT NULL,
    occurred_at INTEGER,
    parent_event_id TEXT,
    trace_id TEXT,
    span_id TEXT,
    subject_id TEXT,
    writer_id TEXT,
    status TEXT,              -- how a model call, tool call or session ended
    provider TEXT,            -- of a model
    model TEXT,               -- that answered, or that was asked where nothing is known of the answer
    requested_model TEXT,
    model_version TEXT,
    tool_name TEXT,
    call_id TEXT,             -- of a tool call, or of the call that a review proposes
    approval_event_id TEXT,   -- the review.decided that a tool call relies on
    review_id TEXT,
    reviewer_id TEXT,
    decision TEXT,            -- of a reviewer
    presented_event_id TEXT,  -- the review.presented that a decision rests on
    decided_after_us INTEGER, -- from presentation to decision
    parent_session_id TEXT,   -- of a session that another one spawned
    spawned_by TEXT,          -- the event that spawned the session
    event BLOB NOT NULL,      -- the canonical bytes: what is hashed
    UNIQUE (chain_id, sequence)
) STRICT;

CREATE INDEX events_by_session ON events (session_id, timestamp_utc);
CREATE INDEX events_by_type ON events (event_type, timestamp_utc);
CREATE INDEX events_by_time ON events (timestamp_utc);
CREATE INDEX events_by_agent ON events (agent_id, timestamp_utc);
CREATE INDEX events_by_parent ON events (parent_event_id) WHERE parent_event_id IS NOT NULL;
CREATE INDEX events_by_trace ON events (trace_id) WHERE trace_id IS NOT NULL;
CREATE INDEX events_by_subject ON events (subject_id, timestamp_utc) WHERE subject_id IS NOT NULL;
CREATE INDEX events_by_model ON events (model, timestamp_utc) WHERE model IS NOT NULL;
CREATE INDEX events_by_tool ON events (tool_name, timestamp_utc) WHERE tool_name IS NOT NULL;
CREATE INDEX events_by_call ON events (call_id) WHERE call_id IS NOT NULL;
CREATE INDEX events_by_approval ON events (approval_event_id) WHERE approval_event_id IS NOT NULL;
CREATE INDEX events_by_review ON events (review_id) WHERE review_id IS NOT NULL;
CREATE INDEX events_by_reviewer ON events (reviewer_id, timestamp_utc) WHERE reviewer_id IS NOT NULL;
CREATE INDEX events_by_parent_session ON events (parent_session_id) WHERE parent_session_id IS NOT NULL;
CREATE INDEX events_by_spawner ON events (spawned_by) WHERE spawned_by IS NOT NULL;

CREATE TABLE content (
    event_row INTEGER NOT NULL REFERENCES events (event_row),
    ordinal INTEGER NOT NULL,   -- its place in the content of the event, from 0
    name TEXT NOT NULL,
    media_type TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('clear', 'sealed', 'absent')),
    salt BLOB,                  -- clear
    bytes BLOB,                 -- clear: the plaintext; sealed: the ciphertext
    key_id TEXT,                -- sealed
    algorithm INTEGER,          -- sealed
    nonce BLOB,                 -- sealed
    absent_reason TEXT,         -- absent: 'erased' or 'purged'
    absent_at INTEGER,          -- absent, where it is known
    absent_evidence TEXT,       -- absent, where it is known: the event that records it
    PRIMARY KEY (event_row, ordinal)
) STRICT;

CREATE TABLE external_ids (
    event_row INTEGER NOT NULL REFERENCES events (event_row),
    ordinal INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (event_row, ordinal)
) STRICT, WITHOUT ROWID;

CREATE INDEX external_ids_by_value ON external_ids (key, value);

CREATE TRIGGER ledger_refuses_update BEFORE UPDATE ON ledger
BEGIN SELECT RAISE(ABORT, 'the tenant of a ledger never changes'); END;
CREATE TRIGGER ledger_refuses_delete BEFORE DELETE ON ledger
BEGIN SELECT RAISE(ABORT, 'the tenant of a ledger never changes'); END;
CREATE TRIGGER events_refuse_update BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER events_refuse_delete BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;
CREATE TRIGGER external_ids_refuse_update BEFORE UPDATE ON external_ids
BEGIN SELECT RAISE(ABORT, 'external ids are never changed'); END;
CREATE TRIGGER external_ids_refuse_delete BEFORE DELETE ON external_ids
BEGIN SELECT RAISE(ABORT, 'external ids are never deleted'); END;
CREATE TRIGGER content_refuses_delete BEFORE DELETE ON content
BEGIN SELECT RAISE(ABORT, 'content is never deleted: make it absent'); END;
CREATE TRIGGER content_only_becomes_absent BEFORE UPDATE ON content
WHEN OLD.state = 'absent'
    OR NEW.state <> 'absent'
    OR NEW.absent_reason IS NULL
    OR NEW.absent_reason NOT IN ('erased', 'purged')
    OR NEW.event_row <> OLD.event_row
    OR NEW.ordinal <> OLD.ordinal
    OR NEW.name <> OLD.name
    OR NEW.media_type <> OLD.media_type
    OR coalesce(NEW.salt, NEW.bytes, NEW.key_id, NEW.algorithm, NEW.nonce) IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'content is never changed, it can only become absent'); END;

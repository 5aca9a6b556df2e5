-- The tables of the audit log, what guards them, and who sees which row.
--
-- Migrations are run by `PostgresStore::migrate` as audit_owner, all that are missing in one transaction.
--
-- Points in time are nanoseconds since 1970-01-01T00:00:00Z. Columns of `audit_events` other than
-- `tenant_id`, `event_hash` and `event` are extracted from the canonical bytes in `event`, and are
-- NULL where the event does not have them. Text is compared byte by byte (COLLATE "C"). PostgreSQL
-- text cannot hold the character U+0000: it is written as U+F8FF followed by 0, and U+F8FF as itself
-- twice.

-- Events, content and external ids are partitioned by the month in which they were recorded. An
-- event id is a UUIDv7: it begins with the millisecond of its making, so that a month is a range of
-- ids, and the id of an event stays unique over all months by an index of the database.

CREATE TABLE agent_audit.audit_events (
    tenant_id text COLLATE "C" NOT NULL,
    chain_id text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL CONSTRAINT sequence_from_zero CHECK (sequence >= 0),
    event_hash bytea NOT NULL CONSTRAINT event_hash_of_32_bytes CHECK (octet_length(event_hash) = 32),
    event_id uuid NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    agent_id text COLLATE "C" NOT NULL,
    timestamp_utc bigint NOT NULL,
    occurred_at bigint,
    parent_event_id text COLLATE "C",
    trace_id text COLLATE "C",
    span_id text COLLATE "C",
    subject_id text COLLATE "C",
    writer_id text COLLATE "C",
    status text COLLATE "C",             -- how a model call, tool call or session ended
    provider text COLLATE "C",           -- of a model
    model text COLLATE "C",              -- that answered, or that was asked where nothing is known of the answer
    requested_model text COLLATE "C",
    model_version text COLLATE "C",
    tool_name text COLLATE "C",
    call_id text COLLATE "C",            -- of a tool call, or of the call that a review proposes
    approval_event_id text COLLATE "C",  -- the review.decided that a tool call relies on
    review_id text COLLATE "C",
    reviewer_id text COLLATE "C",
    decision text COLLATE "C",           -- of a reviewer
    presented_event_id text COLLATE "C", -- the review.presented that a decision rests on
    decided_after_us bigint,             -- from presentation to decision
    parent_session_id text COLLATE "C",  -- of a session that another one spawned
    spawned_by text COLLATE "C",         -- the event that spawned the session
    event bytea NOT NULL,                -- the canonical bytes: what is hashed
    PRIMARY KEY (tenant_id, event_id)
) PARTITION BY RANGE (event_id);

-- (tenant_id, chain_id, sequence) is unique in each partition, by an index that `ensure_partitions`
-- creates there, and over all of them because audit_append is the only way in.

-- An entry of an index has a limit of 2.7 kB and these names have none: only their beginning is
-- indexed, so that no event is refused for a long name. Ask for both:
--     left(tool_name, 200) = left($1, 200) AND tool_name = $1
CREATE INDEX audit_events_by_time ON agent_audit.audit_events (tenant_id, timestamp_utc);
CREATE INDEX audit_events_by_session ON agent_audit.audit_events (tenant_id, session_id, timestamp_utc);
CREATE INDEX audit_events_by_type ON agent_audit.audit_events (tenant_id, event_type, timestamp_utc);
CREATE INDEX audit_events_by_agent ON agent_audit.audit_events (tenant_id, agent_id, timestamp_utc);
CREATE INDEX audit_events_by_parent ON agent_audit.audit_events (tenant_id, parent_event_id)
    WHERE parent_event_id IS NOT NULL;
CREATE INDEX audit_events_by_trace ON agent_audit.audit_events (tenant_id, trace_id)
    WHERE trace_id IS NOT NULL;
CREATE INDEX audit_events_by_subject ON agent_audit.audit_events (tenant_id, subject_id, timestamp_utc)
    WHERE subject_id IS NOT NULL;
CREATE INDEX audit_events_by_model ON agent_audit.audit_events (tenant_id, left(model, 200), timestamp_utc)
    WHERE model IS NOT NULL;
CREATE INDEX audit_events_by_tool ON agent_audit.audit_events (tenant_id, left(tool_name, 200), timestamp_utc)
    WHERE tool_name IS NOT NULL;
CREATE INDEX audit_events_by_call ON agent_audit.audit_events (tenant_id, call_id)
    WHERE call_id IS NOT NULL;
CREATE INDEX audit_events_by_approval ON agent_audit.audit_events (tenant_id, approval_event_id)
    WHERE approval_event_id IS NOT NULL;
CREATE INDEX audit_events_by_review ON agent_audit.audit_events (tenant_id, left(review_id, 200))
    WHERE review_id IS NOT NULL;
CREATE INDEX audit_events_by_reviewer ON agent_audit.audit_events (tenant_id, left(reviewer_id, 200), timestamp_utc)
    WHERE reviewer_id IS NOT NULL;
CREATE INDEX audit_events_by_parent_session ON agent_audit.audit_events (tenant_id, parent_session_id)
    WHERE parent_session_id IS NOT NULL;
CREATE INDEX audit_events_by_spawner ON agent_audit.audit_events (tenant_id, spawned_by)
    WHERE spawned_by IS NOT NULL;

-- The bodies of content, apart so that they can go.
CREATE TABLE agent_audit.audit_content (
    tenant_id text COLLATE "C" NOT NULL,
    event_id uuid NOT NULL,
    ordinal integer NOT NULL,            -- its place in the content of the event, from 0
    name text COLLATE "C" NOT NULL,
    media_type text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL CONSTRAINT state_is_known CHECK (state IN ('clear', 'sealed', 'absent')),
    salt bytea,                          -- clear
    bytes bytea,                         -- clear: the plaintext; sealed: the ciphertext
    key_id text COLLATE "C",             -- sealed
    algorithm smallint,                  -- sealed
    nonce bytea,                         -- sealed
    absent_reason text COLLATE "C",      -- absent: 'erased' or 'purged'
    absent_at bigint,                    -- absent, where it is known
    absent_evidence uuid,                -- absent, where it is known: the event that records it
    PRIMARY KEY (tenant_id, event_id, ordinal)
) PARTITION BY RANGE (event_id);

-- The things outside that tool calls touched.
CREATE TABLE agent_audit.audit_external_ids (
    tenant_id text COLLATE "C" NOT NULL,
    event_id uuid NOT NULL,
    ordinal integer NOT NULL,
    key text COLLATE "C" NOT NULL,
    value text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, event_id, ordinal)
) PARTITION BY RANGE (event_id);

CREATE INDEX audit_external_ids_by_value
    ON agent_audit.audit_external_ids (tenant_id, left(key, 200), left(value, 200));

-- The last event of each chain. Its row is the lock of the chain: who appends holds it, so that a
-- position is given once, whichever month its event is kept in.
CREATE TABLE agent_audit.audit_heads (
    tenant_id text COLLATE "C" NOT NULL,
    chain_id text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    event_hash bytea NOT NULL,
    PRIMARY KEY (tenant_id, chain_id)
) WITH (fillfactor = 50);

-- Which login reads or erases for which tenant; '*' is any tenant that it names.
CREATE TABLE agent_audit.audit_access (
    login text COLLATE "C" NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (login, tenant_id)
);

-- Nobody changes an event, the owner included. A trigger of rows is inherited by each partition; one
-- of statements is not, and is created with it.

CREATE FUNCTION agent_audit.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed or deleted', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE FUNCTION agent_audit.content_only_becomes_absent() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = 'absent'
        OR NEW.state <> 'absent'
        OR NEW.absent_reason IS NULL
        OR NEW.absent_reason NOT IN ('erased', 'purged')
        OR (NEW.tenant_id, NEW.event_id, NEW.ordinal, NEW.name, NEW.media_type)
            IS DISTINCT FROM (OLD.tenant_id, OLD.event_id, OLD.ordinal, OLD.name, OLD.media_type)
        OR num_nonnulls(NEW.salt, NEW.bytes, NEW.key_id, NEW.algorithm, NEW.nonce) > 0
    THEN
        RAISE EXCEPTION 'content is never changed, it can only become absent'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION agent_audit.head_only_goes_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.sequence <= OLD.sequence
        OR (NEW.tenant_id, NEW.chain_id) IS DISTINCT FROM (OLD.tenant_id, OLD.chain_id)
    THEN
        RAISE EXCEPTION 'the head of a chain only goes forward'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER rows_stay BEFORE UPDATE OR DELETE ON agent_audit.audit_events
    FOR EACH ROW EXECUTE FUNCTION agent_audit.refuse();
CREATE TRIGGER statements_are_refused BEFORE UPDATE OR DELETE OR TRUNCATE ON agent_audit.audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION agent_audit.refuse();
CREATE TRIGGER rows_stay BEFORE UPDATE OR DELETE ON agent_audit.audit_external_ids
    FOR EACH ROW EXECUTE FUNCTION agent_audit.refuse();
CREATE TRIGGER statements_are_refused BEFORE UPDATE OR DELETE OR TRUNCATE ON agent_audit.audit_external_ids
    FOR EACH STATEMENT EXECUTE FUNCTION agent_audit.refuse();
CREATE TRIGGER rows_stay BEFORE DELETE ON agent_audit.audit_content
    FOR EACH ROW EXECUTE FUNCTION agent_audit.refuse();
CREATE TRIGGER statements_are_refused BEFORE DELETE OR TRUNCATE ON agent_audit.audit_content
    FOR EACH STATEMENT EXECUTE FUNCTION agent_audit.refuse();
CREATE TRIGGER content_only_becomes_absent BEFORE UPDATE ON agent_audit.audit_content
    FOR EACH ROW EXECUTE FUNCTION agent_audit.content_only_becomes_absent();
CREATE TRIGGER head_only_goes_forward BEFORE UPDATE ON agent_audit.audit_heads
    FOR EACH ROW EXECUTE FUNCTION agent_audit.head_only_goes_forward();
CREATE TRIGGER statements_are_refused BEFORE DELETE OR TRUNCATE ON agent_audit.audit_heads
    FOR EACH STATEMENT EXECUTE FUNCTION agent_audit.refuse();

-- Row-level security, in force for the owner too. A row without a policy for the role is not there.

CREATE FUNCTION agent_audit.audit_tenant() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    -- The login counts: SET ROLE does not change it.
    SELECT current_setting('audit.tenant_id', true) WHERE EXISTS (
        SELECT FROM agent_audit.audit_access
        WHERE login = session_user AND tenant_id IN (current_setting('audit.tenant_id', true), '*')
    )
$$;

CREATE FUNCTION agent_audit.audit_tenants() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    -- One step through the index per tenant, however many chains there are.
    WITH RECURSIVE tenant (id) AS (
        SELECT min(tenant_id) FROM agent_audit.audit_heads
        UNION ALL
        SELECT (SELECT min(tenant_id) FROM agent_audit.audit_heads WHERE tenant_id > tenant.id)
        FROM tenant WHERE tenant.id IS NOT NULL
    )
    SELECT id FROM tenant WHERE id IS NOT NULL AND EXISTS (
        SELECT FROM agent_audit.audit_access
        WHERE login = session_user AND tenant_id IN (tenant.id, '*')
    )
$$;

ALTER TABLE agent_audit.audit_events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE agent_audit.audit_content ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE agent_audit.audit_external_ids ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE agent_audit.audit_heads ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE agent_audit.audit_access ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- Writers append for all tenants, in one transaction.
CREATE POLICY gate_adds ON agent_audit.audit_events FOR INSERT TO audit_gate WITH CHECK (true);
CREATE POLICY gate_compares ON agent_audit.audit_events FOR SELECT TO audit_gate USING (true);
CREATE POLICY gate_adds ON agent_audit.audit_content FOR INSERT TO audit_gate WITH CHECK (true);
CREATE POLICY gate_adds ON agent_audit.audit_external_ids FOR INSERT TO audit_gate WITH CHECK (true);
CREATE POLICY gate_moves ON agent_audit.audit_heads TO audit_gate USING (true) WITH CHECK (true);
CREATE POLICY gate_asks ON agent_audit.audit_access FOR SELECT TO audit_gate USING (true);
CREATE POLICY owner_decides ON agent_audit.audit_access TO audit_owner USING (true) WITH CHECK (true);

-- The tenant of the session, and no other. In a subquery it is asked once, not once a row.
CREATE POLICY reader_reads ON agent_audit.audit_events FOR SELECT TO audit_reader, audit_eraser
    USING (tenant_id = (SELECT agent_audit.audit_tenant()));
CREATE POLICY reader_reads ON agent_audit.audit_content FOR SELECT TO audit_reader, audit_eraser
    USING (tenant_id = (SELECT agent_audit.audit_tenant()));
CREATE POLICY reader_reads ON agent_audit.audit_external_ids FOR SELECT TO audit_reader
    USING (tenant_id = (SELECT agent_audit.audit_tenant()));
CREATE POLICY reader_reads ON agent_audit.audit_heads FOR SELECT TO audit_reader
    USING (tenant_id = (SELECT agent_audit.audit_tenant()));
CREATE POLICY eraser_erases ON agent_audit.audit_content FOR UPDATE TO audit_eraser
    USING (tenant_id = (SELECT agent_audit.audit_tenant()))
    WITH CHECK (tenant_id = (SELECT agent_audit.audit_tenant()) AND state = 'absent');

-- These two look at rows of any tenant, so they run as audit_gate.
GRANT CREATE ON SCHEMA agent_audit TO audit_gate;
ALTER FUNCTION agent_audit.audit_tenant() OWNER TO audit_gate;
ALTER FUNCTION agent_audit.audit_tenants() OWNER TO audit_gate;
REVOKE CREATE ON SCHEMA agent_audit FROM audit_gate;

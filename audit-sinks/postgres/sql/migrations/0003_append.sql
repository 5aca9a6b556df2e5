-- How events come in: the one way, for all writers.

-- Appends segments of different chains, in one transaction.
--
-- The arrays `s_…` have one entry for each segment: its chain, the position of its first event, how
-- many events it has, and the hash that its first event names as the one before. The arrays `e_…` hold
-- the events of all segments, one segment after the other; `c_…` their content and `x_…` their
-- external ids, each with the number of its event, from 1.
--
-- For each segment it says what became of it, with the head of the chain as it was found:
--
--     stored     all of its events are stored, now or from before
--     busy       another transaction is appending to the chain
--     detached   it starts behind the next position, or is not linked to the head
--     conflict   another event is stored at the position `differs`
--     gone       the position `differs` was given and no event is stored there
--
-- Two appends to one chain wait for each other at its row of audit_heads: it is locked before the head
-- is read, and moved before it is let go, so that no position is given twice. A chain that is held by
-- another transaction is waited for as long as `lock_timeout` says, all of them together, and then left
-- out, so that it does not hold up the others.
CREATE FUNCTION agent_audit.audit_append(
    s_tenant text[], s_chain text[], s_first bigint[], s_events bigint[], s_previous bytea[],
    e_event_hash bytea[], e_event_id uuid[], e_event_type text[], e_session_id text[], e_agent_id text[],
    e_timestamp_utc bigint[], e_occurred_at bigint[], e_parent_event_id text[], e_trace_id text[],
    e_span_id text[], e_subject_id text[], e_writer_id text[], e_status text[], e_provider text[],
    e_model text[], e_requested_model text[], e_model_version text[], e_tool_name text[], e_call_id text[],
    e_approval_event_id text[], e_review_id text[], e_reviewer_id text[], e_decision text[],
    e_presented_event_id text[], e_decided_after_us bigint[], e_parent_session_id text[],
    e_spawned_by text[], e_event bytea[],
    c_event integer[], c_ordinal integer[], c_name text[], c_media_type text[], c_state text[], c_salt bytea[],
    c_bytes bytea[], c_key_id text[], c_algorithm smallint[], c_nonce bytea[], c_absent_reason text[],
    c_absent_at bigint[], c_absent_evidence uuid[],
    x_event integer[], x_ordinal integer[], x_key text[], x_value text[]
) RETURNS TABLE (segment integer, state text, head_sequence bigint, head_hash bytea, differs bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    zero CONSTANT bytea := decode(repeat('00', 32), 'hex');
    segments CONSTANT integer := cardinality(s_tenant);
    heads bigint[] := array_fill(NULL::bigint, ARRAY[segments]);
    hashes bytea[] := array_fill(NULL::bytea, ARRAY[segments]);
    states text[] := array_fill(NULL::text, ARRAY[segments]);
    differing bigint[] := array_fill(NULL::bigint, ARRAY[segments]);
    -- The last position of each segment that is not to be written.
    through bigint[] := array_fill(9223372036854775807, ARRAY[segments]);
    -- The segment and the position of each event.
    e_segment integer[];
    e_sequence bigint[];
    -- The number of the last event of each segment.
    ends bigint[];
    fresh bigint := 0;
    found_head record;
    other record;
    missing integer;
    added bigint;
BEGIN
    SELECT array_agg(p.i ORDER BY p.i, p.at), array_agg(p.at ORDER BY p.i, p.at) INTO e_segment, e_sequence
    FROM (
        SELECT s.i::integer AS i, generate_series(s.first, s.first + s.events - 1) AS at
        FROM unnest(s_first, s_events) WITH ORDINALITY AS s (first, events, i)
    ) AS p;
    SELECT array_agg(s.upto ORDER BY s.i) INTO ends
    FROM (SELECT o.i, sum(o.events) OVER (ORDER BY o.i) AS upto
          FROM unnest(s_events) WITH ORDINALITY AS o (events, i)) AS s;
    IF cardinality(e_segment) IS DISTINCT FROM cardinality(e_event_id) THEN
        RAISE EXCEPTION 'the segments have % events and % are given', cardinality(e_segment), cardinality(e_event_id)
            USING ERRCODE = 'cardinality_violation';
    END IF;

    -- Two segments of one chain would both be put to the same head.
    IF segments <> (SELECT count(DISTINCT (s.tenant_id, s.chain_id))
                    FROM unnest(s_tenant, s_chain) AS s (tenant_id, chain_id)) THEN
        RAISE EXCEPTION 'two segments are of the same chain' USING ERRCODE = 'cardinality_violation';
    END IF;

    -- Lock the chains: first what can be had at once, in one order.
    FOR attempt IN 1..2 LOOP
        FOR found_head IN
            SELECT s.i, h.sequence, h.event_hash
            FROM unnest(s_tenant, s_chain, heads) WITH ORDINALITY AS s (tenant_id, chain_id, head, i)
            JOIN agent_audit.audit_heads h ON h.tenant_id = s.tenant_id AND h.chain_id = s.chain_id
            WHERE s.head IS NULL
            ORDER BY s.tenant_id, s.chain_id
            FOR UPDATE OF h SKIP LOCKED
        LOOP
            heads[found_head.i] := found_head.sequence;
            hashes[found_head.i] := found_head.event_hash;
        END LOOP;
        EXIT WHEN attempt = 2 OR array_position(heads, NULL) IS NULL;
        -- Chains that begin get their row. What another transaction has begun too is waited for.
        BEGIN
            INSERT INTO agent_audit.audit_heads (tenant_id, chain_id, sequence, event_hash)
            SELECT s.tenant_id, s.chain_id, -1, zero
            FROM unnest(s_tenant, s_chain, s_first, s_previous, heads)
                AS s (tenant_id, chain_id, first, previous, head)
            WHERE s.head IS NULL AND s.first = 0 AND s.previous = zero
            ORDER BY s.tenant_id, s.chain_id
            ON CONFLICT DO NOTHING;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            PERFORM set_config('lock_timeout', '1ms', true);
            EXIT;
        END;
    END LOOP;
    -- Then what others hold, for as long as one lock may take.
    LOOP
        missing := NULL;
        FOR i IN 1..segments LOOP
            IF heads[i] IS NULL AND states[i] IS NULL THEN
                missing := i;
                EXIT;
            END IF;
        END LOOP;
        EXIT WHEN missing IS NULL;
        BEGIN
            IF s_first[missing] = 0 AND s_previous[missing] = zero THEN
                INSERT INTO agent_audit.audit_heads (tenant_id, chain_id, sequence, event_hash)
                VALUES (s_tenant[missing], s_chain[missing], -1, zero)
                ON CONFLICT DO NOTHING;
            END IF;
            SELECT h.sequence, h.event_hash INTO found_head FROM agent_audit.audit_heads h
            WHERE h.tenant_id = s_tenant[missing] AND h.chain_id = s_chain[missing]
            FOR UPDATE;
            IF FOUND THEN
                heads[missing] := found_head.sequence;
                hashes[missing] := found_head.event_hash;
            ELSE
                states[missing] := 'detached';
            END IF;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            states[missing] := 'busy';
            PERFORM set_config('lock_timeout', '1ms', true);
        END;
    END LOOP;

    -- How each segment meets what is stored.
    FOR i IN 1..segments LOOP
        CONTINUE WHEN states[i] IS NOT NULL;
        IF s_first[i] > heads[i] + 1 OR (s_first[i] = heads[i] + 1 AND s_previous[i] IS DISTINCT FROM hashes[i]) THEN
            states[i] := 'detached';
            CONTINUE;
        END IF;
        states[i] := 'stored';
        IF s_first[i] <= heads[i] THEN
            SELECT e.sequence, CASE WHEN t.event_hash IS NULL THEN 'gone' ELSE 'conflict' END AS state
            INTO other
            FROM unnest(e_segment, e_sequence, e_event_hash) AS e (segment, sequence, event_hash)
            LEFT JOIN agent_audit.audit_events t
                ON t.tenant_id = s_tenant[i] AND t.chain_id = s_chain[i] AND t.sequence = e.sequence
            WHERE e.segment = i AND e.sequence <= heads[i] AND t.event_hash IS DISTINCT FROM e.event_hash
            ORDER BY e.sequence LIMIT 1;
            IF FOUND THEN
                differing[i] := other.sequence;
                states[i] := other.state;
            END IF;
        END IF;
        IF states[i] = 'stored' THEN
            through[i] := heads[i];
            fresh := fresh + greatest(s_first[i] + s_events[i] - 1 - heads[i], 0);
        END IF;
    END LOOP;

    IF fresh > 0 THEN
        INSERT INTO agent_audit.audit_events (
            tenant_id, chain_id, sequence, event_hash, event_id, event_type, session_id, agent_id,
            timestamp_utc, occurred_at, parent_event_id, trace_id, span_id, subject_id, writer_id, status,
            provider, model, requested_model, model_version, tool_name, call_id, approval_event_id,
            review_id, reviewer_id, decision, presented_event_id, decided_after_us, parent_session_id,
            spawned_by, event
        )
        SELECT
            s_tenant[e.segment], s_chain[e.segment], e.sequence, e.event_hash, e.event_id, e.event_type,
            e.session_id, e.agent_id, e.timestamp_utc, e.occurred_at, e.parent_event_id, e.trace_id,
            e.span_id, e.subject_id, e.writer_id, e.status, e.provider, e.model, e.requested_model,
            e.model_version, e.tool_name, e.call_id, e.approval_event_id, e.review_id, e.reviewer_id,
            e.decision, e.presented_event_id, e.decided_after_us, e.parent_session_id, e.spawned_by,
            e.event
        FROM unnest(
            e_segment, e_sequence,
            e_event_hash, e_event_id, e_event_type, e_session_id, e_agent_id, e_timestamp_utc,
            e_occurred_at, e_parent_event_id, e_trace_id, e_span_id, e_subject_id, e_writer_id, e_status,
            e_provider, e_model, e_requested_model, e_model_version, e_tool_name, e_call_id,
            e_approval_event_id, e_review_id, e_reviewer_id, e_decision, e_presented_event_id,
            e_decided_after_us, e_parent_session_id, e_spawned_by, e_event
        ) AS e (
            segment, sequence,
            event_hash, event_id, event_type, session_id, agent_id, timestamp_utc, occurred_at,
            parent_event_id, trace_id, span_id, subject_id, writer_id, status, provider, model,
            requested_model, model_version, tool_name, call_id, approval_event_id, review_id, reviewer_id,
            decision, presented_event_id, decided_after_us, parent_session_id, spawned_by, event
        )
        WHERE e.sequence > through[e.segment];
        GET DIAGNOSTICS added = ROW_COUNT;
        IF added <> fresh THEN
            RAISE EXCEPTION '% events were to be stored and % were', fresh, added USING ERRCODE = 'internal_error';
        END IF;

        IF cardinality(c_event) > 0 THEN
            INSERT INTO agent_audit.audit_content (
                tenant_id, event_id, ordinal, name, media_type, state, salt, bytes, key_id, algorithm, nonce,
                absent_reason, absent_at, absent_evidence
            )
            SELECT
                s_tenant[e_segment[c.event]], e_event_id[c.event], c.ordinal, c.name, c.media_type, c.state, c.salt,
                c.bytes, c.key_id, c.algorithm, c.nonce, c.absent_reason, c.absent_at, c.absent_evidence
            FROM unnest(
                c_event, c_ordinal, c_name, c_media_type, c_state, c_salt, c_bytes, c_key_id, c_algorithm, c_nonce,
                c_absent_reason, c_absent_at, c_absent_evidence
            ) AS c (
                event, ordinal, name, media_type, state, salt, bytes, key_id, algorithm, nonce,
                absent_reason, absent_at, absent_evidence
            )
            WHERE e_sequence[c.event] > through[e_segment[c.event]];
        END IF;

        IF cardinality(x_event) > 0 THEN
            INSERT INTO agent_audit.audit_external_ids (tenant_id, event_id, ordinal, key, value)
            SELECT s_tenant[e_segment[x.event]], e_event_id[x.event], x.ordinal, x.key, x.value
            FROM unnest(x_event, x_ordinal, x_key, x_value) AS x (event, ordinal, key, value)
            WHERE e_sequence[x.event] > through[e_segment[x.event]];
        END IF;

        UPDATE agent_audit.audit_heads h
        SET sequence = s.first + s.events - 1, event_hash = e_event_hash[s.upto]
        FROM unnest(s_tenant, s_chain, s_first, s_events, ends, through)
            AS s (tenant_id, chain_id, first, events, upto, through)
        WHERE h.tenant_id = s.tenant_id AND h.chain_id = s.chain_id AND s.first + s.events - 1 > s.through;
    END IF;

    RETURN QUERY
    SELECT s.i::integer, s.state, s.head, s.hash, s.differs
    FROM unnest(states, heads, hashes, differing) WITH ORDINALITY AS s (state, head, hash, differs, i);
END $$;

-- The last event of a chain; no row where there is none.
CREATE FUNCTION agent_audit.audit_head(tenant text, chain text)
RETURNS TABLE (sequence bigint, event_hash bytea)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.sequence, h.event_hash FROM agent_audit.audit_heads h
    WHERE h.tenant_id = tenant AND h.chain_id = chain
$$;

GRANT CREATE ON SCHEMA agent_audit TO audit_gate;
DO $$
DECLARE
    gate regprocedure;
BEGIN
    FOR gate IN
        SELECT oid FROM pg_proc
        WHERE pronamespace = 'agent_audit'::regnamespace AND proname IN ('audit_append', 'audit_head')
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO audit_gate', gate);
    END LOOP;
END $$;
REVOKE CREATE ON SCHEMA agent_audit FROM audit_gate;

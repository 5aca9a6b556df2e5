-- The partitions: one a month, created ahead, and one for everything else.

-- The id that every id made in this month or later is above.
CREATE FUNCTION agent_audit.month_floor(month date) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex((extract(epoch FROM date_trunc('month', month::timestamp)) * 1000)::bigint), 12, '0')
        || repeat('0', 20))::uuid
$$;

-- Creates a table for a month, or for the rest, for each of the three: with indexes, and with what a
-- partition does not inherit.
CREATE FUNCTION agent_audit.create_partition(suffix text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parent text;
    part text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['audit_events', 'audit_content', 'audit_external_ids'] LOOP
        part := parent || '_' || suffix;
        EXECUTE format('CREATE TABLE agent_audit.%I (LIKE agent_audit.%I INCLUDING CONSTRAINTS INCLUDING INDEXES)',
            part, parent);
        -- Nobody may ask a partition itself: there is no policy.
        EXECUTE format('ALTER TABLE agent_audit.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', part);
        EXECUTE format(
            'CREATE TRIGGER statements_are_refused BEFORE %s DELETE OR TRUNCATE ON agent_audit.%I
             FOR EACH STATEMENT EXECUTE FUNCTION agent_audit.refuse()',
            CASE parent WHEN 'audit_content' THEN '' ELSE 'UPDATE OR' END, part);
        IF parent = 'audit_events' THEN
            EXECUTE format('CREATE UNIQUE INDEX %I ON agent_audit.%I (tenant_id, chain_id, sequence)',
                part || '_position', part);
        END IF;
    END LOOP;
END $$;

-- Attaches what was created: appends and reads go on, as they would not with PARTITION OF. Reads wait
-- while the default partition is locked, which is as long as it takes to look into it; it is empty.
CREATE FUNCTION agent_audit.attach_partition(suffix text, bounds text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    parent text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['audit_events', 'audit_content', 'audit_external_ids'] LOOP
        EXECUTE format('ALTER TABLE agent_audit.%I ATTACH PARTITION agent_audit.%I %s',
            parent, parent || '_' || suffix, bounds);
    END LOOP;
END $$;

-- What is recorded in a month that has no partition goes here, so that no event is refused.
SELECT agent_audit.create_partition('default');
SELECT agent_audit.attach_partition('default', 'DEFAULT');

-- Makes sure that the last, this and the next so many months have partitions, and says how each of
-- them is: 'created', 'present', 'detached', or 'default' where the default partition holds events of
-- that month already, so that the month stays there. At most 24 months ahead.
--
-- It runs as audit_owner, so that a writer can call it: all it can do is to create these.
CREATE FUNCTION agent_audit.ensure_partitions(months integer DEFAULT 3)
RETURNS TABLE (month date, state text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    months_wanted CONSTANT date[] := ARRAY(
        SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => i))::date
        FROM generate_series(-1, least(greatest(months, 0), 24)) AS i
    );
    states text[] := array_fill(NULL::text, ARRAY[cardinality(months_wanted)]);
    suffix text;
    part regclass;
BEGIN
    -- All are created before the first is attached, so that what that locks is locked for a moment.
    FOR i IN 1..cardinality(months_wanted) LOOP
        suffix := to_char(months_wanted[i], 'YYYY_MM');
        IF to_regclass('agent_audit.audit_events_' || suffix) IS NULL THEN
            -- One at a time, and looked at again when it is our turn.
            PERFORM pg_advisory_xact_lock(hashtextextended('agent_audit.ensure_partitions', 0));
        END IF;
        part := to_regclass('agent_audit.audit_events_' || suffix);
        IF part IS NULL THEN
            PERFORM agent_audit.create_partition(suffix);
        ELSIF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = part) THEN
            states[i] := 'present';
        ELSE
            states[i] := 'detached';
        END IF;
    END LOOP;
    FOR i IN 1..cardinality(months_wanted) LOOP
        month := months_wanted[i];
        state := states[i];
        IF state IS NULL THEN
            suffix := to_char(month, 'YYYY_MM');
            BEGIN
                PERFORM agent_audit.attach_partition(suffix, format(
                    'FOR VALUES FROM (%L) TO (%L)',
                    agent_audit.month_floor(month),
                    agent_audit.month_floor((month + interval '1 month')::date)));
                state := 'created';
            EXCEPTION WHEN check_violation THEN
                EXECUTE format(
                    'DROP TABLE agent_audit.%I, agent_audit.%I, agent_audit.%I', 'audit_events_' || suffix,
                    'audit_content_' || suffix, 'audit_external_ids_' || suffix);
                state := 'default';
            END;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

-- Takes a month that is over out of the tables. Its partitions stay as tables of their own, still
-- guarded, to be archived, attached again or dropped by audit_owner. For audit_owner alone.
CREATE FUNCTION agent_audit.detach_month(month date) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    suffix text := to_char(month, 'YYYY_MM');
    parent text;
BEGIN
    IF date_trunc('month', month::timestamp) >= date_trunc('month', now() AT TIME ZONE 'UTC') THEN
        RAISE EXCEPTION 'month % is not over', suffix USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    FOREACH parent IN ARRAY ARRAY['audit_events', 'audit_content', 'audit_external_ids'] LOOP
        EXECUTE format('ALTER TABLE agent_audit.%I DETACH PARTITION agent_audit.%I', parent, parent || '_' || suffix);
    END LOOP;
    -- What guarded its rows was inherited and went with the bond.
    EXECUTE format('DROP TRIGGER IF EXISTS detached_content_only_becomes_absent ON agent_audit.%I',
        'audit_content_' || suffix);
    EXECUTE format(
        'CREATE TRIGGER detached_content_only_becomes_absent BEFORE UPDATE ON agent_audit.%I
         FOR EACH ROW EXECUTE FUNCTION agent_audit.content_only_becomes_absent()',
        'audit_content_' || suffix);
END $$;

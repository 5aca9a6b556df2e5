-- From version 1 to 2: what a decision rests on is indexed, and sessions, chains and tenants are
-- counted. The server does it in the background for what it holds already, and at once for what is
-- new; until then questions take longer.

ALTER TABLE audit_events ADD INDEX IF NOT EXISTS by_presented presented_event_id TYPE bloom_filter(0.01) GRANULARITY 1;
ALTER TABLE audit_events ADD PROJECTION IF NOT EXISTS by_session (
    SELECT
        tenant_id, session_id, chain_id, count(), min(agent_id), min(timestamp_utc),
        max(timestamp_utc), min(sequence), max(sequence)
    GROUP BY tenant_id, session_id, chain_id
);
ALTER TABLE audit_events MATERIALIZE INDEX by_presented;
ALTER TABLE audit_events MATERIALIZE PROJECTION by_session;

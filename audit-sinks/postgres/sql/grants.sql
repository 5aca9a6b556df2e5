-- Who may do what: every privilege on a table, partition or function of the audit log. It is put into
-- force by every migration, in the same transaction; what is not named here is refused.

REVOKE ALL ON ALL TABLES IN SCHEMA agent_audit
    FROM PUBLIC, audit_gate, audit_writer, audit_reader, audit_eraser;
REVOKE ALL ON FUNCTION agent_audit.refuse, agent_audit.content_only_becomes_absent,
    agent_audit.head_only_goes_forward, agent_audit.month_floor, agent_audit.create_partition,
    agent_audit.attach_partition, agent_audit.ensure_partitions, agent_audit.detach_month
    FROM PUBLIC, audit_gate, audit_writer, audit_reader, audit_eraser;

-- Everybody may ask whether the tables are there.
GRANT SELECT ON agent_audit.audit_migrations TO audit_writer, audit_reader, audit_eraser;

-- The writer calls functions and touches no table: this one, and those at the end of this file.
GRANT EXECUTE ON FUNCTION agent_audit.ensure_partitions TO audit_writer;

-- The functions of audit_gate: add events, move heads forward, compare hashes. Nothing is read but
-- places and hashes.
GRANT SELECT, INSERT, UPDATE (sequence, event_hash) ON agent_audit.audit_heads TO audit_gate;
GRANT SELECT (tenant_id, chain_id, sequence, event_hash), INSERT ON agent_audit.audit_events TO audit_gate;
GRANT INSERT ON agent_audit.audit_content, agent_audit.audit_external_ids TO audit_gate;
GRANT SELECT ON agent_audit.audit_access TO audit_gate;

-- The reader: everything of its tenant.
GRANT SELECT ON agent_audit.audit_heads, agent_audit.audit_events, agent_audit.audit_content,
    agent_audit.audit_external_ids TO audit_reader;

-- The eraser: which events are about whom, and which of their content is still there; to make it
-- absent, and nothing else (the trigger `content_only_becomes_absent`).
GRANT SELECT (tenant_id, event_id, event_type, timestamp_utc, session_id, subject_id)
    ON agent_audit.audit_events TO audit_eraser;
GRANT SELECT (tenant_id, event_id, ordinal, name, state, key_id, absent_reason, absent_at, absent_evidence),
    UPDATE (state, salt, bytes, key_id, algorithm, nonce, absent_reason, absent_at, absent_evidence)
    ON agent_audit.audit_content TO audit_eraser;

-- The functions that run as audit_gate are its own to grant.
SET LOCAL ROLE audit_gate;
REVOKE ALL ON FUNCTION agent_audit.audit_append, agent_audit.audit_head, agent_audit.audit_tenant,
    agent_audit.audit_tenants FROM PUBLIC, audit_writer, audit_reader, audit_eraser;
GRANT EXECUTE ON FUNCTION agent_audit.audit_append, agent_audit.audit_head TO audit_writer;
GRANT EXECUTE ON FUNCTION agent_audit.audit_tenant, agent_audit.audit_tenants TO audit_reader, audit_eraser;
SET LOCAL ROLE audit_owner;

-- The roles of the audit log, and the schema that its tables live in.
--
-- Run it once in each database, as a superuser or as a role that may create roles and owns the
-- database; again is harmless:
--
--     psql -X -v ON_ERROR_STOP=1 -d DATABASE -f roles.sql
--
-- Then `PostgresStore::migrate` creates the tables, as a login that is a member of `audit_owner`.
-- What each role may do with each table is in `grants.sql`, which every migration puts into force.
--
-- None of these roles can log in. A process gets a login of its own that is a member of one of them:
--
--     CREATE ROLE agent_1 LOGIN PASSWORD '…' IN ROLE audit_writer;
--     CREATE ROLE acme_auditor LOGIN PASSWORD '…' IN ROLE audit_reader;
--     CREATE ROLE privacy_desk LOGIN PASSWORD '…' IN ROLE audit_eraser;
--     CREATE ROLE deployment LOGIN PASSWORD '…' IN ROLE audit_owner;
--
-- Readers and erasers see nothing until they are told whose data it is, here one tenant and any:
--
--     INSERT INTO agent_audit.audit_access VALUES ('acme_auditor', 'acme'), ('privacy_desk', '*');

DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY[
        -- Owns schema, tables and partitions, and nothing more: row-level security is forced, so that
        -- it sees no row of any tenant. NOINHERIT, because it is a member of audit_gate for
        -- migrations alone.
        'audit_owner',
        -- Owns the functions through which writers append. Nobody logs in as it.
        'audit_gate',
        -- Appends through these functions; may not read, change or delete, nor insert past them.
        'audit_writer',
        -- Reads one tenant at a time.
        'audit_reader',
        -- Makes content of one tenant at a time absent; may not read content or events.
        'audit_eraser'
    ] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        END IF;
    END LOOP;
END $$;

ALTER ROLE audit_owner NOINHERIT;
GRANT audit_gate TO audit_owner;

CREATE SCHEMA IF NOT EXISTS agent_audit AUTHORIZATION audit_owner;
REVOKE ALL ON SCHEMA agent_audit FROM PUBLIC;
GRANT USAGE ON SCHEMA agent_audit TO audit_gate, audit_writer, audit_reader, audit_eraser;

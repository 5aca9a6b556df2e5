-- Who may do what. Run once, as an administrator who may create roles and row policies, behind
-- `ClickHouseStore::migrate`. Here the database is `audit`; replace the name where yours is another.
--
-- Nobody below may ALTER TABLE, DELETE, TRUNCATE, OPTIMIZE or DROP, but for the eraser, who may make
-- content absent and nothing else.

-- The writer adds rows. It reads where chains stand, and neither events nor content.
CREATE ROLE IF NOT EXISTS audit_writer;
GRANT INSERT ON audit.audit_events TO audit_writer;
GRANT INSERT ON audit.audit_content TO audit_writer;
GRANT SELECT(tenant_id, chain_id, sequence, event_hash, _block_number, _block_offset) ON audit.audit_events TO audit_writer;
GRANT SELECT ON audit.audit_schema TO audit_writer;

-- The reader reads, and, with a row policy of its own, one tenant alone.
CREATE ROLE IF NOT EXISTS audit_reader;
GRANT SELECT ON audit.audit_events TO audit_reader;
GRANT SELECT ON audit.audit_content TO audit_reader;
GRANT SELECT ON audit.audit_schema TO audit_reader;

-- The asker reads one tenant at a time: the one that each question names in the setting
-- SQL_audit_tenant. For a process that asks for many tenants; the server must know settings that begin
-- with SQL_ (custom_settings_prefixes), as it does where it is used as shipped.
CREATE ROLE IF NOT EXISTS audit_asker;
GRANT SELECT ON audit.audit_events TO audit_asker;
GRANT SELECT ON audit.audit_content TO audit_asker;
GRANT SELECT ON audit.audit_schema TO audit_asker;

-- The verifier reads everything.
CREATE ROLE IF NOT EXISTS audit_verifier;
GRANT SELECT ON audit.audit_events TO audit_verifier;
GRANT SELECT ON audit.audit_content TO audit_verifier;
GRANT SELECT ON audit.audit_schema TO audit_verifier;

-- The eraser makes content absent, and never sees it.
CREATE ROLE IF NOT EXISTS audit_eraser;
GRANT SELECT(tenant_id, chain_id, sequence, event_hash, ordinal, name, purge_after, state, kept) ON audit.audit_content TO audit_eraser;
GRANT ALTER UPDATE(state, kept, salt, bytes, key_id, nonce, absent_reason, absent_at, absent_evidence) ON audit.audit_content TO audit_eraser;

-- Once a table has a row policy, a user without one sees nothing or, as servers are shipped,
-- everything (`users_without_row_policies_can_read_rows`): so each role has one. The reader's lets
-- nothing pass, so that a reader without a tenant reads nothing. An asker who names no tenant gets an
-- error.
CREATE ROW POLICY IF NOT EXISTS audit_writer ON audit.audit_events FOR SELECT USING 1 TO audit_writer;
CREATE ROW POLICY IF NOT EXISTS audit_verifier ON audit.audit_events FOR SELECT USING 1 TO audit_verifier;
CREATE ROW POLICY IF NOT EXISTS audit_verifier ON audit.audit_content FOR SELECT USING 1 TO audit_verifier;
CREATE ROW POLICY IF NOT EXISTS audit_eraser ON audit.audit_content FOR SELECT USING 1 TO audit_eraser;
CREATE ROW POLICY IF NOT EXISTS audit_reader ON audit.audit_events FOR SELECT USING 0 TO audit_reader;
CREATE ROW POLICY IF NOT EXISTS audit_reader ON audit.audit_content FOR SELECT USING 0 TO audit_reader;
CREATE ROW POLICY IF NOT EXISTS audit_asker ON audit.audit_events FOR SELECT USING tenant_id = getSetting('SQL_audit_tenant') TO audit_asker;
CREATE ROW POLICY IF NOT EXISTS audit_asker ON audit.audit_content FOR SELECT USING tenant_id = getSetting('SQL_audit_tenant') TO audit_asker;

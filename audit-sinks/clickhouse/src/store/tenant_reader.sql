-- A reader of one tenant: replace TENANT and PASSWORD, and the database where it is not `audit`.
-- Policies of one table are joined by OR: the tenant's own rows pass, and no others.
CREATE USER IF NOT EXISTS `audit_reader_TENANT` IDENTIFIED WITH sha256_password BY 'PASSWORD' DEFAULT ROLE audit_reader;
CREATE ROW POLICY IF NOT EXISTS `audit_reader_TENANT` ON audit.audit_events FOR SELECT USING tenant_id = 'TENANT' TO `audit_reader_TENANT`;
CREATE ROW POLICY IF NOT EXISTS `audit_reader_TENANT` ON audit.audit_content FOR SELECT USING tenant_id = 'TENANT' TO `audit_reader_TENANT`;

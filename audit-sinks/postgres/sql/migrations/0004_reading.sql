-- Indexes that a reader's questions go through.
--
-- Under row-level security a condition on a function of a column, such as left(tool_name, 200), is
-- looked at only after the policy, and enters no index: the function might tell what it is given. An
-- entry of an index has a limit of 2.7 kB and names have none. So the name itself is indexed where it is
-- short, and no event is refused for a long one. Ask for both:
--
--     tool_name = $1 AND octet_length(tool_name) <= 1000
--
-- and for longer names without the second condition, which reads the events of the tenant.

DROP INDEX agent_audit.audit_events_by_model, agent_audit.audit_events_by_tool, agent_audit.audit_events_by_review,
    agent_audit.audit_events_by_reviewer, agent_audit.audit_external_ids_by_value;

CREATE INDEX audit_events_by_model ON agent_audit.audit_events (tenant_id, model, timestamp_utc)
    WHERE octet_length(model) <= 1000;
CREATE INDEX audit_events_by_tool ON agent_audit.audit_events (tenant_id, tool_name, timestamp_utc)
    WHERE octet_length(tool_name) <= 1000;
CREATE INDEX audit_events_by_review ON agent_audit.audit_events (tenant_id, review_id)
    WHERE octet_length(review_id) <= 1000;
CREATE INDEX audit_events_by_reviewer ON agent_audit.audit_events (tenant_id, reviewer_id, timestamp_utc)
    WHERE octet_length(reviewer_id) <= 1000;
-- By the value alone: whoever asks for a thing under any key asks for it too.
CREATE INDEX audit_external_ids_by_value ON agent_audit.audit_external_ids (tenant_id, value)
    WHERE octet_length(value) <= 1000;

//! The names of attributes. All conventions for generative AI are in development, and so is the
//! signal for audits: the names are this crate's own constants, and change by its own release.

// The proposed audit signal.
pub(crate) const RECORD_ID: &str = "audit.record.id";
pub(crate) const ACTOR_ID: &str = "audit.actor.id";
pub(crate) const ACTOR_TYPE: &str = "audit.actor.type";
pub(crate) const ACTION: &str = "audit.action";
pub(crate) const OUTCOME: &str = "audit.outcome";
pub(crate) const INTEGRITY_VALUE: &str = "audit.integrity.value";
pub(crate) const INTEGRITY_CANONICALIZATION: &str = "audit.integrity.canonicalization";
pub(crate) const SEQUENCE_NUMBER: &str = "audit.sequence.number";
pub(crate) const PREVIOUS_HASH: &str = "audit.previous_hash";
pub(crate) const STREAM_ID: &str = "audit.stream_id";
pub(crate) const ACTOR_SERVICE: &str = "service";
pub(crate) const ACTOR_USER: &str = "user";
pub(crate) const ACTOR_SYSTEM: &str = "system";

// The conventions for generative AI.
pub(crate) const OPERATION: &str = "gen_ai.operation.name";
pub(crate) const PROVIDER: &str = "gen_ai.provider.name";
pub(crate) const CONVERSATION_ID: &str = "gen_ai.conversation.id";
pub(crate) const AGENT_ID: &str = "gen_ai.agent.id";
pub(crate) const AGENT_NAME: &str = "gen_ai.agent.name";
pub(crate) const AGENT_VERSION: &str = "gen_ai.agent.version";
pub(crate) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(crate) const REQUEST_MAX_TOKENS: &str = "gen_ai.request.max_tokens";
pub(crate) const REQUEST_TEMPERATURE: &str = "gen_ai.request.temperature";
pub(crate) const REQUEST_TOP_P: &str = "gen_ai.request.top_p";
pub(crate) const REQUEST_TOP_K: &str = "gen_ai.request.top_k";
pub(crate) const REQUEST_SEED: &str = "gen_ai.request.seed";
pub(crate) const REQUEST_FREQUENCY_PENALTY: &str = "gen_ai.request.frequency_penalty";
pub(crate) const REQUEST_PRESENCE_PENALTY: &str = "gen_ai.request.presence_penalty";
pub(crate) const RESPONSE_ID: &str = "gen_ai.response.id";
pub(crate) const RESPONSE_MODEL: &str = "gen_ai.response.model";
pub(crate) const RESPONSE_FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
pub(crate) const RESPONSE_TIME_TO_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
pub(crate) const USAGE_INPUT: &str = "gen_ai.usage.input_tokens";
pub(crate) const USAGE_OUTPUT: &str = "gen_ai.usage.output_tokens";
pub(crate) const USAGE_CACHE_READ: &str = "gen_ai.usage.cache_read.input_tokens";
pub(crate) const USAGE_CACHE_CREATION: &str = "gen_ai.usage.cache_creation.input_tokens";
pub(crate) const USAGE_REASONING: &str = "gen_ai.usage.reasoning.output_tokens";
pub(crate) const TOOL_NAME: &str = "gen_ai.tool.name";
pub(crate) const TOOL_CALL_ID: &str = "gen_ai.tool.call.id";
pub(crate) const ERROR_TYPE: &str = "error.type";

// The same, of content.
pub(crate) const SYSTEM_INSTRUCTIONS: &str = "gen_ai.system_instructions";
pub(crate) const INPUT_MESSAGES: &str = "gen_ai.input.messages";
pub(crate) const OUTPUT_MESSAGES: &str = "gen_ai.output.messages";
pub(crate) const TOOL_DEFINITIONS: &str = "gen_ai.tool.definitions";
pub(crate) const TOOL_CALL_ARGUMENTS: &str = "gen_ai.tool.call.arguments";
pub(crate) const TOOL_CALL_RESULT: &str = "gen_ai.tool.call.result";

// What has no convention.
pub(crate) const EVENT_NAME_PREFIX: &str = "agent_audit.";
pub(crate) const CUSTOM_PREFIX: &str = "agent_audit.custom.";
pub(crate) const EVENT: &str = "agent_audit.event";
pub(crate) const TENANT_ID: &str = "agent_audit.tenant.id";
pub(crate) const SCHEMA_VERSION: &str = "agent_audit.schema_version";
pub(crate) const PARENT_EVENT_ID: &str = "agent_audit.parent_event.id";
pub(crate) const SUBJECT_ID: &str = "agent_audit.subject.id";
pub(crate) const WRITER_ID: &str = "agent_audit.writer.id";
pub(crate) const PROVENANCE: &str = "agent_audit.provenance";
pub(crate) const OMITTED_INPUTS: &str = "agent_audit.omitted_inputs";
pub(crate) const CONTENT: &str = "agent_audit.content";
pub(crate) const CONTENT_LEFT_OUT: &str = "agent_audit.content.left_out";

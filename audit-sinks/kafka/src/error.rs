//! What the client and the cluster report, in the terms of a sink.
//!
//! A message here is made of what was being done and a code: neither a message's value nor anything
//! of the set-up comes near it.

use agent_audit_core::sink::{SinkError, SinkErrorKind};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// What a code means for the events that failed with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) kind: SinkErrorKind,
    /// The cluster or the client has refused them; without that they may have been stored.
    pub(crate) definite: bool,
    pub(crate) words: &'static str,
}

impl Meaning {
    pub(crate) fn of(code: Code) -> Self {
        use SinkErrorKind::{
            Corrupt, Exhausted, Misconfigured, Other, PermissionDenied, Rejected, Timeout,
            Unauthenticated, Unavailable,
        };
        let (kind, definite, words) = match code {
            Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => (
                Rejected,
                true,
                "the message is larger than the topic or the setting max_message_bytes allows; \
                 raise both, and the consumers' limits",
            ),
            Code::UnknownTopic | Code::UnknownTopicOrPartition => {
                (Misconfigured, true, "the topic does not exist: create it")
            }
            Code::UnknownPartition => (Unavailable, true, "the partition is not there"),
            Code::TopicAuthorizationFailed => {
                (PermissionDenied, true, "this user may not write to the topic: grant WRITE")
            }
            Code::GroupAuthorizationFailed => {
                (PermissionDenied, true, "this user may not be in the group: grant READ on it")
            }
            Code::ClusterAuthorizationFailed | Code::TransactionalIdAuthorizationFailed => (
                PermissionDenied,
                true,
                "this user may not produce idempotently: grant WRITE on the topic",
            ),
            Code::Authentication | Code::SaslAuthenticationFailed => {
                (Unauthenticated, false, "the cluster does not accept this user or password")
            }
            Code::InvalidTopic => (Misconfigured, true, "the name cannot be that of a topic"),
            Code::InvalidRequiredAcks | Code::UnsupportedSASLMechanism | Code::SSL => {
                (Misconfigured, true, "the cluster does not support what the set-up asks for")
            }
            Code::InvalidMessage | Code::InvalidRecord | Code::InvalidTimestamp => {
                (Rejected, true, "the cluster refuses the message")
            }
            Code::QueueFull => (Exhausted, true, "too many messages wait to be acknowledged"),
            Code::ThrottlingQuotaExceeded | Code::PolicyViolation => {
                (Exhausted, false, "the cluster asks for less")
            }
            Code::KafkaStorageError => (Unavailable, false, "the broker's disk fails"),
            Code::MessageTimedOut
            | Code::OperationTimedOut
            | Code::TimedOutQueue
            | Code::RequestTimedOut => (Timeout, false, "not acknowledged in time"),
            Code::PurgeQueue | Code::BrokerDestroy => (Unavailable, true, "the sink was closed"),
            Code::PurgeInflight => (Unavailable, false, "the sink was closed"),
            Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
                (Unavailable, false, "too few replicas are in sync")
            }
            Code::Fatal
            | Code::OutOfOrderSequenceNumber
            | Code::UnknownProducerId
            | Code::InvalidProducerEpoch
            | Code::ProducerFenced => {
                (Unavailable, false, "the producer lost its place and is made anew")
            }
            Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable
            | Code::NetworkException => (Unavailable, false, "the cluster cannot be reached"),
            Code::BadMessage | Code::BadCompression => {
                (Corrupt, false, "the cluster does not understand the client")
            }
            _ => (Other, false, "the cluster or the client failed"),
        };
        Self { kind, definite, words }
    }

    /// The fault while doing something.
    pub(crate) fn error(self, doing: impl std::fmt::Display, code: Option<Code>) -> SinkError {
        let code = code.map_or_else(String::new, |code| format!(" ({code})"));
        let error = SinkError::new(self.kind, format!("{doing}: {}{code}", self.words));
        if self.definite { error } else { error.with_maybe_applied() }
    }

    /// The fault of one chain's events. Where nothing but a person can help, it is still worth a
    /// retry: a topic is created and a right is granted while the log goes on.
    pub(crate) fn of_chain(self, doing: impl std::fmt::Display, code: Option<Code>) -> SinkError {
        self.error(doing, code).with_retryable(self.kind != SinkErrorKind::Rejected)
    }
}

/// A fault of a call that stores nothing.
pub(crate) fn fault(error: &KafkaError, doing: impl std::fmt::Display) -> SinkError {
    match error.rdkafka_error_code() {
        Some(code) => {
            let meaning = Meaning { definite: true, ..Meaning::of(code) };
            meaning.error(doing, Some(code))
        }
        None => crate::config::refused(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_the_code() {
        for (code, kind, retryable, applied) in [
            (Code::MessageSizeTooLarge, SinkErrorKind::Rejected, false, false),
            (Code::UnknownTopic, SinkErrorKind::Misconfigured, true, false),
            (Code::TopicAuthorizationFailed, SinkErrorKind::PermissionDenied, true, false),
            (Code::Authentication, SinkErrorKind::Unauthenticated, true, true),
            (Code::MessageTimedOut, SinkErrorKind::Timeout, true, true),
            (Code::PurgeInflight, SinkErrorKind::Unavailable, true, true),
            (Code::QueueFull, SinkErrorKind::Exhausted, true, false),
            (Code::NotEnoughReplicas, SinkErrorKind::Unavailable, true, true),
            (Code::Fatal, SinkErrorKind::Unavailable, true, true),
        ] {
            let error = Meaning::of(code).of_chain("append", Some(code));
            assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{code}");
            assert_eq!(error.maybe_applied(), applied, "{code}");
        }
    }
}

//! Which topic the events of a chain go to.

use std::{borrow::Cow, fmt};

use agent_audit_core::sink::{ChainRef, SinkError};

use crate::config::invalid;

/// Says which topic the events of a chain go to. Replace it where a template is not enough.
///
/// A router MUST give one chain the same topic always: order holds within a topic's partition.
///
/// ```
/// use std::borrow::Cow;
/// use agent_audit_core::{id::{ChainId, TenantId}, sink::ChainRef};
/// use agent_audit_kafka::TopicRouter;
///
/// /// Large customers have a topic of their own.
/// #[derive(Debug)]
/// struct Large(Vec<TenantId>);
///
/// impl TopicRouter for Large {
///     fn topic<'a>(&'a self, chain: &'a ChainRef) -> Cow<'a, str> {
///         if self.0.contains(&chain.tenant_id) {
///             format!("audit-{}", chain.tenant_id).into()
///         } else {
///             "audit-shared".into()
///         }
///     }
///     fn topics(&self) -> Vec<String> {
///         vec!["^audit-.*".to_owned()]
///     }
/// }
///
/// let chain = ChainRef::new(TenantId::new("acme")?, ChainId::new("c-1")?);
/// assert_eq!(Large(vec![]).topic(&chain), "audit-shared");
/// assert_eq!(Large(vec![TenantId::new("acme")?]).topic(&chain), "audit-acme");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait TopicRouter: Send + Sync + fmt::Debug {
    /// The topic of a chain: 1 to 249 ASCII letters, digits, `.`, `_` and `-`.
    fn topic<'a>(&'a self, chain: &'a ChainRef) -> Cow<'a, str>;

    /// All topics: names, or regular expressions that begin with `^`. A reader reads them; a writer
    /// asks for those with a name whether they are there.
    fn topics(&self) -> Vec<String>;
}

/// One topic for everybody, or one for each tenant: `{tenant}` stands for the tenant's id.
///
/// Kafka does not keep two topics whose names differ only in `.` and `_`: of two tenants that differ
/// in nothing else, only one can have its topic.
///
/// ```
/// use agent_audit_core::{id::{ChainId, TenantId}, sink::ChainRef};
/// use agent_audit_kafka::{TopicRouter, TopicTemplate};
/// let chain = ChainRef::new(TenantId::new("acme")?, ChainId::new("c-1")?);
/// assert_eq!(TopicTemplate::new("audit")?.topic(&chain), "audit");
/// assert_eq!(TopicTemplate::new("audit-{tenant}")?.topic(&chain), "audit-acme");
/// assert!(TopicTemplate::new("not a topic").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTemplate {
    before: String,
    /// What follows the tenant, where the name has one.
    after: Option<String>,
}

const TENANT: &str = "{tenant}";
/// The longest name of a topic.
const MAX_TOPIC: usize = 249;
/// The longest name of a tenant.
const MAX_TENANT: usize = 128;

impl TopicTemplate {
    /// A name, with `{tenant}` in it at most once.
    ///
    /// # Errors
    /// [`SinkError`] where it, or what it becomes with a tenant, is not the name of a topic.
    pub fn new(template: &str) -> Result<Self, SinkError> {
        let (before, after) = match template.split_once(TENANT) {
            Some((before, after)) => (before, Some(after.to_owned())),
            None => (template, None),
        };
        let mut bytes = before.bytes().chain(after.iter().flat_map(|after| after.bytes()));
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let longest = before.len() + after.as_ref().map_or(0, |after| after.len() + MAX_TENANT);
        if !bytes.all(plain) || !(1..=MAX_TOPIC).contains(&longest) {
            return Err(invalid(format!(
                "the topic {template:?} cannot be one: use 1 to {MAX_TOPIC} ASCII letters, digits, \
                 '.', '_' and '-', with {TENANT} once for the tenant, which may take {MAX_TENANT}"
            )));
        }
        if matches!(template, "." | "..") {
            return Err(invalid(format!("the topic {template:?} cannot be one")));
        }
        Ok(Self { before: before.to_owned(), after })
    }
}

impl TopicRouter for TopicTemplate {
    fn topic<'a>(&'a self, chain: &'a ChainRef) -> Cow<'a, str> {
        match &self.after {
            None => Cow::Borrowed(&self.before),
            Some(after) => format!("{}{}{after}", self.before, chain.tenant_id).into(),
        }
    }

    fn topics(&self) -> Vec<String> {
        let literal = |text: &str| text.replace('.', "\\.");
        vec![match &self.after {
            None => self.before.clone(),
            Some(after) => {
                format!("^{}[A-Za-z0-9][A-Za-z0-9._-]*{}$", literal(&self.before), literal(after))
            }
        }]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_topics_are_refused() {
        for wrong in ["", "a b", "a/b", "{tenant}{tenant}", "ä", "..", &"x".repeat(250)] {
            assert!(TopicTemplate::new(wrong).is_err(), "{wrong}");
        }
        assert!(TopicTemplate::new(&format!("{}{TENANT}", "x".repeat(121))).is_ok());
        assert!(TopicTemplate::new(&format!("{}{TENANT}", "x".repeat(122))).is_err());
    }

    #[test]
    fn a_pattern_is_literal_but_for_the_tenant() {
        let router = TopicTemplate::new("a.b-{tenant}.x").unwrap();
        assert_eq!(router.topics(), ["^a\\.b-[A-Za-z0-9][A-Za-z0-9._-]*\\.x$"]);
        assert_eq!(TopicTemplate::new("a.b").unwrap().topics(), ["a.b"]);
    }
}

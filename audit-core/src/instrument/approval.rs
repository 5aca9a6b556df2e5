//! What `approval = …` takes.

use crate::{id::EventId, log::Receipt};

/// Names the decision of a review that allows a call, or none.
///
/// ```
/// use agent_audit_core::{id::EventId, instrument::Approval};
/// let decided = EventId::new();
/// assert_eq!(Some(&decided).decided(), Some(decided));
/// assert_eq!(None::<EventId>.decided(), None);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name the decision of a review",
    label = "`approval` is the `review.decided` event that allows the call",
    note = "give its `EventId` or its `Receipt`, a reference to one, or an `Option` of those"
)]
pub trait Approval {
    /// The `review.decided` event.
    fn decided(&self) -> Option<EventId>;
}

impl Approval for EventId {
    fn decided(&self) -> Option<EventId> {
        Some(*self)
    }
}

impl Approval for Receipt {
    fn decided(&self) -> Option<EventId> {
        Some(self.event_id)
    }
}

impl<T: Approval + ?Sized> Approval for &T {
    fn decided(&self) -> Option<EventId> {
        (**self).decided()
    }
}

impl<T: Approval> Approval for Option<T> {
    fn decided(&self) -> Option<EventId> {
        self.as_ref().and_then(Approval::decided)
    }
}

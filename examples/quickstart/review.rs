//! The reviewers, whom every refund must pass. What a person would do is played by a rule.

use agent_audit::{
    AuditContext, AuditUnavailable, Part, Receipt, ReviewCall, ReviewVerdict, audited,
    event::review::{ReviewDecision, Reviewer, ReviewerKind},
};
use serde_json::json;

use crate::tools::Refund;

/// More than this is refused without asking anybody.
const LIMIT_CENTS: i64 = 20_000;
/// More than this is cut by the person at the desk.
const USUAL_CENTS: i64 = 5_000;

/// A refund that may be paid, and the recorded decision that allows it.
pub(crate) type Approved = (Refund, Receipt);

/// Asks whoever decides about a refund; `None` is a refusal.
pub(crate) async fn review(refund: &Refund) -> Result<Option<Approved>, AuditUnavailable> {
    if refund.cents > LIMIT_CENTS {
        refuse(refund)?;
        return Ok(None);
    }
    ask_desk(refund).await.map(Some)
}

/// A rule decides: the attribute records that it was asked and what it answered.
#[audited(review, name = "refund")]
fn refuse(refund: &Refund) -> Result<ReviewVerdict, AuditUnavailable> {
    let rule = Reviewer::new("refund-limit", ReviewerKind::Policy);
    let reason = format!("{} is over the limit of {LIMIT_CENTS} cents", refund.cents);
    Ok(ReviewVerdict::new(ReviewDecision::Reject, rule).with_rationale(reason))
}

/// A person decides: recorded by hand, with what was shown to whom. The refund goes on as the
/// person left it.
async fn ask_desk(refund: &Refund) -> Result<Approved, AuditUnavailable> {
    let proposal = json!(refund).to_string();
    let call =
        ReviewCall::new("refund").with_part(Part::new("proposal", "application/json", proposal));
    let review = AuditContext::current()?.attempt_review(call).await?;
    let question = format!("Pay {} cents back for order {}?", refund.cents, refund.order);
    review.present("pat", "chat", Part::text("shown", question)).await?;

    let pat = Reviewer::new("pat", ReviewerKind::Human).with_role("refund desk");
    if refund.cents <= USUAL_CENTS {
        let verdict = ReviewVerdict::new(ReviewDecision::Approve, pat).with_rationale("as usual");
        return Ok((refund.clone(), review.complete(verdict).await?));
    }
    let patch = json!([{"op": "replace", "path": "/cents", "value": USUAL_CENTS}]);
    let verdict = ReviewVerdict::new(ReviewDecision::Modify, pat)
        .with_rationale("the parcel is late, not lost: half of it")
        .with_diff(patch.to_string());
    let receipt = review.complete(verdict).await?;
    Ok((changed(refund, patch), receipt))
}

/// The refund with an RFC 6902 patch applied.
fn changed(refund: &Refund, patch: serde_json::Value) -> Refund {
    let mut document = json!(refund);
    let patch: json_patch::Patch = serde_json::from_value(patch).expect("it is a patch");
    json_patch::patch(&mut document, &patch).expect("a refund has this field");
    serde_json::from_value(document).expect("a refund stays one")
}

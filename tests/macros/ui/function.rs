//! What does not fit the function.

use std::{future::Future, pin::Pin};

use agent_audit::audited;

#[audited(tool, skip(client, self, y), sensitive(amount))]
fn no_such_parameter(order: u8, (left, right): (u8, u8)) {}

#[audited(tool, skip(client))]
fn no_parameters() {}

#[audited(tool, skip(card), sensitive(card, return))]
fn both(card: u8) {}

#[audited(review, effect = read_only, external(order = output), error_if = |_| true, version = "1")]
fn tool_only() {}

#[audited(model, approval = decided)]
fn tool_only_too() {}

#[audited(tool, provider = "acme", model = "large")]
fn model_only() {}

#[audited(review, skip(return))]
fn no_verdict() {}

#[audited(tool)]
const fn constant() {}

#[audited(tool)]
unsafe fn not_safe() {}

#[audited(tool)]
extern "C" fn foreign() {}

#[audited(tool)]
fn never() -> ! {
    loop {}
}

#[audited(tool)]
#[audited(tool, on_audit_error = proceed)]
fn twice() {}

#[audited(tool)]
fn unseen(n: u8) -> Pin<Box<dyn Future<Output = u8> + Send>> {
    let future = async move { n };
    Box::pin(future)
}

#[audited(tool)]
fn unseen_too(n: u8) -> impl Future<Output = u8> {
    std::future::ready(n)
}

#[audited(tool)]
fn acts_early(path: String) -> Pin<Box<dyn Future<Output = u8> + Send>> {
    let path = path.clone();
    let bytes = std::fs::read(path);
    std::process::exit(1);
    Box::pin(async move { u8::from(bytes.is_ok()) })
}

#[audited(tool)]
struct Refund;

#[audited(tool)]
impl Refund {
    fn refund() {}
}

trait Tool {
    #[audited(tool)]
    async fn call(&self) -> u8;
}

// Everything at once, and the function is still there.
#[audited(tool, nme = "refund", skip(client), provider = "acme")]
const fn several(order: u8) -> u8 {
    order
}

fn main() {
    several(1);
}

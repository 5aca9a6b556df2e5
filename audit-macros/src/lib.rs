//! `#[audited]`: one attribute that makes every call of a function part of the record.
//!
//! This crate is the syntax alone. Use it through the facade, `agent_audit::audited`, whose hidden
//! module the expansion calls; everything it does can be written by hand with
//! `agent_audit::attempt`.

use proc_macro::TokenStream;
use quote::ToTokens;

mod check;
mod expand;
mod parse;

/// Records every call of a function: its intent before the body runs, its outcome after.
///
/// ```
/// use agent_audit::{audited, context::AuditContext, error::AuditUnavailable};
///
/// #[derive(serde::Serialize)]
/// struct Refund { id: String, cents: u64 }
///
/// #[audited(
///     tool,
///     name = "refund",
///     effect = destructive,
///     skip(client),
///     sensitive(card),
///     external(refund = output.id),
///     error_if = |refund| refund.cents == 0,
/// )]
/// async fn refund(client: &str, card: &str, cents: u64) -> Result<Refund, AuditUnavailable> {
///     Ok(Refund { id: format!("{client}-{}", card.len()), cents })
/// }
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// // Without an audit context nothing can be recorded, so nothing happens.
/// assert!(AuditContext::current().is_err());
/// let denied = refund("shop", "4111", 4000).await.err().expect("denied");
/// assert!(!denied.after_action());
/// # });
/// ```
///
/// # What is recorded
///
/// The first argument says which record the function makes.
///
/// | plane | before | after | the returned value |
/// |---|---|---|---|
/// | `tool` | `tool.attempted` | `tool.completed` | implements `serde::Serialize`, or `skip(return)` |
/// | `model` | `model.requested` | `model.decided` | implements `ModelResponse` |
/// | `review` | `review.proposed` | `review.decided` | implements `ReviewResponse` |
///
/// Every parameter but `self` goes into the content part `input` (for reviews `proposal`), a JSON
/// object by name. A parameter that is written as a pattern is recorded whole, as `arg0`, `arg1`, …
/// by position. A parameter that serde cannot write has to be named in `skip`: it is never left out
/// silently.
///
/// Where the function returns a `Result`, an `Err` is the outcome `error`, with its `Display` text
/// as content and the name of its type as error code; so its type implements `Display`. This is
/// decided by the type, not by how it is spelled. A function that returns a bare type parameter is
/// taken to return a plain value, whatever it stands for in a call. A panic is recorded and goes
/// on; a future that is dropped is recorded as cancelled (for reviews, as dismissed).
///
/// The body runs in the context of its attempt: what it records names it as the cause.
///
/// # Arguments
///
/// | argument | meaning | default |
/// |---|---|---|
/// | `name = "…"` | the name of the tool, of the model, or of the action under review | the function's name |
/// | `version = "…"` | the version of the tool | none |
/// | `effect = read_only` | or `idempotent`, `destructive`: what the tool can do to the world | none |
/// | `provider = "…"`, `model = "…"` | for `model`: who runs it, and which one is asked | `unknown`, `name` |
/// | `input = expression` | is recorded in place of the ordinary parameters | |
/// | `skip(a, b, return)` | these are left out, and the record says so | |
/// | `sensitive(a)` | each is a part of its own, `input.a`, that can be sealed and erased alone | |
/// | `external(key = expression)` | for `tool`: ids in other systems, after a success | |
/// | `parent = expression` | what caused the call: an event id, a receipt, or a provider's call id | the context |
/// | `approval = expression` | for `tool`: the `review.decided` event that allows the call, as an event id, a receipt, or an `Option` of either | the context |
/// | `error_if = test` | for `tool`: a closure or path over `&T`; true makes the outcome `tool_error` | |
/// | `on_audit_error = deny` | or `proceed`: what happens when the log cannot be written | `deny` |
/// | `crate = path` | where the facade is, if it was renamed | `::agent_audit` |
///
/// Texts may be any expression. `input`, `parent` and `approval` are evaluated first, with the parameters in
/// scope. `external` is evaluated after a success that `error_if` does not call a failure, with
/// `output`, a reference to the value, in scope; of the parameters it sees those that the body
/// leaves: references and other `Copy` values.
///
/// # When the log cannot be written
///
/// Under `deny`, the default, the intent is durable before the body runs. If it cannot be recorded,
/// **the body never runs** and the caller gets `AuditUnavailable`; if the outcome cannot be
/// recorded, the result is withheld and `AuditUnavailable::after_action` is true. So the function
/// returns a `Result` whose error implements `From<AuditUnavailable>`.
///
/// Under `proceed` the body runs and its result is returned in any case, of any type; what could
/// not be recorded is reported through `tracing`, without content, and the log records a gap when
/// it is back.
///
/// # Where it works
///
/// On `async fn` and `fn`, free or in an `impl` or trait, with generics, lifetimes, `impl Trait` and
/// patterns; inside `#[async_trait]`; and on a `fn` that ends in `Box::pin(async move { … })` or
/// `async move { … }`, where only clones may come before the block. No bound on `Send` or `'static`
/// is added. One thing is held longer than without the attribute: the result of an `async fn`, while
/// its outcome becomes durable; a result that is not `Send` makes the future not `Send`.
///
/// # Expansion
///
/// ```text
/// #[audited(tool, skip(client), external(refund = output.id))]
/// async fn refund(client: Client, (order, cents): (String, u64)) -> Result<Refund, Error> { body }
/// ```
///
/// becomes
///
/// ```text
/// async fn refund(client: Client, __audit_arg1: (String, u64)) -> Result<Refund, Error> {
///     let __audit_inputs = ::agent_audit::__private::Inputs::new();
///     let __audit_inputs = __audit_inputs.omit("client");
///     let __audit_inputs = __audit_inputs.record("arg1", &__audit_arg1);
///     let (order, cents) = __audit_arg1;
///     let __audit_call = ::agent_audit::__private::Call::new("refund", __audit_inputs);
///     ::agent_audit::__private::run_async(
///         ::agent_audit::__private::Tool,
///         ::agent_audit::__private::Policy::<Result<Refund, Error>>::deny(),
///         __audit_call,
///         async move {
///             // Never taken; it tells the compiler the type of the body.
///             if let Some(__audit_result) = never::<Result<Refund, Error>>() {
///                 return __audit_result;
///             }
///             body
///         },
///         move |__audit_result| {
///             use ::agent_audit::__private::ProbePlain as _;
///             let __audit_probe = ::agent_audit::__private::Probe::new(__audit_result);
///             let __audit_outcome = __audit_probe.tool();
///             let __audit_outcome = match __audit_probe.success() {
///                 Some(output) => __audit_outcome.with_external("refund", &(output.id)),
///                 None => __audit_outcome,
///             };
///             __audit_outcome
///         },
///     )
///     .await
/// }
/// ```
#[proc_macro_attribute]
pub fn audited(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    match audit(arguments.into(), item.clone()) {
        Ok(expanded) => expanded.into(),
        // The item stays, so that an editor and the rest of the build still see it.
        Err(error) => {
            let mut tokens = error.into_compile_error();
            item.to_tokens(&mut tokens);
            tokens.into()
        }
    }
}

fn audit(
    arguments: proc_macro2::TokenStream,
    item: proc_macro2::TokenStream,
) -> syn::Result<proc_macro2::TokenStream> {
    let mut errors = parse::Errors::default();
    let arguments = parse::arguments(arguments, &mut errors);
    let function = check::function(item).map_err(|error| errors.push(error)).ok();
    let checked = match (arguments, function) {
        (Some(arguments), Some(mut function)) => {
            let plan = check::check(&arguments, &mut function, &mut errors);
            Some((arguments, plan, function))
        }
        _ => None,
    };
    errors.finish()?;
    let (arguments, plan, function) = checked.expect("only an error leaves something out");
    Ok(expand::expand(&arguments, &plan, function))
}

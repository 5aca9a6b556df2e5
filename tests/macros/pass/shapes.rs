//! Every shape of function that `#[audited]` takes.

#![deny(warnings)]

use std::{collections::HashMap, fmt, future::Future, marker::PhantomData, pin::Pin, sync::Arc};

use agent_audit::{audited, error::AuditUnavailable, id::CallId};
use async_trait::async_trait;
use serde::Serialize;

#[derive(Debug)]
pub struct Failed;
impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed")
    }
}
impl std::error::Error for Failed {}
impl From<AuditUnavailable> for Failed {
    fn from(_: AuditUnavailable) -> Self {
        Failed
    }
}
impl From<std::num::ParseIntError> for Failed {
    fn from(_: std::num::ParseIntError) -> Self {
        Failed
    }
}
type Outcome<T> = Result<T, Failed>;

#[derive(Serialize, Clone)]
pub struct Order {
    id: String,
    cents: u64,
}

/// Not serialisable.
pub struct Client {
    _open: bool,
}

// Plain functions.

#[audited(tool)]
async fn asynchronous(order: Order) -> Result<u64, Failed> {
    Ok(order.cents)
}

#[audited(tool)]
fn blocking(order: &Order, note: &str) -> Outcome<String> {
    let parsed: u64 = note.parse()?;
    Ok(format!("{}{parsed}", order.id))
}

#[audited(tool)]
async fn early_return(stop: bool) -> Outcome<u32> {
    if stop {
        return Ok(1);
    }
    if "x".parse::<u32>()? == 3 {
        return Err(Failed);
    }
    Ok(2)
}

#[audited(tool)]
async fn boxed_errors(path: String) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let _: u8 = path.parse()?;
    Err("no".into())
}

#[audited(tool)]
async fn coerced(yes: bool) -> Result<Box<dyn erased::Shown>, Failed> {
    if yes { Ok(Box::new(erased::One)) } else { Ok(Box::new(erased::Two)) }
}

mod erased {
    pub trait Shown: Send {}
    #[derive(serde::Serialize)]
    pub struct One;
    pub struct Two;
    impl Shown for One {}
    impl Shown for Two {}
    impl serde::Serialize for dyn Shown {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_unit()
        }
    }
}

#[audited(tool, on_audit_error = proceed)]
fn unit(_unused: u8) {}

#[audited(tool, on_audit_error = proceed)]
async fn unit_async() {}

#[audited(tool, on_audit_error = proceed)]
fn plain(a: i64, b: i64) -> i64 {
    a + b
}

#[audited(tool, on_audit_error = proceed)]
fn diverges(stop: bool) -> Vec<u8> {
    if stop { panic!("stopped") } else { unimplemented!() }
}

/// Documented, with attributes, visibility and raw names.
#[must_use]
#[inline]
#[audited(tool, on_audit_error = proceed)]
#[allow(clippy::needless_pass_by_value)]
pub(crate) fn r#match(r#type: String) -> usize {
    r#type.len()
}

#[audited(tool)]
async fn inner_attributes(value: u8) -> Outcome<u8> {
    #![allow(unused_variables)]
    let unused = 1;
    Ok(value)
}

// Arguments.

#[audited(
    tool,
    name = "refund",
    version = env!("CARGO_PKG_VERSION"),
    effect = destructive,
    skip(client, return),
    sensitive(card),
    external(order = output.id, cents = output.cents + fee),
    parent = &call,
    error_if = |order| order.cents == 0,
    on_audit_error = deny,
    crate = agent_audit,
)]
async fn everything(
    client: &Client,
    card: String,
    order: Order,
    fee: u64,
    #[allow(unused)] call: CallId,
) -> Result<Order, Failed> {
    let _ = (client, card);
    Ok(order)
}

#[audited(tool, input = (&order.id, order.cents + 1))]
async fn own_input(order: Order, _client: Client) -> Outcome<u64> {
    Ok(order.cents)
}

#[audited(tool, error_if = Vec::is_empty, external(first = output[0], plus = 1 + 2))]
fn path_as_test(items: Vec<u8>) -> Outcome<Vec<u8>> {
    Ok(items)
}

// Patterns.

pub struct Parameters<T>(T);
impl<T: Serialize> Serialize for Parameters<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[audited(tool, parent = CallId::new(&id).unwrap(), external(cents = cents))]
async fn destructured(
    (left, mut right): (u8, u8),
    Parameters(Order { id, cents }): Parameters<Order>,
    _: u16,
    mut list: Vec<u8>,
) -> Outcome<usize> {
    right += left;
    list.push(right);
    Ok(list.len() + id.len() + usize::try_from(cents).unwrap_or(0))
}

#[audited(tool, skip(arg0))]
fn skipped_pattern(Client { _open }: Client, [a, b]: [u8; 2]) -> Outcome<u8> {
    Ok(a + b + u8::from(_open))
}

#[audited(tool)]
fn bound_and_by_reference(whole @ (a, _): (u8, u8), ref text: String) -> Outcome<usize> {
    Ok(usize::from(whole.1 + a) + text.len())
}

// Generics, lifetimes, `impl Trait`.

#[audited(tool)]
async fn generic<'a, T, const N: usize>(items: Vec<T>, name: &'a str) -> Result<&'a str, Failed>
where
    T: Serialize + Clone,
{
    let _ = items.clone();
    Ok(name)
}

#[audited(tool)]
async fn elided(name: &str) -> Outcome<&str> {
    Ok(&name[1..])
}

#[audited(tool)]
fn elided_blocking(names: &mut Vec<String>) -> Outcome<&mut String> {
    names.push(String::new());
    names.last_mut().ok_or(Failed)
}

#[audited(tool)]
async fn impl_argument(value: impl Serialize + Send, list: &[impl Serialize]) -> Outcome<usize> {
    let _ = value;
    Ok(list.len())
}

#[audited(tool)]
fn impl_in_result(n: u32) -> Result<impl Serialize + Clone, Failed> {
    if n == 0 {
        return Err(Failed);
    }
    Ok(vec![n])
}

#[audited(tool)]
async fn impl_in_async_result(n: u32) -> Result<impl Serialize + Clone, Failed> {
    Ok(vec![n])
}

#[audited(tool, skip(return), on_audit_error = proceed)]
fn impl_iterator(n: u32) -> impl Iterator<Item = u32> {
    (0..n).map(|n| n + 1)
}

#[audited(tool, on_audit_error = proceed)]
async fn impl_plain(n: u32) -> impl Serialize {
    vec![n]
}

#[audited(tool, skip(run))]
async fn closure<F, T>(run: F) -> Result<T, Failed>
where
    F: FnOnce() -> T,
    T: Serialize,
{
    Ok(run())
}

// Methods.

#[derive(Default)]
pub struct Desk {
    names: Vec<String>,
    _not_sync: PhantomData<std::cell::Cell<u8>>,
}

impl Desk {
    const NAME: &'static str = "desk";

    #[audited(tool, name = Self::NAME, external(len = self.names.len()))]
    async fn shared(&self, index: usize) -> Outcome<&str> {
        self.names.get(index).map(String::as_str).ok_or(Failed)
    }

    #[audited(tool)]
    async fn exclusive(&mut self, name: String) -> Outcome<usize> {
        self.names.push(name);
        Ok(self.names.len())
    }

    #[audited(tool)]
    fn exclusive_blocking(&mut self, name: String) -> Outcome<&mut String> {
        self.names.push(name);
        let last = self.names.last_mut().ok_or(Failed)?;
        Ok(last)
    }

    #[audited(tool)]
    async fn owned(mut self, name: String) -> Outcome<Vec<String>> {
        self.names.push(name);
        Ok(self.names)
    }

    #[audited(tool, skip(return))]
    fn new() -> Result<Self, Failed> {
        Ok(Self::default())
    }
}

pub struct Shared(String);

impl Shared {
    #[audited(tool, input = self.0.len(), parent = CallId::new(&self.0).unwrap())]
    async fn arc(self: Arc<Self>) -> Outcome<usize> {
        Ok(self.0.len())
    }
}

// Traits.

#[allow(async_fn_in_trait)]
pub trait Native {
    fn name(&self) -> Outcome<String>;
    fn call(&self, input: &str) -> impl Future<Output = Outcome<String>> + Send;

    #[audited(tool)]
    async fn provided(&self, input: u8) -> Outcome<u8> {
        Ok(input + 1)
    }
}

impl Native for Client {
    #[audited(tool)]
    fn name(&self) -> Outcome<String> {
        Ok("client".to_owned())
    }

    #[audited(tool)]
    async fn call(&self, input: &str) -> Outcome<String> {
        Ok(input.to_owned())
    }
}

#[async_trait]
pub trait Boxed: Send {
    async fn call(&self, input: &str, order: Order) -> Outcome<String>;
    async fn change(&mut self, (a, b): (u8, u8), _: u8) -> Outcome<u8>;
    async fn nothing(&self);

    #[audited(tool)]
    async fn provided(&self, mut count: u8) -> Outcome<u8>
    where
        Self: Sync,
    {
        count += 1;
        Ok(count)
    }
}

#[async_trait]
impl Boxed for Client {
    #[audited(tool, input = (input, self._open), external(text = output))]
    async fn call(&self, input: &str, order: Order) -> Outcome<String> {
        tokio::task::yield_now().await;
        if input.is_empty() {
            return Err(Failed);
        }
        Ok(format!("{input}{}", order.id))
    }

    #[audited(tool, skip(arg1))]
    async fn change(&mut self, (a, b): (u8, u8), _: u8) -> Outcome<u8> {
        self._open = false;
        Ok(a + b)
    }

    #[audited(tool, on_audit_error = proceed)]
    async fn nothing(&self) {}
}

#[async_trait(?Send)]
trait Local {
    async fn call(&self) -> Outcome<u8>;
}

#[async_trait(?Send)]
impl Local for Desk {
    #[audited(tool)]
    async fn call(&self) -> Outcome<u8> {
        let rc = std::rc::Rc::new(1);
        tokio::task::yield_now().await;
        Ok(*rc)
    }
}

// Futures by hand.

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

#[audited(tool)]
fn by_hand<'a>(
    name: &'a str,
    order: Order,
) -> Pin<Box<dyn Future<Output = Outcome<u64>> + Send + 'a>> {
    Box::pin(async move {
        let _ = name.parse::<u8>()?;
        Ok(order.cents)
    })
}

#[audited(tool, skip(client))]
fn prepared(client: &Arc<Client>, name: &str) -> BoxFuture<'static, Outcome<String>> {
    let client = Arc::clone(client);
    let name = name.to_owned();
    Box::pin(async move {
        let _ = client;
        Ok(name)
    })
}

#[audited(tool)]
fn named_future(n: u8) -> impl Future<Output = Outcome<u8>> + Send {
    async move { Ok(n) }
}

#[audited(tool)]
fn aliased(n: u8) -> Alias {
    Box::pin(async move { Ok(n) })
}
type Alias = BoxFuture<'static, Outcome<u8>>;

// Made by a macro.

macro_rules! tool {
    ($name:ident, $argument:ident: $ty:ty) => {
        #[audited(tool, external(out = output))]
        async fn $name($argument: $ty) -> Outcome<$ty> {
            Ok($argument)
        }
    };
}
tool!(by_macro, text: String);

// Recursion, and a future that is neither `Send` nor `'static`.

#[audited(tool)]
async fn recursive(n: u8) -> Outcome<u8> {
    if n == 0 { Ok(0) } else { Box::pin(recursive(n - 1)).await }
}

#[audited(tool, skip(rc))]
async fn not_send(rc: std::rc::Rc<u8>) -> Outcome<u8> {
    tokio::task::yield_now().await;
    Ok(*rc)
}

fn is_send<T: Send>(_: &T) {}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let order = || Order { id: "3".into(), cents: 5 };
    let client = Client { _open: true };

    // No audited future is less `Send` than the function alone.
    let desk_ref = Desk::default();
    is_send(&asynchronous(order()));
    is_send(&early_return(true));
    is_send(&boxed_errors(String::new()));
    is_send(&coerced(true));
    is_send(&everything(&client, String::new(), order(), 1, CallId::new("c").unwrap()));
    is_send(&own_input(order(), Client { _open: true }));
    is_send(&destructured((1, 2), Parameters(order()), 3, vec![]));
    is_send(&generic::<_, 3>(vec![1u8, 2], "x"));
    is_send(&elided("abc"));
    is_send(&impl_argument(1, &[1]));
    is_send(&impl_in_async_result(1));
    is_send(&closure(|| 1));
    is_send(&Native::call(&client, "x"));
    is_send(&Arc::new(order));
    is_send(&by_macro(String::new()));
    is_send(&aliased(1));
    // A parameter that is `Send` and not `Sync` is only read before the first `await`.
    #[audited(tool)]
    async fn not_sync(cell: std::cell::Cell<u8>) -> Outcome<u8> {
        tokio::task::yield_now().await;
        Ok(cell.get())
    }
    is_send(&not_sync(std::cell::Cell::new(1)));
    let spawned = tokio::spawn(async move {
        let text = String::from("abc");
        let order = Order { id: "3".into(), cents: 5 };
        let mut client = Client { _open: true };
        let _ = elided(&text).await;
        let _ = generic::<_, 3>(vec![&text], &text).await;
        let _ = Boxed::call(&client, &text, order).await;
        let _ = Boxed::change(&mut client, (1, 2), 3).await;
        let _ = client.provided_both().await;
        let _ = by_hand(&text, Order { id: text.clone(), cents: 1 }).await;
        let _ = impl_argument(&text, &[&text]).await;
    });
    spawned.await.unwrap();

    // Without a log nothing runs under `deny`.
    assert!(asynchronous(order()).await.is_err());
    assert!(blocking(&order(), "7").is_err());
    assert!(prepared(&Arc::new(Client { _open: true }), "x").await.is_err());
    assert!(named_future(1).await.is_err());
    assert!(recursive(3).await.is_err());
    assert!(not_send(std::rc::Rc::new(1)).await.is_err());
    assert!(path_as_test(vec![1]).is_err());
    assert!(skipped_pattern(Client { _open: true }, [1, 2]).is_err());
    assert!(bound_and_by_reference((1, 2), String::new()).is_err());
    assert!(elided_blocking(&mut Vec::new()).is_err());
    assert!(impl_in_result(1).is_err());
    assert!(inner_attributes(1).await.is_err());
    assert!(Desk::new().is_err());
    assert!(desk_ref.shared(0).await.is_err());
    assert!(Local::call(&desk_ref).await.is_err());
    let mut desk = Desk::default();
    assert!(desk.exclusive(String::new()).await.is_err());
    assert!(desk.exclusive_blocking(String::new()).is_err());
    assert!(Arc::new(Shared("x".into())).arc().await.is_err());
    assert!(desk.owned(String::new()).await.is_err());
    assert!(Native::name(&client).is_err());

    // And everything does under `proceed`.
    unit(1);
    unit_async().await;
    Boxed::nothing(&client).await;
    assert_eq!(plain(1, 2), 3);
    assert_eq!(r#match("abc".into()), 3);
    assert_eq!(impl_iterator(2).count(), 2);
    let _ = impl_plain(1).await;
    assert!(std::panic::catch_unwind(|| diverges(true)).is_err());
    let _: HashMap<u8, u8> = HashMap::new();
}

impl Client {
    async fn provided_both(&self) -> Outcome<u8> {
        Native::provided(self, 1).await?;
        Boxed::provided(self, 1).await
    }
}

//! Calls that may hang or panic, and waiting for the first of two things.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{task::JoinHandle, time::timeout};

use crate::sink::{SinkError, SinkErrorKind};

/// A call of a sink, which may hang or panic.
pub(super) async fn guarded<T: Send + 'static>(
    limit: Duration,
    call: impl Future<Output = Result<T, SinkError>> + Send + 'static,
) -> Result<T, SinkError> {
    let mut task = AbortOnDrop(tokio::spawn(call));
    match timeout(limit, &mut task.0).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => {
            Err(SinkError::new(SinkErrorKind::Other, "the sink panicked").with_maybe_applied())
        }
        Err(_) => {
            let context = format!("no answer within {limit:?}");
            Err(SinkError::new(SinkErrorKind::Timeout, context).with_maybe_applied())
        }
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The output of whichever is ready first.
pub(super) async fn race<T>(a: impl Future<Output = T>, b: impl Future<Output = T>) -> T {
    let (mut a, mut b) = (pin!(a), pin!(b));
    std::future::poll_fn(move |cx: &mut Context<'_>| {
        fn poll<F: Future>(future: &mut Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
            future.as_mut().poll(cx)
        }
        match poll(&mut b, cx) {
            Poll::Pending => poll(&mut a, cx),
            ready => ready,
        }
    })
    .await
}

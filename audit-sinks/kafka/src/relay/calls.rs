//! How a sink is called: within a time, and after a delay where it failed.

use std::time::Duration;

use agent_audit_core::sink::{SinkError, SinkErrorKind};
use tokio::time::timeout;

/// A sink that asks for more than this is asked again all the same.
const LONGEST_REQUEST: Duration = Duration::from_secs(3_600);

/// How a sink is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calls {
    pub(super) limit: Duration,
    pub(super) shortest: Duration,
    pub(super) longest: Duration,
}

impl Calls {
    /// The delay after so many failures in a row: exponential, with full jitter.
    pub(super) fn delay(self, failures: u32, error: &SinkError) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let delay = if error.is_retryable() {
            self.shortest.saturating_mul(doubled).min(self.longest).mul_f64(rand::random())
        } else {
            // Only a person can help, so there is no hurry.
            self.longest.mul_f64(0.5 + rand::random::<f64>() / 2.0)
        };
        delay.max(error.retry_after().unwrap_or_default().min(LONGEST_REQUEST))
    }
}

/// Whether nobody who mends the sink can make these events welcome.
pub(super) fn is_final(error: &SinkError) -> bool {
    use SinkErrorKind::{Misconfigured, PermissionDenied, Unauthenticated};
    !error.is_retryable()
        && !matches!(error.kind(), Unauthenticated | PermissionDenied | Misconfigured)
}

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

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

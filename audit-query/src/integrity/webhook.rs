//! An alert as an HTTP request.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use http_body_util::Full;
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Bytes,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT},
};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{sync::oneshot, time::timeout};

use super::{Alert, AlertMessage, WatchError};

/// How often it is tried.
const ATTEMPTS: u32 = 3;

/// Posts the [message](AlertMessage) as JSON to an address, `https` or `http`.
///
/// An answer of the class 2xx is a delivery. Everything else is tried twice more; all of it takes no
/// longer than [`with_timeout`](Self::with_timeout) says, 15 seconds unless it says something.
/// The address may be a secret: only its host is ever shown.
///
/// ```
/// use agent_audit_query::integrity::{Alert, Webhook};
/// let webhook = Webhook::new("https://hooks.example.com/T0/secret")?;
/// assert_eq!(webhook.name(), "webhook hooks.example.com");
/// assert!(!format!("{webhook:?}").contains("secret"));
/// assert!(Webhook::new("ftp://example.com").is_err());
/// # Ok::<(), agent_audit_query::integrity::WatchError>(())
/// ```
#[derive(Clone)]
pub struct Webhook {
    name: String,
    address: Uri,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

impl Webhook {
    /// Posts to this address.
    ///
    /// # Errors
    /// [`Invalid`](super::WatchErrorKind::Invalid) where it is no address of `http` or `https`. The
    /// error does not repeat it.
    pub fn new(address: &str) -> Result<Self, WatchError> {
        let invalid = || {
            WatchError::invalid(
                "the address of the webhook is not one: give an absolute one, https://host/path",
            )
        };
        let address: Uri = address.parse().map_err(|_| invalid())?;
        if !matches!(address.scheme_str(), Some("http" | "https")) {
            return Err(invalid());
        }
        let name = format!("webhook {}", address.host().ok_or_else(invalid)?);
        Ok(Self { name, address, authorization: None, timeout: Duration::from_secs(15) })
    }

    /// Sends `Authorization: Bearer` with this token.
    ///
    /// # Errors
    /// [`Invalid`](super::WatchErrorKind::Invalid) where the token cannot stand in a header.
    pub fn with_bearer(mut self, token: &str) -> Result<Self, WatchError> {
        let value = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut value = value.map_err(|_| {
            WatchError::invalid("the token of the webhook holds characters that no header can have")
        })?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }

    /// Sets how long all attempts together may take.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn request(&self, body: &Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.address.clone();
        let agent = concat!("agent-audit/", env!("CARGO_PKG_VERSION"));
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        request
    }

    async fn post(&self, body: Bytes) -> Result<(), String> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .map_err(|_| "TLS cannot be set up".to_owned())?
            .https_or_http()
            .enable_http1()
            .build();
        let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
        let each = self.timeout / ATTEMPTS;
        let mut error = String::new();
        for attempt in 0..ATTEMPTS {
            error = match timeout(each, client.request(self.request(&body))).await {
                Ok(Ok(answer)) if answer.status().is_success() => return Ok(()),
                Ok(Ok(answer)) => match answer.status() {
                    // To be asked again would not help.
                    status @ (StatusCode::UNAUTHORIZED
                    | StatusCode::FORBIDDEN
                    | StatusCode::NOT_FOUND) => {
                        return Err(format!("it was answered with {status}"));
                    }
                    status => format!("it was answered with {status}"),
                },
                Ok(Err(error)) if error.is_connect() => "there is no connection".to_owned(),
                Ok(Err(_)) => "the connection broke".to_owned(),
                Err(_) => format!("there was no answer within {} ms", each.as_millis()),
            };
            if attempt + 1 < ATTEMPTS {
                tokio::time::sleep(each.min(Duration::from_millis(200))).await;
            }
        }
        Err(error)
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Alert for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    async fn send(&self, message: &AlertMessage) -> Result<(), String> {
        let body = serde_json::to_vec(message).map_err(|error| error.to_string())?;
        let (answer, answered) = oneshot::channel();
        let webhook = self.clone();
        // A runtime of its own: the job may run under any executor, or under none.
        std::thread::Builder::new()
            .name("audit-webhook".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let result = match runtime {
                    Ok(runtime) => runtime.block_on(webhook.post(body.into())),
                    Err(error) => Err(format!("no runtime can be built: {error}")),
                };
                // Who waited may be gone.
                let _ = answer.send(result);
            })
            .map_err(|error| format!("no thread can be started: {error}"))?;
        answered.await.unwrap_or_else(|_| Err("the thread that sends it ended".to_owned()))
    }
}

//! How Amazon's services are reached.

use std::{str::FromStr, time::Duration};

use agent_audit_core::sink::SinkErrorKind;
use aws_config::{
    Region, SdkConfig, retry::RetryConfig,
    stalled_stream_protection::StalledStreamProtectionConfig, timeout::TimeoutConfig,
};
use aws_credential_types::Credentials;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::error::Fault;

/// Region, endpoint, credentials and patience.
///
/// What is not set comes from where Amazon's own tools take it: the variables `AWS_REGION`,
/// `AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID` and so on, the profile, the role of the container or of
/// the machine. Credentials that expire are renewed. Secrets are read and never written: neither
/// `Debug` nor serialisation shows them.
///
/// ```
/// use agent_audit_aws::AwsConfig;
/// let config = AwsConfig::default()
///     .with_region("eu-central-1")
///     .with_credentials("AKIAEXAMPLE", "wJalrXUtnFEMI");
/// assert!(!format!("{config:?}").contains("wJalrXUtnFEMI"));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct AwsConfig {
    /// The region.
    pub region: Option<String>,
    /// The address of the service, for an emulator or a private endpoint.
    pub endpoint: Option<String>,
    /// The id of an access key; with it goes the secret.
    pub access_key_id: Option<String>,
    /// The secret of the access key.
    #[serde(skip_serializing)]
    pub secret_access_key: Option<SecretString>,
    /// The token of temporary credentials.
    #[serde(skip_serializing)]
    pub session_token: Option<SecretString>,
    /// How many milliseconds a connection may take to come about; 3,000 where nothing else is said.
    pub connect_timeout_ms: u64,
    /// How many milliseconds a request may take; 10,000 where nothing else is said. A large object
    /// has a second more for each MiB.
    pub request_timeout_ms: u64,
}

impl Default for AwsConfig {
    fn default() -> Self {
        Self {
            region: None,
            endpoint: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            connect_timeout_ms: 3_000,
            request_timeout_ms: 10_000,
        }
    }
}

impl AwsConfig {
    /// Sets the region.
    #[must_use]
    pub fn with_region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Sets the address of the service.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }

    /// Sets an access key.
    #[must_use]
    pub fn with_credentials(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.access_key_id = Some(id.into());
        self.secret_access_key = Some(SecretString::from(secret.into()));
        self
    }

    /// Sets the token that goes with a temporary access key.
    #[must_use]
    pub fn with_session_token(mut self, token: impl Into<String>) -> Self {
        self.session_token = Some(SecretString::from(token.into()));
        self
    }

    /// Sets how long a connection may take, in whole milliseconds.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout_ms = milliseconds(timeout);
        self
    }

    /// Sets how long a request may take, in whole milliseconds.
    #[must_use]
    pub fn with_request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout_ms = milliseconds(timeout);
        self
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms.max(1))
    }

    /// The same account at another place.
    pub(crate) fn elsewhere(&self, region: Option<&str>, endpoint: Option<&str>) -> Self {
        let mut config = self.clone();
        if let Some(region) = region {
            config.region = Some(region.to_owned());
        }
        if let Some(endpoint) = endpoint {
            config.endpoint = Some(endpoint.to_owned());
        }
        config
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What the clients of the services are made of. Makes no request to them.
///
/// # Errors
/// [`Fault`] where the configuration cannot be one.
#[doc(hidden)]
pub async fn client_config(config: &AwsConfig, service: &str) -> Result<SdkConfig, Fault> {
    let wrong = |what: &str| Fault::new(SinkErrorKind::Misconfigured, format!("{service}: {what}"));
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(config.connect_timeout_ms.max(1)))
        .operation_attempt_timeout(config.request_timeout())
        .operation_timeout(config.request_timeout())
        .build();
    let mut loader = aws_config::from_env()
        .http_client(http)
        .timeout_config(timeouts)
        // Retries belong to delivery, which knows what has become of each event.
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &config.endpoint {
        if !(endpoint.starts_with("http://") || endpoint.starts_with("https://")) {
            return Err(wrong("its endpoint is not a URL: begin it with https:// or http://"));
        }
        if endpoint.contains('@') {
            return Err(wrong("its endpoint holds credentials: set them as an access key"));
        }
        loader = loader.endpoint_url(endpoint);
    }
    match (&config.access_key_id, &config.secret_access_key) {
        (Some(id), Some(secret)) => {
            let token = config.session_token.as_ref().map(|token| token.expose_secret().to_owned());
            loader = loader.credentials_provider(Credentials::new(
                id,
                secret.expose_secret(),
                token,
                None,
                "agent-audit",
            ));
        }
        (None, None) if config.session_token.is_none() => {}
        _ => return Err(wrong("an access key is an id and a secret: set both or neither")),
    }
    let loaded = loader.load().await;
    if loaded.region().is_none() {
        return Err(wrong("no region: set it, or AWS_REGION"));
    }
    Ok(loaded)
}

/// Settings from variables with a common beginning.
#[doc(hidden)]
pub struct Variables<'a> {
    prefix: &'a str,
    lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl std::fmt::Debug for Variables<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variables").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl<'a> Variables<'a> {
    /// Settings from variables that begin with a prefix.
    pub fn new(prefix: &'a str, lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { prefix, lookup }
    }

    /// The text of a variable; an empty one is not set.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(&format!("{}{name}", self.prefix)).filter(|text| !text.is_empty())
    }

    /// The text of a variable that must be set.
    ///
    /// # Errors
    /// [`Fault`] where it is not.
    pub fn required(&self, name: &str) -> Result<String, Fault> {
        self.text(name).ok_or_else(|| {
            Fault::new(SinkErrorKind::Misconfigured, format!("{}{name} is not set", self.prefix))
        })
    }

    /// The value of a variable.
    ///
    /// # Errors
    /// [`Fault`] where it is none of its type.
    pub fn value<T: FromStr>(&self, name: &str) -> Result<Option<T>, Fault> {
        self.text(name).map(|text| self.parse(name, &text)).transpose()
    }

    /// Sets a value to that of a variable, where it is set.
    ///
    /// # Errors
    /// [`Fault`] where it is none of its type.
    pub fn set<T: FromStr>(&self, name: &str, value: &mut T) -> Result<(), Fault> {
        if let Some(found) = self.value(name)? {
            *value = found;
        }
        Ok(())
    }

    fn parse<T: FromStr>(&self, name: &str, text: &str) -> Result<T, Fault> {
        text.parse().map_err(|_| {
            let kind = std::any::type_name::<T>();
            let context = format!("{}{name} is {text:?}, which is no {kind}", self.prefix);
            Fault::new(SinkErrorKind::Misconfigured, context)
        })
    }

    /// Region, endpoint and patience. Credentials come from Amazon's own variables.
    ///
    /// # Errors
    /// [`Fault`] where a number is none.
    pub fn aws(&self) -> Result<AwsConfig, Fault> {
        let mut config = AwsConfig {
            region: self.text("REGION"),
            endpoint: self.text("ENDPOINT"),
            ..AwsConfig::default()
        };
        self.set("CONNECT_TIMEOUT_MS", &mut config.connect_timeout_ms)?;
        self.set("REQUEST_TIMEOUT_MS", &mut config.request_timeout_ms)?;
        Ok(config)
    }

    /// Where large events go.
    #[must_use]
    pub fn claims(&self) -> Option<crate::ClaimConfig> {
        let mut config = crate::ClaimConfig::new(self.text("CLAIM_BUCKET")?);
        config.prefix = self.text("CLAIM_PREFIX").unwrap_or(config.prefix);
        config.region = self.text("CLAIM_REGION");
        config.endpoint = self.text("CLAIM_ENDPOINT");
        Some(config)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn local() -> AwsConfig {
        AwsConfig::default().with_region("eu-central-1").with_credentials("id", "s3cret")
    }

    #[test]
    fn an_empty_config_is_the_default_and_secrets_are_read_but_not_written() {
        let config: AwsConfig = serde_json::from_str("{}").unwrap();
        assert_eq!((config.connect_timeout_ms, config.request_timeout_ms), (3_000, 10_000));
        let text =
            r#"{"access_key_id": "id", "secret_access_key": "s3cret", "session_token": "t0ken"}"#;
        let config: AwsConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.secret_access_key.as_ref().unwrap().expose_secret(), "s3cret");
        let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
        assert!(!shown.contains("s3cret") && !shown.contains("t0ken"), "{shown}");
    }

    #[test]
    fn a_misspelt_setting_is_an_error() {
        let error = serde_json::from_str::<AwsConfig>(r#"{"regoin": "eu-central-1"}"#);
        assert!(error.unwrap_err().to_string().contains("regoin"));
    }

    #[tokio::test]
    async fn half_a_key_and_an_endpoint_that_is_none_are_refused() {
        for (config, says) in [
            (AwsConfig { secret_access_key: None, ..local() }, "set both or neither"),
            (AwsConfig { access_key_id: None, ..local() }, "set both or neither"),
            (local().with_endpoint("kinesis.local"), "begin it with https"),
            (local().with_endpoint("https://user:s3cret@kinesis.local"), "holds credentials"),
        ] {
            let fault = client_config(&config, "kinesis").await.unwrap_err();
            assert_eq!(fault.kind(), SinkErrorKind::Misconfigured);
            assert!(fault.to_string().contains(says), "{fault}");
            assert!(!format!("{fault:?}").contains("s3cret"));
        }
        assert!(client_config(&local(), "kinesis").await.is_ok());
    }

    #[test]
    fn variables_are_read_and_a_wrong_number_is_named() {
        let lookup = |name: &str| {
            let value = match name {
                "X_REGION" => "eu-west-1",
                "X_REQUEST_TIMEOUT_MS" => "250",
                "X_CLAIM_BUCKET" => "large",
                "X_CLAIM_PREFIX" => "",
                "X_PARALLELISM" => "many",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let variables = Variables::new("X_", &lookup);
        let config = variables.aws().unwrap();
        assert_eq!((config.region.as_deref(), config.request_timeout_ms), (Some("eu-west-1"), 250));
        let claims = variables.claims().unwrap();
        assert_eq!((claims.bucket.as_str(), claims.prefix.as_str()), ("large", "agent-audit/"));
        assert!(variables.required("STREAM").unwrap_err().to_string().contains("X_STREAM"));
        let error = variables.value::<usize>("PARALLELISM").unwrap_err();
        assert_eq!(error.to_string(), r#"X_PARALLELISM is "many", which is no usize"#);
    }
}

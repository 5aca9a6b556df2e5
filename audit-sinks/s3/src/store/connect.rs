//! The client of the service.

use std::time::Duration;

use agent_audit_core::sink::SinkErrorKind;
use aws_config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_s3::{
    Client,
    config::{
        Builder, Credentials, RequestChecksumCalculation, ResponseChecksumValidation,
        SharedCredentialsProvider,
    },
};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use secrecy::ExposeSecret;

use super::Bucket;
use crate::{config::S3Config, error::Fault};

/// The region of a service that is not Amazon's, where none is given: it has to be signed for.
const REGION: &str = "us-east-1";

/// Builds the client; asks the default sources where the configuration leaves something open.
pub(crate) async fn connect(config: &S3Config) -> Result<Bucket, Fault> {
    if config.bucket.is_empty() {
        let what = "the archive has no bucket: give its name";
        return Err(Fault::new(SinkErrorKind::Misconfigured, what));
    }
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let region = match (&config.region, &config.endpoint) {
        (Some(region), _) => Some(region.clone()),
        (None, Some(_)) => Some(REGION.to_owned()),
        (None, None) => None,
    };
    let builder = match &config.credentials {
        Some(given) if region.is_some() => {
            let token = given.session_token.as_ref().map(|token| token.expose_secret().to_owned());
            let credentials = Credentials::new(
                given.access_key_id.clone(),
                given.secret_access_key.expose_secret(),
                token,
                None,
                "agent-audit",
            );
            Builder::new()
                .behavior_version(BehaviorVersion::latest())
                .credentials_provider(SharedCredentialsProvider::new(credentials))
        }
        given => {
            let mut loader =
                aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
            if let Some(given) = given {
                let token = given.session_token.as_ref().map(|t| t.expose_secret().to_owned());
                loader = loader.credentials_provider(Credentials::new(
                    given.access_key_id.clone(),
                    given.secret_access_key.expose_secret(),
                    token,
                    None,
                    "agent-audit",
                ));
            }
            if let Some(region) = &region {
                loader = loader.region(Region::new(region.clone()));
            }
            Builder::from(&loader.load().await)
        }
    };
    let request = Duration::from_millis(config.timeout_ms.max(1));
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(config.connect_timeout_ms.max(1)))
        .operation_timeout(request)
        .build();
    let mut builder = builder
        .http_client(http)
        .force_path_style(config.path_style)
        // Delivery retries, and knows what it retries.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        // Bodies carry a SHA-256 that is computed once, here.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Some(region) = region {
        builder = builder.region(Region::new(region));
    }
    if let Some(endpoint) = &config.endpoint {
        builder = builder.endpoint_url(endpoint);
    }
    let client = Client::from_conf(builder.build());
    Ok(Bucket::new(client, config))
}

//! The standard variables of OpenTelemetry.

use agent_audit_core::sink::{SinkError, SinkErrorKind};

use super::{Compression, OtlpConfig, Protocol};

type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the configuration from variables.
pub(super) fn read(variables: Variables<'_>) -> Result<OtlpConfig, SinkError> {
    let protocol = match value(variables, "PROTOCOL") {
        None => Protocol::default(),
        Some((_, protocol)) if protocol == "grpc" => Protocol::Grpc,
        Some((_, protocol)) if protocol == "http/protobuf" => Protocol::HttpProtobuf,
        Some((name, protocol)) => {
            return Err(wrong(&name, &format!("{protocol:?} is neither grpc nor http/protobuf")));
        }
    };
    let mut config = OtlpConfig::new(protocol, endpoint(variables, protocol)?);
    if let Some((name, compression)) = value(variables, "COMPRESSION") {
        config.compression = match compression.as_str() {
            "none" => Compression::None,
            "gzip" => Compression::Gzip,
            _ => return Err(wrong(&name, &format!("{compression:?} is neither none nor gzip"))),
        };
    }
    if let Some((name, timeout)) = value(variables, "TIMEOUT") {
        config.timeout_ms = timeout
            .parse()
            .map_err(|_| wrong(&name, &format!("{timeout:?} is not a number of milliseconds")))?;
    }
    // A header that is set for logs is set beside those of all signals, and comes before them.
    for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_LOGS_HEADERS"] {
        for (key, value) in pairs(&set(variables, name).unwrap_or_default(), name)? {
            config.headers.insert(key.to_ascii_lowercase(), value.into());
        }
    }
    let name = "OTEL_RESOURCE_ATTRIBUTES";
    config.resource.extend(pairs(&set(variables, name).unwrap_or_default(), name)?);
    if let Some(service) = set(variables, "OTEL_SERVICE_NAME") {
        config.resource.insert("service.name".to_owned(), service);
    }
    let file = |name| value(variables, name).map(|(_, file)| file.into());
    config.certificate = file("CERTIFICATE");
    config.client_certificate = file("CLIENT_CERTIFICATE");
    config.client_key = file("CLIENT_KEY");
    Ok(config)
}

/// The URL of the logs below a base URL.
pub(super) fn logs_below(base: &str) -> String {
    format!("{}/v1/logs", base.trim_end_matches('/'))
}

fn endpoint(variables: Variables<'_>, protocol: Protocol) -> Result<String, SinkError> {
    let Some((name, endpoint)) = value(variables, "ENDPOINT") else {
        return Ok(match protocol {
            Protocol::Grpc => "http://localhost:4317".to_owned(),
            Protocol::HttpProtobuf => logs_below("http://localhost:4318"),
        });
    };
    match protocol {
        Protocol::Grpc if endpoint.contains("://") => Ok(endpoint),
        // gRPC alone may leave out the scheme, and then a variable of its own says which it is.
        Protocol::Grpc => {
            let insecure = match value(variables, "INSECURE") {
                Some((_, insecure)) if insecure.eq_ignore_ascii_case("true") => true,
                Some((_, insecure)) if insecure.eq_ignore_ascii_case("false") => false,
                Some((name, insecure)) => {
                    return Err(wrong(&name, &format!("{insecure:?} is neither true nor false")));
                }
                None => false,
            };
            Ok(format!("{}://{endpoint}", if insecure { "http" } else { "https" }))
        }
        Protocol::HttpProtobuf if name.contains("_LOGS_") => Ok(endpoint),
        Protocol::HttpProtobuf => Ok(logs_below(&endpoint)),
    }
}

/// The value of an option, for logs or for all signals, with the name of its variable.
fn value(variables: Variables<'_>, option: &str) -> Option<(String, String)> {
    ["OTEL_EXPORTER_OTLP_LOGS_", "OTEL_EXPORTER_OTLP_"].into_iter().find_map(|prefix| {
        let name = format!("{prefix}{option}");
        set(variables, &name).map(|value| (name, value))
    })
}

fn set(variables: Variables<'_>, name: &str) -> Option<String> {
    variables(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// A list of `key=value`, separated by commas, with percent-encoded values.
fn pairs(list: &str, variable: &str) -> Result<Vec<(String, String)>, SinkError> {
    list.split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            // The pair itself may be a secret.
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| wrong(variable, "it holds an entry that is not key=value"))?;
            let value = decoded(value.trim())
                .ok_or_else(|| wrong(variable, "it holds a value that is not percent-encoded"))?;
            Ok((key.trim().to_owned(), value))
        })
        .collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let byte = digit(digits[0])? << 4 | digit(digits[1])?;
        bytes.push(u8::try_from(byte).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

fn wrong(variable: &str, what: &str) -> SinkError {
    SinkError::new(SinkErrorKind::Misconfigured, format!("{variable} cannot be used: {what}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<OtlpConfig, SinkError> {
        let mut variables = variables.iter().map(|(name, value)| {
            let name = match name.strip_prefix("OTEL_") {
                Some(_) => (*name).to_owned(),
                None => format!("OTEL_EXPORTER_OTLP_{name}"),
            };
            (name, (*value).to_owned())
        });
        let variables: std::collections::HashMap<String, String> = variables.by_ref().collect();
        read(&|name| variables.get(name).cloned())
    }

    #[test]
    fn nothing_said_is_http_on_this_machine() {
        let config = from(&[]).unwrap();
        assert_eq!(config.endpoint, "http://localhost:4318/v1/logs");
        assert_eq!((config.protocol, config.timeout_ms), (Protocol::HttpProtobuf, 10_000));
        assert_eq!(from(&[("PROTOCOL", "grpc")]).unwrap().endpoint, "http://localhost:4317");
        let empty = from(&[("ENDPOINT", " "), ("PROTOCOL", "")]).unwrap();
        assert_eq!(empty.endpoint, "http://localhost:4318/v1/logs");
    }

    #[test]
    fn the_endpoint_of_all_signals_is_a_base_and_that_of_logs_is_used_as_it_is() {
        let base = ("ENDPOINT", "https://c.example/otlp/");
        assert_eq!(from(&[base]).unwrap().endpoint, "https://c.example/otlp/v1/logs");
        let logs = ("LOGS_ENDPOINT", "https://c.example/ingest");
        assert_eq!(from(&[base, logs]).unwrap().endpoint, "https://c.example/ingest");
        let grpc = ("LOGS_PROTOCOL", "grpc");
        let endpoint = |list: &[_]| from(list).unwrap().endpoint;
        assert_eq!(endpoint(&[base, grpc]), "https://c.example/otlp/");
        assert_eq!(endpoint(&[("ENDPOINT", "c:4317"), grpc]), "https://c:4317");
        let insecure = ("INSECURE", "true");
        assert_eq!(endpoint(&[("ENDPOINT", "c:4317"), grpc, insecure]), "http://c:4317");
    }

    #[test]
    fn what_is_said_for_logs_comes_first() {
        let config = from(&[
            ("PROTOCOL", "grpc"),
            ("LOGS_PROTOCOL", "http/protobuf"),
            ("TIMEOUT", "5000"),
            ("LOGS_TIMEOUT", "250"),
            ("COMPRESSION", "none"),
            ("LOGS_COMPRESSION", "gzip"),
            ("HEADERS", "authorization=Bearer%20abc%3D%3D, x-tenant = 1"),
            ("LOGS_HEADERS", "X-Tenant=2"),
            ("CERTIFICATE", "/ca.pem"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,deployment.environment.name=pro%2Cd"),
            ("OTEL_SERVICE_NAME", "support"),
        ])
        .unwrap();
        assert_eq!((config.protocol, config.timeout_ms), (Protocol::HttpProtobuf, 250));
        assert_eq!(config.compression, Compression::Gzip);
        assert_eq!(config.headers["authorization"].expose_secret(), "Bearer abc==");
        assert_eq!(config.headers["x-tenant"].expose_secret(), "2");
        assert_eq!(config.certificate, Some("/ca.pem".into()));
        assert_eq!(config.resource["service.name"], "support");
        assert_eq!(config.resource["deployment.environment.name"], "pro,d");
    }

    #[test]
    fn what_cannot_be_read_is_named_without_its_secret() {
        for (name, value) in [
            ("PROTOCOL", "http/json"),
            ("COMPRESSION", "zstd"),
            ("TIMEOUT", "10s"),
            ("HEADERS", "s3cret"),
            ("HEADERS", "k=s3cret%zz"),
        ] {
            let error = from(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(&format!("OTEL_EXPORTER_OTLP_{name}")), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}

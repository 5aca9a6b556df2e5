//! TLS with rustls: whom to trust, for each mode of libpq.

use std::{path::Path, sync::Arc};

use agent_audit_core::sink::SinkErrorKind;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    config::{Address, SslMode},
    error::Fault,
};

/// What connects with TLS to this address.
pub(crate) fn connector(address: &Address) -> Result<MakeRustlsConnect, Fault> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let file = address.root_certificates.as_deref();
    let trust = match (address.ssl_mode, file) {
        (SslMode::VerifyFull, _) => Trust::Name(verifier(file, &provider)?),
        (SslMode::VerifyCa, _) | (SslMode::Require, Some(_)) => {
            Trust::Signature(verifier(file, &provider)?)
        }
        _ => Trust::Anyone(Arc::clone(&provider)),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(format!("TLS cannot be set up: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trust))
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn refused(text: String) -> Fault {
    Fault::new(SinkErrorKind::Misconfigured, text)
}

fn verifier(
    file: Option<&Path>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, Fault> {
    let mut roots = RootCertStore::empty();
    let origin = match file {
        Some(file) => {
            let found = CertificateDer::pem_file_iter(file)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| {
                    refused(format!("read certificates {}: {error}", file.display()))
                })?;
            for certificate in found {
                roots.add(certificate).map_err(|error| {
                    refused(format!("read certificates {}: {error}", file.display()))
                })?;
            }
            file.display().to_string()
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            "the operating system".to_owned()
        }
    };
    if roots.is_empty() {
        return Err(refused(format!(
            "{origin} has no certificate: name a file of root certificates"
        )));
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| refused(format!("the certificates of {origin} cannot be used: {error}")))
}

/// Whose certificates are taken. Signatures of the handshake are checked in any case.
#[derive(Debug)]
enum Trust {
    /// Any: the connection is encrypted, to whomever.
    Anyone(Arc<CryptoProvider>),
    /// Those signed by a root.
    Signature(Arc<WebPkiServerVerifier>),
    /// Those signed by a root, for the name of the host.
    Name(Arc<WebPkiServerVerifier>),
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify = |verifier: &WebPkiServerVerifier| {
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        match self {
            Self::Anyone(_) => Ok(ServerCertVerified::assertion()),
            Self::Name(verifier) => verify(verifier),
            // The name is what the verifier looks at last: with this error all else holds.
            Self::Signature(verifier) => verify(verifier).or_else(|error| match error {
                Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                ) => Ok(ServerCertVerified::assertion()),
                error => Err(error),
            }),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self {
            Self::Anyone(provider) => rustls::crypto::verify_tls12_signature(
                message,
                certificate,
                signed,
                &provider.signature_verification_algorithms,
            ),
            Self::Signature(verifier) | Self::Name(verifier) => {
                verifier.verify_tls12_signature(message, certificate, signed)
            }
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self {
            Self::Anyone(provider) => rustls::crypto::verify_tls13_signature(
                message,
                certificate,
                signed,
                &provider.signature_verification_algorithms,
            ),
            Self::Signature(verifier) | Self::Name(verifier) => {
                verifier.verify_tls13_signature(message, certificate, signed)
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match self {
            Self::Anyone(provider) => {
                provider.signature_verification_algorithms.supported_schemes()
            }
            Self::Signature(verifier) | Self::Name(verifier) => verifier.supported_verify_schemes(),
        }
    }
}

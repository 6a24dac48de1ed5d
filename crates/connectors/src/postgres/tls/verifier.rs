//! Which certificates of a server are accepted.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::{certificate, files};
use crate::postgres::conninfo::Roots;

/// How much of the certificate is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::postgres) enum Verification {
    /// Nothing: the connection is encrypted, to whichever server.
    Off,
    /// An authority has signed it, for whichever name.
    Chain,
    /// An authority has signed it for this name.
    Full,
}

#[derive(Debug)]
pub(super) struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates that are trusted themselves, such as that of a server that signed its own.
    named: Vec<CertificateDer<'static>>,
    verification: Verification,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub(super) fn new(
        roots: &Roots,
        verification: Verification,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        if verification == Verification::Off {
            return Ok(Self { chain: None, named: Vec::new(), verification, provider });
        }
        let (store, named) = files::trusted(roots)?;
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider)).build();
        let chain = chain.map_err(|error| format!("the trusted certificates cannot be used: {error}"))?;
        Ok(Self { chain: Some(chain), named, verification, provider })
    }

    /// Verifies a certificate that is trusted itself: its period, and its name if that counts.
    fn verify_named(&self, own: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if certificate::valid_until(own).is_none_or(|end| end.micros() / 1_000_000 < now) {
            return Err(CertificateError::Expired.into());
        }
        match self.verification {
            Verification::Full => rustls::client::verify_server_name(&ParsedCertificate::try_from(own)?, name),
            Verification::Off | Verification::Chain => Ok(()),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        if self.named.iter().any(|named| named.as_ref() == own.as_ref()) {
            return self.verify_named(own, name, now).map(|()| ServerCertVerified::assertion());
        }
        match chain.verify_server_cert(own, between, name, ocsp, now) {
            // The name is verified last, so the chain is sound.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.verification == Verification::Chain => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, own, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, own, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

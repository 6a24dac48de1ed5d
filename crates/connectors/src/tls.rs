//! TLS for connections to stores: the trusted authorities, an own certificate, and what is wrong with a certificate in
//! words that say what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// Files of certificates, in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that are trusted, and no other. `None`: those that the system trusts, or those of `SSL_CERT_FILE`.
    pub ca: Option<PathBuf>,
    /// The certificate that this program shows the server, and its key.
    pub own: Option<OwnCertificate>,
}

/// A certificate with its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCertificate {
    /// The file of the certificate, followed by those of its authorities.
    pub cert: PathBuf,
    /// The file of the private key.
    pub key: PathBuf,
}

/// The contents of a file.
///
/// # Errors
/// The path and the system's error.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read the certificate file {}: {error}", path.display()))
}

/// The configuration of a client that verifies the server, or, if `verified` is false, accepts any certificate.
///
/// # Errors
/// The file that cannot be read or has no certificate, and why.
pub(crate) fn client(files: &TlsFiles, verified: bool) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match verified {
        true => builder.with_root_certificates(roots(files.ca.as_deref())?),
        false => builder.dangerous().with_custom_certificate_verifier(Arc::new(Any(provider))),
    };
    let Some(OwnCertificate { cert, key }) = &files.own else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(cert)?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| format!("{} has no private key in PEM: {error}", key.display()))?;
    builder
        .with_client_auth_cert(chain, private)
        .map_err(|error| format!("{} and {} do not fit together: {error}", cert.display(), key.display()))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| format!("a certificate in {}: {error}", path.display()))?;
            }
        }
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{} has no certificate in PEM", path.display())),
        Err(error) => Err(format!("{} is not PEM: {error}", path.display())),
    }
}

/// What is wrong with the handshake, and what to do; `None` if the error is not about certificates. `keys` is the section
/// of the configuration, such as `redis`; the client of Qdrant takes no files of certificates.
pub(crate) fn explain(error: &(dyn std::error::Error + 'static), keys: &str) -> Option<String> {
    let error = handshake_error(error)?;
    let trust = match keys {
        "qdrant" => "set the variable SSL_CERT_FILE to the file of its authority's certificate".to_owned(),
        keys => format!("set {keys}.ca_file to the certificate of its authority"),
    };
    let trust = format!("{trust}, or add that to those of the system");
    Some(match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            format!("the certificate of the server is self-signed, or its authority is not trusted; {trust}")
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the certificate of the server has expired; renew it, or correct the clock of this machine".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            format!(
                "the certificate of the server is for another name ({error}); write a name of the certificate as the host \
                 in {keys}.url"
            )
        }
        Error::InvalidCertificate(CertificateError::Other(other))
            if other.to_string().contains("CaUsedAsEndEntity") =>
        {
            format!("the certificate of the server is that of an authority (self-signed); {trust}")
        }
        Error::InvalidCertificate(reason) => format!("the certificate of the server is invalid ({reason:?}); {trust}"),
        Error::AlertReceived(alert) if keys == "qdrant" => format!(
            "the server refused the handshake ({alert:?}); if it requires a certificate of the client, which the client of \
             Qdrant cannot show, let it require an API key, or set qdrant.url to a proxy on this machine that shows one"
        ),
        Error::AlertReceived(alert) => format!(
            "the server refused the handshake ({alert:?}); if it requires a certificate of the client, set \
             {keys}.cert_file and {keys}.key_file to one that its authority signed"
        ),
        Error::InvalidMessage(_) => {
            format!("the server does not speak TLS on this port; correct the scheme or the port in {keys}.url")
        }
        other => format!("the handshake failed: {other}"),
    })
}

/// Whether the server offers another protocol than the one asked for.
pub(crate) fn lacks_protocol(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(handshake_error(error), Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)))
}

/// The error of rustls among the causes of an error.
fn handshake_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    if let Some(error) = error.downcast_ref::<Error>() {
        return Some(error);
    }
    if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return handshake_error(inner);
    }
    // The Redis client shares its causes, and a shared error has only the source of the one inside.
    if let Some(shared) = error.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>() {
        return handshake_error(&**shared);
    }
    error.source().and_then(handshake_error)
}

/// Accepts any certificate, and checks only that the server has its key.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

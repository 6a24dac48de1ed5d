//! Why TLS failed, and what to do.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// TLS with the server is impossible as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(in crate::postgres) struct TlsFailure(pub(in crate::postgres) String);

/// The error with its remedy, where the reason is known.
pub(super) fn explained(error: io::Error, name: &str) -> io::Error {
    let Some(cause) = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) else {
        return error;
    };
    io::Error::other(TlsFailure(text(cause, name)))
}

fn text(error: &Error, name: &str) -> String {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, UnknownIssuer, UnsupportedSignatureAlgorithmContext,
    };
    let Error::InvalidCertificate(error) = error else {
        return match error {
            Error::AlertReceived(alert) => refused(*alert),
            error => format!("TLS with {name} failed: {error}; compare the versions of TLS that both sides permit"),
        };
    };
    match error {
        UnknownIssuer | BadSignature => format!(
            "no trusted authority has signed the certificate of {name}; write sslrootcert=/path/to/ca.pem with the \
             certificates of its provider (RDS: global-bundle.pem)"
        ),
        Expired | ExpiredContext { .. } => format!("the certificate of {name} has expired; renew it on the server"),
        NotValidYet | NotValidYetContext { .. } => {
            format!("the certificate of {name} is not valid yet; correct the clock of this machine, or renew it")
        }
        NotValidForName | NotValidForNameContext { .. } => format!(
            "the certificate of the server is not for the name {name}: {}; connect by a name that it shows, or write \
             sslmode=verify-ca with an sslrootcert that signs for this server only",
            names(error)
        ),
        UnsupportedSignatureAlgorithmContext { .. } => {
            format!("the certificate of {name} is signed by an algorithm that is not supported: {error}; renew it")
        }
        error => format!("the certificate of {name} is not valid: {error}; renew it on the server"),
    }
}

/// The names that the certificate shows.
fn names(error: &CertificateError) -> String {
    match error {
        CertificateError::NotValidForNameContext { presented, .. } if !presented.is_empty() => {
            format!("it shows {}", presented.join(", "))
        }
        _ => "it shows none in its subjectAltName".to_owned(),
    }
}

/// The server refused the handshake.
fn refused(alert: AlertDescription) -> String {
    format!(
        "the server refused TLS ({alert:?}); if it asks for a certificate of the client, write sslcert and sslkey signed \
         by an authority in its ssl_ca_file"
    )
}

/// The refusal of the server in an error that follows the handshake: TLS 1.3 reports it there.
pub(in crate::postgres) fn alert(error: &io::Error) -> Option<String> {
    let mut cause = error.get_ref().map(|cause| cause as &(dyn std::error::Error + 'static));
    while let Some(found) = cause {
        if let Some(Error::AlertReceived(alert)) = found.downcast_ref::<Error>() {
            return Some(refused(*alert));
        }
        cause = found.source();
    }
    None
}

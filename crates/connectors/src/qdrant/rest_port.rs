//! Recognises a URL with the wrong port or scheme: the port of the REST interface, which answers HTTP/1, TLS where the port
//! has none and the reverse, and a certificate that is not accepted. The client reports of all that the connection failed.

use tonic::transport::Uri;

use crate::{probe, tls};

/// The port of gRPC by default.
pub(super) const GRPC: u16 = 6334;

/// The name of gRPC's transport in a TLS handshake.
const HTTP2: &[u8] = b"h2";

/// What to write instead, if the port was recognised.
pub(super) async fn recognise(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let (host, port) = (uri.host()?, uri.port_u16()?);
    if uri.scheme_str() == Some("https") {
        let failure = probe::tls_failure(host, port, HTTP2).await?;
        return tls::explain(&failure, "qdrant");
    }
    let question = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    if probe::first_bytes(host, port, question.as_bytes()).await == Some(*b"HTTP/1.") {
        return Some(format!(
            "{host}:{port} answers HTTP/1, so it is not the gRPC port{}; set qdrant.url to the gRPC port, by default \
             http://{host}:{GRPC}",
            if port == 6333 { " but the REST port of Qdrant" } else { "" }
        ));
    }
    if probe::speaks_tls(host, port).await {
        return Some(format!("{host}:{port} speaks TLS; write https://{host}:{port} in qdrant.url"));
    }
    None
}

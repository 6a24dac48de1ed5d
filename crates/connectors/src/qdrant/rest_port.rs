//! Recognises a URL with the wrong port or scheme: the port of the REST interface, which answers HTTP/1, TLS where the port
//! has none and the reverse, and a certificate that is not accepted. The client reports of all that the connection failed.

use tonic::transport::Uri;

use crate::{probe, tls};

/// The port of gRPC by default.
pub(super) const GRPC: u16 = 6334;

/// The port of the REST interface by default.
const REST: u16 = 6333;

/// The name of gRPC's transport in a TLS handshake.
const HTTP2: &[u8] = b"h2";

/// What to write instead, if the port was recognised.
pub(super) async fn recognise(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let (host, port) = (uri.host()?, uri.port_u16()?);
    if uri.scheme_str() == Some("https") {
        return match probe::tls_failure(host, port, HTTP2).await {
            Some(failure) if tls::lacks_protocol(&failure) => {
                Some(not_grpc(&format!("{host}:{port} does not speak HTTP/2"), port, "https", host))
            }
            Some(failure) => tls::explain(&failure, "qdrant"),
            None => {
                (port == REST).then(|| format!("{host}:{port} is the REST port of Qdrant; {}", write("https", host)))
            }
        };
    }
    let question = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    if probe::first_bytes(host, port, question.as_bytes()).await == Some(*b"HTTP/1.") {
        return Some(not_grpc(&format!("{host}:{port} answers HTTP/1"), port, "http", host));
    }
    if probe::speaks_tls(host, port).await {
        return Some(format!("{host}:{port} speaks TLS; write https://{host}:{port} in qdrant.url"));
    }
    None
}

fn not_grpc(shown: &str, port: u16, scheme: &str, host: &str) -> String {
    let rest = if port == REST { " but the REST port of Qdrant" } else { "" };
    format!("{shown}, so it is not the gRPC port{rest}; {}", write(scheme, host))
}

fn write(scheme: &str, host: &str) -> String {
    format!("set qdrant.url to the gRPC port, by default {scheme}://{host}:{GRPC}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use chunk_sync_testkit::certificates::Authority;
    use chunk_sync_testkit::tls_front::speaking;

    use super::*;

    #[tokio::test]
    async fn a_tls_port_without_http_2_is_named() {
        // Its files are deleted with it.
        let authority = Authority::new();
        let own = authority.sign(&["localhost"]);
        let port = speaking(&own, b"http/1.1").await;
        let what = recognise(&format!("https://localhost:{port}")).await.unwrap();
        assert!(what.contains("does not speak HTTP/2") && what.ends_with("https://localhost:6334"), "{what}");
    }
}

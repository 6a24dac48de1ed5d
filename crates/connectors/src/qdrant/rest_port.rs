//! Recognises a URL that names the REST port instead of the gRPC port: the port answers HTTP/1.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::Uri;

/// The port of gRPC by default.
pub(super) const GRPC: u16 = 6334;

/// How long the port may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The message with the URL to write, if a port without TLS answers HTTP/1. With TLS the client learns by itself that the
/// port has no gRPC.
pub(super) async fn recognise(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let (host, port) = (uri.host()?, uri.port_u16()?);
    if uri.scheme_str() != Some("http") || !timeout(PATIENCE, answers_http1(host, port)).await.ok()? {
        return None;
    }
    Some(format!(
        "{host}:{port} answers HTTP/1, so it is not the gRPC port{}; set qdrant.url to the gRPC port, by default \
         http://{host}:{GRPC}",
        if port == 6333 { " but the REST port of Qdrant" } else { "" }
    ))
}

async fn answers_http1(host: &str, port: u16) -> bool {
    let mut first = [0; 7];
    let asked = async {
        let mut stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        stream.read_exact(&mut first).await
    };
    asked.await.is_ok() && first == *b"HTTP/1."
}

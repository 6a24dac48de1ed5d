//! Encryption of an open socket, as requested.

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Encryption;
use crate::postgres::failure::Cause;
use crate::postgres::socket::Socket;
use crate::postgres::tls::Tls;
use crate::postgres::wire::Duplex;

/// The stream, and what binds a login to it.
pub(in crate::postgres) struct Open {
    pub(in crate::postgres) stream: Box<dyn Duplex>,
    /// The data of `tls-server-end-point`.
    pub(in crate::postgres) end_point: Option<Vec<u8>>,
    pub(in crate::postgres) is_encrypted: bool,
}

/// Encrypts the socket. With `is_direct`, TLS begins without a request in PostgreSQL's protocol.
pub(in crate::postgres) async fn open(
    mut socket: Socket,
    encryption: Encryption<'_>,
    is_direct: bool,
) -> Result<Open, Cause> {
    let plain = |socket| Open { stream: Box::new(socket), end_point: None, is_encrypted: false };
    let (tls, is_required): (&Tls, bool) = match encryption {
        Encryption::Plain => return Ok(plain(socket)),
        Encryption::Offered(tls) => (tls, false),
        Encryption::Required(tls) => (tls, true),
    };
    if !is_direct {
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        socket.write_all(&request).await.map_err(Cause::Socket)?;
        match socket.read_u8().await.map_err(Cause::Socket)? {
            b'S' => {}
            _ if is_required => return Err(Cause::NoTls),
            _ => return Ok(plain(socket)),
        }
    }
    let stream = tls.clone().handshake(socket).await.map_err(Cause::broken)?;
    Ok(Open { end_point: stream.end_point(), stream: Box::new(stream), is_encrypted: true })
}

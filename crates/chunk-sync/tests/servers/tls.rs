//! A server that requires TLS: statements and replication use TLS, and both are refused if the certificate is not trusted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use crate::environment::Environment;
use crate::proxy::port_of;

/// The first message of a client that requests TLS: length 8, then 1234 and 5679 as 16-bit integers.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A proxy that adds TLS to a server without it; its certificate is for `localhost`.
struct Front {
    port: u16,
    /// The certificate of its authority, in PEM.
    authority: String,
    /// Connections that began without TLS.
    plain: Arc<AtomicUsize>,
}

impl Front {
    async fn of(port: u16) -> Self {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (own_port, plain) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&plain);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(carry(from, port, acceptor.clone(), Arc::clone(&counted)));
            }
        });
        Self { port: own_port, authority: own.cert.pem(), plain }
    }
}

async fn carry(mut from: TcpStream, port: u16, acceptor: TlsAcceptor, plain: Arc<AtomicUsize>) {
    let mut first = [0; SSL_REQUEST.len()];
    from.read_exact(&mut first).await.unwrap();
    if first != SSL_REQUEST {
        plain.fetch_add(1, Ordering::Relaxed);
        return;
    }
    from.write_all(b"S").await.unwrap();
    // A client that does not trust the certificate closes the connection.
    let Ok(mut from) = acceptor.accept(from).await else { return };
    let mut to = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let _ = copy_bidirectional(&mut from, &mut to).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_and_replication_use_verified_tls() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let port = port_of(&environment.database);
    let front = Front::of(port).await;
    let path = environment.log().with_file_name("authority.pem");
    std::fs::write(&path, &front.authority).unwrap();
    let way = environment.database.replacen(&format!("127.0.0.1:{port}"), &format!("localhost:{}", front.port), 1);
    let url = ("CHUNK_SYNC__POSTGRES__URL", format!("{way}?sslmode=verify-full"));

    let refused = environment.program(&["run", "--drain"]).env(url.0, &url.1).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.to_lowercase().contains("certificate"), "{said}");

    let run = environment.go_on(&[], &[(url.0, &url.1), ("SSL_CERT_FILE", path.to_str().unwrap())]);
    let id = Uuid::new_v4();
    environment
        .sql(&format!(
            "INSERT INTO unified.chunks (id, content, chunk_type, created_at, updated_at)
         VALUES ('{id}', 'a row written by hand', 'text', now(), now())"
        ))
        .await;
    environment.visible("its node", || environment.has_node(id)).await;
    run.terminate();
    assert_eq!(front.plain.load(Ordering::Relaxed), 0, "a connection did not use TLS");
}

//! A TCP proxy that can stall or cut connections to a server, or hold one request back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// A request has been sent as a whole if nothing follows for this long.
const QUIET: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LinkState {
    /// Data is passed on.
    Fair,
    /// Connections stay open, and no data is passed on.
    Stalled,
    /// Data is passed on up to the first request that contains this text. From there on, nothing that the client sends
    /// on that connection is passed on.
    #[allow(dead_code, reason = "in the tests of the lease only")]
    Holding(&'static str),
    /// Connections are closed, and new ones are closed at once.
    Cut,
}

/// A proxy between the program and one server.
pub(crate) struct Proxy {
    address: SocketAddr,
    link_state: watch::Sender<LinkState>,
    /// A request is held.
    held: Arc<Notify>,
}

impl Proxy {
    /// Starts a proxy to the server on that port of this machine.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, (link_state, _)) = (listener.local_addr().unwrap(), watch::channel(LinkState::Fair));
        let (turned, held) = (link_state.clone(), Arc::new(Notify::new()));
        let holds = Arc::clone(&held);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(carry(from, port, turned.subscribe(), Arc::clone(&holds)));
            }
        });
        Self { address, link_state, held }
    }

    /// The URL with the address of the server replaced by that of the proxy.
    pub(crate) fn url(&self, url: &str) -> String {
        let port = port_of(url);
        url.replacen(&format!("127.0.0.1:{port}"), &self.address.to_string(), 1)
    }

    pub(crate) fn turns(&self, link_state: LinkState) {
        self.link_state.send_replace(link_state);
    }

    /// Returns once a request is held.
    #[allow(dead_code, reason = "in the tests of the lease only")]
    pub(crate) async fn held(&self) {
        self.held.notified().await;
    }
}

/// The port in a URL with the host 127.0.0.1.
pub(crate) fn port_of(url: &str) -> u16 {
    let (_, rest) = url.rsplit_once("127.0.0.1:").expect("the URL has no host 127.0.0.1");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

async fn carry(from: TcpStream, port: u16, mut link_state: watch::Receiver<LinkState>, held: Arc<Notify>) {
    if *link_state.borrow_and_update() == LinkState::Cut {
        return;
    }
    let Ok(to) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
    tokio::select! {
        () = pass(from_read, to_write, link_state.clone(), Some(&held)) => {}
        () = pass(to_read, from_write, link_state.clone(), None) => {}
        _ = link_state.wait_for(|link_state| *link_state == LinkState::Cut) => {}
    }
}

/// Passes on what one side sends. `held` is given for the client's side, and notified once a request is held back.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut link_state: watch::Receiver<LinkState>,
    held: Option<&Notify>,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mut data = buffer[..read].to_vec();
        if let Some(held) = held
            && is_held(&data, *link_state.borrow())
        {
            // The mark that ends a request may be sent apart. A client that is suspended before would never send it.
            while let Ok(Ok(more @ 1..)) = timeout(QUIET, from.read(&mut buffer)).await {
                data.extend_from_slice(&buffer[..more]);
            }
            held.notify_one();
            let holding = |link_state: &LinkState| matches!(link_state, LinkState::Holding(_));
            let _ = link_state.wait_for(|link_state| !holding(link_state)).await;
        }
        let fair = link_state.wait_for(|link_state| *link_state != LinkState::Stalled).await.is_ok();
        if !fair || to.write_all(&data).await.is_err() {
            return;
        }
    }
}

fn is_held(data: &[u8], link_state: LinkState) -> bool {
    matches!(link_state, LinkState::Holding(text) if data.windows(text.len()).any(|window| window == text.as_bytes()))
}

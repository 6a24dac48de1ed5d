//! Accepts connections, limits their number and their timing, and shuts them down. Not here: requests and responses.
//!
//! No client keeps others out: a connection that sends no request, or reads no response, is closed after seconds. When
//! all [`OPEN`] places are taken, the connection that has been idle longest gives up its place. If none is idle, a new one
//! gets one of the [`RESERVED`] places, where only health is answered, so that a supervisor does not take a busy service
//! for a dead one.

mod slots;
mod timed;

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use slots::{Busy, Slot, Slots};
use timed::Timed;

/// Maximum number of open connections. Limited because stores and log need file descriptors too.
const OPEN: usize = 256;

/// Maximum number of further connections, on which only health is answered.
const RESERVED: usize = 32;

/// Deadline for the head of a request. It also ends idle connections.
const HEAD: Duration = Duration::from_secs(10);

/// Deadline for the head of a request on a reserved place.
const RESERVED_HEAD: Duration = Duration::from_secs(2);

/// How long a client may take no byte of a response.
const WRITE: Duration = Duration::from_secs(15);

/// Maximum size of the head of a request.
const HEAD_BYTES: usize = 64 * 1024;

/// Deadline for the requests in progress when the server shuts down.
const GRACE: Duration = Duration::from_secs(10);

/// Pause after a failed accept, for example because the process has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(250);

/// The connection that a request came on, an extension of the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    /// The address of the client, or of a proxy.
    pub(super) peer: IpAddr,
    /// Whether it has a reserved place, so that only health is answered.
    pub(super) reserved: bool,
}

/// Serves connections until `shutdown` completes, then waits up to [`GRACE`] for the requests in progress.
///
/// # Errors
/// The system's error if `listener` has no local address. A failed accept is logged and retried.
pub(super) async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    listener.local_addr()?;
    let graceful = GracefulShutdown::new();
    let (open, reserved) = (Slots::new(OPEN), Slots::new(RESERVED));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        // Without it, small server-sent events would be delayed.
        let accepted = accepted.and_then(|(stream, peer)| stream.set_nodelay(true).map(|()| (stream, peer.ip())));
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection; retrying");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (place, is_reserved) = match open.take() {
            Some(place) => (place, false),
            None => (reserved.take_from_oldest(), true),
        };
        let served = Served {
            router: TowerToHyperService::new(router.clone()),
            connection: Connection { peer, reserved: is_reserved },
            place: place.clone(),
        };
        let connection = graceful.watch(served.over(stream));
        let task = connections.spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection ended with an error");
            }
        });
        place.belongs_to(task);
        while connections.try_join_next().is_some() {}
    }
    drop((listener, router));
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        warn!(seconds = GRACE.as_secs(), "aborted HTTP requests that did not finish before the shutdown deadline");
    }
    connections.shutdown().await;
    Ok(())
}

/// The service of one connection: the router, with the place of the connection kept up to date.
struct Served {
    router: TowerToHyperService<Router>,
    connection: Connection,
    place: Slot,
}

impl Served {
    /// Serves this connection; completes when it is closed.
    fn over(self, stream: TcpStream) -> http1::Connection<TokioIo<Timed<TcpStream>>, Self> {
        let head = if self.connection.reserved { RESERVED_HEAD } else { HEAD };
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head)
            .max_buf_size(HEAD_BYTES)
            .keep_alive(!self.connection.reserved)
            .serve_connection(TokioIo::new(Timed::new(stream, WRITE)), self)
    }
}

impl Service<axum::http::Request<Incoming>> for Served {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: axum::http::Request<Incoming>) -> Self::Future {
        let busy = self.place.busy();
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(self.connection);
        let response = self.router.call(request);
        Box::pin(async move { Ok(response.await?.map(|body| Body::new(InProgress { body, _busy: busy }))) })
    }
}

/// A response body whose connection is busy until it is dropped.
struct InProgress {
    body: Body,
    _busy: Busy,
}

impl hyper::body::Body for InProgress {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

//! Connections: how many there may be, how long one may take to say what it wants, and how they end. What is answered is
//! none of this file's business.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tracing::{debug, warn};

/// Connections open at once; more wait to be accepted. Stores and log need file descriptors too.
const AT_ONCE: usize = 256;

/// How long a client may take to send the head of a request, and how long a connection may lie idle.
const HEAD: Duration = Duration::from_secs(30);

/// Memory for the head of a request.
const HEAD_BYTES: usize = 64 * 1024;

/// How long what has been asked for may take to be answered once the server is to end.
const GRACE: Duration = Duration::from_secs(10);

/// Pause after the system refused a connection, as where no file descriptor is left.
const PAUSE: Duration = Duration::from_millis(250);

/// Serves connections until `shutdown`, then lets them finish.
pub(super) async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    listener.local_addr()?;
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "a connection ended early");
            }
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
    drop((listener, router));
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        warn!("some HTTP requests were still unanswered after {} s", GRACE.as_secs());
    }
    connections.shutdown().await;
    Ok(())
}

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Small events are told at once.
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

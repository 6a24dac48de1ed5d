//! Accepts connections, limits their number and their timing, and shuts them down. Not here: requests and responses.

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

/// Maximum number of open connections; more wait to be accepted. Limited because stores and log need file descriptors
/// too.
const AT_ONCE: usize = 256;

/// Deadline for the head of a request. It also ends idle connections.
const HEAD: Duration = Duration::from_secs(30);

/// Maximum size of the head of a request.
const HEAD_BYTES: usize = 64 * 1024;

/// Deadline for the requests in progress when the server shuts down.
const GRACE: Duration = Duration::from_secs(10);

/// Pause after a failed accept, for example because the process has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(250);

/// Serves connections until `shutdown` completes, then waits up to [`GRACE`] for the requests in progress.
///
/// # Errors
/// The system's error if `listener` has no local address. A failed accept is logged and retried.
pub(super) async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    listener.local_addr()?;
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection; retrying");
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
                debug!(%error, "connection ended with an error");
            }
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
    drop((listener, router));
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        warn!(seconds = GRACE.as_secs(), "aborted HTTP requests that did not finish before the shutdown deadline");
    }
    connections.shutdown().await;
    Ok(())
}

/// The next connection, once fewer than [`AT_ONCE`] are open.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Without it, small server-sent events would be delayed.
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

//! Serves the test server until it is told to stop: `serve DIR PORT`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use chunk_sync_qdrant_server::{Options, TestServer};

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().expect("the directory to keep collections in");
    let port = arguments.next().expect("the port to listen on").parse().expect("a port");
    let server = TestServer::start(dir.as_ref(), Options { port, ..Options::default() }).await.unwrap();
    println!("{}", server.url());
    std::future::pending::<()>().await;
}

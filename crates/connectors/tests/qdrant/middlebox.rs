//! A gRPC proxy between a store and the test server, which answers some calls itself, as a proxy with limits or a server
//! with strict mode does.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Collected, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::{Request, Response, StatusCode, server, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

type Body = BoxBody<Bytes, Infallible>;

/// Changes the message of a response.
type Change = Box<dyn FnOnce(&[u8]) -> Vec<u8> + Send>;

/// What the proxy does with a request.
pub(crate) enum Act {
    /// Passes it on.
    Pass,
    /// Passes it on and changes the message of the response.
    Change(Change),
    /// Answers as an HTTP proxy.
    Http(StatusCode),
    /// Answers as the server, with the seconds after which the client may try again.
    Status(Code, String, Option<u64>),
}

/// Decides by the path, such as `/qdrant.Points/UpdateBatch`, and the message.
pub(crate) trait Rule: Fn(&str, &[u8]) -> Act + Send + Sync + 'static {}

impl<R: Fn(&str, &[u8]) -> Act + Send + Sync + 'static> Rule for R {}

/// Starts a proxy to the server at `url`. Returns its own URL.
pub(crate) async fn before(url: &str, rule: impl Rule) -> String {
    let server = url.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = format!("http://{}", listener.local_addr().unwrap());
    let rule: Arc<dyn Rule> = Arc::new(rule);
    tokio::spawn(async move {
        while let Ok((from, _)) = listener.accept().await {
            let (server, rule) = (server.clone(), Arc::clone(&rule));
            let service = service_fn(move |request| answer(request, server.clone(), Arc::clone(&rule)));
            let connection = server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(from), service));
        }
    });
    own
}

/// Decodes the message of a request.
pub(crate) fn decode<M: Message + Default>(message: &[u8]) -> M {
    M::decode(message).unwrap()
}

async fn answer(request: Request<Incoming>, server: String, rule: Arc<dyn Rule>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    // The message follows a flag and its length.
    Ok(match rule(head.uri.path(), &body[5..]) {
        Act::Pass => forward(Request::from_parts(head, Full::new(body)), &server).await.map(BodyExt::boxed),
        Act::Change(change) => {
            let (head, body) = forward(Request::from_parts(head, Full::new(body)), &server).await.into_parts();
            let trailers = body.trailers().cloned().unwrap_or_default();
            let changed = change(&body.to_bytes()[5..]);
            let mut framed = vec![0];
            framed.extend(u32::try_from(changed.len()).unwrap().to_be_bytes());
            framed.extend(changed);
            Response::from_parts(head, Full::from(framed).with_trailers(async { Some(Ok(trailers)) }).boxed())
        }
        Act::Http(code) => {
            let mut response = Response::new(Full::from("<html>a page of the proxy</html>").boxed());
            *response.status_mut() = code;
            response
        }
        Act::Status(code, message, after) => {
            let mut response = Response::new(Full::default().boxed());
            let headers = response.headers_mut();
            headers.insert("content-type", HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from(code as i32));
            headers.insert("grpc-message", HeaderValue::from_str(&message).unwrap());
            after.map(|after| headers.insert("retry-after", HeaderValue::from(after)));
            response
        }
    })
}

async fn forward(mut request: Request<Full<Bytes>>, server: &str) -> Response<Collected<Bytes>> {
    let stream = TcpStream::connect(server).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let connecting = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = connecting.await.unwrap();
    tokio::spawn(connection);
    let path = request.uri().path();
    *request.uri_mut() = format!("http://{server}{path}").parse().unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    Response::from_parts(head, body.collect().await.unwrap())
}

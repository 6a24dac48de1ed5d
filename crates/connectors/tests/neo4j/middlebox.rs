//! A Bolt proxy before the real server. It answers some requests itself, as a member of a cluster or a server with limits
//! does.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};

pub(crate) const HELLO: u8 = 0x01;
pub(crate) const RESET: u8 = 0x0f;
pub(crate) const RUN: u8 = 0x10;
pub(crate) const BEGIN: u8 = 0x11;
pub(crate) const ROUTE: u8 = 0x66;

/// The tags of the responses.
const SUCCESS: u8 = 0x70;
const IGNORED: u8 = 0x7e;
const FAILURE: u8 = 0x7f;

/// What the proxy does with a request.
pub(crate) enum Act {
    /// Passes it on.
    Pass,
    /// Answers with a failure: code and message.
    Fail(&'static str, &'static str),
    /// Answers with a routing table: the address that takes writes, none for a cluster without a leader, and all members.
    Table(Option<String>, Vec<String>),
    /// Closes the connection.
    Close,
}

/// Decides by the tag and the bytes of the request.
pub(crate) trait Rule: Fn(u8, &[u8]) -> Act + Send + Sync + 'static {}

impl<R: Fn(u8, &[u8]) -> Act + Send + Sync + 'static> Rule for R {}

/// A proxy that runs until the test ends.
pub(crate) struct Server;

impl Server {
    /// Starts a proxy before the server at `url`. Returns its host and port.
    pub(crate) async fn before(url: String, rule: impl Rule) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().to_string();
        Self::on(listener, &url, rule);
        own
    }

    /// Like [`before`](Self::before), on a port that the caller has bound.
    pub(crate) fn on(listener: TcpListener, url: &str, rule: impl Rule) {
        let (_, server) = url.split_once("://").unwrap();
        let (server, rule): (_, Arc<dyn Rule>) = (server.to_owned(), Arc::new(rule));
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(carry(from, server.clone(), Arc::clone(&rule)));
            }
        });
    }
}

/// Carries one connection. All responses are awaited before a request is answered here, so the order stays.
async fn carry(from: TcpStream, server: String, rule: Arc<dyn Rule>) -> std::io::Result<()> {
    let to = TcpStream::connect(server).await?;
    from.set_nodelay(true)?;
    to.set_nodelay(true)?;
    let ((mut from, mut back), (mut answers, mut to)) = (from.into_split(), to.into_split());
    let mut hands = [0; 20];
    from.read_exact(&mut hands).await?;
    to.write_all(&hands).await?;
    let mut agreed = [0; 4];
    answers.read_exact(&mut agreed).await?;
    back.write_all(&agreed).await?;
    let mut failed = false;
    loop {
        let request = message(&mut from).await?;
        let tag = request[1];
        failed &= tag != RESET;
        let act = if failed { None } else { Some(rule(tag, &request)) };
        match act {
            None => back.write_all(&framed(&[0xb0, IGNORED])).await?,
            Some(Act::Close) => return Ok(()),
            Some(Act::Fail(code, text)) => {
                failed = true;
                let mut bytes = vec![0xb1, FAILURE, 0xa2];
                for part in ["code", code, "message", text] {
                    string(part, &mut bytes);
                }
                back.write_all(&framed(&bytes)).await?;
            }
            Some(Act::Table(writer, members)) => back.write_all(&framed(&table(writer, &members))).await?,
            Some(Act::Pass) => {
                to.write_all(&framed(&request)).await?;
                loop {
                    let response = message(&mut answers).await?;
                    back.write_all(&framed(&response)).await?;
                    if matches!(response[1], SUCCESS | IGNORED | FAILURE) {
                        break;
                    }
                }
            }
        }
    }
}

async fn message(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        match from.read_u16().await? {
            0 if message.is_empty() => {}
            0 => return Ok(message),
            length => {
                let start = message.len();
                message.resize(start + usize::from(length), 0);
                from.read_exact(&mut message[start..]).await?;
            }
        }
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len() + 4);
    for part in message.chunks(0xffff) {
        bytes.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
        bytes.extend(part);
    }
    bytes.extend([0, 0]);
    bytes
}

fn string(text: &str, bytes: &mut Vec<u8>) {
    bytes.extend([0xd0, u8::try_from(text.len()).unwrap()]);
    bytes.extend(text.as_bytes());
}

/// `SUCCESS {rt: {ttl: 300, servers: [{role, addresses}, ..]}}`.
fn table(writer: Option<String>, members: &[String]) -> Vec<u8> {
    let mut bytes = vec![0xb1, SUCCESS, 0xa1];
    string("rt", &mut bytes);
    bytes.push(0xa2);
    string("ttl", &mut bytes);
    bytes.extend([0xc9, 0x01, 0x2c]);
    string("servers", &mut bytes);
    let writers: Vec<String> = writer.into_iter().collect();
    bytes.push(0x93);
    for (role, addresses) in [("WRITE", writers.as_slice()), ("READ", members), ("ROUTE", members)] {
        bytes.push(0xa2);
        string("role", &mut bytes);
        string(role, &mut bytes);
        string("addresses", &mut bytes);
        bytes.push(0x90 | u8::try_from(addresses.len()).unwrap());
        addresses.iter().for_each(|address| string(address, &mut bytes));
    }
    bytes
}

//! The stream between client and server. It learns at the login whether a pooler answers, and then makes every
//! transaction independent of the session: see [`exchanges`].

mod exchanges;
#[cfg(test)]
mod tests;

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use exchanges::Exchanges;
pub(in crate::postgres) use exchanges::Setting;

/// The size of a read.
const READ: usize = 16 * 1024;

/// What the login shows, and what was decided then.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The process id that the server or a pooler before it announced.
    announced: AtomicI32,
    /// The settings of each transaction behind a pooler; `None` for a session of its own.
    settings: OnceLock<Option<Vec<Setting>>>,
}

impl Verdict {
    pub(super) fn announced(&self) -> i32 {
        self.announced.load(Ordering::Relaxed)
    }

    /// Decides, while no exchange is under way.
    pub(super) fn decide(&self, settings: Option<Vec<Setting>>) {
        let _ = self.settings.set(settings);
    }
}

/// A stream of bytes in PostgreSQL's protocol, after the request for encryption.
pub(super) struct Pooled<S> {
    stream: S,
    verdict: Arc<Verdict>,
    phase: Phase,
    incoming: Incoming,
    /// From the client, not yet whole messages.
    unsent: BytesMut,
    /// To the server.
    outgoing: BytesMut,
}

enum Phase {
    /// Every message passes; the login's are read.
    Login,
    /// Every byte passes.
    Session,
    /// Messages are rewritten.
    Transactions(Box<Exchanges>),
}

/// What the server sent.
#[derive(Default)]
struct Incoming {
    bytes: BytesMut,
    /// Bytes of the current message that are still to come, and whether the client sees them.
    rest: usize,
    is_visible: bool,
    /// For the client.
    visible: BytesMut,
}

impl<S> Pooled<S> {
    pub(super) fn new(stream: S, verdict: Arc<Verdict>) -> Self {
        Self {
            stream,
            verdict,
            phase: Phase::Login,
            incoming: Incoming::default(),
            unsent: BytesMut::new(),
            outgoing: BytesMut::new(),
        }
    }

    fn settle(&mut self) {
        if let (Phase::Login, Some(settings)) = (&self.phase, self.verdict.settings.get()) {
            self.phase = match settings {
                None => Phase::Session,
                Some(settings) => Phase::Transactions(Box::new(Exchanges::new(settings.clone()))),
            };
        }
    }

    /// Moves what the client sees of the bytes that have come.
    fn sort(&mut self) {
        let Incoming { bytes, rest, is_visible, visible } = &mut self.incoming;
        loop {
            let part = bytes.split_to(bytes.len().min(*rest));
            *rest -= part.len();
            if *is_visible {
                visible.extend_from_slice(&part);
            }
            let Some((tag, length, body)) = head(bytes).filter(|_| *rest == 0) else { return };
            *is_visible = match &mut self.phase {
                Phase::Transactions(exchanges) => exchanges.receive(tag, body.first().copied().unwrap_or_default()),
                _ => true,
            };
            if let (b'K', Some(id)) = (tag, body.first_chunk::<4>()) {
                self.verdict.announced.store(i32::from_be_bytes(*id), Ordering::Relaxed);
            }
            *rest = length;
        }
    }
}

/// Kind, whole length, and the first bytes of the body of the next message. `None` until enough has come.
fn head(bytes: &BytesMut) -> Option<(u8, usize, &[u8])> {
    let [tag, length @ ..] = *bytes.first_chunk::<5>()?;
    let length = 1 + u32::from_be_bytes(length) as usize;
    let needed = match tag {
        b'K' => 9,
        b'Z' => 6,
        _ => 5,
    };
    let body = bytes.get(5..needed.min(length).max(5))?;
    Some((tag, length.max(5), body))
}

impl<S: AsyncRead + Unpin> AsyncRead for Pooled<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let visible = &mut this.incoming.visible;
            if !visible.is_empty() {
                let part = visible.split_to(visible.len().min(buf.remaining()));
                buf.put_slice(&part);
                return Poll::Ready(Ok(()));
            }
            if matches!(this.phase, Phase::Session) && this.incoming.bytes.is_empty() && this.incoming.rest == 0 {
                return Pin::new(&mut this.stream).poll_read(cx, buf);
            }
            let mut chunk = [0; READ];
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.incoming.bytes.extend_from_slice(read.filled());
            this.sort();
        }
    }
}

impl<S: AsyncWrite + Unpin> Pooled<S> {
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outgoing))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Pooled<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.settle();
        if !matches!(this.phase, Phase::Transactions(_)) {
            return Pin::new(&mut this.stream).poll_write(cx, bytes);
        }
        ready!(this.poll_outgoing(cx))?;
        let Phase::Transactions(exchanges) = &mut this.phase else { return Poll::Ready(Ok(0)) };
        this.unsent.extend_from_slice(bytes);
        while let Some(length) = this.unsent.get(1..5).and_then(|length| length.first_chunk::<4>()) {
            let length = 1 + u32::from_be_bytes(*length) as usize;
            if this.unsent.len() < length.max(5) {
                break;
            }
            let whole: Bytes = this.unsent.split_to(length.max(5)).freeze();
            let tag = whole.first().copied().unwrap_or_default();
            exchanges.send(tag, &whole.slice(5..), &mut this.outgoing)?;
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_outgoing(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_outgoing(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

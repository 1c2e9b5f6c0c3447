//! Notices a server that has fallen silent in the middle of an answer: a half-open connection, a partition, a stopped
//! backend. Keepalives cannot where a proxy answers for the server, and the statement's time limit is kept by the server
//! that nobody hears any more. Reads no message but for its end.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

/// `ReadyForQuery`, the last message of every answer, but for its last byte (the state of the transaction).
const READY: [u8; 5] = [b'Z', 0, 0, 0, 5];

/// Puts a [`Watched`] around the driver's socket. The driver lets its socket be wrapped only where TLS would begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    /// How long the server may say nothing while an answer is due.
    pub(super) silence_max: Duration,
}

/// A stream that fails with [`io::ErrorKind::TimedOut`] when an answer is due and nothing came for too long.
pub(super) struct Watched<S> {
    stream: S,
    silence_max: Duration,
    /// Set while an answer is due.
    due: Option<Pin<Box<Sleep>>>,
    /// The last bytes that came.
    tail: [u8; 6],
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, silence_max: Duration) -> Self {
        Self { stream, silence_max, due: None, tail: [0; 6] }
    }

    fn heard(&mut self, bytes: &[u8]) {
        for byte in &bytes[bytes.len().saturating_sub(self.tail.len())..] {
            self.tail.rotate_left(1);
            self.tail[5] = *byte;
        }
        let Some(due) = &mut self.due else { return };
        if self.tail.starts_with(&READY) {
            self.due = None;
        } else {
            due.as_mut().reset(Instant::now() + self.silence_max);
        }
    }
}

impl MakeTlsConnect<Socket> for Watch {
    type Stream = Watched<Socket>;
    type TlsConnect = Self;
    type Error = Infallible;

    fn make_tls_connect(&mut self, _: &str) -> Result<Self, Infallible> {
        Ok(*self)
    }
}

impl TlsConnect<Socket> for Watch {
    type Stream = Watched<Socket>;
    type Error = Infallible;
    type Future = Ready<Result<Watched<Socket>, Infallible>>;

    fn connect(self, socket: Socket) -> Self::Future {
        ready(Ok(Watched::new(socket, self.silence_max)))
    }
}

impl TlsStream for Watched<Socket> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.heard(&buf.filled()[before..]);
            return read;
        }
        let Some(due) = &mut self.due else { return Poll::Pending };
        due.as_mut().poll(cx).map(|()| {
            let words = format!("the server fell silent for {} s", self.silence_max.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, words))
        })
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let silence_max = self.silence_max;
        // Also a write that does not get through waits for the server. The driver reads before it writes: polled here, the
        // time limit wakes it to read again.
        let due = self.due.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence_max)));
        let _ = due.as_mut().poll(cx);
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const MAX: Duration = Duration::from_secs(6);

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection_only_while_an_answer_is_due() {
        let (stream, mut server) = tokio::io::duplex(64);
        let mut stream = Watched::new(stream, MAX);
        let mut answer = [0; 64];
        let mut idle =
            async |stream: &mut Watched<_>| tokio::time::timeout(MAX * 10, stream.read(&mut answer)).await;
        assert!(idle(&mut stream).await.is_err(), "nothing was asked");
        stream.write_all(b"Q").await.unwrap();
        // In three pieces, each after nearly all of the time, the end of the answer split over two of them.
        let slow = tokio::spawn(async move {
            for piece in [&b"row"[..], b"Z\0\0", b"\0\x05I"] {
                tokio::time::sleep(MAX - Duration::from_secs(1)).await;
                server.write_all(piece).await.unwrap();
            }
            server
        });
        for length in [3, 3, 3] {
            assert_eq!(idle(&mut stream).await.unwrap().unwrap(), length);
        }
        assert!(idle(&mut stream).await.is_err(), "the answer was whole");
        let mut server = slow.await.unwrap();
        stream.write_all(b"Q").await.unwrap();
        server.write_all(b"half an ans").await.unwrap();
        assert_eq!(idle(&mut stream).await.unwrap().unwrap(), 11);
        let silent = idle(&mut stream).await.unwrap().unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
    }
}

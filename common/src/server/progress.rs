//! How far a connection is, and until when its client has time for what comes next.
//!
//! ```text
//! first byte ──▶ head ──▶ (answering) ──▶ idle ──▶ head …
//! ```
//!
//! A time begins when its phase does, and nothing that comes in between prolongs it: a byte now and then keeps no
//! connection. The answer is written in the phase `idle`, so a client that does not read it is too slow as well.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How long is waited for a client.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// For the first byte of a connection.
    pub first_byte: Duration,
    /// For the head of a request, from its first byte.
    pub head: Duration,
    /// For the next request; also for the answer to be read.
    pub idle: Duration,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has sent nothing yet.
    FirstByte,
    /// The head of a request has begun.
    Head,
    /// For us: a request is answered.
    Answering,
    /// A request was answered, and no other has begun.
    Idle,
}

/// The phase of a connection and its end.
#[derive(Debug)]
pub(super) struct Progress {
    waits: Waits,
    at: Mutex<(Phase, Option<Instant>)>,
}

impl Progress {
    pub(super) fn new(waits: Waits) -> Self {
        Self { waits, at: Mutex::new((Phase::FirstByte, Some(Instant::now() + waits.first_byte))) }
    }

    /// Bytes came.
    fn bytes_came(&self) {
        let mut at = self.lock();
        if matches!(at.0, Phase::FirstByte | Phase::Idle) {
            *at = (Phase::Head, Some(Instant::now() + self.waits.head));
        }
    }

    /// The head of a request is complete.
    pub(super) fn request_came(&self) {
        *self.lock() = (Phase::Answering, None);
    }

    /// There is an answer to the request.
    pub(super) fn answered(&self) {
        *self.lock() = (Phase::Idle, Some(Instant::now() + self.waits.idle));
    }

    /// What the client has to do, and until when.
    pub(super) fn waits_for_client(&self) -> Option<(Phase, Instant)> {
        let (phase, deadline) = *self.lock();
        deadline.map(|deadline| (phase, deadline))
    }

    fn lock(&self) -> MutexGuard<'_, (Phase, Option<Instant>)> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream whose progress is noted.
pub(super) struct Observed {
    stream: TcpStream,
    progress: Arc<Progress>,
}

impl Observed {
    pub(super) const fn new(stream: TcpStream, progress: Arc<Progress>) -> Self {
        Self { stream, progress }
    }
}

impl AsyncRead for Observed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.progress.bytes_came();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Observed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_time_and_bytes_do_not_prolong_it() {
        let seconds = Duration::from_secs;
        let waits = Waits { first_byte: seconds(1), head: seconds(2), idle: seconds(4) };
        let progress = Progress::new(waits);
        let left = |progress: &Progress| {
            progress
                .waits_for_client()
                .map(|(phase, deadline)| (phase, (deadline - Instant::now()).as_secs()))
        };
        assert_eq!(left(&progress), Some((Phase::FirstByte, 1)));
        progress.bytes_came();
        assert_eq!(left(&progress), Some((Phase::Head, 2)));
        tokio::time::advance(seconds(1)).await;
        progress.bytes_came();
        assert_eq!(left(&progress), Some((Phase::Head, 1)));
        progress.request_came();
        progress.bytes_came();
        assert_eq!(left(&progress), None, "the body is the handler's");
        progress.answered();
        assert_eq!(left(&progress), Some((Phase::Idle, 4)));
        progress.bytes_came();
        assert_eq!(left(&progress), Some((Phase::Head, 2)));
    }
}

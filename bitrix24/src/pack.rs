//! How many wishes become one request: the [`Packer`], for reads and writes alike.
//!
//! Callers submit single requests and wait for their own answers. One task takes the permission to
//! send *first* and only then closes the pack, with whatever waits at that moment: a lone request
//! goes at once, and while the portal's budget is used up the pack grows instead of the queue. Where many
//! come one after the other, a pack waits a little for more of them before it asks ([`Bustle`]). What a
//! pack is made into is the [`PackSender`]'s affair; reading leads is in [`crate::lead_reader`].
//! No caller waits for ever: a panic, a short answer or the end of the task is an error for each.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::client::Permit;
use crate::error::PortalError;

/// Sends packs of requests `R` and brings an answer `A` to each.
#[async_trait]
pub trait PackSender<R, A>: Send + Sync + 'static {
    /// Waits until one pack may be sent: usually [`crate::Portal::permit`].
    ///
    /// # Errors
    /// When no permission can be had; everybody in the pack that was to be sent gets this error.
    async fn permit(&self) -> Result<Permit, PortalError>;

    /// Whether a request more or less does not matter at this moment: [`crate::Portal::has_plenty`].
    fn has_plenty(&self) -> bool;

    /// Whether those who got their answers still have enough to do with them, so that the next pack may wait
    /// to be fuller. Never, unless said otherwise.
    fn is_in_no_hurry(&self) -> bool {
        false
    }

    /// Sends `pack`, which has 1 to `max_pack` requests in the order they were submitted, and returns
    /// as many answers in the same order. Who is left without an answer gets
    /// [`PortalError::Interrupted`].
    async fn send(&self, permit: Permit, pack: Vec<R>) -> Vec<Result<A, PortalError>>;
}

/// How large and how many packs may be. Each is at least 1.
#[derive(Debug, Clone, Copy)]
pub struct PackLimits {
    /// Requests in one pack.
    pub max_pack: usize,
    /// Packs sent and not yet answered.
    pub in_flight: usize,
    /// Requests that wait to be packed; who comes later waits in [`Packer::submit`].
    pub queue: usize,
    /// How long a pack that is not full waits for more, where there are many ([`Bustle`]).
    pub linger: Duration,
}

/// So many times its linger a pack waits at the most for those who are in no hurry.
const PATIENCE: u32 = 10;

/// Whether there are so many requests that it pays to wait for more of them: a lone one waits for nothing.
#[derive(Debug)]
pub struct Bustle {
    linger: Duration,
    last_many: Option<Instant>,
}

impl Bustle {
    /// Up to this many say nothing.
    const FEW: usize = 4;

    /// For packs that wait `linger` for more.
    #[must_use]
    pub fn new(linger: Duration) -> Self {
        Self { linger, last_many: None }
    }

    /// So many came together, or went in one pack.
    pub fn saw(&mut self, size: usize) {
        if size > Self::FEW {
            self.last_many = Some(Instant::now());
        }
    }

    /// How long the next pack waits for more: not at all while requests are plenty and the last packs
    /// were small, and longest in a backlog, where nobody is served sooner by a request more.
    #[must_use]
    pub fn linger(&self, has_plenty: bool) -> Duration {
        let many = self.last_many.is_some_and(|at| at.elapsed() < 5 * self.linger);
        match (many, has_plenty) {
            (false, true) => Duration::ZERO,
            (false, false) | (true, true) => self.linger,
            (true, false) => 3 * self.linger,
        }
    }
}

/// Gathers single requests into packs. Dropping the packer ends its task once all requests submitted
/// have been answered.
pub struct Packer<R, A> {
    queue: mpsc::Sender<Waiting<R, A>>,
}

struct Waiting<R, A> {
    request: R,
    answer: oneshot::Sender<Result<A, PortalError>>,
}

impl<R: Send + 'static, A: Send + 'static> Packer<R, A> {
    /// Starts the task that packs.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(sender: Arc<dyn PackSender<R, A>>, limits: PackLimits) -> Self {
        let (queue, waiting) = mpsc::channel(limits.queue.max(1));
        tokio::spawn(pack_all(waiting, sender, limits));
        Self { queue }
    }

    /// Submits `request` and waits for its answer. A caller that is dropped before its request was
    /// packed takes the request back; after that the answer is thrown away. Others are not affected.
    ///
    /// # Errors
    /// What the sender answered for this request; [`PortalError::Interrupted`] (transient, may have
    /// run) when it ended without an answer.
    pub async fn submit(&self, request: R) -> Result<A, PortalError> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Waiting { request, answer }).await.map_err(|_| PortalError::Interrupted)?;
        answered.await.map_err(|_| PortalError::Interrupted)?
    }
}

/// Runs until all packers are gone. The sender's code runs in tasks of its own, so that a panic there
/// does not end this one.
async fn pack_all<R: Send + 'static, A: Send + 'static>(
    mut waiting: mpsc::Receiver<Waiting<R, A>>,
    sender: Arc<dyn PackSender<R, A>>,
    limits: PackLimits,
) {
    let slots = Arc::new(Semaphore::new(limits.in_flight.max(1)));
    let mut bustle = Bustle::new(limits.linger);
    while let Some(first) = waiting.recv().await {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let mut pack = vec![first];
        let until = Instant::now() + bustle.linger(sender.has_plenty());
        while pack.len() < limits.max_pack
            && let Ok(Some(next)) = timeout_at(until, waiting.recv()).await
        {
            pack.push(next);
        }
        let at_last = Instant::now() + PATIENCE * limits.linger;
        while pack.len() < limits.max_pack && sender.is_in_no_hurry() && Instant::now() < at_last {
            match timeout_at(Instant::now() + limits.linger / 20, waiting.recv()).await {
                Ok(Some(next)) => pack.push(next),
                Ok(None) => break,
                Err(_) => {}
            }
        }
        let asking = Arc::clone(&sender);
        let permit =
            tokio::spawn(async move { asking.permit().await }).await.unwrap_or(Err(PortalError::Interrupted));

        while pack.len() < limits.max_pack
            && let Ok(next) = waiting.try_recv()
        {
            pack.push(next);
        }
        pack.retain(|waiting| !waiting.answer.is_closed());
        bustle.saw(pack.len());

        match permit {
            Ok(permit) if !pack.is_empty() => {
                let sender = Arc::clone(&sender);
                tokio::spawn(async move {
                    send_pack(&*sender, permit, pack).await;
                    drop(slot);
                });
            }
            Ok(_unused) => {}
            Err(error) => {
                for waiting in pack {
                    drop(waiting.answer.send(Err(error.clone())));
                }
            }
        }
    }
}

async fn send_pack<R: 'static, A: 'static>(
    sender: &dyn PackSender<R, A>,
    permit: Permit,
    pack: Vec<Waiting<R, A>>,
) {
    let (requests, callers): (Vec<R>, Vec<_>) =
        pack.into_iter().map(|waiting| (waiting.request, waiting.answer)).unzip();
    let answers = sender.send(permit, requests).await;
    for (caller, answer) in callers.into_iter().zip(answers) {
        // A caller that went away does not want its answer.
        drop(caller.send(answer));
    }
}

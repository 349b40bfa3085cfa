//! The one task that publishes.
//!
//! It sends whatever waits as a group, waits for all confirms of the group, and only then answers.
//! Within a group lapin may hand a returned message to the wrong confirm (multiple confirms are
//! resolved in no order), but every return comes before the confirm of its own message, so at the end
//! of the group all returns are known; they are matched by `message_id`. The group is also what makes
//! it fast: the broker syncs many messages to disk at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, PublisherConfirm};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::connection::Link;
use super::headers;
use crate::broker::{Message, PublishError, Route};
use crate::metrics::BrokerMetrics;

/// The largest group. 256 bodies of some hundred bytes stay far below a socket's buffer.
const GROUP_MAX: usize = 256;

/// How often an idle publisher looks whether its channel still stands.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// One publish that waits.
pub(super) struct Job {
    pub(super) route: Route,
    pub(super) message: Message,
    pub(super) answer: oneshot::Sender<Result<(), PublishError>>,
}

/// Publishes until all senders of jobs are gone.
pub(super) async fn run(
    mut jobs: mpsc::Receiver<Job>,
    link: Arc<Link>,
    timeout: Duration,
    metrics: BrokerMetrics,
) {
    let mut channel = None;
    let mut group = Vec::with_capacity(GROUP_MAX);
    loop {
        let received = tokio::select! {
            biased;
            received = jobs.recv_many(&mut group, GROUP_MAX) => received,
            () = stay_open(&mut channel, &link) => continue,
        };
        if received == 0 {
            return;
        }
        let started = Instant::now();
        let deadline = started + timeout;
        let results = match open(&mut channel, &link, deadline).await {
            Ok(open) => publish_group(open, &group, deadline, timeout).await,
            Err(error) => vec![Err(error); group.len()],
        };
        if results
            .iter()
            .any(|result| matches!(result, Err(PublishError::NotConnected(_) | PublishError::TimedOut(_))))
        {
            // Late confirms of this group must not be taken for those of the next one.
            channel = None;
        }
        for (job, result) in group.drain(..).zip(results) {
            metrics.published(&job.message.kind, &result, started.elapsed());
            // Who asked may have given up; the message is stored all the same.
            drop(job.answer.send(result));
        }
    }
}

/// Connects without being asked, so that the first publish after a start or a break need not wait and
/// the process knows whether it is ready.
async fn stay_open(slot: &mut Option<Channel>, link: &Link) {
    if slot.as_ref().is_some_and(|channel| channel.status().connected()) {
        tokio::time::sleep(LOOK_EVERY).await;
    } else {
        let channel = link.channel_at_last().await;
        *slot = channel.confirm_select(ConfirmSelectOptions::default()).await.ok().map(|()| channel);
    }
}

async fn open<'a>(
    slot: &'a mut Option<Channel>,
    link: &Link,
    deadline: Instant,
) -> Result<&'a Channel, PublishError> {
    let usable = slot.take().filter(|channel| channel.status().connected());
    let channel = match usable {
        Some(channel) => channel,
        None => timeout_at(deadline, confirming(link))
            .await
            .unwrap_or_else(|_| Err(PublishError::NotConnected("connecting took too long".to_owned())))?,
    };
    Ok(slot.insert(channel))
}

async fn confirming(link: &Link) -> Result<Channel, PublishError> {
    let not_connected = |error: lapin::Error| PublishError::NotConnected(error.to_string());
    let channel = link.channel().await.map_err(not_connected)?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(not_connected)?;
    Ok(channel)
}

async fn publish_group(
    channel: &Channel,
    group: &[Job],
    deadline: Instant,
    timeout: Duration,
) -> Vec<Result<(), PublishError>> {
    let mut sent = Vec::with_capacity(group.len());
    for job in group {
        let confirm = timeout_at(deadline, send(channel, job)).await;
        sent.push(confirm.unwrap_or(Err(PublishError::TimedOut(timeout))));
    }
    let mut results = Vec::with_capacity(group.len());
    let mut returned = BTreeSet::new();
    for confirm in sent {
        let confirmation = match confirm {
            Ok(confirm) => timeout_at(deadline, confirm).await,
            Err(error) => {
                results.push(Err(error));
                continue;
            }
        };
        results.push(match confirmation {
            Ok(Ok(Confirmation::Ack(message))) => {
                returned.extend(message.and_then(|message| message.properties.message_id().clone()));
                Ok(())
            }
            Ok(Ok(Confirmation::Nack(message))) => {
                returned.extend(message.and_then(|message| message.properties.message_id().clone()));
                Err(PublishError::Refused)
            }
            Ok(Ok(Confirmation::NotRequested)) => {
                Err(PublishError::NotConnected("the channel does not confirm".to_owned()))
            }
            Ok(Err(error)) => Err(PublishError::NotConnected(error.to_string())),
            Err(_) => Err(PublishError::TimedOut(timeout)),
        });
    }
    for (job, result) in group.iter().zip(&mut results) {
        if returned.contains(job.message.id.as_str()) {
            *result = Err(PublishError::Unroutable {
                exchange: job.route.exchange.clone(),
                routing_key: job.route.routing_key.clone(),
            });
        }
    }
    results
}

async fn send(channel: &Channel, job: &Job) -> Result<PublisherConfirm, PublishError> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = headers::properties(&job.message);
    let (exchange, key) = (job.route.exchange.clone().into(), job.route.routing_key.clone().into());
    channel
        .basic_publish(exchange, key, options, &job.message.body, properties)
        .await
        .map_err(|error| PublishError::NotConnected(error.to_string()))
}

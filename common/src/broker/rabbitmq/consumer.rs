//! A subscription that outlives its channel.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Acker, Channel};
use tokio::task::JoinSet;

use super::connection::Link;
use super::headers;
use crate::broker::{Acknowledge, Consumer, Delivery, StaleDelivery};

/// The wait after a subscription ended although the broker is there, before the next.
const RESUBSCRIBE_WAIT: Duration = Duration::from_millis(500);

pub(super) struct RabbitConsumer {
    link: Arc<Link>,
    queue: String,
    prefetch: u16,
    subscription: Subscription,
}

/// Callers drop `next` when something else comes first. A subscription that was dropped half made would stay with the
/// broker, which sends it messages that nobody reads. So a task of its own makes it, and goes on whether somebody waits or
/// not: others wait for the same connection meanwhile.
enum Subscription {
    Begun(JoinSet<(Channel, lapin::Consumer)>),
    Made(Box<(Channel, lapin::Consumer)>),
}

impl RabbitConsumer {
    pub(super) fn new(link: Arc<Link>, queue: String, prefetch: u16) -> Self {
        let subscription = begin(Arc::clone(&link), queue.clone(), prefetch, Duration::ZERO);
        Self { link, queue, prefetch, subscription }
    }

    fn begin_again(&self) -> Subscription {
        begin(Arc::clone(&self.link), self.queue.clone(), self.prefetch, RESUBSCRIBE_WAIT)
    }
}

fn begin(link: Arc<Link>, queue: String, prefetch: u16, after: Duration) -> Subscription {
    let mut subscribing = JoinSet::new();
    subscribing.spawn(async move {
        tokio::time::sleep(after).await;
        loop {
            match subscribe(&link, &queue, prefetch).await {
                Ok(subscribed) => return subscribed,
                Err(error) => {
                    tracing::warn!(event = "broker.subscribe_failed", queue, error = %error);
                    tokio::time::sleep(RESUBSCRIBE_WAIT).await;
                }
            }
        }
    });
    Subscription::Begun(subscribing)
}

async fn subscribe(
    link: &Link,
    queue: &str,
    prefetch: u16,
) -> Result<(Channel, lapin::Consumer), lapin::Error> {
    let channel = link.channel_at_last().await;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    Ok((channel, consumer))
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self) -> Delivery {
        loop {
            let consumer = match &mut self.subscription {
                Subscription::Begun(subscribing) => {
                    // It ends with a subscription, unless it panics.
                    let made = subscribing.join_next().await.and_then(Result::ok);
                    self.subscription = match made {
                        Some(made) => Subscription::Made(Box::new(made)),
                        None => self.begin_again(),
                    };
                    continue;
                }
                Subscription::Made(made) => &mut made.1,
            };
            match consumer.next().await {
                Some(Ok(delivery)) => {
                    let message = headers::message(&delivery.properties, delivery.data);
                    let acknowledge = Box::new(RabbitAck(delivery.acker));
                    return Delivery::new(self.queue.clone(), message, acknowledge);
                }
                // `None`: the broker cancelled us, for example because the queue was deleted.
                ended @ (Some(Err(_)) | None) => {
                    let error = ended.and_then(Result::err).map(|error| error.to_string());
                    tracing::warn!(event = "broker.subscription_ended", queue = self.queue, error);
                    self.subscription = self.begin_again();
                }
            }
        }
    }

    async fn stop(&mut self) {
        if let Subscription::Made(made) = &self.subscription
            && let (channel, consumer) = &**made
            && let Err(error) = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await
        {
            tracing::debug!(event = "broker.cancel_failed", queue = self.queue, error = %error);
        }
    }
}

struct RabbitAck(Acker);

#[async_trait]
impl Acknowledge for RabbitAck {
    #[expect(clippy::disallowed_methods, reason = "called only by broker::settle, through Acknowledge")]
    async fn ack(&self) -> Result<(), StaleDelivery> {
        // `Ok(false)` means that the delivery is from before a reconnect.
        match self.0.ack(BasicAckOptions::default()).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(StaleDelivery),
        }
    }
}

//! A subscription that outlives its channel.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Acker, Channel};

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

/// Callers drop `next` when something else comes first. What has been begun is kept here and goes on with the next call:
/// a subscription that was dropped half made would stay with the broker, which sends it messages that nobody reads.
enum Subscription {
    Begun(BoxFuture<'static, (Channel, lapin::Consumer)>),
    Made(Box<(Channel, lapin::Consumer)>),
}

impl RabbitConsumer {
    pub(super) fn new(link: Arc<Link>, queue: String, prefetch: u16) -> Self {
        let subscription = begin(Arc::clone(&link), queue.clone(), prefetch, Duration::ZERO);
        Self { link, queue, prefetch, subscription }
    }
}

fn begin(link: Arc<Link>, queue: String, prefetch: u16, after: Duration) -> Subscription {
    Subscription::Begun(Box::pin(async move {
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
    }))
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
                    self.subscription = Subscription::Made(Box::new(subscribing.await));
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
                    let (link, queue) = (Arc::clone(&self.link), self.queue.clone());
                    self.subscription = begin(link, queue, self.prefetch, RESUBSCRIBE_WAIT);
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

//! A subscription that outlives its channel.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
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
    subscription: Option<(Channel, lapin::Consumer)>,
}

impl RabbitConsumer {
    pub(super) fn new(link: Arc<Link>, queue: String, prefetch: u16) -> Self {
        Self { link, queue, prefetch, subscription: None }
    }

    async fn subscribe(&self) -> Result<(Channel, lapin::Consumer), lapin::Error> {
        let channel = self.link.channel_at_last().await;
        channel.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let queue = self.queue.clone().into();
        let consumer = channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?;
        Ok((channel, consumer))
    }
}

#[async_trait]
impl Consumer for RabbitConsumer {
    async fn next(&mut self) -> Delivery {
        loop {
            let Some((_, consumer)) = &mut self.subscription else {
                match self.subscribe().await {
                    Ok(subscription) => self.subscription = Some(subscription),
                    Err(error) => {
                        tracing::warn!(event = "broker.subscribe_failed", queue = self.queue, error = %error);
                        tokio::time::sleep(RESUBSCRIBE_WAIT).await;
                    }
                }
                continue;
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
                    self.subscription = None;
                    tokio::time::sleep(RESUBSCRIBE_WAIT).await;
                }
            }
        }
    }

    async fn stop(&mut self) {
        if let Some((channel, consumer)) = &self.subscription
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

//! Publishing, consuming and settling.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use common::broker::settle::Settlement;
use common::broker::{Broker, Headers, Message, PublishError};
use common::failure::FailureClass;
use common::retry::Attempt;
use lapin::options::QueueDeleteOptions;
use rand::seq::SliceRandom;
use tokio::task::JoinSet;

use crate::ground::{DELAYS, GARBAGE, Ground, Trouble, message, next, wait_for};

#[tokio::test]
async fn what_is_published_is_delivered_as_it_was_and_gone_once_it_is_acknowledged() {
    let ground = Ground::new().await;
    let sent = [message(b"{}"), message(GARBAGE), message(b"")];
    for message in &sent {
        ground.publish(message.clone()).await;
    }
    let mut consumer = ground.broker.consume(&ground.queue, 10);
    for message in sent {
        let delivery = next(consumer.as_mut()).await;
        assert_eq!(delivery.queue, ground.queue);
        assert_eq!(delivery.message, message);
        ground.done(delivery).await;
    }
    ground.close_with_nothing_left().await;
}

#[tokio::test]
async fn a_delivery_that_is_dropped_comes_to_others_when_its_connection_closes() {
    let ground = Ground::new().await;
    ground.publish(message(b"{}")).await;
    drop(next(ground.broker.consume(&ground.queue, 10).as_mut()).await);
    ground.close_with_left(1).await;
}

#[tokio::test]
async fn a_delayed_message_comes_back_to_its_queue_after_the_step_with_what_is_known_of_it() {
    let ground = Ground::new().await;
    let sent = message(GARBAGE);
    ground.publish(sent.clone()).await;
    let mut consumer = ground.broker.consume(&ground.queue, 10);
    let mut delivery = next(consumer.as_mut()).await;
    let first_seen = sent.headers.first_seen.unwrap();
    // Twice, so that a delay's own trace in the headers is seen not to disturb the next one.
    for (step, next_attempt) in DELAYS.into_iter().zip(2..) {
        let delayed = Instant::now();
        let settlement = Settlement::Delay { step, next_attempt, class: FailureClass::Transient };
        let attempt = Attempt { number: next_attempt - 1, first_seen, throttled_since: None };
        let reason = Trouble::new(FailureClass::Transient);
        ground.settler.settle(delivery, &settlement, Some(&reason), attempt).await.unwrap();
        delivery = next(consumer.as_mut()).await;
        assert!(delayed.elapsed() >= step, "{:?}", delayed.elapsed());
        let headers = Headers {
            attempt: Some(next_attempt),
            queue: Some(ground.queue.clone()),
            class: Some("transient".to_owned()),
            reason: Some("reading lead 42: it rains".to_owned()),
            ..sent.headers.clone()
        };
        assert_eq!(delivery.message, Message { headers, ..sent.clone() });
        assert_eq!(delivery.queue, ground.queue);
    }
    ground.done(delivery).await;
    ground.close_with_nothing_left().await;
}

#[tokio::test]
async fn a_buried_message_lies_in_the_dead_queue_with_its_reason_and_untouched_bytes() {
    let ground = Ground::new().await;
    let sent = message(GARBAGE);
    ground.publish(sent.clone()).await;
    let mut consumer = ground.broker.consume(&ground.queue, 10);
    let delivery = next(consumer.as_mut()).await;
    let attempt = Attempt { number: 3, first_seen: sent.headers.first_seen.unwrap(), throttled_since: None };
    let settlement = Settlement::Bury(FailureClass::Permanent);
    let reason = Trouble::new(FailureClass::Permanent);
    ground.settler.settle(delivery, &settlement, Some(&reason), attempt).await.unwrap();
    let headers = Headers {
        attempt: Some(3),
        queue: Some(ground.queue.clone()),
        class: Some("permanent".to_owned()),
        reason: Some("reading lead 42: it rains".to_owned()),
        ..sent.headers.clone()
    };
    assert_eq!(ground.dead_letters().await, [Message { headers, ..sent }]);
    ground.close_with_nothing_left().await;
}

#[tokio::test]
async fn work_for_a_queue_that_is_not_there_is_a_dead_letter_and_not_lost() {
    let ground = Ground::new().await;
    let sent = message(GARBAGE);
    let absent = ground.topology.to_queue(ground.topology.lead_events(&"absent".parse().unwrap()));
    ground.broker.publish(absent, sent.clone()).await.unwrap();
    assert_eq!(ground.dead_letters().await, [sent]);
    ground.close_with_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_publishes_exactly_the_unroutable_ones_are_told_so() {
    let ground = Ground::new().await;
    // From here on the publisher's channel stands: a new one would declare again what is deleted.
    ground.publish(message(b"{}")).await;
    let nowhere = ground.topology.to_delay(DELAYS[0], &ground.queue);
    let deleted = nowhere.exchange.clone();
    ground.raw().await.queue_delete(deleted.into(), QueueDeleteOptions::default()).await.unwrap();

    let work = ground.topology.to_queue(ground.queue.clone());
    let mut routes = vec![(true, work); 1000];
    routes.resize(1100, (false, nowhere.clone()));
    routes.shuffle(&mut rand::rng());
    let mut publishes = JoinSet::new();
    for (number, (routable, route)) in routes.into_iter().enumerate() {
        let broker = Arc::clone(&ground.broker);
        let message = message(&number.to_be_bytes());
        publishes.spawn(async move { (routable, broker.publish(route, message).await) });
    }
    for (routable, result) in publishes.join_all().await {
        match result {
            Ok(()) => assert!(routable, "told to be stored, and is nowhere"),
            Err(PublishError::Unroutable { exchange, routing_key }) => {
                assert!(!routable, "told to be unroutable, and is stored");
                assert_eq!((&exchange, &routing_key), (&nowhere.exchange, &nowhere.routing_key));
            }
            Err(other) => panic!("{other}"),
        }
    }
    ground.close_with_left(1001).await;
}

#[tokio::test]
async fn a_publish_to_an_exchange_that_is_not_there_fails_and_the_next_one_works() {
    let ground = Ground::new().await;
    let mut absent = ground.topology.to_queue(ground.queue.clone());
    absent.exchange.push_str("-absent");
    let failure = ground.broker.publish(absent, message(b"{}")).await.unwrap_err();
    assert!(matches!(failure, PublishError::NotConnected(_)), "the channel is closed by it: {failure}");
    ground.publish(message(b"{}")).await;
    ground.close_with_left(1).await;
}

#[tokio::test]
async fn a_subscription_that_is_dropped_half_made_goes_on_and_there_is_only_one() {
    const MESSAGES: usize = 20;
    const POLLS: usize = 150;
    let ground = Ground::new().await;
    let mut consumer = ground.broker.consume(&ground.queue, 10);
    // A worker drops the wait whenever a message in hand is done; here after each step of subscribing.
    for most in 1..POLLS {
        let mut polls = 0;
        let mut next = pin!(consumer.next());
        let dropped = std::future::poll_fn(|context| {
            polls += 1;
            if polls > most {
                Poll::Ready(())
            } else {
                next.as_mut().poll(context).map(|_| panic!("nothing was published yet"))
            }
        });
        // A subscription that is made wakes nobody.
        drop(tokio::time::timeout(Duration::from_millis(20), dropped).await);
    }
    for _ in 0..MESSAGES {
        ground.publish(message(GARBAGE)).await;
    }
    for _ in 0..MESSAGES {
        let delivery = next(consumer.as_mut()).await;
        ground.done(delivery).await;
    }
    assert_eq!(ground.consumers(&ground.queue).await, Some(1));
    ground.close_with_nothing_left().await;
}

#[tokio::test]
async fn a_consumer_whose_queue_is_deleted_subscribes_again_when_it_is_there_again() {
    let ground = Ground::new().await;
    let mut consumer = ground.broker.consume(&ground.queue, 10);
    ground.publish(message(b"before")).await;
    let delivery = next(consumer.as_mut()).await;
    ground.done(delivery).await;

    let queue = ground.queue.clone();
    ground.raw().await.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    assert_eq!(ground.ready(&ground.queue).await, None);
    let published = async {
        // Subscribing declares the topology first; nobody else does while the connections stand.
        wait_for("the consumer is back", async || ground.consumers(&ground.queue).await == Some(1)).await;
        ground.publish(message(b"after")).await;
    };
    let (delivery, ()) = tokio::join!(next(consumer.as_mut()), published);
    assert_eq!(delivery.message.body, b"after");
    ground.done(delivery).await;
    ground.close_with_nothing_left().await;
}

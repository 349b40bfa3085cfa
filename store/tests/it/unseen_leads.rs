//! Leads that the portal does not show: what is remembered, and when it is believed.

use std::time::Duration;

use common::failure::{Failure, FailureClass};
use store::unseen_leads::{believe_missing, wait_for_right};
use store::{Unseen, UnseenLeads};

use crate::{at, lead, portal, store};

#[tokio::test]
async fn the_word_that_there_is_no_lead_is_believed_the_second_time() {
    let (store, acme) = (store().await, portal("acme"));
    let word = async |seconds| believe_missing(&store, &acme, lead(42), at(seconds)).await;
    let first = word(0).await.unwrap_err();
    assert_eq!((first.class(), first.retry_after()), (FailureClass::Throttled, Some(Duration::from_mins(2))));
    assert!(first.is_patient(), "a lead that was held for days is still deleted");
    let again = word(90).await.unwrap_err();
    assert_eq!(again.retry_after(), Some(Duration::from_secs(30)), "whoever asks");
    word(120).await.unwrap();
    assert!(word(121).await.is_err(), "what is over is forgotten");

    store.forget_unseen(&acme, lead(42)).await.unwrap();
    assert!(word(300).await.is_err(), "it was seen meanwhile");
    store.note_unseen(&acme, lead(42), Unseen::Hidden, at(310)).await.unwrap();
    assert!(word(430).await.is_err(), "another word stood between the two");
    assert!(word(430 + 3600).await.is_err(), "an old word says nothing about now");
}

#[derive(Debug, thiserror::Error)]
#[error("no right")]
struct NoRight;

impl Failure for NoRight {
    fn class(&self) -> FailureClass {
        FailureClass::Throttled
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(Duration::from_mins(10))
    }
}

#[tokio::test]
async fn hidden_leads_are_counted_while_they_are_refused_and_wait_for_a_day_at_the_most() {
    let (store, acme) = (store().await, portal("acme"));
    let longest = Duration::from_hours(24);
    let wait = async |number, seconds| {
        let waits = wait_for_right(&store, (&acme, lead(number)), NoRight, (at(seconds), longest)).await;
        assert_eq!(waits.retry_after(), Some(Duration::from_mins(10)));
        waits.is_patient()
    };
    assert!(wait(1, 0).await && wait(2, 0).await);
    let count = async |since| store.hidden_leads(&acme, at(since)).await.unwrap();
    assert_eq!(count(0).await, 2);
    store.forget_unseen(&acme, lead(2)).await.unwrap();
    assert_eq!((count(0).await, count(1).await), (1, 0));
    for tries in 1..144 {
        assert!(wait(1, 600 * tries).await, "{tries}");
    }
    assert!(!wait(1, 600 * 144).await, "a day is over");
    assert_eq!(store.hidden_leads(&portal("beta"), at(0)).await.unwrap(), 0);
}

//! What became of a dead letter: by what was decided and done under the key of its lead, not by what somebody guessed.
//!
//! | the letter | its giving | words |
//! |---|---|---|
//! | waits | – | waits for a human |
//! | waits | ended | waits for a human; already assigned to petrov |
//! | is in the running replay | – | is sent again by replay 3 |
//! | was sent | died as another letter | died again as 17 |
//! | was sent | ended before that | already assigned to petrov |
//! | was sent | ended since | assigned to petrov |
//! | was sent | decided, not carried out | on its way to petrov |
//! | was sent | held, or left alone | the decision's reason |
//! | was sent | not decided | sent again; nothing is decided yet |
//! | was discarded | – | discarded by olga |

use jiff::Timestamp;
use store::{KeptLetter, LetterDecision};

pub(super) fn words(kept: &KeptLetter) -> String {
    if let Some(replay) = kept.in_replay {
        return format!("is sent again by replay {replay}");
    }
    if let Some(again) = kept.died_again {
        return format!("died again as {again}");
    }
    match (&kept.settled, kept.sent) {
        (None, _) => match done(kept, None) {
            Some(done) => format!("waits for a human; {done}"),
            None => "waits for a human".to_owned(),
        },
        (Some(_), Some((_, sent_at))) => done(kept, Some(sent_at)).unwrap_or_else(|| on_its_way(kept)),
        (Some((_, settlement)), None) => settlement.clone(),
    }
}

/// How it ended in the portal, if it did; seen from when it was sent again.
fn done(kept: &KeptLetter, sent_at: Option<Timestamp>) -> Option<String> {
    let (outcome, at) = kept.ended.as_ref()?;
    let person = kept.decided.as_ref().and_then(|decided| decided.person.as_deref()).unwrap_or("somebody");
    Some(match outcome.as_str() {
        "assigned" if sent_at.is_some_and(|sent_at| *at >= sent_at) => format!("assigned to {person}"),
        "assigned" => format!("already assigned to {person}"),
        "kept_by_person" => "left alone: a person has given it to somebody else".to_owned(),
        "deleted" => "left alone: the lead no longer exists".to_owned(),
        "given_again" => "its lead was decided anew".to_owned(),
        other => format!("ended as {other}"),
    })
}

fn on_its_way(kept: &KeptLetter) -> String {
    match &kept.decided {
        Some(LetterDecision { outcome, person: Some(person), .. }) if outcome == "assign" => {
            format!("on its way to {person}")
        }
        Some(decided) => decided.reason.clone(),
        None if kept.letter.lead.is_none() => "sent again; nobody can read which lead it is about".to_owned(),
        None => "sent again; nothing is decided yet".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use store::DeadLetter;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn letter() -> KeptLetter {
        KeptLetter {
            id: 7,
            letter: DeadLetter {
                message_id: "acme/42/1".to_owned(),
                portal: Some("acme".to_owned()),
                lead: "42".parse().ok(),
                queue: Some("rota.acme.assignments".to_owned()),
                kind: "assignment-command".to_owned(),
                class: "permanent".to_owned(),
                reason: "no".to_owned(),
                attempt: 1,
                first_seen: None,
                traceparent: None,
                body: Vec::new(),
                died_at: at(100),
            },
            settled: None,
            in_replay: None,
            sent: None,
            epoch: None,
            died_again: None,
            decided: None,
            ended: None,
        }
    }

    fn sent() -> KeptLetter {
        KeptLetter {
            settled: Some((at(200), "replayed by olga".to_owned())),
            sent: Some((3, at(200))),
            ..letter()
        }
    }

    fn decided(outcome: &str, person: Option<&str>) -> LetterDecision {
        let (person, reason) = (person.map(str::to_owned), "skipped: junk".to_owned());
        LetterDecision { outcome: outcome.to_owned(), person, reason }
    }

    #[test]
    fn each_end_has_its_words() {
        let ended = |outcome: &str, second| Some((outcome.to_owned(), at(second)));
        let petrov = || Some(decided("assign", Some("petrov")));
        for (expected, kept) in [
            ("waits for a human", letter()),
            (
                "waits for a human; already assigned to petrov",
                KeptLetter { decided: petrov(), ended: ended("assigned", 150), ..letter() },
            ),
            ("is sent again by replay 3", KeptLetter { in_replay: Some(3), ..letter() }),
            (
                "died again as 17",
                KeptLetter { died_again: Some(17), ended: ended("assigned", 250), ..sent() },
            ),
            (
                "already assigned to petrov",
                KeptLetter { decided: petrov(), ended: ended("assigned", 150), ..sent() },
            ),
            ("assigned to petrov", KeptLetter { decided: petrov(), ended: ended("assigned", 200), ..sent() }),
            (
                "left alone: the lead no longer exists",
                KeptLetter { decided: petrov(), ended: ended("deleted", 250), ..sent() },
            ),
            (
                "left alone: a person has given it to somebody else",
                KeptLetter { decided: petrov(), ended: ended("kept_by_person", 250), ..sent() },
            ),
            ("on its way to petrov", KeptLetter { decided: petrov(), ..sent() }),
            ("skipped: junk", KeptLetter { decided: Some(decided("skip", None)), ..sent() }),
            ("sent again; nothing is decided yet", sent()),
            (
                "discarded by olga",
                KeptLetter { settled: Some((at(1), "discarded by olga".to_owned())), ..letter() },
            ),
        ] {
            assert_eq!(words(&kept), expected);
        }
    }
}

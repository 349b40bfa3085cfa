//! `rota lead`: the whole story of a lead in the order of time, from the store alone.

use common::ids::{LeadId, UserId};
use distribution::{Explanation, Language, Routing};
use jiff::Timestamp;
use serde_json::{Value, json};
use store::{DeadLetters as _, KeptLetter, LeadStory, LetterFilter, Stories as _, ToldDecision};

use crate::failure::Failure;
use crate::published::Place;
use crate::{dead, output};

/// What happened at one moment.
struct Step {
    at: Timestamp,
    /// The word for programs.
    kind: &'static str,
    /// Which giving of the lead.
    giving: Option<u32>,
    text: String,
    /// More lines of it.
    more: String,
}

/// Tells what happened.
struct Teller<'a> {
    language: Language,
    routing: Option<&'a Routing>,
    decisions: &'a [ToldDecision],
    steps: Vec<Step>,
}

pub(crate) async fn run(
    place: &Place,
    lead: LeadId,
    as_json: bool,
    language: Language,
) -> Result<u8, Failure> {
    let opened = place.open().await?;
    let story = opened.store.lead_story(&opened.portal, lead).await?;
    let meant = LetterFilter {
        portal: Some(opened.portal.clone()),
        lead: Some(lead),
        settled: true,
        ..LetterFilter::default()
    };
    let letters = opened.store.find_letters(&meant).await?;
    if story == LeadStory::default() && letters.is_empty() {
        return Err(Failure::file(format!(
            "nothing is known of lead {lead} in portal {}: no event of it was read yet, or it is forgotten by its age",
            opened.portal
        )));
    }
    // Only for names: the story is told without it too.
    let routing = opened.routing().await.ok();
    let steps = steps(&story, &letters, routing.as_ref(), language);
    if as_json {
        let step = |step: &Step| {
            json!({ "at": step.at, "kind": step.kind, "giving": step.giving, "text": step.text,
                    "explanation": Some(&step.more).filter(|more| !more.is_empty()) })
        };
        output::print_json(&json!({
            "lead": lead, "portal": opened.portal, "steps": steps.iter().map(step).collect::<Vec<Value>>(),
        }));
    } else {
        output::print(&in_text(&format!("{lead}"), opened.portal.as_str(), &steps, language));
    }
    Ok(0)
}

fn in_text(lead: &str, portal: &str, steps: &[Step], language: Language) -> String {
    let head = match language {
        Language::English => format!("Lead {lead} of portal {portal}"),
        Language::Russian => format!("Лид {lead} портала {portal}"),
    };
    let mut lines = vec![head];
    for step in steps {
        lines.push(format!("{}  {}", step.at.strftime("%Y-%m-%d %H:%M:%S UTC"), step.text));
        lines.extend(step.more.lines().map(|line| format!("    {line}")));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn steps(
    story: &LeadStory,
    letters: &[KeptLetter],
    routing: Option<&Routing>,
    language: Language,
) -> Vec<Step> {
    let mut teller = Teller { language, routing, decisions: &story.decisions, steps: Vec::new() };
    teller.first_seen(story, letters);
    teller.givings(story);
    teller.decisions();
    teller.assignments(story);
    teller.waits(story);
    teller.unsent(story);
    teller.letters(letters);
    let mut steps = teller.steps;
    // What happened at one moment stays in the order in which it was told.
    steps.sort_by_key(|step| step.at);
    steps
}

impl Teller<'_> {
    fn tell(&mut self, at: Timestamp, kind: &'static str, giving: Option<u32>, words: (String, String)) {
        let (english, russian) = words;
        let text = match self.language {
            Language::English => english,
            Language::Russian => russian,
        };
        self.steps.push(Step { at, kind, giving, text, more: String::new() });
    }

    fn person(&self, user: UserId) -> String {
        let person = self.routing.and_then(|routing| routing.people().find(|person| person.user == user));
        person.map_or_else(|| user.to_string(), |person| person.name.to_string())
    }

    /// Who gets the lead in this giving.
    fn owner(&self, epoch: u32, user: Option<UserId>) -> String {
        let decided = self.decisions.iter().find(|decision| decision.epoch == epoch);
        let person = decided.and_then(|decision| decision.person.clone());
        person.or_else(|| user.map(|user| self.person(user))).unwrap_or_else(|| "?".to_owned())
    }

    fn first_seen(&mut self, story: &LeadStory, letters: &[KeptLetter]) {
        let of_decisions = story.decisions.iter().map(|decision| decision.first_seen);
        let of_waiting = story.waiting.iter().map(|wait| wait.first_seen);
        let of_letters = letters.iter().filter_map(|kept| kept.letter.first_seen);
        if let Some(first) = of_decisions.chain(of_waiting).chain(of_letters).min() {
            let words = ("it is first heard of".to_owned(), "о лиде стало известно".to_owned());
            self.tell(first, "first_seen", None, words);
        }
    }

    fn givings(&mut self, story: &LeadStory) {
        for giving in &story.givings {
            let to = giving.queue.as_ref().or(giving.person.as_ref());
            let (to_english, to_russian) =
                to.map(|to| (format!(", to {to}"), format!(", кому: {to}"))).unwrap_or_default();
            let (english, russian) = match giving.cause.as_str() {
                "robot" => ("a robot asks for it to be given", "робот просит распределить лид"),
                "unanswered" => {
                    ("nobody answered it: it is given again", "на него не ответили: распределяется снова")
                }
                _ => ("it is decided anew", "решение принимается заново"),
            };
            let words = (format!("{english}{to_english}"), format!("{russian}{to_russian}"));
            self.tell(giving.asked_at, "giving", Some(giving.epoch), words);
        }
    }

    fn decisions(&mut self) {
        for decision in self.decisions {
            let version = decision.routing_version;
            let words = (
                format!("read and decided by routing version {version}: {}", decision.reason),
                format!("прочитан, решение по версии правил {version}: {}", decision.reason),
            );
            self.tell(decision.decided_at, "decision", Some(decision.epoch), words);
            let explanation = serde_json::from_value::<Explanation>(decision.explanation.clone()).ok();
            let explanation = explanation.map(|explanation| explanation.text(self.language));
            if let (Some(step), Some(explanation)) = (self.steps.last_mut(), explanation) {
                step.more = explanation;
            }
            if let Some(at) = decision.published_at {
                let words = (
                    "the command is on its way to the portal".to_owned(),
                    "команда отправлена на выполнение".to_owned(),
                );
                self.tell(at, "command", Some(decision.epoch), words);
            }
        }
    }

    fn assignments(&mut self, story: &LeadStory) {
        for done in &story.assignments {
            let owner = self.owner(done.epoch, done.to);
            let giving = Some(done.epoch);
            if let Some(at) = done.sent_at {
                let words =
                    ("it goes to the portal in a pack".to_owned(), "отправлен на портал в пакете".to_owned());
                self.tell(at, "pack", giving, words);
            }
            if let Some(at) = done.owner_set_at {
                let words = (format!("{owner} is its owner"), format!("ответственный: {owner}"));
                self.tell(at, "owner_set", giving, words);
            }
            if let Some(at) = done.notified_at {
                let words = (format!("{owner} is told"), format!("{owner}: уведомление отправлено"));
                self.tell(at, "notice", giving, words);
            }
            match (done.deal_sent_at, done.deal) {
                (Some(at), Some(deal)) => {
                    let words = (format!("deal {deal} is created"), format!("создана сделка {deal}"));
                    self.tell(at, "deal", giving, words);
                }
                (Some(at), None) => {
                    let words = ("a deal is about to be created".to_owned(), "создаётся сделка".to_owned());
                    self.tell(at, "deal", giving, words);
                }
                (None, _) => {}
            }
            if let Some((at, outcome)) = &done.finished {
                self.tell(*at, "end", giving, ended(outcome));
            }
        }
    }

    fn waits(&mut self, story: &LeadStory) {
        for wait in &story.waiting {
            let giving = Some(wait.epoch);
            if let Some(at) = wait.held_since.filter(|_| wait.state == "held") {
                let (english, russian) = wait
                    .held_until
                    .map(|until| {
                        (
                            format!(", until {until} at the latest known"),
                            format!(", как известно, до {until}"),
                        )
                    })
                    .unwrap_or_default();
                let words =
                    (format!("it is held since then{english}"), format!("с этого момента ждёт{russian}"));
                self.tell(at, "held", giving, words);
            }
            if let Some(at) = wait.alarmed_at {
                let words = (
                    "somebody is told that it waits too long".to_owned(),
                    "сообщено, что лид ждёт слишком долго".to_owned(),
                );
                self.tell(at, "held_too_long", giving, words);
            }
        }
        for timer in &story.timers {
            let (owner, giving) = (self.owner(timer.epoch, timer.owner), Some(timer.epoch));
            if let (Some(since), Some(due)) = (timer.since, timer.due_at) {
                let words = (
                    format!("{owner} is to answer it until {due}"),
                    format!("{owner}: ответить нужно до {due}"),
                );
                self.tell(since, "answer_timer", giving, words);
            }
            if let Some(at) = timer.reminded_at {
                let words = (format!("{owner} is reminded"), format!("{owner}: напоминание"));
                self.tell(at, "reminder", giving, words);
            }
            if let Some(at) = timer.missed_at {
                let words =
                    (format!("{owner} did not answer in time"), format!("{owner}: время ответа вышло"));
                self.tell(at, "unanswered", giving, words);
            }
        }
    }

    /// What is still to be sent, and the turns that were given back.
    fn unsent(&mut self, story: &LeadStory) {
        for (user, at, reason) in &story.refunds {
            let (person, reason) = (self.person(*user), reason.as_deref().unwrap_or_default());
            let words = (
                format!("{person} gets the turn back: {reason}"),
                format!("{person}: очередь возвращена: {reason}"),
            );
            self.tell(*at, "refund", None, words);
        }
        for (user, at, _) in &story.notices {
            let person = self.person(*user);
            let words = (
                format!("a notice to {person} waits to be sent"),
                format!("{person}: уведомление ждёт отправки"),
            );
            self.tell(*at, "notice_waits", None, words);
        }
        for (at, _) in &story.entries {
            let words = (
                "an entry of its timeline waits to be sent".to_owned(),
                "запись в карточке ждёт отправки".to_owned(),
            );
            self.tell(*at, "entry_waits", None, words);
        }
    }

    fn letters(&mut self, letters: &[KeptLetter]) {
        for kept in letters {
            let giving = kept.epoch.map(|epoch| epoch.0);
            let (class, reason) = (&kept.letter.class, &kept.letter.reason);
            let words = (
                format!("dead letter {} ({class}): {reason}", kept.id),
                format!("не доставлено, письмо {} ({class}): {reason}", kept.id),
            );
            self.tell(kept.letter.died_at, "dead_letter", giving, words);
            if let Some((at, settlement)) = &kept.settled {
                let end = dead::end_of(kept);
                let words = if kept.sent.is_some() {
                    (
                        format!("dead letter {} is {settlement}: {end}", kept.id),
                        format!("письмо {} отправлено снова: {end}", kept.id),
                    )
                } else {
                    (
                        format!("dead letter {} is {settlement}", kept.id),
                        format!("письмо {} отложено: {settlement}", kept.id),
                    )
                };
                self.tell(*at, "dead_letter_settled", giving, words);
            }
        }
    }
}

fn ended(outcome: &str) -> (String, String) {
    let (english, russian) = match outcome {
        "assigned" => ("all is done", "всё сделано"),
        "kept_by_person" => {
            ("left alone: a person has given it to somebody else", "не тронут: ответственного выбрал человек")
        }
        "deleted" => ("left alone: the lead no longer exists", "не тронут: лида больше нет"),
        "given_again" => ("not carried out: it is decided anew", "не выполнено: решение принимается заново"),
        other => return (format!("ended: {other}"), format!("итог: {other}")),
    };
    (english.to_owned(), russian.to_owned())
}

#[cfg(test)]
mod tests {
    use store::{ToldAssignment, ToldGiving};

    use super::*;

    fn at(second: i64) -> Timestamp {
        "2026-11-23T09:00:00Z".parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(second)
    }

    fn story() -> LeadStory {
        let decision = |epoch, person: &str, second| ToldDecision {
            epoch,
            outcome: "assign".to_owned(),
            person: Some(person.to_owned()),
            reason: format!("queue main → {person}"),
            explanation: Value::Null,
            routing_version: 3,
            first_seen: at(0),
            decided_at: at(second),
            published_at: Some(at(second)),
        };
        let assignment = |epoch, outcome: &str, second, owner_set| ToldAssignment {
            epoch,
            to: UserId::new(12),
            sent_at: None,
            owner_set_at: Some(at(second)).filter(|_| owner_set),
            notified_at: Some(at(second)).filter(|_| owner_set),
            deal_sent_at: None,
            deal: None,
            finished: Some((at(second), outcome.to_owned())),
        };
        LeadStory {
            decisions: vec![decision(1, "ivanov", 1), decision(2, "petrov", 60)],
            assignments: vec![assignment(1, "given_again", 59, false), assignment(2, "assigned", 62, true)],
            givings: vec![ToldGiving {
                epoch: 2,
                cause: "new".to_owned(),
                asked_by: "replay/1/7".to_owned(),
                queue: None,
                person: None,
                asked_at: at(59),
            }],
            refunds: vec![(UserId::new(11).unwrap(), at(59), Some("decided anew by replay 1".to_owned()))],
            ..LeadStory::default()
        }
    }

    #[test]
    fn a_story_is_told_in_the_order_of_time_in_both_languages() {
        let told = |language| in_text("42", "acme", &steps(&story(), &[], None, language), language);
        assert_eq!(
            told(Language::English),
            "Lead 42 of portal acme\n\
             2026-11-23 09:00:00 UTC  it is first heard of\n\
             2026-11-23 09:00:01 UTC  read and decided by routing version 3: queue main → ivanov\n\
             2026-11-23 09:00:01 UTC  the command is on its way to the portal\n\
             2026-11-23 09:00:59 UTC  it is decided anew\n\
             2026-11-23 09:00:59 UTC  not carried out: it is decided anew\n\
             2026-11-23 09:00:59 UTC  11 gets the turn back: decided anew by replay 1\n\
             2026-11-23 09:01:00 UTC  read and decided by routing version 3: queue main → petrov\n\
             2026-11-23 09:01:00 UTC  the command is on its way to the portal\n\
             2026-11-23 09:01:02 UTC  petrov is its owner\n\
             2026-11-23 09:01:02 UTC  petrov is told\n\
             2026-11-23 09:01:02 UTC  all is done\n"
        );
        assert_eq!(
            told(Language::Russian),
            "Лид 42 портала acme\n\
             2026-11-23 09:00:00 UTC  о лиде стало известно\n\
             2026-11-23 09:00:01 UTC  прочитан, решение по версии правил 3: queue main → ivanov\n\
             2026-11-23 09:00:01 UTC  команда отправлена на выполнение\n\
             2026-11-23 09:00:59 UTC  решение принимается заново\n\
             2026-11-23 09:00:59 UTC  не выполнено: решение принимается заново\n\
             2026-11-23 09:00:59 UTC  11: очередь возвращена: decided anew by replay 1\n\
             2026-11-23 09:01:00 UTC  прочитан, решение по версии правил 3: queue main → petrov\n\
             2026-11-23 09:01:00 UTC  команда отправлена на выполнение\n\
             2026-11-23 09:01:02 UTC  ответственный: petrov\n\
             2026-11-23 09:01:02 UTC  petrov: уведомление отправлено\n\
             2026-11-23 09:01:02 UTC  всё сделано\n"
        );
    }
}

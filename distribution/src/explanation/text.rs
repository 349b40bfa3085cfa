//! An explanation in words, in the languages of those who read it.
//!
//! The texts of both languages stand side by side, so that neither is forgotten. Times are told as the clocks of the
//! routing's time zone show them.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::{Candidate, Explanation, HoldReason, Limit, Outcome, Reason, Role, SkipReason};
use crate::giving::{Cause, Destination};
use crate::name::Name;
use crate::roster::{NotKnown, WorkingDay};
use crate::sticky::{OwnClient, TieBy, TieOf};

/// A language that explanations are told in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// `en`
    #[default]
    English,
    /// `ru`
    Russian,
}

/// Something that is no language of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown language; known: en, ru")]
pub struct UnknownLanguage;

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(text: &str) -> Result<Self, UnknownLanguage> {
        match text {
            "en" => Ok(Self::English),
            "ru" => Ok(Self::Russian),
            _ => Err(UnknownLanguage),
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::English => "en",
            Self::Russian => "ru",
        })
    }
}

const MONTHS: [(&str, &str); 12] = [
    ("Jan", "янв."),
    ("Feb", "февр."),
    ("Mar", "марта"),
    ("Apr", "апр."),
    ("May", "мая"),
    ("Jun", "июня"),
    ("Jul", "июля"),
    ("Aug", "авг."),
    ("Sep", "сент."),
    ("Oct", "окт."),
    ("Nov", "нояб."),
    ("Dec", "дек."),
];

/// Puts the parts of one explanation into words.
pub(super) struct Writer {
    language: Language,
    zone: TimeZone,
    /// Moments of another year are told with it.
    year: i16,
}

impl Writer {
    pub(super) fn new(explanation: &Explanation, language: Language) -> Self {
        let zone = explanation.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
        let zone = zone.unwrap_or(TimeZone::UTC);
        let year = explanation.decided_at.to_zoned_datetime(zone.clone()).year();
        Self { language, zone, year }
    }

    /// For moments that are told at `now`, on the clocks of `zone`.
    fn at(zone: &TimeZone, now: Timestamp, language: Language) -> Self {
        Self { language, zone: zone.clone(), year: now.to_zoned_datetime(zone.clone()).year() }
    }

    fn choose<'t>(&self, english: &'t str, russian: &'t str) -> &'t str {
        match self.language {
            Language::English => english,
            Language::Russian => russian,
        }
    }

    /// `3 Dec 09:00`; midnight is not told, another year is.
    fn moment(&self, moment: Timestamp) -> String {
        let local = moment.to_zoned_datetime(self.zone.clone()).datetime();
        let month = usize::try_from(local.month()).ok().and_then(|month| MONTHS.get(month.checked_sub(1)?));
        let month = month.map_or("", |(english, russian)| self.choose(english, russian));
        let year = if local.year() == self.year { String::new() } else { format!(" {}", local.year()) };
        let midnight = local.time() == Time::midnight();
        let time = if midnight { String::new() } else { local.strftime(" %H:%M").to_string() };
        format!("{} {month}{year}{time}", local.day())
    }

    pub(super) fn reason(&self, reason: &Reason) -> String {
        let text = match reason {
            Reason::Named => self.choose("named", "назван в правиле"),
            Reason::LargestCredit => self.choose("largest credit", "наибольший кредит"),
            Reason::LeastLoaded => self.choose("fewest open leads", "меньше всего открытых лидов"),
            Reason::FirstInList => self.choose("first in the list", "первый в списке"),
            Reason::SameClient => self.choose("the client is his", "это его клиент"),
            Reason::StandsIn => self.choose("stands in for him", "замещает его"),
            Reason::SmallerCredit => self.choose("smaller credit", "кредит меньше"),
            Reason::MoreLoaded => self.choose("more open leads", "больше открытых лидов"),
            Reason::LaterInList => self.choose("equal, later in the list", "наравне, но ниже в списке"),
            Reason::ReservedForDuty => self.choose("on duty", "дежурит"),
            Reason::HadBefore => self.choose("had it before", "уже получал этот лид"),
            Reason::Inactive => self.choose("not active in the portal", "не активен на портале"),
            Reason::LacksSkill { skill } => {
                return format!("{} {skill}", self.choose("lacks the skill", "нет навыка"));
            }
            Reason::Paused { until } => return self.until("paused until", "на паузе до", *until),
            Reason::Absent { until } => return self.until("on leave until", "отсутствует до", *until),
            Reason::OffSchedule { until: Some(until) } => {
                return self.until("off work until", "не работает до", *until);
            }
            Reason::OffSchedule { until: None } => self.choose("off work", "не работает"),
            Reason::WorkingDay { state: WorkingDay::Paused } => {
                self.choose("working day paused", "рабочий день на паузе")
            }
            Reason::WorkingDay { state: WorkingDay::Expired } => {
                self.choose("working day never closed", "рабочий день не был завершён")
            }
            Reason::WorkingDay {
                state: WorkingDay::Closed | WorkingDay::Opened | WorkingDay::NotKept | WorkingDay::Unknown,
            } => self.choose("working day not open", "рабочий день не начат"),
            Reason::AtLimit { limit, max, count } => return self.limit(*limit, *max, *count),
        };
        text.to_owned()
    }

    fn until(&self, english: &str, russian: &str, until: Timestamp) -> String {
        format!("{} {}", self.choose(english, russian), self.moment(until))
    }

    fn limit(&self, limit: Limit, max: u32, count: u32) -> String {
        let what = match limit {
            Limit::Open => self.choose("open leads", "открытых лидов"),
            Limit::PerHour => self.choose("leads in an hour", "лидов за час"),
            Limit::PerDay => self.choose("leads today", "лидов за день"),
            Limit::ReleasePerMinute => self.choose("held leads in a minute", "отложенных лидов за минуту"),
        };
        match self.language {
            Language::English => format!("at the limit: {count} of {max} {what}"),
            Language::Russian => format!("достиг предела: {count} из {max} {what}"),
        }
    }

    pub(super) fn hold(&self, reason: HoldReason, until: Option<Timestamp>) -> String {
        let text = match reason {
            HoldReason::NobodyEligible => self.choose("nobody may take it", "никто не может его взять"),
            HoldReason::OwnersAbsence => {
                self.choose("for the person whose client it is", "того, чей это клиент")
            }
            HoldReason::BehindOthers => self
                .choose("leads that wait ahead of it go first", "сначала идут лиды, которые ждут перед ним"),
        };
        let until = match reason {
            HoldReason::NobodyEligible => until.map(|until| self.until("before", "до", until)),
            HoldReason::OwnersAbsence => until.map(|until| self.until("until", "до", until)),
            HoldReason::BehindOthers => None,
        };
        match until {
            Some(until) => format!("{text} {until}"),
            None => text.to_owned(),
        }
    }

    pub(super) fn skip(&self, reason: SkipReason) -> &'static str {
        match (reason, self.language) {
            (SkipReason::Converted, Language::English) => "the lead is converted",
            (SkipReason::Converted, Language::Russian) => "лид уже сконвертирован",
            (SkipReason::Junk, Language::English) => "the lead is junk",
            (SkipReason::Junk, Language::Russian) => "лид признан некачественным",
            (SkipReason::Taken, Language::English) => "it has been given to somebody by a person",
            (SkipReason::Taken, Language::Russian) => "ответственного уже выбрал человек",
            (SkipReason::MadeByHand, Language::English) => "somebody made it for themselves",
            (SkipReason::MadeByHand, Language::Russian) => "сотрудник создал его для себя",
            (SkipReason::NobodyElse, Language::English) => {
                "nobody answered it, and nobody else may take it now"
            }
            (SkipReason::NobodyElse, Language::Russian) => {
                "на него не ответили, и больше никто не может его взять сейчас"
            }
        }
    }

    fn outcome(&self, outcome: &Outcome) -> String {
        match outcome {
            Outcome::Assign { person, .. } => {
                format!("{} {person}", self.choose("The lead goes to", "Лид получает"))
            }
            Outcome::Hold { reason, until } => {
                format!("{}: {}", self.choose("The lead waits", "Лид ждёт"), self.hold(*reason, *until))
            }
            Outcome::Skip { reason } => {
                format!("{}: {}", self.choose("The lead is left alone", "Лид пропущен"), self.skip(*reason))
            }
        }
    }

    fn not_known(&self, what: NotKnown) -> &'static str {
        match (what, self.language) {
            (NotKnown::People, Language::English) => "who is active in the portal",
            (NotKnown::People, Language::Russian) => "кто активен на портале",
            (NotKnown::WorkingDays, Language::English) => "working days",
            (NotKnown::WorkingDays, Language::Russian) => "рабочие дни",
            (NotKnown::Absences, Language::English) => "absences",
            (NotKnown::Absences, Language::Russian) => "отсутствия",
            (NotKnown::Clients, Language::English) => "whose client it is",
            (NotKnown::Clients, Language::Russian) => "чей это клиент",
            (NotKnown::TimeZones, Language::English) => "time zones",
            (NotKnown::TimeZones, Language::Russian) => "часовые пояса",
            (NotKnown::OpenLeads, Language::English) => "open leads",
            (NotKnown::OpenLeads, Language::Russian) => "открытые лиды",
        }
    }

    /// Why it is given, unless it is new.
    fn cause(&self, explanation: &Explanation) -> Option<String> {
        let cause = match explanation.cause {
            Cause::New => return None,
            Cause::Robot => self.choose("A robot of the portal asked for it", "По запросу робота портала"),
            Cause::Unanswered => self.choose("Nobody answered it", "На лид не ответили"),
        };
        let to = match (&explanation.to, self.language) {
            (None, _) => String::new(),
            (Some(Destination::Queue(queue)), Language::English) => format!(", for queue {queue}"),
            (Some(Destination::Queue(queue)), Language::Russian) => format!(", в очередь {queue}"),
            (Some(Destination::Person(person)), Language::English) => format!(", for {person}"),
            (Some(Destination::Person(person)), Language::Russian) => format!(", для {person}"),
        };
        let unknown = if explanation.to.is_some() && !explanation.goes_as_asked() {
            self.choose("; the routing has no such name", "; такого имени нет в правилах")
        } else {
            ""
        };
        Some(format!("{cause}{to}{unknown}"))
    }

    /// Whose client it is.
    fn client(&self, client: &OwnClient) -> String {
        let by = match client.by {
            TieBy::Contact => self.choose("by the lead's contact", "по контакту лида"),
            TieBy::Company => self.choose("by the lead's company", "по компании лида"),
            TieBy::Phone => self.choose("by the phone", "по телефону"),
            TieBy::Email => self.choose("by the e-mail address", "по e-mail"),
        };
        let of = match client.of {
            TieOf::Contact => self.choose("the contact is his", "он отвечает за контакт"),
            TieOf::Company => self.choose("the company is his", "он отвечает за компанию"),
            TieOf::Deal => self.choose("a deal in process is his", "он ведёт сделку"),
            TieOf::Lead(_) => self.choose("another lead in process is his", "он ведёт другой лид"),
        };
        format!("{} {}, {by}: {of}", self.choose("A client of", "Клиент сотрудника"), client.person)
    }

    /// The heading of those who were asked together.
    fn step(&self, first: &Candidate) -> String {
        let queue = first.queue.as_ref().map_or("", Name::as_str);
        match first.role {
            Role::Named => self.choose("Named", "Назван").to_owned(),
            Role::Member => format!("{} {queue}", self.choose("Queue", "Очередь")),
            Role::Client => self.choose("Whose client it is", "Чей это клиент").to_owned(),
            Role::Substitute => self.choose("His substitute", "Его заместитель").to_owned(),
            Role::Successor => self.choose("His successor", "Его преемник").to_owned(),
            Role::OnDuty => format!("{} {queue}", self.choose("On duty for", "Дежурные очереди")),
        }
    }

    fn candidate(&self, candidate: &Candidate) -> String {
        let verdict = if candidate.reason.is_taken() {
            self.choose("taken", "выбран")
        } else if candidate.eligible {
            self.choose("not taken", "не выбран")
        } else {
            self.choose("left out", "не участвует")
        };
        let mut parts = vec![format!("{} – {verdict}: {}", candidate.person, self.reason(&candidate.reason))];
        if let Some(load) = candidate.load.filter(|_| candidate.eligible) {
            parts.push(format!("{} {}", self.choose("open", "открыто"), load.open));
            if load.weight != 1 {
                parts.push(format!("{} {}", self.choose("weight", "вес"), load.weight));
            }
        }
        if let Some(credit) = candidate.credit.filter(|_| candidate.eligible) {
            parts.push(format!("{} {} → {}", self.choose("credit", "кредит"), credit.before, credit.after));
        }
        if let Some(charge) = candidate.charge {
            let word = self.choose("in the queue", "в очереди");
            parts.push(format!("{word} {} → {}", charge.before, charge.after));
        }
        parts.join(", ")
    }
}

/// A reason in words, told at `now` on the clocks of `zone`.
pub(crate) fn reason_text(reason: &Reason, zone: &TimeZone, now: Timestamp, language: Language) -> String {
    Writer::at(zone, now, language).reason(reason)
}

/// The whole text, when it is written out.
pub(super) struct Text<'e> {
    explanation: &'e Explanation,
    words: Writer,
}

impl<'e> Text<'e> {
    pub(super) fn new(explanation: &'e Explanation, language: Language) -> Self {
        Self { explanation, words: Writer::new(explanation, language) }
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { explanation, words } = self;
        writeln!(f, "{}.", words.outcome(&explanation.outcome))?;
        if let Some(cause) = words.cause(explanation) {
            writeln!(f, "{cause}.")?;
        }
        match &explanation.rule {
            Some(rule) => {
                let cases: Vec<&str> = explanation.cases.iter().map(Name::as_str).collect();
                let cases = if cases.is_empty() { String::new() } else { format!(" ({})", cases.join(", ")) };
                writeln!(f, "{} \"{rule}\"{cases}.", words.choose("Rule", "Правило"))?;
            }
            None if matches!(explanation.outcome, Outcome::Skip { .. }) || explanation.goes_as_asked() => {}
            None => {
                let russian = "Ни одно правило не подошло, действует распределение по умолчанию.";
                writeln!(f, "{}", words.choose("No rule matched, so the default decides.", russian))?;
            }
        }
        if let Some(client) = &explanation.client {
            writeln!(f, "{}.", words.client(client))?;
        }
        for step in explanation.steps() {
            let Some(first) = step.first() else { continue };
            writeln!(f, "{}:", words.step(first))?;
            for candidate in step {
                writeln!(f, "  {}", words.candidate(candidate))?;
            }
        }
        if !explanation.not_known.is_empty() {
            let what: Vec<&str> = explanation.not_known.iter().map(|what| words.not_known(*what)).collect();
            let heading = words.choose("Not known, so decided without", "Неизвестно, поэтому не учтено");
            writeln!(f, "{heading}: {}.", what.join(", "))?;
        }
        if !explanation.not_matched.is_empty() {
            writeln!(f, "{}:", words.choose("Rules that did not match", "Не подошли правила"))?;
            for rule in &explanation.not_matched {
                writeln!(f, "  {} – {}", rule.rule, rule.condition)?;
            }
            let rest = explanation.not_matched_total.saturating_sub(explanation.not_matched.len());
            if rest > 0 {
                writeln!(f, "  {} {rest}", words.choose("and more:", "и ещё:"))?;
            }
        }
        let decided = words.moment(explanation.decided_at);
        let zone = explanation.time_zone.as_deref().unwrap_or("UTC");
        write!(f, "{} {decided} ({zone})", words.choose("Decided", "Решено"))?;
        if explanation.routing_version > 0 {
            let version = words.choose("by version", "по версии правил");
            write!(f, ", {version} {}", explanation.routing_version)?;
        }
        writeln!(f, ".")
    }
}

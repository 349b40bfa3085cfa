//! The words of a notice.

use bitrix24::notify::{Author, Notice};
use bitrix24::plain::plain;
use common::config::{self, Language, NotifyChannel};
use common::ids::{LeadId, UserId};
use common::messages::AssignmentKey;
use store::Matter;

/// A title longer than this is cut; a notice is read on a telephone.
const TITLE_CHARS: usize = 200;

/// The same in a notice about several leads, so that 50 of them fit into what the portal takes.
const TITLE_CHARS_OF_MANY: usize = 80;

/// How the people of one portal are told.
#[derive(Debug, Clone)]
pub(crate) struct Wording {
    author: Option<Author>,
    template: String,
    digest_template: String,
    digest_over: usize,
    language: Language,
    address: String,
}

/// A lead that somebody is to be told about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News<'a> {
    /// Which assignment.
    pub(crate) key: &'a AssignmentKey,
    /// The lead's title as a stranger may have typed it.
    pub(crate) title: &'a str,
}

impl Wording {
    /// As configured.
    pub(crate) fn new(portal: &config::Portal) -> Self {
        let author = match portal.notify.channel {
            NotifyChannel::Personal => Some(Author::WebhookOwner),
            NotifyChannel::System => Some(Author::Nobody),
            NotifyChannel::None => None,
        };
        let address = bitrix24::connect::address(&portal.webhook_url);
        Self {
            author,
            template: portal.notify.template.clone(),
            digest_template: portal.notify.digest_template.clone(),
            digest_over: usize::try_from(portal.notify.digest_over).unwrap_or(usize::MAX),
            language: portal.notify.language,
            address,
        }
    }

    /// Whether people are told by us.
    pub(crate) fn tells(&self) -> bool {
        self.author.is_some()
    }

    /// Whether so many leads for one person are told by one notice.
    pub(crate) fn is_digest(&self, leads: usize) -> bool {
        leads > self.digest_over
    }

    /// The notice of an assignment; `None` where people are not told by us.
    pub(crate) fn notice(&self, to: UserId, news: News<'_>) -> Option<Notice> {
        let News { key, title } = news;
        let message = fill(&self.template, |placeholder| match placeholder {
            "title" => Some(shown(key.lead, title, TITLE_CHARS)),
            "link" => Some(self.link(key.lead)),
            "id" => Some(key.lead.to_string()),
            _ => None,
        });
        self.author.map(|author| Notice { author, to, message, tag: key.to_string() })
    }

    /// One notice of several assignments; `None` for none, or where people are not told by us.
    pub(crate) fn digest(&self, to: UserId, news: &[News<'_>]) -> Option<Notice> {
        let (first, others) = news.split_first()?;
        let line = |News { key, title }: &News<'_>| {
            format!("{} {}", shown(key.lead, title, TITLE_CHARS_OF_MANY), self.link(key.lead))
        };
        let message = fill(&self.digest_template, |placeholder| match placeholder {
            "count" => Some(news.len().to_string()),
            // The portal's line break.
            "leads" => Some(news.iter().flat_map(|news| ["#BR#".to_owned(), line(news)]).collect()),
            _ => None,
        });
        let tag = format!("{}+{}", first.key, others.len());
        self.author.map(|author| Notice { author, to, message, tag })
    }

    /// From whom other notices than those of assignments come. Of a portal that tells of assignments by itself, from the
    /// webhook's owner.
    pub(crate) fn author(&self) -> Author {
        self.author.unwrap_or(Author::WebhookOwner)
    }

    /// A notice of something else.
    pub(crate) fn other(&self, notice: &store::Notice) -> Notice {
        let message = match &notice.matter {
            Matter::HeldTooLong { queue, leads, count } => {
                let links: Vec<String> = leads.iter().map(|lead| self.link(*lead)).collect();
                let queue = plain(queue, TITLE_CHARS_OF_MANY);
                let (say, and_more) = match self.language {
                    Language::En => ("Leads that wait too long in the queue", "and more:"),
                    Language::Ru => ("Слишком долго ждут лиды в очереди", "и ещё:"),
                };
                let rest = count.saturating_sub(leads.len());
                let rest = if rest > 0 { format!(", {and_more} {rest}") } else { String::new() };
                format!("{say} {queue}: {count}. {}{rest}", links.join(", "))
            }
            Matter::DeadLetters { leads, count } => {
                let links: Vec<String> = leads.iter().map(|lead| self.link(*lead)).collect();
                let (say, and_more, see) = match self.language {
                    Language::En => ("Leads that could not be given", "and more:", "See"),
                    Language::Ru => ("Не удалось распределить лиды", "и ещё:", "Подробнее"),
                };
                let rest = count.saturating_sub(leads.len());
                let rest = if rest > 0 { format!(", {and_more} {rest}") } else { String::new() };
                format!("{say}: {count}. {}{rest}. {see}: rota dead list", links.join(", "))
            }
            Matter::Reminder { lead, minutes } => {
                let link = self.link(*lead);
                match self.language {
                    Language::En => {
                        format!(
                            "Lead {link} still waits for your answer. In {minutes} min it goes to somebody else."
                        )
                    }
                    Language::Ru => {
                        format!("Лид {link} ждёт вашего ответа. Через {minutes} мин. он перейдёт к другому.")
                    }
                }
            }
            Matter::TakenAway { lead, person } => {
                let (link, person) = (self.link(*lead), plain(person, TITLE_CHARS_OF_MANY));
                match self.language {
                    Language::En => {
                        format!("Lead {link} was not answered in time and was given to {person}.")
                    }
                    Language::Ru => format!("Лид {link} не получил ответа вовремя и передан: {person}."),
                }
            }
            Matter::GivenAway { lead, person } => {
                let (link, person) = (self.link(*lead), plain(person, TITLE_CHARS_OF_MANY));
                match self.language {
                    Language::En => {
                        format!("Lead {link} was given to {person}: a robot of the portal asked for it.")
                    }
                    Language::Ru => format!("Лид {link} по запросу робота портала передан: {person}."),
                }
            }
            Matter::Unanswered { lead, person } => {
                let (link, person) = (self.link(*lead), plain(person, TITLE_CHARS_OF_MANY));
                match self.language {
                    Language::En => {
                        format!(
                            "Lead {link} of {person} was not answered in time, and nobody else may take it."
                        )
                    }
                    Language::Ru => {
                        format!("Лид {link} ({person}) не получил ответа вовремя, и взять его больше некому.")
                    }
                }
            }
        };
        Notice { author: self.author(), to: notice.to, message, tag: notice.tag.clone() }
    }

    fn link(&self, lead: LeadId) -> String {
        format!("[URL={}/crm/lead/details/{lead}/]#{lead}[/URL]", self.address)
    }
}

fn shown(lead: LeadId, title: &str, max_chars: usize) -> String {
    let title = plain(title, max_chars);
    if title.is_empty() { format!("#{lead}") } else { title }
}

/// Replaces `{name}` once; what is put in is not looked at again, so a title cannot hold placeholders.
fn fill(template: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut filled = String::with_capacity(template.len() + TITLE_CHARS);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let replaced = after.split_once('}').and_then(|(name, after)| Some((value(name)?, after)));
        if let Some((text, after)) = replaced {
            filled.push_str(&text);
            rest = after;
        } else {
            filled.push('{');
            rest = after;
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
impl Wording {
    /// With the default words.
    pub(crate) fn plain(digest_over: usize) -> Self {
        Self {
            author: Some(Author::WebhookOwner),
            template: config::Notify::default().template,
            digest_template: config::Notify::default().digest_template,
            digest_over,
            language: Language::En,
            address: "https://acme.bitrix24.com".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use common::messages::Epoch;

    use super::*;

    fn key(lead: u64) -> AssignmentKey {
        let lead = LeadId::new(lead).unwrap();
        AssignmentKey { portal: "acme".parse().unwrap(), lead, epoch: Epoch::FIRST }
    }

    fn wording(template: &str) -> Wording {
        Wording { template: template.to_owned(), ..Wording::plain(1) }
    }

    fn message(template: &str, title: &str) -> String {
        let news = News { key: &key(42), title };
        wording(template).notice(UserId::new(9).unwrap(), news).unwrap().message
    }

    #[test]
    fn the_default_says_what_and_where() {
        assert_eq!(
            message(&config::Notify::default().template, "Two-room flat"),
            "You have been assigned a new lead: Two-room flat \
             [URL=https://acme.bitrix24.com/crm/lead/details/42/]#42[/URL]"
        );
    }

    #[test]
    fn a_title_can_place_neither_links_nor_placeholders() {
        assert_eq!(message("{title}", "[URL=evil]x[/URL] {link}"), "［URL=evil］x［/URL］ {link}");
        assert_eq!(message("{title} {id} {", ""), "#42 42 {");
    }

    #[test]
    fn several_leads_are_a_line_each() {
        let keys = [key(42), key(43)];
        let titles = ["[B]Flat[/B]#BR#", ""];
        let news: Vec<News<'_>> = keys.iter().zip(titles).map(|(key, title)| News { key, title }).collect();
        let notice = wording("").digest(UserId::new(9).unwrap(), &news).unwrap();
        assert_eq!(
            notice.message,
            "You have been assigned 2 new leads: #BR#［B］Flat［/B］#BR # \
             [URL=https://acme.bitrix24.com/crm/lead/details/42/]#42[/URL]#BR##43 \
             [URL=https://acme.bitrix24.com/crm/lead/details/43/]#43[/URL]"
        );
        assert_eq!(notice.tag, "acme/42/1+1");
        assert!(wording("").digest(UserId::new(9).unwrap(), &[]).is_none());
    }

    #[test]
    fn leads_that_wait_too_long_are_counted_and_the_first_are_named() {
        let news = |count| store::Notice {
            tag: "acme/42/1/held".to_owned(),
            to: UserId::new(9).unwrap(),
            matter: Matter::HeldTooLong {
                queue: "[B]main".to_owned(),
                leads: [42, 43].into_iter().filter_map(LeadId::new).collect(),
                count,
            },
        };
        let link = |id| format!("[URL=https://acme.bitrix24.com/crm/lead/details/{id}/]#{id}[/URL]");
        let expected =
            format!("Leads that wait too long in the queue ［B］main: 2. {}, {}", link(42), link(43));
        assert_eq!(wording("").other(&news(2)).message, expected);
        let russian = Wording { language: Language::Ru, author: None, ..wording("") };
        let notice = russian.other(&news(7));
        assert!(notice.message.starts_with("Слишком долго ждут лиды в очереди ［B］main: 7. "));
        assert!(notice.message.ends_with(", и ещё: 5"), "{}", notice.message);
        assert_eq!(notice.author, Author::WebhookOwner, "somebody must be told");
    }

    #[test]
    fn who_did_not_answer_or_lost_a_lead_is_told() {
        let said = |language, matter| {
            let notice = store::Notice { tag: "t".to_owned(), to: UserId::new(9).unwrap(), matter };
            let message = Wording { language, ..wording("") }.other(&notice).message;
            message.replace("[URL=https://acme.bitrix24.com/crm/lead/details/42/]#42[/URL]", "#42")
        };
        let (lead, person) = (LeadId::new(42).unwrap(), "[b]".to_owned());
        let reminder = Matter::Reminder { lead, minutes: 5 };
        let taken = Matter::TakenAway { lead, person: person.clone() };
        let given_away = Matter::GivenAway { lead, person: person.clone() };
        let unanswered = Matter::Unanswered { lead, person };
        for (language, matter, expected) in [
            (
                Language::En,
                &reminder,
                "Lead #42 still waits for your answer. In 5 min it goes to somebody else.",
            ),
            (Language::Ru, &reminder, "Лид #42 ждёт вашего ответа. Через 5 мин. он перейдёт к другому."),
            (Language::En, &taken, "Lead #42 was not answered in time and was given to ［b］."),
            (Language::Ru, &taken, "Лид #42 не получил ответа вовремя и передан: ［b］."),
            (Language::En, &given_away, "Lead #42 was given to ［b］: a robot of the portal asked for it."),
            (Language::Ru, &given_away, "Лид #42 по запросу робота портала передан: ［b］."),
            (
                Language::En,
                &unanswered,
                "Lead #42 of ［b］ was not answered in time, and nobody else may take it.",
            ),
            (
                Language::Ru,
                &unanswered,
                "Лид #42 (［b］) не получил ответа вовремя, и взять его больше некому.",
            ),
        ] {
            assert_eq!(said(language, matter.clone()), expected);
        }
    }

    #[test]
    fn leads_that_could_not_be_given_are_counted() {
        let notice = store::Notice {
            tag: "acme/dead/7".to_owned(),
            to: UserId::new(9).unwrap(),
            matter: Matter::DeadLetters { leads: LeadId::new(42).into_iter().collect(), count: 3 },
        };
        let said = |language| {
            let message = Wording { language, ..wording("") }.other(&notice).message;
            message.replace("[URL=https://acme.bitrix24.com/crm/lead/details/42/]#42[/URL]", "#42")
        };
        assert_eq!(
            said(Language::En),
            "Leads that could not be given: 3. #42, and more: 2. See: rota dead list"
        );
        assert_eq!(
            said(Language::Ru),
            "Не удалось распределить лиды: 3. #42, и ещё: 2. Подробнее: rota dead list"
        );
    }

    #[test]
    fn fifty_long_titles_fit() {
        let (keys, title): (Vec<_>, _) =
            ((1..=50).map(|lead| key(10_000_000 + lead)).collect(), "ш".repeat(500));
        let news: Vec<News<'_>> = keys.iter().map(|key| News { key, title: &title }).collect();
        let notice = wording("").digest(UserId::new(9).unwrap(), &news).unwrap();
        assert!(notice.message.chars().count() < bitrix24::notify::MAX_MESSAGE_CHARS);
    }
}

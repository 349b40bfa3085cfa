//! What no single key can know: the cross-checks of a configuration.

use std::collections::BTreeSet;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::{Config, ConfigError, Http, Portal, Reader, addresses};

/// Shorter keys of robots and tokens of the admin address are refused.
const KEY_MIN: usize = 16;

impl Config {
    /// What no single key can know, as far as this process needs it.
    pub(super) fn check(&self, reader: Reader) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        let mut wrong = |condition: bool, problem: String| {
            if condition {
                problems.push(problem);
            }
        };
        let in_range = |number: u16| (1..=1000).contains(&number);
        wrong(!in_range(self.router.in_flight), "router.in_flight must be 1 to 1000".to_owned());
        wrong(!in_range(self.notifier.in_flight), "notifier.in_flight must be 1 to 1000".to_owned());
        let day = Duration::from_hours(24);
        for (key, every) in
            [("roster.every", self.roster.every), ("roster.absences_every", self.roster.absences_every)]
        {
            wrong(every < Duration::from_secs(1) || every > day, format!("{key} must be 1s to 24h"));
        }
        let days = |days: u64| Duration::from_hours(24 * days);
        for (key, age, least) in [
            ("dead_letters", self.keep.dead_letters, 1),
            // What somebody was given is counted by the day, and what is unfinished is tried for one.
            ("decisions", self.keep.decisions, 7),
            ("titles", self.keep.titles, 1),
        ] {
            wrong(
                !(days(least)..=days(36_500)).contains(&age),
                format!("keep.{key} must be {least}d to 36500d"),
            );
        }
        wrong(
            !(1..=100).contains(&self.database.connections),
            "database.connections must be 1 to 100".to_owned(),
        );
        for problem in [addresses::amqp(&self.amqp.url), addresses::database(&self.database.url)] {
            wrong(problem.is_some(), problem.unwrap_or_default());
        }
        wrong(
            self.admin.token.as_ref().is_some_and(|token| token.expose_secret().len() < KEY_MIN),
            format!(
                "admin.token has less than {KEY_MIN} characters; make one by `openssl rand -hex 16`, or leave it out"
            ),
        );
        wrong(self.amqp.publish_timeout.is_zero(), "amqp.publish_timeout must not be zero".to_owned());
        self.http.problems(self.amqp.publish_timeout, &mut wrong);
        wrong(
            self.shutdown.grace <= self.portal_requests.timeout,
            "shutdown.grace must be longer than portal_requests.timeout, or a stop cuts requests off"
                .to_owned(),
        );
        wrong(
            self.retry.delays.is_empty() || !self.retry.delays.is_sorted_by(|a, b| a < b),
            "retry.delays must be one or more waits, each longer than the one before".to_owned(),
        );
        wrong(
            self.retry.delays.iter().any(Duration::is_zero),
            "retry.delays must not hold a wait of zero: the message would come back at once, for ever"
                .to_owned(),
        );
        let (mut names, mut members) = (BTreeSet::new(), BTreeSet::new());
        for portal in &self.portals {
            let name = &portal.name;
            wrong(!names.insert(name), format!("portal {name} is there twice"));
            wrong(
                !members.insert(&portal.member_id),
                format!("portal {name}: member_id is another portal's too"),
            );
            wrong(
                reader.asks_portals(self) && portal.webhook_url.expose_secret().is_empty(),
                format!("portal {name}: webhook_url (or webhook_url_file) is missing"),
            );
            wrong(
                reader.takes_events() && portal.application_token.expose_secret().is_empty(),
                format!("portal {name}: application_token (or application_token_file) is missing"),
            );
            problems_of(portal, &mut wrong);
        }
        if problems.is_empty() { Ok(()) } else { Err(ConfigError(problems)) }
    }
}

impl Http {
    /// What is wrong with it, where a publish takes so long at the most.
    fn problems(&self, publish_timeout: Duration, wrong: &mut impl FnMut(bool, String)) {
        wrong(
            self.body_timeout <= publish_timeout,
            "http.body_timeout must be longer than amqp.publish_timeout, or a stored event is answered 408"
                .to_owned(),
        );
        for (key, wait) in [
            ("first_byte_timeout", self.first_byte_timeout),
            ("head_timeout", self.head_timeout),
            ("idle_timeout", self.idle_timeout),
        ] {
            wrong(
                wait.is_zero() || wait > Duration::from_hours(1),
                format!("http.{key} must be more than 0s and at most 1h"),
            );
        }
        wrong(
            !(1..=1_000_000).contains(&self.connections),
            "http.connections must be 1 to 1000000".to_owned(),
        );
        wrong(
            !(1..=self.connections).contains(&self.connections_per_client),
            "http.connections_per_client must be at least 1 and not above http.connections".to_owned(),
        );
    }
}

/// What is wrong with one portal by itself.
fn problems_of(portal: &Portal, wrong: &mut impl FnMut(bool, String)) {
    let name = &portal.name;
    wrong(portal.member_id.is_empty(), format!("portal {name}: member_id is missing"));
    wrong(
        portal.member_id.contains(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.')),
        format!("portal {name}: member_id is more than the value of auth[member_id]; write only that"),
    );
    wrong(
        portal.event_key.as_ref().is_some_and(|key| key.expose_secret().is_empty()),
        format!("portal {name}: event_key is empty; leave it out or give it a value"),
    );
    wrong(
        portal.robot_key.as_ref().is_some_and(|key| key.expose_secret().len() < KEY_MIN),
        format!(
            "portal {name}: robot_key has less than {KEY_MIN} characters, and is all that robots show; \
             make one by `openssl rand -hex 16`"
        ),
    );
    wrong(
        portal.limits.burst < 2 || portal.limits.per_second == 0,
        format!("portal {name}: limits.burst must be at least 2 and limits.per_second at least 1"),
    );
    wrong(
        portal.limits.per_second > portal.limits.burst,
        format!("portal {name}: limits.per_second must not be above limits.burst"),
    );
    wrong(
        !(1..=100).contains(&portal.limits.share),
        format!("portal {name}: limits.share must be 1 to 100, in percent of the portal's limit"),
    );
    wrong(
        portal.limits.method_seconds < 10,
        format!("portal {name}: limits.method_seconds must be at least 10; the cloud allows 480"),
    );
    let notify = &portal.notify;
    wrong(notify.digest_over == 0, format!("portal {name}: notify.digest_over must be at least 1"));
    for (key, template, known) in [
        ("template", &notify.template, PLACEHOLDERS.as_slice()),
        ("digest_template", &notify.digest_template, DIGEST_PLACEHOLDERS.as_slice()),
    ] {
        let known_ones = || known.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ");
        for unknown in unknown_placeholders(template, known) {
            let known = known_ones();
            let problem = format!("portal {name}: notify.{key} has {{{unknown}}}; known are {known}");
            wrong(true, problem);
        }
    }
}

/// The placeholders of a notice's template.
pub const PLACEHOLDERS: [&str; 3] = ["title", "link", "id"];

/// The placeholders of the template of a notice about several leads.
pub const DIGEST_PLACEHOLDERS: [&str; 2] = ["count", "leads"];

fn unknown_placeholders<'a>(template: &'a str, known: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let names = template.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name));
    names.filter(|name| !known.contains(name))
}

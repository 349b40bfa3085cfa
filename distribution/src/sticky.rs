//! The same client, the same person: whose client sent a lead, and whether he gets it before any turn is taken.
//!
//! Who has the client is asked of the portal by the router; here is what a queue makes of it. The first of those who have
//! the client, who is in the routing file and is not dismissed, decides; for who is dismissed his successor does. If that
//! person may take the lead, he gets it. If he is away, the queue says whether his substitute takes it, whether it waits,
//! or whether it is given like any other.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::explanation::{Candidate, Explanation, HoldReason, Limit, Outcome, Reason, Role};
use crate::ids::{LeadId, UserId};
use crate::ledger::LedgerEntry;
use crate::name::Name;
use crate::routing::{Person, Queue, Routing};
use crate::strategy::{self, Asked};

/// What a queue says of leads whose client is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StickyRules {
    /// By what a client is recognised; what stands first counts first. Each once, at least one.
    pub by: Vec<TieBy>,
    /// For how long after the last that had to do with him somebody has a client; `None` for ever.
    pub within: Option<SignedDuration>,
    /// What becomes of the lead when that person may not take it now.
    pub if_absent: IfAbsent,
    /// Whether such a lead counts as his turn. Only in queues of [`Strategy::Rotation`](crate::Strategy::Rotation).
    pub pays: bool,
}

/// By what a client is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TieBy {
    /// The contact of the lead.
    Contact,
    /// The company of the lead.
    Company,
    /// Somebody with the same phone.
    Phone,
    /// Somebody with the same e-mail address.
    Email,
}

/// Somebody has the client of a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tie {
    /// Who, by his number in the portal.
    pub owner: UserId,
    /// By what the client was recognised.
    pub by: TieBy,
    /// What he owns of him.
    pub of: TieOf,
    /// When something last happened with it.
    pub at: Timestamp,
}

/// What somebody owns of a client. In this order they count: who has the contact has the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TieOf {
    /// The contact.
    Contact,
    /// The company.
    Company,
    /// A deal in process.
    Deal,
    /// Another lead in process.
    Lead(LeadId),
}

/// What becomes of a lead when the person who has its client may not take it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IfAbsent {
    /// It is given like any other.
    #[default]
    Queue,
    /// His substitute takes it, if he may.
    Substitute,
    /// It waits for him, if he is back within this time after it began to wait.
    WaitUntilBack(SignedDuration),
}

/// What is to be found out of the client of a lead before it is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSought {
    /// By what he is to be recognised.
    pub by: BTreeSet<TieBy>,
    /// Only what happened since then counts; `None` for ever.
    pub since: Option<Timestamp>,
    /// With whom the search may end: when one of them has the contact, no deal and no other lead matters.
    pub settled_by: BTreeSet<UserId>,
}

impl ClientSought {
    /// What these rules ask for together, of a lead that any of `settled_by` may have.
    pub(crate) fn by_any<'r>(
        rules: impl Iterator<Item = &'r StickyRules>,
        settled_by: BTreeSet<UserId>,
        now: Timestamp,
    ) -> Option<Self> {
        let mut sought: Option<Self> = None;
        for rules in rules {
            let since = rules.since(now);
            let none = || Self { by: BTreeSet::new(), since, settled_by: BTreeSet::new() };
            let sought = sought.get_or_insert_with(none);
            sought.by.extend(&rules.by);
            sought.since = sought.since.zip(since).map(|(one, other)| one.min(other));
        }
        sought.map(|sought| Self { settled_by, ..sought })
    }
}

impl StickyRules {
    fn since(&self, now: Timestamp) -> Option<Timestamp> {
        // What lies before the beginning of time is for ever.
        self.within.and_then(|within| now.checked_sub(within).ok())
    }

    /// The ties that count, those first that count first; of equals the newest.
    fn in_order<'t>(&self, ties: &'t [Tie], now: Timestamp) -> Vec<&'t Tie> {
        let since = self.since(now);
        let place = |tie: &Tie| self.by.iter().position(|by| *by == tie.by);
        let counts = |tie: &&Tie| place(tie).is_some() && since.is_none_or(|since| tie.at >= since);
        let kind = |of: TieOf| match of {
            TieOf::Contact => 0,
            TieOf::Company => 1,
            TieOf::Deal => 2,
            TieOf::Lead(_) => 3,
        };
        let mut ties: Vec<&Tie> = ties.iter().filter(counts).collect();
        ties.sort_by_key(|tie| (place(tie), kind(tie.of), Reverse(tie.at), tie.owner));
        ties
    }
}

/// Whose client sent a lead, for its explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnClient {
    /// The person who has the client, by his name in the routing file.
    pub person: Name,
    /// Who he is in the portal.
    pub user: UserId,
    /// By what the client was recognised.
    pub by: TieBy,
    /// What the person owns of him.
    pub of: TieOf,
}

/// Where the lead of a known client went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientWent {
    /// To the person who has the client.
    Kept,
    /// To his substitute or successor.
    StoodIn,
    /// It waits for him.
    Waits,
    /// The queue gave it to whose turn it was.
    GivenAway,
}

impl ClientWent {
    /// Everything there is.
    pub const ALL: [Self; 4] = [Self::Kept, Self::StoodIn, Self::Waits, Self::GivenAway];

    /// The word for it, for programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::StoodIn => "stood_in",
            Self::Waits => "waits",
            Self::GivenAway => "given_away",
        }
    }
}

impl Explanation {
    /// Where it went, if its client is known.
    #[must_use]
    pub fn client_went(&self) -> Option<ClientWent> {
        self.client.as_ref()?;
        Some(match (self.taken().map(|candidate| candidate.role), &self.outcome) {
            (Some(Role::Client), _) => ClientWent::Kept,
            (Some(Role::Substitute | Role::Successor), _) => ClientWent::StoodIn,
            (None, Outcome::Hold { reason: HoldReason::OwnersAbsence, .. }) => ClientWent::Waits,
            (Some(Role::Named | Role::Member | Role::OnDuty) | None, _) => ClientWent::GivenAway,
        })
    }
}

/// What came of asking the person who has the client.
pub(crate) struct Kept {
    pub(crate) outcome: KeptOutcome,
    /// Everybody who was asked.
    pub(crate) candidates: Vec<Candidate>,
    /// Whose client it is; `None` where that is nobody of the routing.
    pub(crate) client: Option<OwnClient>,
}

pub(crate) enum KeptOutcome {
    /// He, or who stands in for him, gets the lead.
    Goes(Arc<Person>, Vec<LedgerEntry>),
    /// It waits for him; until then, if that is known.
    Waits(Option<Timestamp>),
    /// It is given like any other.
    Otherwise,
}

/// Asks the person who has the client.
pub(crate) fn ask_own(queue: &Queue, rules: &StickyRules, ties: &[Tie], asked: Asked<'_>) -> Kept {
    let mut asking = Asking { queue, rules, asked, candidates: Vec::new() };
    for tie in rules.in_order(ties, asked.calendar.moment()) {
        let Some(owner) = asked.routing.person_by_user(tie.owner) else { continue };
        if asking.has_asked(owner) {
            continue;
        }
        if let Some(outcome) = asking.ask(owner) {
            let client = OwnClient { person: owner.name.clone(), user: owner.user, by: tie.by, of: tie.of };
            return Kept { outcome, candidates: asking.candidates, client: Some(client) };
        }
    }
    Kept { outcome: KeptOutcome::Otherwise, candidates: asking.candidates, client: None }
}

struct Asking<'a> {
    queue: &'a Queue,
    rules: &'a StickyRules,
    asked: Asked<'a>,
    candidates: Vec<Candidate>,
}

impl Asking<'_> {
    fn has_asked(&self, person: &Person) -> bool {
        self.candidates.iter().any(|candidate| candidate.user == person.user)
    }

    /// `None` when neither he nor his successor has anything to do with this lead.
    fn ask(&mut self, owner: &Arc<Person>) -> Option<KeptOutcome> {
        let (mut person, mut role) = (Arc::clone(owner), Role::Client);
        let refusal = loop {
            let refusal = self.refusal(&person, role);
            match (&refusal, self.successor(&person)) {
                (Some(Reason::Inactive), Some(successor)) => (person, role) = (successor, Role::Successor),
                _ => break refusal,
            }
        };
        let now = self.asked.calendar.moment();
        let absent = match refusal {
            None => return Some(self.gives(person)),
            Some(Reason::Inactive | Reason::HadBefore | Reason::LacksSkill { .. }) => return None,
            // He may take it in a moment, so nobody else does.
            Some(Reason::AtLimit { limit: Limit::ReleasePerMinute, .. }) => {
                return Some(KeptOutcome::Waits(None));
            }
            Some(refusal) => refusal,
        };
        Some(match self.rules.if_absent {
            IfAbsent::Queue => KeptOutcome::Otherwise,
            IfAbsent::Substitute => match self.substitute(&person) {
                Some(substitute) => self.gives(substitute),
                None => KeptOutcome::Otherwise,
            },
            IfAbsent::WaitUntilBack(longest) => {
                let since = self.asked.held_since.unwrap_or(now);
                let end = since.checked_add(longest).unwrap_or(Timestamp::MAX);
                let presence = self.asked.roster.get(person.user);
                let demands = self.asked.demands(self.queue, Role::Client);
                let back = demands.available(&absent, &person, presence, self.asked.calendar);
                if now >= end || back.is_some_and(|back| back > end) {
                    KeptOutcome::Otherwise
                } else {
                    KeptOutcome::Waits(back)
                }
            }
        })
    }

    /// Why he may not take it, which is noted.
    fn refusal(&mut self, person: &Person, role: Role) -> Option<Reason> {
        let presence = self.asked.roster.get(person.user);
        let refusal = self.asked.demands(self.queue, role).refusal(person, presence, self.asked.calendar);
        let taken = if role == Role::Client { Reason::SameClient } else { Reason::StandsIn };
        let reason = refusal.clone().unwrap_or(taken);
        self.candidates.push(Candidate::new(person, role, Some(&self.queue.name), reason));
        refusal
    }

    /// The successor of who is dismissed, unless he was asked already.
    fn successor(&self, person: &Person) -> Option<Arc<Person>> {
        let successor = self.asked.routing.person(person.successor.as_deref()?)?;
        (!self.has_asked(successor)).then(|| Arc::clone(successor))
    }

    /// The substitute of who is away, if he may take the lead.
    fn substitute(&mut self, person: &Person) -> Option<Arc<Person>> {
        let substitute = Arc::clone(self.asked.routing.person(person.substitute.as_deref()?)?);
        if self.has_asked(&substitute) {
            return None;
        }
        self.refusal(&substitute, Role::Substitute).is_none().then_some(substitute)
    }

    /// The person who was asked last gets it.
    fn gives(&mut self, person: Arc<Person>) -> KeptOutcome {
        let charge =
            self.rules.pays.then(|| strategy::charge_client(self.queue, &person, self.asked)).flatten();
        let (credit, entries) = charge.unzip();
        if let Some(candidate) = self.candidates.last_mut() {
            candidate.credit = credit;
        }
        KeptOutcome::Goes(person, entries.unwrap_or_default())
    }
}

impl Routing {
    /// The country code of phone numbers that are written without one, such as `7`.
    #[must_use]
    pub fn country_code(&self) -> Option<&str> {
        self.country_code.as_deref()
    }

    /// The person with this number in the portal.
    fn person_by_user(&self, user: UserId) -> Option<&Arc<Person>> {
        self.people.iter().find(|person| person.user == user)
    }
}

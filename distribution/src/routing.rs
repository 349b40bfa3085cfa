//! The routing: who the people are, in which queues they stand, which rule sends a lead where.
//!
//! It comes from a routing file that was found free of errors ([`Routing::from_yaml`]), so whoever holds one may rely
//! on it: every queue has members, every name is known, every weight counts, no queue hands its leads round in a circle,
//! and there is a default.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustc_hash::FxHashSet;

use crate::answer::AnswerRules;
use crate::condition::{Condition, Expected};
use crate::decision::Orders;
use crate::explanation::Role;
use crate::facts::Facts;
use crate::ids::UserId;
use crate::made_by_hand::MadeByHand;
use crate::name::Name;
use crate::rule_index::RuleIndex;
use crate::schedule::{Holidays, Schedule};
use crate::sticky::StickyRules;
use crate::waiting::HoldRules;

/// The whole routing of one portal.
#[derive(Debug, Clone)]
pub struct Routing {
    pub(crate) version: u64,
    pub(crate) zone: TimeZone,
    pub(crate) holidays: Holidays,
    /// From whom leads may be taken; `None` for anybody. Leads of others were given by a person.
    pub(crate) only_from: Option<BTreeSet<UserId>>,
    pub(crate) made_by_hand: MadeByHand,
    /// Each schedule that anybody or any rule follows, in each zone in which it is followed.
    pub(crate) hours: Vec<LocalSchedule>,
    /// Of phone numbers that are written without one, in digits.
    pub(crate) country_code: Option<Name>,
    pub(crate) fields: Vec<Name>,
    pub(crate) people: Vec<Arc<Person>>,
    pub(crate) queues: Vec<Queue>,
    /// Whose balances each ledger keeps: those who take turns in it.
    pub(crate) parties: BTreeMap<Name, Parties>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) rule_index: RuleIndex,
    pub(crate) default: Handover,
}

/// The people of one ledger.
pub(crate) type Parties = FxHashSet<UserId>;

/// A schedule in the zone of those who follow it; named by its place in [`Routing::hours`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalSchedule {
    pub(crate) schedule: Arc<Schedule>,
    pub(crate) zone: TimeZone,
}

/// Somebody who can get leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// What the routing file calls him.
    pub name: Name,
    /// Who he is in the portal; no two people share a user.
    pub user: UserId,
    /// His weight in the queues that give him no other.
    pub weight: Weight,
    /// Where he lives: his schedule and his day are of this zone.
    pub zone: TimeZone,
    /// Whether that is where the portal says, as far as it does.
    pub zone_of_portal: bool,
    /// What he is good at, for the rules that ask for it.
    pub skills: BTreeSet<Name>,
    /// How much he may be given, by whatever queue or rule.
    pub limits: Limits,
    /// Who takes the leads of his clients while he is away, by his name; not himself.
    pub substitute: Option<Name>,
    /// Who takes the leads of his clients when he is dismissed, by his name; not himself.
    pub successor: Option<Name>,
    /// When he works: a place in [`Routing::hours`]; `None` for always.
    pub(crate) hours: Option<usize>,
}

/// How much one person may be given. What is `None` has no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Leads in process at the same time.
    pub open: Option<u32>,
    /// Leads given in 60 minutes.
    pub per_hour: Option<u32>,
    /// Leads given in a day of his own zone.
    pub per_day: Option<u32>,
}

impl Person {
    /// When the day of this moment began where he lives: from then on counts [`Presence::day`](crate::Presence::day).
    #[must_use]
    pub fn day_start(&self, moment: Timestamp) -> Timestamp {
        let day = moment.to_zoned_datetime(self.zone.clone()).start_of_day();
        // Only a day at the very ends of time has no beginning.
        day.map_or(moment, |day| day.timestamp())
    }

    /// When the next day begins where he lives; `None` at the end of time.
    #[must_use]
    pub fn next_day(&self, moment: Timestamp) -> Option<Timestamp> {
        let tomorrow = moment.to_zoned_datetime(self.zone.clone()).tomorrow().ok()?;
        Some(tomorrow.start_of_day().ok()?.timestamp())
    }
}

/// An ordered list of people who take leads in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// What the routing file calls it.
    pub name: Name,
    /// The ledger that keeps its turns; queues may share one.
    pub ledger: Name,
    /// The ledger that keeps the turns of those on duty.
    pub(crate) duty_ledger: Name,
    /// How one of its members is chosen.
    pub strategy: Strategy,
    /// At least one; nobody twice.
    pub members: Vec<Member>,
    /// Who must have an open working day in the portal's time tracking to take its leads.
    pub working_day: WorkingDayOf,
    /// Whether who is on leave or away gets none.
    pub absences_respected: bool,
    /// How much each of its people may have, besides their own limits.
    pub limits: Limits,
    /// Who takes its leads when no member may; nobody twice.
    pub on_duty: Vec<Member>,
    /// What is tried in this order when no member may take a lead; then it is held.
    pub(crate) if_nobody: Vec<Fallback>,
    /// What becomes of its leads that are held.
    pub hold: HoldRules,
    /// By when its leads are to be answered, if they are.
    pub answer: Option<AnswerRules>,
    /// Whether who has the client of a lead gets it, if he does.
    pub sticky: Option<StickyRules>,
}

/// Of whom a queue wants an open working day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WorkingDayOf {
    /// Of nobody.
    #[default]
    Nobody,
    /// Of its members. Who is on duty answers for the queue whether his day is open or not: he is asked because nobody else
    /// is there.
    Members,
    /// Of its members and of those on duty.
    All,
}

impl WorkingDayOf {
    /// Whether it binds who is asked as this. A rule that names a person asks for no working day.
    #[must_use]
    pub fn binds(self, role: Role) -> bool {
        match (self, role) {
            (Self::Nobody, _) | (_, Role::Named) | (Self::Members, Role::OnDuty) => false,
            (Self::Members | Self::All, Role::Member | Role::Client | Role::Substitute | Role::Successor)
            | (Self::All, Role::OnDuty) => true,
        }
    }
}

impl Queue {
    /// Everybody whom it asks, and as what: its members, and those on duty where it asks them at all.
    pub(crate) fn everybody(&self) -> impl Iterator<Item = (&Member, Role)> {
        let on_duty: &[_] = if self.if_nobody.contains(&Fallback::OnDuty) { &self.on_duty } else { &[] };
        let members = self.members.iter().map(|member| (member, Role::Member));
        members.chain(on_duty.iter().map(|member| (member, Role::OnDuty)))
    }
}

/// What is tried when nobody who should may take a lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// The queue's people on duty.
    OnDuty,
    /// Another queue, with what that tries itself; a place in [`Routing::queues`].
    Queue(usize),
    /// It waits.
    Hold,
}

/// A person's place in a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub person: Arc<Person>,
    /// His weight in this queue.
    pub weight: Weight,
}

/// How a queue chooses among its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Strategy {
    /// By turns kept in a credit ledger.
    Rotation,
    /// Who has the fewest open leads for his weight; among equals by turns.
    LeastLoaded,
    /// The first in the list.
    InOrder,
}

/// A share of a queue's leads, relative to the other members' weights.
///
/// **Range**: 1 to [`Weight::MAX`]. Two people with 1 and 3 get a quarter and three quarters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u32);

/// A condition under which a lead goes to a target.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) name: Name,
    /// All must be met; none means every lead.
    pub(crate) clauses: Vec<Clause>,
    pub(crate) route: Route,
}

/// One entry of a `when`.
#[derive(Debug, Clone)]
pub(crate) struct Clause {
    pub(crate) test: Test,
    /// As the file has it, on one line and shortened: `source: [COLD_CALL, CALL]`.
    pub(crate) text: Name,
}

/// What an entry of a `when` asks.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    /// `source: CALL`
    Field {
        /// The field's number: its place in [`Routing::fields`].
        field: usize,
        condition: Condition,
    },
    /// `all: [{ source: CALL }, { city: Tver }]`
    All(Vec<Vec<Clause>>),
    /// `any: [{ source: CALL }, { city: Tver }]`
    Any(Vec<Vec<Clause>>),
    /// `not: { source: CALL, city: Tver }`
    Not(Vec<Clause>),
    /// `received: { within: office }`
    Received {
        /// A place in [`Routing::hours`].
        hours: usize,
        /// False for `{ not: { within: office } }`.
        within: bool,
    },
}

/// Where a rule sends its leads.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    To(Handover),
    By(Tree),
}

/// `by: region, cases: { Moscow: { assign: ivanov } }, else: { queue: main }`
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    /// The field's number.
    pub(crate) field: usize,
    /// In the file's order; the first whose value the field has decides.
    pub(crate) cases: Vec<Case>,
    /// Where the others go; without it the rule does not take them.
    pub(crate) otherwise: Option<Box<Case>>,
    /// `region: none of the cases`.
    pub(crate) none: Name,
}

/// A branch of a tree.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// What the field must equal; nothing for `else`.
    pub(crate) value: Option<Expected>,
    /// `region: Moscow`, `region: else`.
    pub(crate) text: Name,
    pub(crate) route: Route,
}

/// Where a lead goes, and with what.
#[derive(Debug, Clone)]
pub(crate) struct Handover {
    pub(crate) target: Target,
    /// What whoever takes it must be good at.
    pub(crate) skills: Vec<Name>,
    /// What is done with the lead besides; `None` for nothing.
    pub(crate) orders: Option<Arc<Orders>>,
}

#[derive(Debug, Clone)]
pub(crate) enum Target {
    Person {
        person: Arc<Person>,
        /// What is tried when he may not take it; `None` for the routing's default.
        if_nobody: Option<Vec<Fallback>>,
    },
    /// A place in [`Routing::queues`].
    Queue(usize),
}

impl Routing {
    /// The label that decisions name; 0 until it is set.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The same routing under another label, such as the number of the published version.
    #[must_use]
    pub fn with_version(self, version: u64) -> Self {
        Self { version, ..self }
    }

    /// The people, in the file's order: whose presence a [`Roster`](crate::Roster) should know.
    pub fn people(&self) -> impl Iterator<Item = &Person> {
        self.people.iter().map(AsRef::as_ref)
    }

    /// The queues, in the file's order: whose ledgers a decision needs.
    pub fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.queues.iter()
    }

    /// The file's `time_zone`, UTC without one: of schedules in rules, and of people who have none of their own.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The names of all ledgers, in order: of queues, and of those on duty for them.
    pub fn ledgers(&self) -> impl Iterator<Item = &Name> {
        self.parties.keys()
    }

    /// Whether a decision depends on [`Presence::hour`](crate::Presence::hour) or [`day`](crate::Presence::day).
    #[must_use]
    pub fn counts_leads_given(&self) -> bool {
        self.any_limit(|limits| limits.per_hour.is_some() || limits.per_day.is_some())
    }

    /// Whether a decision depends on [`Presence::open`](crate::Presence::open).
    #[must_use]
    pub fn counts_open_leads(&self) -> bool {
        self.queues.iter().any(|queue| queue.strategy == Strategy::LeastLoaded)
            || self.any_limit(|limits| limits.open.is_some())
    }

    /// Whether a decision depends on [`Presence::working_day`](crate::Presence::working_day).
    #[must_use]
    pub fn asks_working_days(&self) -> bool {
        self.queues.iter().any(|queue| queue.working_day != WorkingDayOf::Nobody)
    }

    fn any_limit(&self, test: impl Fn(&Limits) -> bool) -> bool {
        self.people.iter().any(|person| test(&person.limits))
            || self.queues.iter().any(|queue| test(&queue.limits))
    }

    /// Every place that leads are sent to, by rules, their cases and the default.
    pub(crate) fn handovers(&self) -> Vec<&Handover> {
        fn of_route<'r>(route: &'r Route, into: &mut Vec<&'r Handover>) {
            match route {
                Route::To(handover) => into.push(handover),
                Route::By(Tree { cases, otherwise, .. }) => {
                    let cases = cases.iter().chain(otherwise.as_deref());
                    cases.for_each(|case| of_route(&case.route, into));
                }
            }
        }
        let mut all = vec![&self.default];
        self.rules.iter().for_each(|rule| of_route(&rule.route, &mut all));
        all
    }

    /// The codes of the lead's fields that rules ask about, each once, such as `SOURCE_ID`.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(Name::as_str)
    }
}

impl Rule {
    /// Where this lead goes and by which cases; or what it does not meet.
    pub(crate) fn matches(&self, facts: &Facts<'_>) -> Result<Matched<'_>, Name> {
        if let Some(unmet) = self.clauses.iter().find(|clause| !clause.is_met(facts)) {
            return Err(unmet.text.clone());
        }
        let mut cases = Vec::new();
        let handover = self.route.follow(facts, &mut cases)?;
        Ok(Matched { handover, cases })
    }
}

/// A rule that takes the lead.
pub(crate) struct Matched<'r> {
    pub(crate) handover: &'r Handover,
    /// The cases on the way, outermost first.
    pub(crate) cases: Vec<Name>,
}

impl Clause {
    fn is_met(&self, facts: &Facts<'_>) -> bool {
        let all = |clauses: &[Self]| clauses.iter().all(|clause| clause.is_met(facts));
        match &self.test {
            Test::Field { field, condition } => condition.is_met(facts.get(*field)),
            Test::All(groups) => groups.iter().all(|group| all(group)),
            Test::Any(groups) => groups.iter().any(|group| all(group)),
            Test::Not(clauses) => !all(clauses),
            Test::Received { hours, within } => facts.received_within(*hours) == *within,
        }
    }
}

impl Route {
    /// Whether it has an end for every lead.
    pub(crate) fn takes_all(&self) -> bool {
        match self {
            Self::To(_) => true,
            Self::By(tree) => {
                tree.otherwise.as_ref().is_some_and(|case| case.route.takes_all())
                    && tree.cases.iter().all(|case| case.route.takes_all())
            }
        }
    }

    fn follow(&self, facts: &Facts<'_>, cases: &mut Vec<Name>) -> Result<&Handover, Name> {
        match self {
            Self::To(handover) => Ok(handover),
            Self::By(tree) => {
                let fact = facts.get(tree.field);
                let fits = |case: &&Case| case.value.as_ref().is_some_and(|value| value.is_met(fact));
                match tree.cases.iter().find(fits).or(tree.otherwise.as_deref()) {
                    Some(case) => {
                        cases.push(case.text.clone());
                        case.route.follow(facts, cases)
                    }
                    None => Err(tree.none.clone()),
                }
            }
        }
    }
}

impl Weight {
    /// The weight of who has none in the file.
    pub const ONE: Self = Self(1);
    /// The largest weight. Enough to give shares in hundredths of a percent; what a larger one would cost in exactness
    /// says [`Credit::TURN`](crate::Credit::TURN).
    pub const MAX: Self = Self(10_000);

    /// This weight, if it is in range.
    #[must_use]
    pub const fn new(weight: u32) -> Option<Self> {
        if 1 <= weight && weight <= Self::MAX.0 { Some(Self(weight)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

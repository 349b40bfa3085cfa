//! The routing: who the people are, in which queues they stand, which rule sends a lead where.
//!
//! It comes from a routing file that was found free of errors ([`Routing::from_yaml`]), so whoever holds one may rely
//! on it: every queue has members, every name is known, every weight counts, and there is a default.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::condition::{Condition, Expected};
use crate::facts::Facts;
use crate::ids::UserId;
use crate::name::Name;

/// The whole routing of one portal.
#[derive(Debug, Clone)]
pub struct Routing {
    pub(crate) version: u64,
    pub(crate) fields: Vec<Name>,
    pub(crate) people: Vec<Arc<Person>>,
    pub(crate) queues: Vec<Arc<Queue>>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) default: Target,
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
}

impl Person {
    /// When the day of this moment began where he lives: from then on counts [`Presence::day`](crate::Presence::day).
    #[must_use]
    pub fn day_start(&self, moment: Timestamp) -> Timestamp {
        let day = moment.to_zoned(self.zone.clone()).start_of_day();
        // Only a day at the very ends of time has no beginning.
        day.map_or(moment, |day| day.timestamp())
    }
}

/// An ordered list of people who take leads in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// What the routing file calls it.
    pub name: Name,
    /// The ledger that keeps its turns; it has the queue's name.
    pub ledger: Name,
    /// How one of its members is chosen.
    pub strategy: Strategy,
    /// At least one; nobody twice.
    pub members: Vec<Member>,
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
}

/// Where a rule sends its leads.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    To(Target),
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

/// Where a lead goes.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Person(Arc<Person>),
    Queue(Arc<Queue>),
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
        self.queues.iter().map(AsRef::as_ref)
    }

    /// The codes of the lead's fields that rules ask about, each once, such as `SOURCE_ID`.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(Name::as_str)
    }
}

impl Rule {
    /// Where this lead goes and by which cases; or what it does not meet.
    pub(crate) fn matches(&self, facts: &Facts) -> Result<Matched<'_>, Name> {
        if let Some(unmet) = self.clauses.iter().find(|clause| !clause.is_met(facts)) {
            return Err(unmet.text.clone());
        }
        let mut cases = Vec::new();
        let target = self.route.follow(facts, &mut cases)?;
        Ok(Matched { target, cases })
    }
}

/// A rule that takes the lead.
pub(crate) struct Matched<'r> {
    pub(crate) target: &'r Target,
    /// The cases on the way, outermost first.
    pub(crate) cases: Vec<Name>,
}

impl Clause {
    fn is_met(&self, facts: &Facts) -> bool {
        let all = |clauses: &[Self]| clauses.iter().all(|clause| clause.is_met(facts));
        match &self.test {
            Test::Field { field, condition } => condition.is_met(facts.get(*field)),
            Test::All(groups) => groups.iter().all(|group| all(group)),
            Test::Any(groups) => groups.iter().any(|group| all(group)),
            Test::Not(clauses) => !all(clauses),
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

    fn follow(&self, facts: &Facts, cases: &mut Vec<Name>) -> Result<&Target, Name> {
        match self {
            Self::To(target) => Ok(target),
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

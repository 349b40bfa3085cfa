//! Who is at work, and what people say of themselves: `rota people list`, `pause`, `resume`, `absent`, `cancel`.

use clap::Subcommand;
use common::clock::{Clock as _, SystemClock};
use distribution::{Language, Person, Role, Routing, Whereabouts};
use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use store::{Counting, Decisions as _, KnownPeople, OwnAbsence, OwnKind, Rosters as _};

use crate::failure::Failure;
use crate::output;
use crate::published::{Author, Place};

/// The longest pause: who is away longer is absent.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(24);

#[derive(Subcommand)]
pub(crate) enum People {
    /// Shows for each person and queue who takes leads now, why others do not, and when that changes.
    ///
    /// It is what a decision about a new lead would find: by schedules, pauses, absences and limits, by what the portal told the routers last, and by what people were given. A line without a queue is for leads that a rule gives by name.
    List {
        /// A JSON list instead of a table.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Lets somebody take no leads for a while though he is at work. A pause that runs is replaced.
    Pause {
        /// The person, by his name in the routing file.
        #[arg(value_name = "PERSON")]
        person: String,
        /// How long, such as 45m or 1h30m, 24h at the most.
        #[arg(long = "for", value_name = "DURATION")]
        duration: String,
        /// Why, for those who look later.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        author: Author,
        #[command(flatten)]
        place: Place,
    },
    /// Ends a pause, and an absence that was noted here and has begun.
    Resume {
        /// The person, by his name in the routing file.
        #[arg(value_name = "PERSON")]
        person: String,
        #[command(flatten)]
        author: Author,
        #[command(flatten)]
        place: Place,
    },
    /// Notes that somebody is away. What the portal knows of absences counts besides.
    ///
    /// Example: rota people absent ivanov --from 2026-12-01 --to 2026-12-05T13:00
    Absent {
        /// The person, by his name in the routing file.
        #[arg(value_name = "PERSON")]
        person: String,
        /// From when: a day, or a day with a time, where he lives.
        #[arg(long, value_name = "TIME")]
        from: String,
        /// Until when: a day, which counts as a whole, or a day with a time.
        #[arg(long, value_name = "TIME")]
        to: String,
        /// Why, for those who look later.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        author: Author,
        #[command(flatten)]
        place: Place,
    },
    /// Takes back the absences of somebody that were noted here and have not begun.
    Cancel {
        /// The person, by his name in the routing file.
        #[arg(value_name = "PERSON")]
        person: String,
        #[command(flatten)]
        author: Author,
        #[command(flatten)]
        place: Place,
    },
}

pub(crate) async fn run(command: People) -> Result<u8, Failure> {
    match command {
        People::List { json, place } => list(&place, json).await,
        People::Pause { person, duration, reason, author, place } => {
            let length = duration.parse::<SignedDuration>().ok();
            let length = length.filter(|length| length.is_positive() && *length <= LONGEST_PAUSE);
            let length = length.ok_or_else(|| {
                Failure::arguments(format!(
                    "`{duration}`: a duration such as 45m or 1h30m is needed, 24h at the most"
                ))
            })?;
            let now = SystemClock.now();
            note(&place, &person, OwnKind::Pause, |_| Ok((now, now + length)), (reason, &author)).await
        }
        People::Absent { person, from, to, reason, author, place } => {
            let times = |person: &Person| Ok((moment(&from, person, false)?, moment(&to, person, true)?));
            note(&place, &person, OwnKind::Absence, times, (reason, &author)).await
        }
        People::Resume { person, author, place } => end(&place, &person, true, &author).await,
        People::Cancel { person, author, place } => end(&place, &person, false, &author).await,
    }
}

/// A day or a day with a time, where the person lives. A day that ends something ends with it.
fn moment(text: &str, person: &Person, is_end: bool) -> Result<Timestamp, Failure> {
    let wrong = || {
        let message = format!("`{text}` is no time; write a day as 2026-12-01, or 2026-12-01T13:00");
        Failure::arguments(message)
    };
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    let civil: DateTime = if text.contains('T') {
        text.parse().map_err(|_| wrong())?
    } else {
        let day: Date = text.parse().map_err(|_| wrong())?;
        let day = if is_end { day.tomorrow().map_err(|_| wrong())? } else { day };
        day.into()
    };
    person.zone.to_timestamp(civil).map_err(|_| wrong())
}

fn find<'r>(routing: &'r Routing, name: &str) -> Result<&'r Person, Failure> {
    routing.people().find(|person| person.name == name).ok_or_else(|| {
        let known = routing.people().map(|person| person.name.as_str());
        let hint = distribution::nearest(name, known);
        Failure::arguments(format!("nobody is called `{name}` in the routing that decides{hint}"))
    })
}

async fn note(
    place: &Place,
    name: &str,
    kind: OwnKind,
    times: impl FnOnce(&Person) -> Result<(Timestamp, Timestamp), Failure>,
    (reason, author): (Option<String>, &Author),
) -> Result<u8, Failure> {
    let opened = place.open().await?;
    let now = SystemClock.now();
    let state = opened.store.roster(&opened.portal, now).await?;
    let routing = opened.routing().await?.with_portal_zones(&KnownPeople::from_store(state).time_zones());
    let person = find(&routing, name)?;
    let (from, to) = times(person)?;
    if to <= from || to <= now {
        return Err(Failure::arguments(format!(
            "{name}: it would be over before it begins, or is over already"
        )));
    }
    let absence = OwnAbsence { user: person.user, kind, from, to, reason, author: author.name() };
    opened.store.note_absence(&opened.portal, &absence, now).await?;
    let (from, to) = (local(from, &routing), local(to, &routing));
    output::print(&match kind {
        OwnKind::Pause => format!("{name} takes no leads until {to}\n"),
        OwnKind::Absence => format!("{name} is away from {from} to {to}\n"),
    });
    Ok(0)
}

async fn end(place: &Place, name: &str, begun: bool, author: &Author) -> Result<u8, Failure> {
    let opened = place.open().await?;
    let routing = opened.routing().await?;
    let user = find(&routing, name)?.user;
    let ended =
        opened.store.end_absences(&opened.portal, user, begun, &author.name(), SystemClock.now()).await?;
    match ended {
        0 => {
            let what = if begun { "no pause and no absence" } else { "no absence to come" };
            let message = format!("{name} has {what} that was noted here; nothing was changed");
            return Err(Failure::file(message));
        }
        _ if begun => output::print(&format!("{name} takes leads again, as far as this is concerned\n")),
        _ => output::print(&format!("{ended} of {name}'s absences to come are taken back\n")),
    }
    Ok(0)
}

fn local(moment: Timestamp, routing: &Routing) -> String {
    moment.to_zoned_datetime(routing.zone().clone()).strftime("%Y-%m-%d %H:%M %Z").to_string()
}

/// For what leads he is asked, and as what.
fn asked_for(one: &Whereabouts) -> String {
    match (&one.queue, one.role) {
        (Some(queue), Role::OnDuty) => format!("{queue}, on duty"),
        (Some(queue), _) => queue.to_string(),
        (None, _) => "by name".to_owned(),
    }
}

async fn list(place: &Place, as_json: bool) -> Result<u8, Failure> {
    let opened = place.open().await?;
    let (routing, now) = (opened.routing().await?, SystemClock.now());
    let state = opened.store.roster(&opened.portal, now).await?;
    let problems: Vec<(&str, String)> = state
        .readings
        .iter()
        .filter_map(|reading| Some((reading.source.as_str(), reading.problem.clone()?)))
        .collect();
    let own = state.own.clone();
    let known = KnownPeople::from_store(state);
    let routing = routing.with_portal_zones(&known.time_zones());
    let given = opened.store.given(&opened.portal, &Counting::of(&routing, known.counted_at(), now)).await?;
    let roster = known.roster(&routing, &given, opened.intervals, now);
    let people = routing.whereabouts(&roster, now);
    let note = |one: &Whereabouts| {
        let mine = own.iter().find(|own| own.user == one.user && own.from <= now);
        mine.map(|own| {
            let reason = own.reason.as_ref().map(|reason| format!("{reason}, ")).unwrap_or_default();
            format!("{reason}by {}", own.author)
        })
    };
    if as_json {
        let row = |one: &Whereabouts| {
            json!({
                "person": one.person, "user": one.user, "queue": one.queue, "as": one.role, "takes_leads": one.reason.is_none(), "why": one.reason,
                "changes_at": one.changes_at, "note": note(one), "open": roster.get(one.user).open,
            })
        };
        output::print_json(&Value::Array(people.iter().map(row).collect()));
        return Ok(0);
    }
    let row = |one: &Whereabouts| {
        vec![
            one.person.to_string(),
            asked_for(one),
            if one.reason.is_none() { "yes" } else { "no" }.to_owned(),
            one.changes_at.map(|at| local(at, &routing)).unwrap_or_default(),
            one.why(&routing, now, Language::English),
            note(one).unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = people.iter().map(row).collect();
    output::print(&output::text_table(
        &["person", "for", "takes leads", "changes at", "why not", "noted"],
        &rows,
    ));
    for (source, problem) in &problems {
        output::complain(&format!("the portal did not tell {source}: {problem}"));
    }
    Ok(0)
}

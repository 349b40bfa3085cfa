//! What a pack is made of: whose owner is set, who is told by which notice, in which order.
//!
//! Owner and notice stand side by side, `[u1, n1, u2, n2, …]`, and a new owner proves that all before it ran. So after
//! a lost answer at most one notice is in doubt. Somebody who gets many leads at once is told by one notice behind the
//! last of them.
//!
//! Leads that have the right owner already prove nothing of their notices. A pack has only one of them, or those of one
//! person in one notice, before the first new owner of another.

use std::collections::{BTreeMap, VecDeque};

use bitrix24::Command;
use bitrix24::command::MAX_COMMANDS;
use bitrix24::lead::set_owner_command;
use bitrix24::notify::Notice;
use common::ids::UserId;
use store::PackItem;

use crate::wording::{News, Wording};
use crate::writer::Write;

/// One assignment that may be written: its lead was looked at.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    pub(crate) write: Write,
    /// False where the owner is right already.
    pub(crate) set_owner: bool,
}

impl Ready {
    /// Whether the lead itself is written.
    pub(crate) fn updates(&self) -> bool {
        self.set_owner || !self.write.fields.is_empty()
    }

    /// Whether somebody is told of a lead that does not change its owner.
    fn only_tells(&self, wording: &Wording) -> bool {
        let changes_owner = self.set_owner && self.write.from != Some(self.write.to);
        wording.tells() && !self.write.told && !changes_owner
    }
}

/// The places of an assignment's commands in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) update: Option<usize>,
    pub(crate) notice: Option<usize>,
}

/// Parts what waits, in its order, into what may be in one pack and what has to wait for another.
pub(crate) fn of_one_pack<T>(
    waiting: VecDeque<T>,
    ready: impl Fn(&T) -> &Ready,
    wording: &Wording,
) -> (VecDeque<T>, VecDeque<T>) {
    let mut to_tell: BTreeMap<UserId, usize> = BTreeMap::new();
    for ready in waiting.iter().map(&ready).filter(|ready| !ready.write.told) {
        *to_tell.entry(ready.write.to).or_default() += 1;
    }
    let mut first = None;
    waiting.into_iter().partition(|waits| {
        let ready = ready(waits);
        let person = ready.write.to;
        !ready.only_tells(wording)
            || match first {
                None => {
                    first = Some(person);
                    true
                }
                Some(first) => first == person && wording.is_digest(to_tell[&person]),
            }
    })
}

/// The leads that one person of a pack is told of.
#[derive(Default)]
struct Told {
    leads: usize,
    /// Those that do not change their owner.
    unchanged: usize,
}

impl Told {
    fn add(&mut self, ready: &Ready, wording: &Wording) {
        self.leads += usize::from(wording.tells() && !ready.write.told);
        self.unchanged += usize::from(ready.only_tells(wording));
    }

    /// Also where a pack ends before it has as many leads as make a digest.
    fn by_digest(&self, wording: &Wording) -> bool {
        wording.is_digest(self.leads) || self.unchanged > 1
    }
}

/// How many of these, from the first on, make a pack of at most `commands` commands and `leads` leads.
pub(crate) fn fitting<'a>(
    ready: impl Iterator<Item = &'a Ready>,
    wording: &Wording,
    commands: usize,
    leads: usize,
) -> usize {
    let mut told: BTreeMap<UserId, Told> = BTreeMap::new();
    let (mut updates, mut fitting) = (0, 0);
    for (count, ready) in (1..=leads).zip(ready) {
        updates += usize::from(ready.updates());
        told.entry(ready.write.to).or_default().add(ready, wording);
        let notices: usize =
            told.values().map(|told| if told.by_digest(wording) { 1 } else { told.leads }).sum();
        // One more for the same person can make five notices one.
        if updates + notices <= commands {
            fitting = count;
        }
    }
    fitting
}

/// A pack: its assignments by person, and who of them is told by one notice.
#[derive(Debug)]
pub(crate) struct Pack {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    to: UserId,
    digest: bool,
    items: Vec<Ready>,
}

impl Pack {
    /// Makes a pack of these, which are [`of_one_pack`]. First comes who is told of leads that do not change their
    /// owner, and of theirs those leads; else the order of one person's leads stays.
    pub(crate) fn of(items: Vec<Ready>, wording: &Wording) -> Self {
        let mut people: BTreeMap<UserId, Vec<Ready>> = BTreeMap::new();
        for item in items {
            people.entry(item.write.to).or_default().push(item);
        }
        let group = |(to, mut items): (UserId, Vec<Ready>)| {
            let mut told = Told::default();
            for item in &items {
                told.add(item, wording);
            }
            items.sort_by_key(|item| !item.only_tells(wording));
            (told.unchanged == 0, Group { to, digest: told.by_digest(wording), items })
        };
        let mut groups: Vec<(bool, Group)> = people.into_iter().map(group).collect();
        groups.sort_by_key(|(all_change_owner, _)| *all_change_owner);
        Self { groups: groups.into_iter().map(|(_, group)| group).collect() }
    }

    /// The assignments, in the order of the pack.
    pub(crate) fn items(&self) -> impl Iterator<Item = &Ready> {
        self.groups.iter().flat_map(|group| &group.items)
    }

    /// Takes out those that may not be sent. What is left keeps its order, and is told as planned.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Ready) -> bool) -> Vec<Ready> {
        let mut out = Vec::new();
        for group in &mut self.groups {
            let (kept, taken_out) = std::mem::take(&mut group.items).into_iter().partition(&keep);
            group.items = kept;
            out.extend::<Vec<Ready>>(taken_out);
        }
        out
    }

    /// The commands, and for each assignment its places among them.
    pub(crate) fn commands(&self, wording: &Wording) -> (Vec<Command>, Vec<Places>) {
        let (mut commands, mut places) = (Vec::new(), Vec::new());
        for group in &self.groups {
            let first = places.len();
            let mut news = Vec::new();
            for item in &group.items {
                let write = &item.write;
                let update = item.updates().then_some(commands.len());
                commands.extend(
                    update.map(|_| set_owner_command(write.key.lead, write.to, write.fields.clone())),
                );
                let lead = (!write.told).then_some(News { key: &write.key, title: &write.title });
                let notice = lead.filter(|_| !group.digest).and_then(|news| wording.notice(group.to, news));
                places.push(Places { update, notice: notice.is_some().then_some(commands.len()) });
                commands.extend(notice.as_ref().map(Notice::command));
                news.extend(lead);
            }
            if let Some(digest) = wording.digest(group.to, &news).filter(|_| group.digest) {
                for (place, item) in places.iter_mut().skip(first).zip(&group.items) {
                    place.notice = (!item.write.told).then_some(commands.len());
                }
                commands.push(digest.command());
            }
        }
        (commands, places)
    }
}

/// What is noted of a pack before it is sent.
pub(crate) fn noted<'a>(items: impl Iterator<Item = (&'a Ready, Places)>) -> Vec<PackItem> {
    let place = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
    let item = |(index, (ready, places)): (usize, (&Ready, Places))| PackItem {
        key: ready.write.key.clone(),
        from: ready.write.from,
        to: ready.write.to,
        // A lead that shares a notice and has no other command has a place of its own behind all.
        position: place(places.update.unwrap_or(MAX_COMMANDS + index)),
        sets_owner: ready.set_owner && places.update.is_some(),
        notice_position: places.notice.map(place),
        more_to_do: ready.write.more_to_do,
    };
    items.enumerate().map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(lead: u64, to: u64) -> Ready {
        let write = Write { title: "Flat".to_owned(), ..Write::plain(lead, to) };
        Ready { write, set_owner: true }
    }

    /// The pack as text: `u5` sets the owner of lead 5, `n9` tells user 9.
    fn text(pack: &Pack, wording: &Wording) -> String {
        let word = |command: Command| match command.params().get("USER_ID") {
            Some(user) => format!("n{user}"),
            None => format!("u{}", command.params()["id"]),
        };
        pack.commands(wording).0.into_iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn pairs_and_one_notice_for_many() {
        let wording = Wording::plain(2);
        let items = [(1, 12), (2, 11), (3, 12), (4, 11), (5, 12)].map(|(lead, to)| ready(lead, to));
        let mut pack = Pack::of(items.to_vec(), &wording);
        assert_eq!(text(&pack, &wording), "u2 n11 u4 n11 u1 u3 u5 n12");
        let places = pack.commands(&wording).1;
        let place = |update, notice| Places { update: Some(update), notice: Some(notice) };
        assert_eq!(places, [place(0, 1), place(2, 3), place(4, 7), place(5, 7), place(6, 7)]);
        // Two of three were sent by somebody else meanwhile: still told as was written down.
        let out = pack.retain(|item| ![1, 3].contains(&item.write.key.lead.get()));
        assert_eq!(out.len(), 2);
        assert_eq!(text(&pack, &wording), "u2 n11 u4 n11 u5 n12");
    }

    #[test]
    fn what_was_done_before_is_not_done_again() {
        let wording = Wording::plain(5);
        let mut items = [ready(1, 11), ready(2, 11), ready(3, 11)];
        items[0].set_owner = false;
        items[1].write.told = true;
        assert_eq!(text(&Pack::of(items.to_vec(), &wording), &wording), "n11 u2 u3 n11");
    }

    #[test]
    fn one_person_is_told_first_of_leads_that_are_theirs_already() {
        let wording = Wording::plain(2);
        let theirs = |lead, to| Ready { set_owner: false, ..ready(lead, to) };
        let waiting = [ready(1, 11), theirs(2, 12), theirs(3, 13), ready(4, 12), theirs(5, 12), ready(6, 13)];
        let (pack, later) = of_one_pack(waiting.to_vec().into(), |ready| ready, &wording);
        assert_eq!(later.iter().map(|ready| ready.write.key.lead.get()).collect::<Vec<_>>(), [3]);
        assert_eq!(fitting(pack.iter(), &wording, 50, 50), 5);
        assert_eq!(fitting(pack.iter(), &wording, 5, 50), 4);
        assert_eq!(text(&Pack::of(pack.into(), &wording), &wording), "u4 n12 u1 n11 u6 n13");
        // Written again as it is: no proof either.
        let mut same = ready(7, 13);
        same.write.from = Some(same.write.to);
        let waiting = [theirs(2, 12), same.clone()];
        assert_eq!(of_one_pack(waiting.to_vec().into(), |ready| ready, &wording).1.len(), 1);
        assert_eq!(
            text(&Pack::of(vec![ready(6, 12), ready(8, 13), same], &wording), &wording),
            "u7 n13 u8 n13 u6 n12"
        );
    }

    #[test]
    fn leads_that_are_theirs_already_come_one_by_one_where_each_has_its_notice() {
        let waiting = [1, 2, 3].map(|lead| Ready { set_owner: false, ..ready(lead, 12) });
        let later = |digest_over| {
            of_one_pack(waiting.to_vec().into(), |ready| ready, &Wording::plain(digest_over)).1.len()
        };
        assert_eq!((later(2), later(3)), (0, 2));
    }

    #[test]
    fn as_many_as_fit() {
        let many: Vec<Ready> = (1..=60).map(|lead| ready(lead, 11 + lead % 5)).collect();
        let fits = |digest_over, commands, leads| {
            fitting(many.iter(), &Wording::plain(digest_over), commands, leads)
        };
        assert_eq!(fits(1000, 50, 50), 25);
        assert_eq!(fits(1000, 49, 50), 24);
        assert_eq!(fits(1000, 50, 7), 7);
        assert_eq!(fits(5, 48, 50), 43, "24 with a notice each, many more with one notice each person");
        let one: Vec<Ready> = (1..=60).map(|lead| ready(lead, 11)).collect();
        assert_eq!(fitting(one.iter(), &Wording::plain(5), 50, 50), 49);
    }
}

//! What a pack is made of: whose owner is set, who is told by which notice, in which order.
//!
//! Owner and notice stand side by side, `[u1, n1, u2, n2, …]`, so that after a lost answer at most one notice
//! is in doubt. Somebody who gets many leads at once is told by one notice behind the last of them.

use std::collections::BTreeMap;

use bitrix24::Command;
use bitrix24::lead::set_owner_command;
use bitrix24::notify::Notice;
use common::ids::UserId;

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
}

/// The places of an assignment's commands in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) update: Option<usize>,
    pub(crate) notice: Option<usize>,
}

/// How many of these, from the first on, make a pack of at most `commands` commands and `leads` leads.
pub(crate) fn fitting<'a>(
    ready: impl Iterator<Item = &'a Ready>,
    wording: &Wording,
    commands: usize,
    leads: usize,
) -> usize {
    let mut told: BTreeMap<UserId, usize> = BTreeMap::new();
    let (mut updates, mut fitting) = (0, 0);
    for (count, ready) in (1..=leads).zip(ready) {
        updates += usize::from(ready.updates());
        if wording.tells() && !ready.write.told {
            *told.entry(ready.write.to).or_default() += 1;
        }
        let notices: usize =
            told.values().map(|leads| if wording.is_digest(*leads) { 1 } else { *leads }).sum();
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
    /// Makes a pack of these; the order of one person's leads stays.
    pub(crate) fn of(items: Vec<Ready>, wording: &Wording) -> Self {
        let mut people: BTreeMap<UserId, Vec<Ready>> = BTreeMap::new();
        for item in items {
            people.entry(item.write.to).or_default().push(item);
        }
        let group = |(to, items): (UserId, Vec<Ready>)| {
            let to_tell = items.iter().filter(|item| !item.write.told).count();
            Group { to, digest: wording.is_digest(to_tell), items }
        };
        Self { groups: people.into_iter().map(group).collect() }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wording(digest_over: u32) -> Wording {
        let portal = format!(
            "{{ name: acme, member_id: m, webhook_url: 'https://acme.bitrix24.com/rest/1/s/', \
             application_token: t, routing: r.yaml, notify: {{ digest_over: {digest_over} }} }}"
        );
        Wording::new(&serde_saphyr::from_str(&portal).unwrap())
    }

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
        let wording = wording(2);
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
        let wording = wording(5);
        let mut items = [ready(1, 11), ready(2, 11), ready(3, 11)];
        items[0].set_owner = false;
        items[1].write.told = true;
        assert_eq!(text(&Pack::of(items.to_vec(), &wording), &wording), "n11 u2 u3 n11");
    }

    #[test]
    fn as_many_as_fit() {
        let many: Vec<Ready> = (1..=60).map(|lead| ready(lead, 11 + lead % 5)).collect();
        let fits =
            |digest_over, commands, leads| fitting(many.iter(), &wording(digest_over), commands, leads);
        assert_eq!(fits(1000, 50, 50), 25);
        assert_eq!(fits(1000, 49, 50), 24);
        assert_eq!(fits(1000, 50, 7), 7);
        assert_eq!(fits(5, 48, 50), 43, "24 with a notice each, many more with one notice each person");
        let one: Vec<Ready> = (1..=60).map(|lead| ready(lead, 11)).collect();
        assert_eq!(fitting(one.iter(), &wording(5), 50, 50), 49);
    }
}

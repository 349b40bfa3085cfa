//! Who sends this? Everything a POST says is only believed after this.
//!
//! The portal signs nothing: it sends a constant token, which is compared in constant time with the
//! one configured for that portal, together with the portal's `member_id` and, where configured, a key
//! in the handler's URL. Its robots send no token, so a key in their URL is all they show. An unknown portal is refused
//! with the same answer and the same work.

use std::collections::BTreeMap;
use std::fmt;

use common::config::Portal;
use common::ids::PortalName;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use crate::form::Form;

/// What one portal must show.
struct Door {
    /// None for the door that never opens.
    name: Option<PortalName>,
    token: SecretString,
    member_id: String,
    key: Option<SecretString>,
    /// None where no robot comes in.
    robot_key: Option<SecretString>,
}

/// Compared with where there is nothing to compare with, so that it takes as long.
const NO_SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Where a request comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Entrance {
    /// `/bitrix24/{portal}/events`
    Events,
    /// `/bitrix24/{portal}/robot`
    Robots,
}

impl Entrance {
    pub(crate) const ALL: [Self; 2] = [Self::Events, Self::Robots];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Robots => "robots",
        }
    }
}

/// What a request does not prove; of several things the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    UnknownPortal,
    NoRobots,
    NoToken,
    WrongToken,
    WrongMemberId,
    WrongKey,
}

impl Why {
    pub(crate) const ALL: [Self; 6] = [
        Self::UnknownPortal,
        Self::NoRobots,
        Self::NoToken,
        Self::WrongToken,
        Self::WrongMemberId,
        Self::WrongKey,
    ];

    /// As a label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownPortal => "unknown_portal",
            Self::NoRobots => "no_robots",
            Self::NoToken => "no_token",
            Self::WrongToken => "wrong_token",
            Self::WrongMemberId => "wrong_member_id",
            Self::WrongKey => "wrong_key",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownPortal => "unknown portal",
            Self::NoRobots => "no robot_key configured",
            Self::NoToken => "no token",
            Self::WrongToken => "wrong token",
            Self::WrongMemberId => "wrong member_id",
            Self::WrongKey => "wrong key in the address",
        })
    }
}

/// Why a request is refused. Its sender is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unproved<'a> {
    /// The portal of the request's address, if there is one of that name.
    pub(crate) portal: Option<&'a PortalName>,
    pub(crate) why: Why,
    /// A part of it was right that a stranger does not know.
    pub(crate) is_partly_right: bool,
}

/// The doors of all portals.
pub(crate) struct Doors {
    by_name: BTreeMap<String, Door>,
    /// Stands where a portal is unknown, so that this takes as long as a wrong token. It never opens.
    nobody: Door,
}

impl Doors {
    pub(crate) fn of(portals: &[Portal]) -> Self {
        let door = |portal: &Portal| Door {
            name: Some(portal.name.clone()),
            token: portal.application_token.clone(),
            member_id: portal.member_id.clone(),
            key: portal.event_key.clone(),
            robot_key: portal.robot_key.clone(),
        };
        let by_name = portals.iter().map(|portal| (portal.name.to_string(), door(portal))).collect();
        let nobody = Door {
            name: None,
            token: NO_SECRET.into(),
            member_id: String::new(),
            key: None,
            robot_key: None,
        };
        Self { by_name, nobody }
    }

    /// The portal that this is from, if it is proved.
    pub(crate) fn verify(
        &self,
        portal: &str,
        form: &Form,
        key: Option<&str>,
    ) -> Result<&PortalName, Unproved<'_>> {
        let door = self.by_name.get(portal).unwrap_or(&self.nobody);
        let token = form.get(&["auth", "application_token"]).unwrap_or_default();
        let member_id = form.get(&["auth", "member_id"]).unwrap_or_default();
        let is_token = same(token, door.token.expose_secret());
        let is_member = same(member_id, &door.member_id);
        let is_key =
            door.key.as_ref().is_none_or(|expected| same(key.unwrap_or_default(), expected.expose_secret()));
        match &door.name {
            Some(name) if is_token & is_member & is_key => Ok(name),
            name => {
                let why = match name {
                    None => Why::UnknownPortal,
                    Some(_) if token.is_empty() => Why::NoToken,
                    Some(_) if !is_token => Why::WrongToken,
                    Some(_) if !is_member => Why::WrongMemberId,
                    Some(_) => Why::WrongKey,
                };
                let is_partly_right = name.is_some() && (is_token || is_member);
                Err(Unproved { portal: name.as_ref(), why, is_partly_right })
            }
        }
    }

    /// The portal whose robot this is from, if it is proved. A robot that says of which portal it is must be of this one.
    pub(crate) fn verify_robot(
        &self,
        portal: &str,
        form: &Form,
        key: Option<&str>,
    ) -> Result<&PortalName, Unproved<'_>> {
        let door = self.by_name.get(portal).unwrap_or(&self.nobody);
        let expected = door.robot_key.as_ref().map_or(NO_SECRET, |key| key.expose_secret());
        let member_id = form.get(&["auth", "member_id"]);
        let is_key = same(key.unwrap_or_default(), expected);
        let is_member = same(member_id.unwrap_or(&door.member_id), &door.member_id);
        match &door.name {
            Some(name) if is_key & is_member & door.robot_key.is_some() => Ok(name),
            name => {
                let has_robots = door.robot_key.is_some();
                let why = match name {
                    None => Why::UnknownPortal,
                    Some(_) if !has_robots => Why::NoRobots,
                    Some(_) if !is_key => Why::WrongKey,
                    Some(_) => Why::WrongMemberId,
                };
                let is_partly_right = has_robots && (is_key || (is_member && member_id.is_some()));
                Err(Unproved { portal: name.as_ref(), why, is_partly_right })
            }
        }
    }
}

fn same(given: &str, expected: &str) -> bool {
    given.as_bytes().ct_eq(expected.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use common::config::{Config, Reader};

    use super::*;

    fn doors(event_key: &str) -> Doors {
        let text = format!(
            "portals: [{{ name: acme, member_id: m1, webhook_url: 'https://a/', application_token: t1, \
             routing: r.yaml, {event_key} }}]"
        );
        let config = Config::parse(Reader::Ingest, &text, "test", std::path::Path::new(""), &[]).unwrap();
        Doors::of(&config.portals)
    }

    #[test]
    fn a_robot_needs_its_own_key_and_only_that() {
        let opens = |doors: &Doors, portal: &str, body: &str, key: Option<&str>| {
            doors.verify_robot(portal, &Form::parse(body.as_bytes()).unwrap(), key).is_ok()
        };
        let with_robots = doors("event_key: k1, robot_key: 0123456789abcdef");
        assert!(opens(&with_robots, "acme", "auth[member_id]=m1", Some("0123456789abcdef")));
        assert!(opens(&with_robots, "acme", "", Some("0123456789abcdef")));
        for (portal, body, key) in [
            ("acme", "auth[member_id]=m2", Some("0123456789abcdef")),
            ("acme", "", Some("k1")),
            ("acme", "auth[application_token]=t1&auth[member_id]=m1", None),
            ("beta", "", Some("0123456789abcdef")),
            ("beta", "", Some(NO_SECRET)),
        ] {
            assert!(!opens(&with_robots, portal, body, key), "{portal} {body} {key:?}");
        }
        for key in [None, Some(""), Some(NO_SECRET)] {
            assert!(!opens(&doors(""), "acme", "auth[member_id]=m1", key), "{key:?}");
        }
    }

    fn opens(doors: &Doors, portal: &str, auth: &str, key: Option<&str>) -> bool {
        doors.verify(portal, &Form::parse(auth.as_bytes()).unwrap(), key).is_ok()
    }

    #[test]
    fn only_the_right_portal_with_the_right_token_comes_in() {
        let doors = doors("");
        let right = "auth[application_token]=t1&auth[member_id]=m1";
        assert!(opens(&doors, "acme", right, None));
        for (portal, auth) in [
            ("beta", right),
            ("acme", "auth[application_token]=t2&auth[member_id]=m1"),
            ("acme", "auth[application_token]=t1&auth[member_id]=m2"),
            ("acme", "auth[application_token]=t1"),
            ("acme", ""),
            ("nobody", "auth[application_token]=0123456789abcdef0123456789abcdef&auth[member_id]="),
        ] {
            assert!(!opens(&doors, portal, auth, None), "{portal} {auth}");
        }
    }

    #[test]
    fn a_configured_key_is_needed_beside_the_token() {
        let doors = doors("event_key: k1");
        let right = "auth[application_token]=t1&auth[member_id]=m1";
        assert!(opens(&doors, "acme", right, Some("k1")));
        assert!(!opens(&doors, "acme", right, Some("k2")));
        assert!(!opens(&doors, "acme", right, None));
    }
    #[test]
    fn what_is_wrong_is_known_to_us() {
        let doors = doors("event_key: k1, robot_key: 0123456789abcdef");
        let form = |body: &str| Form::parse(body.as_bytes()).unwrap();
        let right = "auth[application_token]=t1&auth[member_id]=m1";
        for (portal, body, key, why, is_partly_right) in [
            ("beta", right, Some("k1"), Why::UnknownPortal, false),
            ("acme", "", Some("k1"), Why::NoToken, false),
            ("acme", "auth[member_id]=m1", Some("k1"), Why::NoToken, true),
            ("acme", "auth[application_token]=t2&auth[member_id]=m2", None, Why::WrongToken, false),
            ("acme", "auth[application_token]=t2&auth[member_id]=m1", Some("k1"), Why::WrongToken, true),
            ("acme", "auth[application_token]=t1&auth[member_id]=m2", Some("k1"), Why::WrongMemberId, true),
            ("acme", right, Some("k2"), Why::WrongKey, true),
        ] {
            let unproved = doors.verify(portal, &form(body), key).unwrap_err();
            assert_eq!((unproved.why, unproved.is_partly_right), (why, is_partly_right), "{portal} {body}");
            assert_eq!(unproved.portal.is_some(), portal == "acme");
        }
        let robot = |portal: &str, body: &str, key: &str| {
            let unproved = doors.verify_robot(portal, &form(body), Some(key)).unwrap_err();
            (unproved.why, unproved.is_partly_right)
        };
        assert_eq!(robot("beta", "", "x"), (Why::UnknownPortal, false));
        assert_eq!(robot("acme", "", "x"), (Why::WrongKey, false));
        assert_eq!(robot("acme", "auth[member_id]=m1", "x"), (Why::WrongKey, true));
        assert_eq!(robot("acme", "auth[member_id]=m2", "0123456789abcdef"), (Why::WrongMemberId, true));
    }
}

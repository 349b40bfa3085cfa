//! Whether a portal that points to another address is followed there: pure functions from addresses to a verdict.
//!
//! A webhook's address is its secret, so a request that goes to another host tells the secret to whoever answers there. The
//! cloud answers 302 at the old address of a portal that was renamed. So does a page to log in, a firewall, and whoever has
//! bought a name that ran out. Only what looks like the cloud's own answer is followed ([`judge`]); all else is reported.
//! What a name may resolve to is in `guard`, and which address is used at the moment in `address`.

use std::net::IpAddr;

pub use reqwest::Url;

/// The domains under which portals of the cloud live, each portal one name below.
///
/// Source: the list `$domains` of the product's own module `landing` (`lib/help.php`), without `bitrix24.ua`: that name
/// did not resolve in September 2026, and a name that nobody holds can become anybody's. Other domains are in use too;
/// a portal there is not followed. A domain that is missing here costs a line in the configuration, and one that is wrong
/// costs the secret.
const CLOUD: [&str; 17] = [
    "bitrix24.by",
    "bitrix24.cn",
    "bitrix24.com",
    "bitrix24.com.br",
    "bitrix24.com.tr",
    "bitrix24.de",
    "bitrix24.es",
    "bitrix24.eu",
    "bitrix24.fr",
    "bitrix24.id",
    "bitrix24.in",
    "bitrix24.it",
    "bitrix24.jp",
    "bitrix24.kz",
    "bitrix24.pl",
    "bitrix24.ru",
    "bitrix24.vn",
];

/// What can be told of an answer without reading its body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Verdict {
    /// It does not point elsewhere.
    #[default]
    Stay,
    /// The portal has moved to this host, as `acme.bitrix24.com`, and the request may be sent there. It did not run.
    Follow(String),
    /// It points to this host, and nothing may be sent there. For people: it is a host with its port if it has one, or
    /// words in its place. Never a path, and never a part of the secret.
    Elsewhere(String),
}

/// Judges the answer, with this status and `Location`, to a request to the address `asked`, of a portal whose webhook is
/// `configured`.
///
/// It is followed when all of this holds:
///
/// - the status is 301, 302, 307 or 308, and the new host is not the one that was asked;
/// - the new address has the path of the request and nothing behind it, so that a page to log in is no move. The cloud
///   sends the request's own path (page "Changing the domain");
/// - the configured and the new host are portals of the cloud ([`CLOUD`]), by https at its own port. The domain may change
///   (`acme.bitrix24.ru`, `acme.bitrix24.com`): whoever answers for one of these domains is the same operator, who has
///   the secret already.
///
/// Where the configured host is this computer, so must be the new one, at any port and by the same scheme. That is for tests
/// with the simulator; nothing leaves the computer.
#[must_use]
pub fn judge(configured: &Url, asked: &Url, status: u16, location: Option<&str>) -> Verdict {
    let (300..=399, Some(location)) = (status, location) else { return Verdict::Stay };
    let Ok(to) = asked.join(location) else { return Verdict::Elsewhere(UNREADABLE.to_owned()) };
    let follows = matches!(status, 301 | 302 | 307 | 308)
        && to.path() == asked.path()
        && to.query().is_none()
        && to.fragment().is_none()
        && authority(&to) != authority(asked)
        && may_move(configured, &to);
    if follows { Verdict::Follow(authority(&to)) } else { Verdict::Elsewhere(shown(&to, asked)) }
}

/// Whether the portal of this webhook may be at this host, as `acme.bitrix24.com`: a host that was remembered under another
/// rule may not.
#[must_use]
pub fn may_be_at(configured: &Url, host: &str) -> bool {
    at(configured, host).is_some_and(|to| may_move(configured, &to))
}

/// The webhook's address at another host, as [`authority`] gives it; `None` where that is no host.
pub(crate) fn at(webhook: &Url, host: &str) -> Option<Url> {
    let other = Url::parse(&format!("{}://{host}/", webhook.scheme())).ok()?;
    if authority(&other) != host {
        return None;
    }
    let mut url = webhook.clone();
    url.set_host(other.host_str()).ok()?;
    url.set_port(other.port()).ok()?;
    Some(url)
}

/// The host of an address, with its port where that is not the scheme's own.
#[must_use]
pub fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether this host is the computer that asks.
pub(crate) fn is_this_computer(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a portal of the cloud has this name.
pub(crate) fn is_of_cloud(name: &str) -> bool {
    let Some((portal, domain)) = name.split_once('.') else { return false };
    let is_label = portal.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_label && (1..=63).contains(&portal.len()) && CLOUD.contains(&domain)
}

fn may_move(configured: &Url, to: &Url) -> bool {
    let (Some(old), Some(new)) = (configured.host_str(), to.host_str()) else { return false };
    let is_cloud =
        |url: &Url, host: &str| url.scheme() == "https" && url.port().is_none() && is_of_cloud(host);
    let same_kind = if is_this_computer(old) {
        configured.scheme() == to.scheme() && is_this_computer(new)
    } else {
        is_cloud(configured, old) && is_cloud(to, new)
    };
    same_kind && to.username().is_empty() && to.password().is_none()
}

const UNREADABLE: &str = "an address that cannot be read";

/// A name in a `Location` is somebody else's text: this is longer than any that resolves, with its port.
const SHOWN_CHARS: usize = 260;

/// Parts of a path that are shorter may be in any name; a secret is longer.
const SECRET_CHARS_MIN: usize = 5;

/// The host for people. A name that repeats a part of the path could be the secret.
fn shown(to: &Url, asked: &Url) -> String {
    let host = authority(to);
    if host.is_empty() {
        return UNREADABLE.to_owned();
    }
    let host_lower = host.to_ascii_lowercase();
    let repeats =
        |part: &str| part.len() >= SECRET_CHARS_MIN && host_lower.contains(&part.to_ascii_lowercase());
    if asked.path_segments().is_some_and(|mut parts| parts.any(repeats)) {
        return "an address whose name is not shown, as it repeats a part of the webhook's".to_owned();
    }
    host.chars().take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLOUD_WEBHOOK: &str = "https://acme.bitrix24.com/rest/1/s3cret/batch";
    const OWN: &str = "https://portal.company.test/rest/1/s3cret/batch";
    const LOCAL: &str = "http://127.0.0.1:81/rest/1/s3cret/batch";

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn verdict(asked: &str, status: u16, location: &str) -> Verdict {
        judge(&url(asked), &url(asked), status, Some(location))
    }

    #[test]
    fn a_portal_is_followed_only_within_the_cloud_and_to_the_same_path() {
        for (asked, location, to) in [
            (CLOUD_WEBHOOK, "https://acme-group.bitrix24.com/rest/1/s3cret/batch", "acme-group.bitrix24.com"),
            (CLOUD_WEBHOOK, "https://ACME2.Bitrix24.COM:443/rest/1/s3cret/batch", "acme2.bitrix24.com"),
            (CLOUD_WEBHOOK, "https://acme.bitrix24.com.br/rest/1/s3cret/batch", "acme.bitrix24.com.br"),
            (CLOUD_WEBHOOK, "//acme2.bitrix24.de/rest/1/s3cret/batch", "acme2.bitrix24.de"),
            (LOCAL, "http://127.0.0.1:82/rest/1/s3cret/batch", "127.0.0.1:82"),
            (LOCAL, "http://localhost:81/rest/1/s3cret/batch", "localhost:81"),
            (LOCAL, "http://[::1]:81/rest/1/s3cret/batch", "[::1]:81"),
        ] {
            for status in [301, 302, 307, 308] {
                assert_eq!(
                    verdict(asked, status, location),
                    Verdict::Follow(to.to_owned()),
                    "{status} {location}"
                );
            }
            for status in [300, 303, 304, 305, 399] {
                assert!(
                    matches!(verdict(asked, status, location), Verdict::Elsewhere(_)),
                    "{status} {location}"
                );
            }
            for status in [200, 299, 400, 503] {
                assert_eq!(verdict(asked, status, location), Verdict::Stay, "{status} {location}");
            }
        }
        assert_eq!(judge(&url(LOCAL), &url(LOCAL), 302, None), Verdict::Stay);
    }

    #[test]
    fn any_other_redirect_is_reported_by_its_host() {
        for (asked, location, to) in [
            (
                "https://acme.co.uk/rest/1/s3cret/batch",
                "https://evil.co.uk/rest/1/s3cret/batch",
                "evil.co.uk",
            ),
            (OWN, "https://sso.company.test/login", "sso.company.test"),
            (OWN, "https://sso.company.test/rest/1/s3cret/batch", "sso.company.test"),
            (OWN, "https://acme.bitrix24.com/rest/1/s3cret/batch", "acme.bitrix24.com"),
            (OWN, "https://127.0.0.1/rest/1/s3cret/batch", "127.0.0.1"),
            ("https://10.1.2.3/rest/1/s3cret/batch", "https://10.9.2.3/rest/1/s3cret/batch", "10.9.2.3"),
            (CLOUD_WEBHOOK, "https://acme2.bitrix24.com/login", "acme2.bitrix24.com"),
            (CLOUD_WEBHOOK, "https://acme2.bitrix24.com/rest/1/s3cret/batch?x=1", "acme2.bitrix24.com"),
            (CLOUD_WEBHOOK, "https://acme2.bitrix24.com/rest/1/s3cret/batch#x", "acme2.bitrix24.com"),
            (CLOUD_WEBHOOK, "https://acme2.bitrix24.com/rest/1/s3cret/batch/", "acme2.bitrix24.com"),
            (CLOUD_WEBHOOK, "http://acme2.bitrix24.com/rest/1/s3cret/batch", "acme2.bitrix24.com"),
            (CLOUD_WEBHOOK, "https://acme2.bitrix24.com:8443/rest/1/s3cret/batch", "acme2.bitrix24.com:8443"),
            (CLOUD_WEBHOOK, "https://user@acme2.bitrix24.com/rest/1/s3cret/batch", "acme2.bitrix24.com"),
            (CLOUD_WEBHOOK, "https://acme2.bitrix24.com@evil.test/rest/1/s3cret/batch", "evil.test"),
            (CLOUD_WEBHOOK, "https://evil.test\\@acme2.bitrix24.com/rest/1/s3cret/batch", "evil.test"),
            (CLOUD_WEBHOOK, "https://a.evil.bitrix24.com/rest/1/s3cret/batch", "a.evil.bitrix24.com"),
            (CLOUD_WEBHOOK, "https://bitrix24.com/rest/1/s3cret/batch", "bitrix24.com"),
            (CLOUD_WEBHOOK, "https://bitrix24.com.br/rest/1/s3cret/batch", "bitrix24.com.br"),
            (CLOUD_WEBHOOK, "https://acme2.bitrix24.com./rest/1/s3cret/batch", "acme2.bitrix24.com."),
            (CLOUD_WEBHOOK, "https://acme.bitrix24.ua/rest/1/s3cret/batch", "acme.bitrix24.ua"),
            (CLOUD_WEBHOOK, "https://acme.evilbitrix24.com/rest/1/s3cret/batch", "acme.evilbitrix24.com"),
            (CLOUD_WEBHOOK, "https://evil.test/rest/1/s3cret/batch", "evil.test"),
            (CLOUD_WEBHOOK, "https://127.0.0.1/rest/1/s3cret/batch", "127.0.0.1"),
            (CLOUD_WEBHOOK, "/rest/1/s3cret/batch", "acme.bitrix24.com"),
            (CLOUD_WEBHOOK, "/login", "acme.bitrix24.com"),
            (CLOUD_WEBHOOK, "data:text/html,moved", UNREADABLE),
            (CLOUD_WEBHOOK, "https://", UNREADABLE),
            (LOCAL, "http://evil.test/rest/1/s3cret/batch", "evil.test"),
            (LOCAL, "http://localhost.evil.test/rest/1/s3cret/batch", "localhost.evil.test"),
            (LOCAL, "https://127.0.0.1:82/rest/1/s3cret/batch", "127.0.0.1:82"),
            (LOCAL, "http://127.0.0.1:82/login", "127.0.0.1:82"),
            (LOCAL, "http://0.0.0.0:82/rest/1/s3cret/batch", "0.0.0.0:82"),
        ] {
            assert_eq!(verdict(asked, 302, location), Verdict::Elsewhere(to.to_owned()), "{location}");
        }
        let Verdict::Elsewhere(told) = verdict(CLOUD_WEBHOOK, 302, "https://S3cret.evil.test/") else {
            panic!()
        };
        assert!(!told.to_lowercase().contains("s3cret"), "{told}");
    }

    #[test]
    fn the_configured_address_decides_and_not_the_one_that_was_asked() {
        let asked = url("http://localhost:81/rest/1/s3cret/batch");
        let verdict =
            judge(&url(CLOUD_WEBHOOK), &asked, 302, Some("http://localhost:82/rest/1/s3cret/batch"));
        assert_eq!(verdict, Verdict::Elsewhere("localhost:82".to_owned()));
        let back = judge(&url(LOCAL), &asked, 302, Some(LOCAL));
        assert_eq!(back, Verdict::Follow("127.0.0.1:81".to_owned()));
    }

    #[test]
    fn what_was_remembered_is_judged_again() {
        for (configured, host, may) in [
            (CLOUD_WEBHOOK, "acme2.bitrix24.ru", true),
            (LOCAL, "localhost:82", true),
            ("https://acme.co.uk/rest/1/s3cret/", "evil.co.uk", false),
            (OWN, "sso.company.test", false),
            (CLOUD_WEBHOOK, "evil.test", false),
            (CLOUD_WEBHOOK, "evil.test/acme2.bitrix24.com", false),
            (CLOUD_WEBHOOK, "acme2.bitrix24.com/x", false),
            (CLOUD_WEBHOOK, "x@acme2.bitrix24.com", false),
            (CLOUD_WEBHOOK, "acme2.bitrix24.com:443", false),
            (CLOUD_WEBHOOK, "ACME2.bitrix24.com", false),
            (CLOUD_WEBHOOK, "", false),
        ] {
            assert_eq!(may_be_at(&url(configured), host), may, "{configured} {host}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_the_secret_stays_with_the_cloud(
            start in prop_oneof![Just(CLOUD_WEBHOOK), Just(OWN), Just(LOCAL)],
            status in 200_u16..500,
            location in prop_oneof![
                "\\PC{0,80}",
                "(https?:)?//([a-z@:]{1,6}[.@])?(acme|a\\.b|-)?\\.?(bitrix24|evil)\\.(com|ru|ua|co\\.uk|com\\.br)(:[0-9]{1,5})?(/rest/1/s3cret/batch)?[/?#]?",
            ],
        ) {
            let asked = url(start);
            match judge(&asked, &asked, status, Some(&location)) {
                Verdict::Stay => prop_assert!(!(300..400).contains(&status)),
                Verdict::Follow(host) => {
                    prop_assert!([301, 302, 307, 308].contains(&status));
                    let to = at(&asked, &host).unwrap();
                    prop_assert_eq!(to.path(), asked.path());
                    prop_assert!(may_be_at(&asked, &host));
                    prop_assert_ne!(start, OWN);
                    let inside = CLOUD.iter().any(|domain| host.ends_with(&format!(".{domain}")));
                    prop_assert!(if start == LOCAL { is_this_computer(to.host_str().unwrap()) } else { inside }, "{}", host);
                }
                Verdict::Elsewhere(told) => {
                    prop_assert!(!told.contains('/') && !told.to_lowercase().contains("s3cret"), "{}", told);
                    prop_assert!(told.chars().count() <= SHOWN_CHARS);
                }
            }
        }
    }
}

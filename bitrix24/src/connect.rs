//! From a portal's section of the configuration to a client of it.

use std::sync::Arc;
use std::time::Duration;

use common::address::PortalAddresses;
use common::budget::RequestBudget;
use common::clock::Clock;
use common::config;
use common::ids::UserId;
use secrecy::{ExposeSecret, SecretString};

use crate::client::Portal;
use crate::limits::Limiter;
use crate::method_time::MethodTimes;
use crate::metrics::PortalMetrics;
use crate::moves::{self, Url};
use crate::transport::{HttpSettings, HttpTransport, InvalidWebhook};
use crate::webhook;

/// A connection that takes longer than this is not made: the portal's front end answers at once.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Finds what is wrong with the webhooks' addresses; nothing is opened. A process that asks portals nothing may have none.
///
/// # Errors
/// One line for each address that cannot be used.
pub fn check(config: &config::Config) -> Result<(), config::ConfigError> {
    let settings = |portal: &config::Portal| http(&portal.webhook_url, &config.portal_requests);
    let known = config.portals.iter().filter(|portal| !portal.webhook_url.expose_secret().is_empty());
    let wrong = known.filter_map(|portal| {
        let error = settings(portal).err()?;
        Some(format!("portal {}: webhook_url: {error}", portal.name))
    });
    let wrong: Vec<String> = wrong.collect();
    if wrong.is_empty() { Ok(()) } else { Err(config::ConfigError(wrong)) }
}

/// The client of one configured portal, sending no more than `account`, which all processes share, grants.
///
/// # Errors
/// When the webhook's address cannot be used.
pub fn connect<A: RequestBudget + PortalAddresses>(
    portal: &config::Portal,
    requests: &config::PortalRequests,
    account: Arc<A>,
    clock: Arc<dyn Clock>,
    metrics: Arc<PortalMetrics>,
) -> Result<Portal, InvalidWebhook> {
    let keys = [&portal.event_key, &portal.robot_key].into_iter().flatten();
    let secrets: Vec<_> = keys.chain([&portal.application_token]).collect();
    let transport = Arc::new(http(&portal.webhook_url, requests)?.hiding(&secrets));
    let methods = MethodTimes::new(f64::from(portal.limits.method_seconds), clock);
    let budget = Arc::<A>::clone(&account);
    let limiter = Arc::new(Limiter::new(portal.name.clone(), portal.limits.into(), methods, Some(budget)));
    Ok(Portal::new(portal.name.clone(), transport, limiter, metrics).remembering(account))
}

fn http(
    webhook_url: &SecretString,
    requests: &config::PortalRequests,
) -> Result<HttpTransport, InvalidWebhook> {
    let settings = HttpSettings {
        timeout: requests.timeout,
        connect_timeout: CONNECT_TIMEOUT.min(requests.timeout),
        allow_http: requests.allow_http,
    };
    HttpTransport::new(webhook_url, settings)
}

/// Where people open the portal: the webhook's address without the path, `https://acme.bitrix24.com`.
#[must_use]
pub fn address(webhook_url: &SecretString) -> String {
    let url = webhook_url.expose_secret();
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // What stands before an @ would be a password.
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

/// What becomes of an address that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembered {
    /// The portal is asked there.
    Used,
    /// It was another configured host that had moved there.
    OfAnotherHost,
    /// The portal is not followed there ([`crate::moves`]).
    NotFollowed,
}

/// What becomes of the address `host` that is remembered for the host `configured`, with this webhook; both as
/// `acme.bitrix24.com`.
#[must_use]
pub fn remembered(webhook_url: &SecretString, configured: &str, host: &str) -> Remembered {
    match Url::parse(webhook_url.expose_secret()) {
        Ok(webhook) if moves::authority(&webhook) != configured => Remembered::OfAnotherHost,
        Ok(webhook) if moves::may_be_at(&webhook, host) => Remembered::Used,
        Ok(_) | Err(_) => Remembered::NotFollowed,
    }
}

/// In whose name the webhook acts: the number in its address, `https://acme.bitrix24.com/rest/1/…/`; `None` where there is
/// none.
#[must_use]
pub fn webhook_user(webhook_url: &SecretString) -> Option<UserId> {
    let url = Url::parse(webhook_url.expose_secret()).ok()?;
    UserId::new(webhook::parts(&url).ok()?.0.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_the_portal_shows_no_secret() {
        for (url, expected) in [
            ("https://acme.bitrix24.com/rest/1/secret/", "https://acme.bitrix24.com"),
            ("http://127.0.0.1:8080/rest/1/secret", "http://127.0.0.1:8080"),
            ("https://user:secret@acme.bitrix24.com", "https://acme.bitrix24.com"),
        ] {
            assert_eq!(address(&url.into()), expected);
        }
    }

    #[test]
    fn a_remembered_address_is_used_for_the_host_that_moved_there_and_by_the_rule_of_today() {
        let webhook = "https://acme.bitrix24.com/rest/1/secret/".into();
        for (configured, host, expected) in [
            ("acme.bitrix24.com", "acme2.bitrix24.ru", Remembered::Used),
            ("acme.bitrix24.ru", "acme2.bitrix24.ru", Remembered::OfAnotherHost),
            ("acme.bitrix24.com", "evil.test", Remembered::NotFollowed),
        ] {
            assert_eq!(remembered(&webhook, configured, host), expected, "{configured} {host}");
        }
        assert_eq!(remembered(&"no address".into(), "a.test", "b.test"), Remembered::NotFollowed);
    }

    #[test]
    fn the_webhooks_address_says_whose_it_is() {
        let user = |url: &str| webhook_user(&url.into()).map(UserId::get);
        assert_eq!(user("https://acme.bitrix24.com/rest/17/secret/"), Some(17));
        assert_eq!(user("http://127.0.0.1:8080/b24/rest/1/secret"), Some(1));
        assert_eq!(user("https://acme.bitrix24.com/rest/"), None);
        assert_eq!(user("https://acme.bitrix24.com/rest/0/x"), None);
        assert_eq!(user("https://acme.bitrix24.com/"), None);
    }
}

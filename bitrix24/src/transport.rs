//! How one request reaches the portal: the [`Transport`] trait and its HTTP form.
//!
//! Knows nothing of methods, limits or error codes; it hands back whatever was answered. The one
//! thing it decides is whether a request that failed can have run ([`TransportError`]). The address
//! contains the webhook's secret, so neither an error nor a `Debug` output here shows an address.
//! Above it stands [`crate::client`]; tests put a scripted transport in its place.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::body::{Body, BodyError, PART_BYTES};
use crate::own_secrets::OwnSecrets;
use crate::size::{Excess, Limits, SMALL_BODY_BYTES};
use crate::webhook::{self, WrongForm};

/// What an HTTP/2 portal may send before we have read it, in bytes: of one answer, and of all on one connection. By default
/// these are some megabytes, which a portal could have held whatever is read of it.
const HTTP2_WINDOWS: (u32, u32) = (256 * 1024, 1024 * 1024);

/// What the portal answered, unread.
#[derive(Debug, Default)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as it came, unpacked.
    pub body: Vec<u8>,
    /// The `Location` header, which a renamed portal sends. It contains the secret: never log it.
    pub location: Option<String>,
    /// The portal's one place for a large body, which this one has as long as it lives.
    pub place: Option<OwnedSemaphorePermit>,
}

impl Answer {
    /// Whether it points elsewhere instead of answering.
    #[must_use]
    pub fn is_redirect(&self) -> bool {
        (300..400).contains(&self.status)
    }
}

/// A portal's change of address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The host of the configuration.
    pub configured: String,
    /// The host used so far.
    pub from: String,
    /// The host used from now on; the same where we had moved already.
    pub to: String,
}

/// A request that brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection was made, so the portal surely ran nothing.
    #[error("no connection to the portal")]
    NotSent(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The request was on its way and its end is unknown: a timeout, a reset, a body that broke off.
    #[error("the portal's answer was lost; it may have run the request")]
    Ambiguous(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is more than is read; the request ran.
    #[error("the portal's answer is too much")]
    Excessive(#[source] Excess),
}

/// One way to send a request to one portal.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends the parameters `body` (a JSON object) to `method` (as `crm.lead.get`), once, and
    /// returns whatever came back, of any status.
    ///
    /// # Errors
    /// When nothing readable came back; see [`TransportError`] for whether the request may have run.
    async fn send(&self, method: &str, body: &Value) -> Result<Answer, TransportError>;

    /// Sends all further requests to the host in `location`, if it is of the same kind as the one
    /// configured; otherwise nothing changes.
    fn move_to(&self, location: &str) -> Option<Move>;

    /// The host that is used, with its port if it has one.
    fn host(&self) -> String;

    /// Sends all further requests to this host, which [`Transport::move_to`] found before; ignored where
    /// it would not be found now.
    fn use_host(&self, host: &str);
}

/// How requests are sent.
#[derive(Debug, Clone, Copy)]
pub struct HttpSettings {
    /// For the whole request. The cloud interrupts a request after 60 s, so a little more than that
    /// leaves the fewest ends unknown.
    pub timeout: Duration,
    /// For the connection alone.
    pub connect_timeout: Duration,
    /// Allows `http://` to a host that is not this computer, for test installations.
    pub allow_http: bool,
}

/// An address that cannot be used. The text never repeats the address: it contains the secret.
#[derive(Debug, thiserror::Error)]
pub enum InvalidWebhook {
    /// Not an address at all.
    #[error("the webhook's address cannot be read: use https://PORTAL/rest/USER/SECRET/")]
    Unreadable,
    /// `http://` to somewhere else, where anybody on the way could read the secret.
    #[error("the webhook's address must begin with https://")]
    NotHttps,
    /// Not the address of an inbound webhook.
    #[error(transparent)]
    Form(#[from] WrongForm),
    /// The client could not be built.
    #[error("preparing the HTTP client")]
    Client(#[source] reqwest::Error),
}

/// Requests to an inbound webhook, as JSON by POST.
///
/// Source: the pages "General principles" and "Local webhooks" of the REST documentation.
pub struct HttpTransport {
    client: Client,
    webhook: RwLock<Url>,
    configured: Url,
    /// One large body at a time, so that a portal holds no more than that, however many requests are under way. Who sends it
    /// slowly makes nobody wait but themselves.
    large: Arc<Semaphore>,
    secrets: OwnSecrets,
}

impl HttpTransport {
    /// Prepares a client for the webhook `https://PORTAL/rest/USER/SECRET/`, with or without the
    /// last slash. Nothing is sent yet.
    ///
    /// Redirects are never followed: a renamed portal answers 302, and following it would turn the
    /// POST into a GET and lose the parameters (page "Changing the domain").
    ///
    /// # Errors
    /// When the address cannot be read or is not https.
    pub fn new(webhook_url: &SecretString, settings: HttpSettings) -> Result<Self, InvalidWebhook> {
        let mut webhook = Url::parse(webhook_url.expose_secret()).map_err(|_| InvalidWebhook::Unreadable)?;
        let host = webhook.host_str().ok_or(InvalidWebhook::Unreadable)?.to_owned();
        let local = is_this_computer(&host);
        match webhook.scheme() {
            "https" => {}
            "http" if local || settings.allow_http => {}
            _ => return Err(InvalidWebhook::NotHttps),
        }
        webhook.set_query(None);
        webhook.set_fragment(None);
        webhook.path_segments_mut().map_err(|()| InvalidWebhook::Unreadable)?.pop_if_empty();
        webhook::check(&webhook)?;

        let mut builder = Client::builder()
            .user_agent(concat!("rota/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .timeout(settings.timeout)
            .connect_timeout(settings.connect_timeout)
            .http2_initial_stream_window_size(HTTP2_WINDOWS.0)
            .http2_initial_connection_window_size(HTTP2_WINDOWS.1)
            .https_only(webhook.scheme() == "https");
        if local {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|e| InvalidWebhook::Client(e.without_url()))?;
        let large = Arc::new(Semaphore::new(1));
        let secrets = OwnSecrets::new(&webhook::secret(&webhook).map(SecretString::from));
        Ok(Self { client, webhook: RwLock::new(webhook.clone()), configured: webhook, large, secrets })
    }

    /// The same, which takes these secrets of the portal out of its answers besides the webhook's.
    #[must_use]
    pub fn hiding(mut self, secrets: &[&SecretString]) -> Self {
        let own = webhook::secret(&self.configured).map(SecretString::from);
        self.secrets = OwnSecrets::new(own.iter().chain(secrets.iter().copied()));
        self
    }

    /// Reads a body within the limits of its method.
    async fn read(
        &self,
        method: &str,
        response: &mut Response,
    ) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), TransportError> {
        let is_gzip = response.headers().get(CONTENT_ENCODING).is_some_and(|value| {
            value.as_bytes().eq_ignore_ascii_case(b"gzip") || value.as_bytes().eq_ignore_ascii_case(b"x-gzip")
        });
        let mut body = Body::new(is_gzip, Limits::of(method).bytes);
        let mut place = None;
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            for part in chunk.chunks(PART_BYTES) {
                body.take(part)?;
                if body.len() > SMALL_BODY_BYTES && place.is_none() {
                    // It is never closed.
                    place = Arc::clone(&self.large).acquire_owned().await.ok();
                }
            }
        }
        Ok((body.finish()?, place))
    }

    fn webhook(&self) -> Url {
        self.webhook.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn address(&self, method: &str) -> Url {
        let mut url = self.webhook();
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(method);
        }
        url
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport").field("host", &self.host()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, method: &str, body: &Value) -> Result<Answer, TransportError> {
        let request = self.client.post(self.address(method)).json(body);
        let request = request.header(ACCEPT, "application/json").header(ACCEPT_ENCODING, "gzip");
        #[expect(clippy::disallowed_methods, reason = "the one place that sends to a portal")]
        let mut response = request.send().await.map_err(failed)?;

        let status = response.status().as_u16();
        let location =
            response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (body, place) = self.read(method, &mut response).await?;
        Ok(Answer { status, body: self.secrets.hide(body), location, place })
    }

    fn move_to(&self, location: &str) -> Option<Move> {
        let new = Url::parse(location).ok().filter(|new| same_kind(&self.configured, new))?;
        let mut webhook = self.webhook.write().unwrap_or_else(PoisonError::into_inner);
        let from = authority(&webhook);
        webhook.set_host(new.host_str()).ok()?;
        webhook.set_port(new.port()).ok()?;
        Some(Move { configured: authority(&self.configured), from, to: authority(&webhook) })
    }

    fn host(&self) -> String {
        authority(&self.webhook())
    }

    fn use_host(&self, host: &str) {
        drop(self.move_to(&format!("{}://{host}/", self.configured.scheme())));
    }
}

/// The host and port of an address, as a person writes them.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Whether a portal may have moved from one address to the other: a new first name under the same domain
/// (`acme.bitrix24.com`, `acme-group.bitrix24.com`), by the same scheme. Anything else could be anybody,
/// and the webhook's secret would be told to them. Between ports of this computer everything is the same.
fn same_kind(old: &Url, new: &Url) -> bool {
    let (Some(old_host), Some(new_host)) = (old.host_str(), new.host_str()) else { return false };
    if old.scheme() != new.scheme() || !new.username().is_empty() || new.password().is_some() {
        return false;
    }
    if is_this_computer(old_host) || is_this_computer(new_host) {
        return is_this_computer(old_host) && is_this_computer(new_host);
    }
    let domain = |host: &str| {
        let (first, domain) = host.split_once('.')?;
        let named = !first.is_empty() && domain.contains('.') && host.parse::<IpAddr>().is_err();
        named.then(|| domain.to_ascii_lowercase())
    };
    old.port_or_known_default() == new.port_or_known_default()
        && domain(old_host).is_some_and(|domain_of_old| domain(new_host) == Some(domain_of_old))
}

fn is_this_computer(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn failed(error: reqwest::Error) -> TransportError {
    if error.is_connect() || error.is_builder() {
        TransportError::NotSent(Box::new(error.without_url()))
    } else {
        lost(error)
    }
}

fn lost(error: reqwest::Error) -> TransportError {
    TransportError::Ambiguous(Box::new(error.without_url()))
}

impl From<BodyError> for TransportError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Excessive(excess) => Self::Excessive(excess),
            BodyError::Broken(error) => Self::Ambiguous(Box::new(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transport(url: &str, allow_http: bool) -> Result<HttpTransport, InvalidWebhook> {
        let second = Duration::from_secs(1);
        HttpTransport::new(
            &SecretString::from(url),
            HttpSettings { timeout: second, connect_timeout: second, allow_http },
        )
    }

    #[test]
    fn https_is_required_unless_the_portal_is_this_computer() {
        for good in [
            "https://acme.bitrix24.com/rest/1/s3cret/",
            "http://127.0.0.1:9/rest/1/s3cret",
            "http://[::1]:9/rest/1/s3cret/",
        ] {
            assert!(transport(good, false).is_ok(), "{good}");
        }
        for bad in ["http://acme.bitrix24.com/rest/1/s3cret/", "ftp://localhost/rest/1/s3cret/", "acme", ""] {
            let error = transport(bad, false).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{bad}");
        }
        assert!(transport("http://portal.test/rest/1/s3cret/", true).is_ok());
    }

    #[test]
    fn a_portal_moves_only_to_a_host_of_the_same_kind() {
        const OLD: &str = "https://acme.bitrix24.com/rest/1/s3cret/";
        for (webhook, location, to) in [
            (OLD, "https://acme-group.bitrix24.com/rest/1/s3cret/batch?x=1", Some("acme-group.bitrix24.com")),
            (OLD, "https://ACME2.Bitrix24.COM/", Some("acme2.bitrix24.com")),
            (OLD, "http://acme2.bitrix24.com/rest/1/s3cret/batch", None),
            (OLD, "https://acme2.bitrix24.com:8443/", None),
            (OLD, "https://acme2.bitrix24.ru/", None),
            (OLD, "https://bitrix24.com/", None),
            (OLD, "https://evil.test/acme.bitrix24.com", None),
            (OLD, "https://a.evil.bitrix24.com/", None),
            (OLD, "https://user@acme2.bitrix24.com/", None),
            (OLD, "https://127.0.0.1/", None),
            (OLD, "/rest/1/s3cret/batch", None),
            ("https://10.1.2.3/rest/1/s3cret/", "https://10.9.2.3/", None),
            ("http://127.0.0.1:81/rest/1/s3cret/", "http://127.0.0.1:82/x", Some("127.0.0.1:82")),
        ] {
            let made = transport(webhook, false).unwrap();
            let moved = made.move_to(location);
            assert_eq!(moved.as_ref().map(|moved| moved.to.as_str()), to, "{location}");
            let host = to.map_or_else(|| authority(&made.configured), str::to_owned);
            assert_eq!(made.host(), host, "{location}");
            assert!(made.address("batch").path().ends_with("/rest/1/s3cret/batch"), "{location}");
            made.use_host("evil.test");
            assert_eq!(made.host(), host, "{location}");
        }
    }

    #[test]
    fn the_method_is_one_segment_after_the_secret() {
        for url in ["https://acme.bitrix24.com/rest/1/s3cret", "https://acme.bitrix24.com/rest/1/s3cret/"] {
            let made = transport(url, false).unwrap();
            assert_eq!(
                made.address("crm.lead.get").as_str(),
                "https://acme.bitrix24.com/rest/1/s3cret/crm.lead.get"
            );
            assert!(!made.address("../../x?y").as_str().contains('?'));
            assert!(!format!("{made:?}").contains("s3cret"));
        }
    }
}

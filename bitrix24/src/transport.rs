//! How one request reaches the portal: the [`Transport`] trait and its HTTP form.
//!
//! Knows nothing of methods, limits or error codes; it hands back whatever was answered. The one
//! thing it decides is whether a request that failed can have run ([`TransportError`]). The address
//! contains the webhook's secret, so neither an error nor a `Debug` output here shows an address.
//! Above it stands [`crate::client`]; tests put a scripted transport in its place.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::dns::Resolve;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::body::{Body, BodyError, PART_BYTES};
use crate::guard::{Guard, OutOfReach, Reach, System};
use crate::moves::{self, Verdict};
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
    /// Whether it points to another address. The address itself contains the secret, and stays behind.
    pub verdict: Verdict,
    /// The portal's one place for a large body, which this one has as long as it lives.
    pub place: Option<OwnedSemaphorePermit>,
}

/// A request that brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection was made, so the portal surely ran nothing.
    #[error("no connection to the portal")]
    NotSent(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The name of a portal that has moved stands for an address that is not of the Internet. Nothing was sent.
    #[error("{name} is at {address}, which is no address of the Internet")]
    OutOfReach {
        /// The name.
        name: String,
        /// What it resolves to.
        address: IpAddr,
    },
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
    /// Sends the parameters `body` (a JSON object) to `method` (as `crm.lead.get`) at `host`, once, and
    /// returns whatever came back, of any status. No redirect is followed. The host is the configured one or one of those
    /// that [`Transport::may_be_at`] allows; to any other nothing is sent.
    ///
    /// # Errors
    /// When nothing readable came back; see [`TransportError`] for whether the request may have run.
    async fn send(&self, host: &str, method: &str, body: &Value) -> Result<Answer, TransportError>;

    /// The host of the configuration, with its port if it has one.
    fn configured(&self) -> String;

    /// Whether the portal may have moved to this host: one that was remembered under another rule may be refused.
    fn may_be_at(&self, host: &str) -> bool;
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
    /// For the portal at another host, whose name somebody else chose.
    guarded: Client,
    webhook: Url,
    /// One large body at a time, so that a portal holds no more than that, however many requests are under way. Who sends it
    /// slowly makes nobody wait but themselves.
    large: Arc<Semaphore>,
    secrets: OwnSecrets,
}

impl HttpTransport {
    /// Prepares a client for the webhook `https://PORTAL/rest/USER/SECRET/`, with or without the
    /// last slash. Nothing is sent yet.
    ///
    /// # Errors
    /// When the address cannot be read or is not https.
    pub fn new(webhook_url: &SecretString, settings: HttpSettings) -> Result<Self, InvalidWebhook> {
        Self::resolving(webhook_url, settings, Arc::new(System))
    }

    /// As [`HttpTransport::new`], with another way to resolve names than the computer's.
    ///
    /// # Errors
    /// As [`HttpTransport::new`].
    pub fn resolving(
        webhook_url: &SecretString,
        settings: HttpSettings,
        names: Arc<dyn Resolve>,
    ) -> Result<Self, InvalidWebhook> {
        let mut webhook = Url::parse(webhook_url.expose_secret()).map_err(|_| InvalidWebhook::Unreadable)?;
        let local = moves::is_this_computer(webhook.host_str().ok_or(InvalidWebhook::Unreadable)?);
        match webhook.scheme() {
            "https" => {}
            "http" if local || settings.allow_http => {}
            _ => return Err(InvalidWebhook::NotHttps),
        }
        webhook.set_query(None);
        webhook.set_fragment(None);
        webhook.path_segments_mut().map_err(|()| InvalidWebhook::Unreadable)?.pop_if_empty();
        let secrets = OwnSecrets::new(&[webhook::parts(&webhook)?.1.into()]);

        let client = |names: Arc<dyn Resolve>| {
            // A redirect that is followed turns the POST into a GET and loses the parameters (page "Changing the domain").
            let mut builder = Client::builder()
                .user_agent(concat!("rota/", env!("CARGO_PKG_VERSION")))
                .redirect(Policy::none())
                .timeout(settings.timeout)
                .connect_timeout(settings.connect_timeout)
                .http2_initial_stream_window_size(HTTP2_WINDOWS.0)
                .http2_initial_connection_window_size(HTTP2_WINDOWS.1)
                .https_only(webhook.scheme() == "https")
                .dns_resolver(names);
            if local {
                builder = builder.no_proxy();
            }
            builder.build().map_err(|e| InvalidWebhook::Client(e.without_url()))
        };
        let reach = if local { Reach::ThisComputer } else { Reach::Internet };
        let guarded = client(Arc::new(Guard { reach, names: Arc::clone(&names) }))?;
        Ok(Self { client: client(names)?, guarded, webhook, large: Arc::new(Semaphore::new(1)), secrets })
    }

    /// The same, which takes these secrets of the portal out of its answers besides the webhook's.
    #[must_use]
    pub fn hiding(mut self, secrets: &[&SecretString]) -> Self {
        let own = webhook::parts(&self.webhook).map(|(_, secret)| SecretString::from(secret));
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

    /// The address of a method at a host, and the client that goes there; `None` where nothing may be sent.
    fn address(&self, host: &str, method: &str) -> Option<(&Client, Url)> {
        let (client, mut url) = if host == self.configured() {
            (&self.client, self.webhook.clone())
        } else if self.may_be_at(host) {
            (&self.guarded, moves::at(&self.webhook, host)?)
        } else {
            return None;
        };
        url.path_segments_mut().ok()?.push(method);
        Some((client, url))
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport").field("host", &self.configured()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, host: &str, method: &str, body: &Value) -> Result<Answer, TransportError> {
        let Some((client, address)) = self.address(host, method) else {
            return Err(TransportError::NotSent("the portal is not followed to this host".into()));
        };
        let request = client.post(address.clone()).json(body);
        let request = request.header(ACCEPT, "application/json").header(ACCEPT_ENCODING, "gzip");
        #[expect(clippy::disallowed_methods, reason = "the one place that sends to a portal")]
        let mut response = request.send().await.map_err(failed)?;

        let status = response.status().as_u16();
        // What is no text is as good as a text that cannot be read.
        let location = response
            .headers()
            .get(LOCATION)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let verdict = match moves::judge(&self.webhook, &address, status, location.as_deref()) {
            Verdict::Elsewhere(told) => Verdict::Elsewhere(
                String::from_utf8_lossy(&self.secrets.hide(told.into_bytes())).into_owned(),
            ),
            verdict @ (Verdict::Stay | Verdict::Follow(_)) => verdict,
        };
        // A redirect's page says nothing.
        let (body, place) = if verdict == Verdict::Stay {
            self.read(method, &mut response).await?
        } else {
            Default::default()
        };
        Ok(Answer { status, body: self.secrets.hide(body), verdict, place })
    }

    fn configured(&self) -> String {
        moves::authority(&self.webhook)
    }

    fn may_be_at(&self, host: &str) -> bool {
        moves::may_be_at(&self.webhook, host)
    }
}

fn failed(error: reqwest::Error) -> TransportError {
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        if let Some(OutOfReach { name, address }) = inner.downcast_ref() {
            return TransportError::OutOfReach { name: name.clone(), address: *address };
        }
        cause = inner.source();
    }
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
    fn the_method_is_one_segment_after_the_secret() {
        for url in ["https://acme.bitrix24.com/rest/1/s3cret", "https://acme.bitrix24.com/rest/1/s3cret/"] {
            let made = transport(url, false).unwrap();
            let address = |host, method| made.address(host, method).map(|(_, url)| url.to_string());
            for (host, expected) in [
                ("acme.bitrix24.com", Some("https://acme.bitrix24.com/rest/1/s3cret/crm.lead.get")),
                ("acme2.bitrix24.ru", Some("https://acme2.bitrix24.ru/rest/1/s3cret/crm.lead.get")),
                ("evil.test", None),
                ("127.0.0.1", None),
            ] {
                assert_eq!(address(host, "crm.lead.get").as_deref(), expected);
            }
            assert!(!address("acme.bitrix24.com", "../../x?y").unwrap().contains('?'));
            assert!(!format!("{made:?}").contains("s3cret"));
        }
    }
}

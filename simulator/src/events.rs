//! Events: form-encoded, after what caused them, delayed, unordered, sometimes lost, never repeated.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::log::What;
use crate::portal::{Portal, Settings};

/// Events on their way at a time. A portal sends its events from a queue by a few workers, not all of an import at once.
pub const AT_ONCE: usize = 32;

/// An event to send and the lead it is about.
pub type Outgoing = (&'static str, u64);

/// Sends the events of what one request did.
pub fn send(portal: &Arc<Portal>, outgoing: Vec<Outgoing>) {
    let copies = portal.state().settings.event_copies;
    for (event, lead) in outgoing {
        for _ in 0..copies {
            tokio::spawn(deliver(Arc::clone(portal), event, lead));
        }
    }
}

/// Sends one event after its delay, unless it is lost.
pub async fn deliver(portal: Arc<Portal>, event: &'static str, lead: u64) {
    let settings = portal.state().settings.clone();
    let Some(handler) = settings.events_to.clone() else { return };
    let (from, to) = settings.event_delay_ms;
    let delay = from + rand::random::<u64>() % (to.saturating_sub(from) + 1);
    tokio::time::sleep(Duration::from_millis(delay)).await;
    let outcome = if rand::random::<f64>() < settings.event_loss {
        "lost".to_owned()
    } else {
        let request = portal
            .client
            .post(handler)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body(&settings, &portal.address.to_string(), event, lead));
        // The semaphore is never closed; without a permit it would be sent all the same.
        let _worker = portal.event_workers.acquire().await.ok();
        match request.send().await {
            Ok(answer) => answer.status().as_u16().to_string(),
            Err(_) => "unreachable".to_owned(),
        }
    };
    let mut state = portal.state();
    *state.stats.events.entry(outcome.clone()).or_default() += 1;
    state.log.note(Timestamp::now(), What::Event { lead, event, outcome });
}

/// The body as an outgoing webhook sends it: no tokens, only the application token.
fn body(settings: &Settings, host: &str, event: &str, lead: u64) -> String {
    let (lead, ts) = (lead.to_string(), Timestamp::now().as_second().to_string());
    let (client, server) = (format!("http://{host}/rest/"), "https://oauth.bitrix.info/rest/");
    let pairs = [
        ("event", event),
        ("event_handler_id", "707"),
        ("data[FIELDS][ID]", &lead),
        ("ts", &ts),
        ("auth[domain]", host),
        ("auth[client_endpoint]", &client),
        ("auth[server_endpoint]", server),
        ("auth[member_id]", &settings.member_id),
        ("auth[application_token]", &settings.application_token),
    ];
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    pairs.map(|(key, value)| format!("{}={}", encode(key), encode(value))).join("&")
}

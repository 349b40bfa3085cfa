//! A portal in this process, a client for it, and an inbox for its events.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// For whatever is waited for. It has to come; how fast is not asked.
const DEADLINE: Duration = Duration::from_mins(5);

/// A portal that ends with its test.
pub struct Portal {
    pub client: reqwest::Client,
    /// `http://127.0.0.1:4711/rest/1/secret`
    pub webhook: String,
    /// `http://127.0.0.1:4712`
    pub control: String,
    _stop: oneshot::Sender<()>,
}

/// An answer that came as a whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub kind: String,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status, `error` and `error_description` of an error that has nothing else.
    pub fn error(&self) -> (u16, String, String) {
        let json = self.json();
        let text = |name: &str| json[name].as_str().unwrap_or_else(|| panic!("{name}: {self:?}")).to_owned();
        assert_eq!(json.as_object().map(serde_json::Map::len), Some(2), "{self:?}");
        (self.status, text("error"), text("error_description"))
    }
}

/// An error as [`Answer::error`] shows it.
pub fn error(status: u16, code: &str, description: &str) -> (u16, String, String) {
    (status, code.to_owned(), description.to_owned())
}

impl Portal {
    /// A portal with these settings; unless they say so, it counts requests without refusing any.
    pub async fn start(settings: Value) -> Self {
        let mut all = json!({ "burst": 1_000_000 });
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let (rest, control) = (listener().await, listener().await);
        let webhook = format!("http://{}/rest/1/secret", rest.local_addr().unwrap());
        let control_url = format!("http://{}", control.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let settings = serde_json::from_value(all).unwrap();
        tokio::spawn(simulator::run(rest, control, settings, async { drop(stopped.await) }));
        Self { client: client(), webhook, control: control_url, _stop: stop }
    }

    /// Calls a method with JSON.
    pub async fn call(&self, method: &str, params: Value) -> Answer {
        send(self.client.post(format!("{}/{method}", self.webhook)).json(&params)).await
    }

    /// The whole answer of a call that succeeds.
    pub async fn success(&self, method: &str, params: Value) -> Value {
        let answer = self.call(method, params).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// The `result` of a call that succeeds.
    pub async fn result(&self, method: &str, params: Value) -> Value {
        self.success(method, params).await["result"].take()
    }

    /// The `result` of a batch.
    pub async fn batch(&self, cmd: Value) -> Value {
        self.result("batch", json!({ "halt": 0, "cmd": cmd })).await
    }

    /// A field of a lead; `null` where it has none.
    pub async fn field(&self, id: u64, field: &str) -> Value {
        self.result("crm.lead.get", json!({ "id": id })).await[field].take()
    }

    /// Asks the control API.
    pub async fn asked(&self, path: &str) -> Value {
        let answer = send(self.client.get(format!("{}/{path}", self.control))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Tells the control API something, whatever it answers.
    pub async fn told(&self, path: &str, body: &Value) -> Answer {
        send(self.client.post(format!("{}/{path}", self.control)).json(body)).await
    }

    /// Tells the control API something that it takes.
    pub async fn tell(&self, path: &str, body: Value) -> Answer {
        let answer = self.told(path, &body).await;
        assert!((200..300).contains(&answer.status), "{path} {body}: {answer:?}");
        answer
    }

    /// Adds leads by the control API; answers their ids.
    pub async fn add(&self, new: Value) -> Vec<u64> {
        let ids = self.tell("leads", new).await.json()["ids"].take();
        serde_json::from_value(ids).unwrap()
    }
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().unwrap()
}

pub async fn send(request: RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    Answer {
        status: answer.status().as_u16(),
        kind: kind.unwrap_or_default(),
        text: answer.text().await.unwrap(),
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Asks until there is something.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An event as its handler got it.
#[derive(Debug, Clone)]
pub struct Event {
    pub kind: String,
    /// The body before it was taken apart.
    pub text: String,
    pub fields: BTreeMap<String, String>,
}

impl Event {
    /// Its name and its lead.
    pub fn about(&self) -> (String, u64) {
        (self.fields["event"].clone(), self.fields["data[FIELDS][ID]"].parse().unwrap())
    }
}

/// A handler of events that keeps all of them.
pub struct Inbox {
    pub url: String,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Inbox {
    /// An inbox that answers with this status.
    pub async fn start(status: u16) -> Self {
        let events = Arc::<Mutex<Vec<Event>>>::default();
        let status = StatusCode::from_u16(status).unwrap();
        let receive =
            move |State(events): State<Arc<Mutex<Vec<Event>>>>, headers: HeaderMap, text: String| {
                let kind = headers["content-type"].to_str().unwrap().to_owned();
                let fields = text.split('&').map(|pair| pair.split_once('=').unwrap());
                let fields = fields.map(|(key, value)| (decoded(key), decoded(value))).collect();
                events.lock().unwrap().push(Event { kind, text, fields });
                async move { status }
            };
        let router = axum::Router::new().route("/events", post(receive)).with_state(Arc::clone(&events));
        let listener = listener().await;
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { url, events }
    }

    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// What the events are about, sorted, once there are this many.
    pub async fn about(&self, count: usize) -> Vec<(String, u64)> {
        eventually(&format!("{count} events"), async || (self.events().len() >= count).then_some(())).await;
        let mut about: Vec<_> = self.events().iter().map(Event::about).collect();
        about.sort();
        about
    }
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

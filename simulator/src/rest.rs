//! The REST API over HTTP: `/rest/{user}/{secret}/{method}`.
//!
//! In the portal's order: the front end's counter of requests, the method's existence, the secret,
//! then the method. What a request does, it does even if the caller hangs up meanwhile.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, RawQuery, State as Extract};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::any;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::faults::{self, Kind};
use crate::limits::Hit;
use crate::log::What;
use crate::methods::{self, ApiError, Reply};
use crate::php::{Php, to_text};
use crate::portal::{Portal, State, portal_time};
use crate::{batch, events};

/// The REST side.
pub fn router(portal: Arc<Portal>) -> Router {
    Router::new()
        .route("/rest/{user}/{secret}/{method}", any(call))
        .route("/rest/{user}/{secret}/{method}/", any(call))
        .with_state(portal)
}

async fn call(
    Extract(portal): Extract<Arc<Portal>>,
    Path((user, secret, method)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let method = method.strip_suffix(".json").unwrap_or(&method).to_ascii_lowercase();
    let settings = portal.state().settings.clone();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if let Some(new) = settings.renamed_to.filter(|new| new != host) {
        return moved(&format!("http://{new}/rest/{user}/{secret}/{method}"));
    }
    let params = Php::from_query(&query.unwrap_or_default()).merged(&parameters(&headers, &body));
    let request = portal.state().log.begin();
    let mut caller =
        Caller { portal: Arc::clone(&portal), request, method: method.clone(), is_answered: false };
    // A task of its own: the portal goes on with a request whose caller has hung up, and with one that the front
    // end has given up.
    let running = tokio::spawn(serve(portal, request, (user, secret), method, params));
    let cut = match settings.cut_after_ms {
        0 => Duration::MAX,
        millis => Duration::from_millis(millis),
    };
    match tokio::time::timeout(cut, running).await {
        Ok(answered) => {
            caller.is_answered = true;
            answered.unwrap_or_else(|error| answer(500, "text/html", error.to_string()))
        }
        Err(_) => answer(504, "text/html", "<html><h1>504 Gateway Time-out</h1></html>".to_owned()),
    }
}

/// What PHP writes before an answer where a module has a fault and warnings are shown.
const PHP_WARNING: &str = "<br />\n<b>Warning</b>:  Undefined array key \"MODULE\" in <b>/home/bitrix/www/bitrix/modules\
                           /main/include.php</b> on line <b>7</b><br />\n";

/// Stands in a lead's text for what cannot be written as JSON; no text of people has it.
const NOT_ENCODABLE: char = '\u{ffff}';

/// Whoever waits for an answer. If the answer does not come in time, or the connection ends, it is dropped without one.
struct Caller {
    portal: Arc<Portal>,
    request: u64,
    method: String,
    is_answered: bool,
}

impl Drop for Caller {
    fn drop(&mut self) {
        if !self.is_answered {
            let method = std::mem::take(&mut self.method);
            self.portal.serving(Some(self.request)).log.note(Timestamp::now(), What::Unheard { method });
        }
    }
}

async fn serve(
    portal: Arc<Portal>,
    request: u64,
    (user, secret): (String, String),
    method: String,
    mut params: Php,
) -> Response {
    let fault = {
        let mut state = portal.serving(Some(request));
        count(&mut state, &method);
        let settings = state.settings.clone();
        let passes =
            state.bucket.take(Instant::now(), settings.burst, settings.per_second, settings.count_refused);
        state.stats.bucket_max = state.stats.bucket_max.max(state.bucket.level());
        if !passes {
            state.stats.refused += 1;
            state.log.note(Timestamp::now(), What::Refused { method });
            return failed(&mut state, &ApiError::new(503, "QUERY_LIMIT_EXCEEDED", "Too many requests"));
        }
        faults::request(&mut state, &method, &params)
    };
    match &fault {
        Some(Kind::Answer { status, body }) => return answer(*status, "text/html", body.clone()),
        Some(Kind::Error { status, code, description }) => {
            return failed(&mut portal.state(), &ApiError::new(*status, code, description));
        }
        Some(Kind::ResetBefore) => return broken(None),
        Some(Kind::Swollen { of, bytes, gzip }) => return swollen(of, *bytes, *gzip),
        Some(Kind::DelayMs(millis)) => tokio::time::sleep(Duration::from_millis(*millis)).await,
        Some(Kind::OtherLead(id)) => {
            params = params.merged(&Php::Array(vec![("id".to_owned(), Php::Text(id.to_string()))]));
        }
        Some(Kind::AnswerLost | Kind::Truncated | Kind::PhpWarning | Kind::AnswerAfter { .. }) | None => {}
    }
    let (text, status) = match run(&portal, request, (&user, &secret), &method, &params).await {
        Ok((reply, took)) => (success(&mut portal.state(), &method, reply, took, Timestamp::now()), 200),
        Err(error) => {
            *portal.state().stats.errors.entry(error.code.clone()).or_default() += 1;
            (to_text(&error.to_json()), error.status)
        }
    };
    let outgoing = std::mem::take(&mut portal.state().outgoing);
    events::send(&portal, outgoing);
    match fault {
        Some(Kind::AnswerLost) => broken(None),
        Some(Kind::Truncated) => broken(Some(text)),
        Some(Kind::PhpWarning) => answer(status, "text/html", format!("{PHP_WARNING}{text}")),
        Some(Kind::AnswerAfter { status, body }) => answer(status, "text/html", body),
        _ => answer(status, "application/json; charset=utf-8", text),
    }
}

fn count(state: &mut State, method: &str) {
    state.stats.requests += 1;
    *state.stats.by_method.entry(method.to_owned()).or_default() += 1;
    if method != "batch" {
        *state.stats.led_by.entry(method.to_owned()).or_default() += 1;
    }
}

/// Body parameters: a form if it says so, JSON if it says that.
fn parameters(headers: &HeaderMap, body: &[u8]) -> Php {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") {
        Php::from_json(body)
    } else {
        Php::from_query(&String::from_utf8_lossy(body))
    }
}

/// Runs a request after the checks that come before any method; takes as long as it takes.
async fn run(
    portal: &Portal,
    request: u64,
    (user, secret): (&str, &str),
    method: &str,
    params: &Php,
) -> Result<(Reply, Duration), ApiError> {
    if !methods::exists(method) {
        return Err(methods::not_found());
    }
    let (account_only, wrong) = {
        let settings = &portal.state().settings;
        let right = user == settings.webhook_user.to_string() && secret == settings.webhook_secret;
        (settings.account_only, (!right).then_some(settings.wrong_secret_status))
    };
    if let Some(status) = wrong {
        return Err(ApiError::new(status, "INVALID_CREDENTIALS", "Invalid request credentials"));
    }
    let spend = async |took: Duration| {
        if !account_only && !took.is_zero() {
            tokio::time::sleep(took).await;
        }
    };
    if method == "batch" {
        let (mut batch, mut all) = (batch::Run::new(params), Duration::ZERO);
        loop {
            let step = batch.step(&mut portal.serving(Some(request)), Timestamp::now());
            let Some(took) = step else { break };
            spend(took).await;
            all += took;
        }
        return Ok((batch.finish(), all));
    }
    let hit = &mut Hit::default();
    let (answer, took) =
        methods::run(&mut portal.serving(Some(request)), hit, method, params, Timestamp::now());
    spend(took).await;
    answer.map(|reply| (reply, took))
}

fn success(state: &mut State, method: &str, reply: Reply, took: Duration, now: Timestamp) -> String {
    let mut envelope = Map::new();
    envelope.insert("result".to_owned(), reply.result);
    if let Some(next) = reply.next {
        envelope.insert("next".to_owned(), json!(next));
    }
    if let Some(total) = reply.total {
        envelope.insert("total".to_owned(), json!(total));
    }
    let accounted = (method != "batch").then_some(method);
    envelope.insert("time".to_owned(), time_of(state, accounted, took, now));
    let text = to_text(&Value::Object(envelope));
    if text.contains(NOT_ENCODABLE) {
        // One text of one lead, and nothing of the answer is left; the status is still 200.
        let error = ApiError::new(200, "WRONG_ENCODING", "Wrong request encoding");
        *state.stats.errors.entry(error.code.clone()).or_default() += 1;
        return to_text(&error.to_json());
    }
    text
}

/// The block `time` of an answer.
#[must_use]
pub fn time_of(state: &mut State, method: Option<&str>, took: Duration, now: Timestamp) -> Value {
    let seconds = took.as_secs_f64();
    let bucket = state.settings.operating_bucket.max(1);
    let unix = now.as_duration().as_secs_f64();
    let spent = method.map_or(0.0, |method| state.operating.spent(method, now.as_second(), bucket));
    let mut time = json!({
        "start": unix, "finish": unix + seconds, "duration": seconds, "processing": seconds,
        "date_start": portal_time(now), "date_finish": portal_time(now),
    });
    // Both are missing where the limit is switched off.
    if state.settings.operating_limit <= 0.0 {
        return time;
    }
    // PHP prints a whole number without a point.
    time["operating"] = if spent == 0.0 { json!(0) } else { json!(spent) };
    if let Some(reset_at) = method.and_then(|method| state.operating.reset_at(method, bucket)) {
        time["operating_reset_at"] = json!(reset_at);
    }
    time
}

fn failed(state: &mut State, error: &ApiError) -> Response {
    *state.stats.errors.entry(error.code.clone()).or_default() += 1;
    answer(error.status, "application/json; charset=utf-8", to_text(&error.to_json()))
}

fn answer(status: u16, kind: &'static str, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

/// `{"result":[of,of,…]}` of about so many bytes.
fn swollen(of: &str, bytes: usize, gzip: bool) -> Response {
    let more = bytes / (of.len() + 1);
    let text = format!("{{\"result\":[{}{of}]}}", format!("{of},").repeat(more));
    if !gzip {
        return answer(200, "application/json; charset=utf-8", text);
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to memory cannot fail.
    let packed = packed.write_all(text.as_bytes()).and_then(|()| packed.finish()).unwrap_or_default();
    let mut response = answer(200, "application/json; charset=utf-8", String::new());
    *response.body_mut() = Body::from(packed);
    response.headers_mut().insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
    response
}

/// What a renamed portal says at its old address.
fn moved(location: &str) -> Response {
    let mut response = answer(302, "text/html", "<html><h1>302 Found</h1></html>".to_owned());
    if let Ok(location) = header::HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// An answer whose connection breaks: at once, or after half of the text.
fn broken(text: Option<String>) -> Response {
    let half = text.map(|text| Bytes::from(text.into_bytes())).map(|text| text.slice(..text.len() / 2));
    let breaks = || std::io::Error::other("the connection breaks");
    match half {
        Some(half) => {
            let end = async move {
                // Until then the server has only gathered what to send; while it waits, it sends that.
                tokio::task::yield_now().await;
                Err(breaks())
            };
            Response::new(Body::from_stream(stream::iter([Ok(half)]).chain(stream::once(end))))
        }
        None => Response::new(Body::from_stream(stream::iter([Err::<Bytes, _>(breaks())]))),
    }
}

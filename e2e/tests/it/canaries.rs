//! Fourteen secrets and personal data, each with a value of its own, looked for in fourteen places after a day with good
//! events, strangers, a portal that repeats what it was asked, a broker that was away, and a dead letter.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use bitrix24::{HttpSettings, HttpTransport};
use common::config::Config;
use e2e::harness::{MEMBER_ID, Pipeline, TOKEN};
use e2e::portal::{client, send};
use e2e::services::{Postgres, RabbitMq, ScratchDir};
use lapin::options::BasicGetOptions;
use lapin::types::AMQPValue;
use lapin::{Connection, ConnectionProperties};
use serde_json::json;
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::common_parts::{SOON, plan, wait_for_notices};

const WEBHOOK: &str = "canarywebhook7f3a";
const EVENT_KEY: &str = "canary-event-key-81c";
const ROBOT_KEY: &str = "canary-robot-key-42d";
const AMQP_PASSWORD: &str = "canary-amqp-password";
const TITLE: &str = "Canary title";
const NAME: &str = "Canaryname";
const PHONE: &str = "9165551298";
const EMAIL: &str = "canary@mail.test";
const WRONG_TOKEN: &str = "canary-wrong-token";
/// As a portal may write it that repeats what it was asked.
const ECHO: &str = "CANARYWEBHOOK7F3A";
const OAUTH: &str = "canary-oauth-token";
const COOKIE: &str = "canary-cookie";

/// What is looked for, where it must not be.
struct Canaries(Vec<(&'static str, String)>);

impl Canaries {
    fn new(database_password: &str) -> Self {
        let all = [
            ("the webhook's secret", WEBHOOK),
            ("the token", TOKEN),
            ("the key of events", EVENT_KEY),
            ("the key of robots", ROBOT_KEY),
            ("the broker's password", AMQP_PASSWORD),
            ("the database's password", database_password),
            ("a title", TITLE),
            ("a name", NAME),
            ("a phone number", PHONE),
            ("an e-mail address", EMAIL),
            ("a wrong token", WRONG_TOKEN),
            ("a portal's echo", ECHO),
            ("a token of OAuth", OAUTH),
            ("a cookie", COOKIE),
        ];
        Self(all.into_iter().map(|(name, value)| (name, value.to_owned())).collect())
    }

    #[track_caller]
    fn absent(&self, place: &str, bytes: &[u8]) {
        assert!(!bytes.is_empty(), "there is nothing to look at: {place}");
        for (name, value) in &self.0 {
            let at = bytes.windows(value.len()).position(|part| part == value.as_bytes());
            if let Some(at) = at {
                let around = &bytes[at.saturating_sub(200)..(at + 100).min(bytes.len())];
                panic!("{name} in {place}: …{}…", String::from_utf8_lossy(around));
            }
        }
    }

    /// In all files of a folder and of those in it.
    #[track_caller]
    fn absent_in_folder(&self, place: &str, folder: &Path) {
        let (mut folders, mut bytes) = (vec![folder.to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else if let Ok(content) = fs::read(entry.path()) {
                    // A server may delete one of its files meanwhile.
                    bytes.extend(content);
                }
            }
        }
        self.absent(place, &bytes);
    }
}

async fn post(url: &str, body: String) -> u16 {
    let request = client().unwrap().post(url).header("cookie", format!("session={COOKIE}"));
    let request = request.header("authorization", format!("Bearer {COOKIE}"));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    send(request.body(body)).await.unwrap().0
}

fn event(lead: u64, token: &str) -> String {
    format!(
        "event=ONCRMLEADADD&data[FIELDS][ID]={lead}&auth[application_token]={token}&auth[member_id]={MEMBER_ID}\
         &auth[access_token]={OAUTH}"
    )
}

const ROUTING: &str = "\
version: 1
country_code: 7
fields: { first_name: NAME }
people: { ivanov: { user: 11 }, petrov: { user: 12 } }
queues: { main: { members: [ivanov, petrov], sticky: { by: [phone, email] } } }
rules: [{ name: By name, when: { first_name: Nobody }, assign: ivanov }]
default: { queue: main }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_broker_no_secret_and_nobodys_data_is_where_it_must_not_be() {
    let dir = ScratchDir::new().unwrap();
    let mut broker = RabbitMq::start(dir.path()).unwrap();
    broker.rabbitmqctl(&["add_user", "rota", AMQP_PASSWORD]).unwrap();
    broker.rabbitmqctl(&["set_permissions", "rota", ".*", ".*", ".*"]).unwrap();
    let database = Postgres::start(dir.path()).unwrap();
    let amqp_url = broker.url().replace("guest:guest", &format!("rota:{AMQP_PASSWORD}"));
    let mut plan = plan();
    // The passwords that are looked for are those with which all come to the servers.
    plan.least_rights = false;
    plan.routing = ROUTING.to_owned();
    plan.config = plan.config.replace("ingest: {", "ingest: { spool: { directory: spool },");
    plan.config += "\nlog: { level: trace }";
    plan.portal = json!({ "webhook_secret": WEBHOOK });
    plan.portal_keys.extend([
        format!("event_key: {EVENT_KEY}"),
        format!("robot_key: {ROBOT_KEY}"),
        "timeline: en".to_owned(),
    ]);
    let mut pipeline = Pipeline::start(&amqp_url, &database.url(), &plan).await.unwrap();
    let url = url::Url::parse(&pipeline.database_url).unwrap();
    let canaries = Canaries::new(url.password().unwrap());

    a_day(&pipeline, &mut broker, &canaries).await;
    let dead = a_dead_letter(&mut pipeline, &amqp_url, &canaries).await;
    for (name, _, address) in pipeline.admin_addresses() {
        for path in ["/metrics", "/ready", "/live"] {
            let (_, text) = send(client().unwrap().get(format!("http://{address}{path}"))).await.unwrap();
            canaries.absent(&format!("{path} of {name}"), text.as_bytes());
        }
        let arguments = fs::read(format!("/proc/{}/cmdline", pipeline.process_id(name).unwrap())).unwrap();
        canaries.absent(&format!("the arguments of {name}"), &arguments);
    }
    commands(&pipeline, &canaries, dead);
    canaries.absent("tables", tables(&pipeline.database_url).await.as_bytes());
    start_errors(&pipeline, &amqp_url, &canaries);
    panics(&pipeline, &canaries);

    pipeline.stop_all().unwrap();
    for name in ["ingest", "router-1", "notifier-1"] {
        let log = pipeline.log_text(name);
        // Ingest has nothing to tell below `info`.
        assert!(name == "ingest" || log.contains("\"DEBUG\""), "it tells all that it can: {name}");
        canaries.absent(&format!("the log of {name}"), log.as_bytes());
    }
    broker.stop().unwrap();
    canaries.absent_in_folder("the broker's files", &folder_of(dir.path(), "rabbitmq-"));
    canaries.absent("the database's log", &fs::read(database_log(dir.path())).unwrap());
}

/// Good events, strangers, a robot, and a broker that is away.
async fn a_day(pipeline: &Pipeline, broker: &mut RabbitMq, canaries: &Canaries) {
    let fields = json!({ "TITLE": TITLE, "NAME": NAME, "PHONE": [format!("+7{PHONE}")], "EMAIL": [EMAIL] });
    let new = json!({ "count": 3, "events": false, "fields": fields });
    let leads = pipeline.portal.add_leads(&new).await.unwrap();
    let events = format!("{}?key={EVENT_KEY}", pipeline.events_url);
    let robot = format!("{}?key={ROBOT_KEY}", pipeline.events_url.replace("/events", "/robot"));

    assert_eq!(post(&events, event(leads[0], TOKEN)).await, 200);
    wait_for_notices(pipeline, 1).await;
    for url in [&pipeline.events_url, &events, &robot] {
        assert_eq!(post(url, event(leads[0], WRONG_TOKEN)).await, if url == &robot { 400 } else { 403 });
    }
    assert_eq!(post(&events.replace(EVENT_KEY, WRONG_TOKEN), event(leads[0], TOKEN)).await, 403);
    let document = format!("document_id[2]=LEAD_{}&auth[member_id]={MEMBER_ID}", leads[0]);
    assert_eq!(post(&robot, document).await, 200);
    // The new owner is told, and the old one.
    wait_for_notices(pipeline, 3).await;

    broker.stop().unwrap();
    assert_eq!(post(&events, event(leads[1], TOKEN)).await, 200);
    canaries.absent_in_folder("the spool", &pipeline.dir().join("spool"));
    broker.restart().unwrap();
    wait_for_notices(pipeline, 4).await;
}

/// A lead that the portal refuses with many words. Its letter is looked at in the broker while no router is there to take it
/// into the store. Answers the number of the lead.
async fn a_dead_letter(pipeline: &mut Pipeline, amqp_url: &str, canaries: &Canaries) -> u64 {
    let said = format!("No right: https://portal/rest/1/{ECHO}/crm.lead.update, {TOKEN}, {ROBOT_KEY}");
    let refused = json!({ "error": { "status": 400, "code": "", "description": said } });
    let fault = json!({ "method": "crm.lead.update", "kind": refused });
    pipeline.portal.add_fault(&fault).await.unwrap();
    pipeline.stop("notifier-1").unwrap();
    let decided = async || pipeline.metric("router", "rota_messages_processed_total", &[]).await;
    let before = decided().await.unwrap();
    // Another title, as it stays for the notice that is still to come.
    let fields = json!({ "TITLE": "Another", "NAME": NAME, "PHONE": [format!("+7{PHONE}")] });
    let new = json!({ "count": 1, "events": false, "fields": fields });
    let dead = pipeline.portal.add_leads(&new).await.unwrap()[0];
    let events = format!("{}?key={EVENT_KEY}", pipeline.events_url);
    assert_eq!(post(&events, event(dead, TOKEN)).await, 200);
    pipeline.wait_for("it is decided", SOON, async || Ok(decided().await? > before)).await.unwrap();
    pipeline.stop("router-1").unwrap();
    pipeline.start_again("notifier-1").unwrap();

    let connection = Connection::connect(amqp_url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = format!("{}.dead", pipeline.prefix);
    let found = Mutex::new(Vec::new());
    pipeline
        .wait_for("there is a dead letter", SOON, async || {
            let Some(letter) = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await?
            else {
                return Ok(false);
            };
            let headers = letter.properties.headers().clone().unwrap_or_default();
            let texts = headers.inner().values().filter_map(AMQPValue::as_long_string);
            let texts: Vec<u8> = texts.flat_map(|text| [text.as_bytes(), b"\n"].concat()).collect();
            found.lock().unwrap().extend([texts, letter.data.clone()].concat());
            Ok(true)
        })
        .await
        .unwrap();
    connection.close(200, "seen".into()).await.unwrap();
    let found = found.into_inner().unwrap();
    assert!(String::from_utf8_lossy(&found).contains("No right"));
    canaries.absent("a dead letter", &found);

    pipeline.start_again("router-1").unwrap();
    pipeline.wait_ready().await.unwrap();
    let is_dead = async || Ok(pipeline.metric("router", "rota_dead_letters", &[]).await? == 1.0);
    pipeline.wait_for("it is in the store", SOON, is_dead).await.unwrap();
    dead
}

fn commands(pipeline: &Pipeline, canaries: &Canaries, dead: u64) {
    let dead = dead.to_string();
    for arguments in [
        &["lead", &dead][..],
        &["lead", &dead, "--json"],
        &["dead", "list"],
        &["dead", "show", "1"],
        &["dead", "show", "1", "--json"],
        &["people", "list"],
        &["versions"],
    ] {
        let output = pipeline.rota(arguments).unwrap();
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&text));
        canaries.absent(&format!("rota {}", arguments.join(" ")), &text);
    }
    let shown = pipeline.rota(&["dead", "show", "1"]).unwrap().stdout;
    assert!(String::from_utf8_lossy(&shown).contains("No right: https://portal/rest/1/(secret)/"));
}

/// All rows of all tables, as text.
async fn tables(database_url: &str) -> String {
    let mut database = PgConnection::connect(database_url).await.unwrap();
    let names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1";
    let names: Vec<String> = sqlx::query_scalar(names).fetch_all(&mut database).await.unwrap();
    assert!(names.len() > 15, "{names:?}");
    let mut all = String::new();
    for name in names {
        let rows = sqlx::AssertSqlSafe(format!("SELECT t::text FROM {name} t"));
        for row in sqlx::query(rows).fetch_all(&mut database).await.unwrap() {
            all.extend([name.as_str(), " ", &row.get::<String, _>(0), "\n"]);
        }
    }
    all
}

/// Configurations with each secret in a wrong place.
fn start_errors(pipeline: &Pipeline, amqp_url: &str, canaries: &Canaries) {
    let right = fs::read_to_string(pipeline.dir().join("rota.yaml")).unwrap();
    let database_url = &pipeline.database_url;
    let file = pipeline.dir().join("wrong.yaml");
    let portal = pipeline.portal.webhook_url.clone();
    let texts = [
        format!("database: {database_url}\n"),
        format!("amqp: {{ url_file: '{amqp_url}' }}\n"),
        format!("database: {{ url: '{database_url}/{{' }}\n"),
        format!("database: {{ url: 'mysql{database_url}' }}\n"),
        format!("database: {{ url: '{database_url}?{AMQP_PASSWORD}=1' }}\n"),
        format!("log: {{ level: '{AMQP_PASSWORD}=x=y' }}\n"),
        format!("shutdown: {{ grace: {ROBOT_KEY} }}\n"),
        format!("http: {{ trusted_proxies: [{EVENT_KEY}] }}\n"),
        format!("portals: {portal}\n"),
        right.replace(TOKEN, &format!("auth[application_token]={TOKEN}")),
        right.replace("application_token:", "application_token_file:"),
        right.replace("application_token: ", "application_token:"),
        right.replace(&portal, &format!("{portal}profile.json")),
        right.replace(&portal, &format!("{portal} # {EVENT_KEY}\n    {ROBOT_KEY}: 1")),
        right.replace("name: acme", &format!("name: {ROBOT_KEY}!")),
        right.replace("member_id:", &format!("{EVENT_KEY}: 1\n    member_id:")),
        right.replace(ROBOT_KEY, "canary-robot"),
        right.replace(EVENT_KEY, &format!("\"{EVENT_KEY} {ROBOT_KEY}\"")),
    ];
    let programs = Path::new(env!("CARGO_BIN_EXE_with-services")).parent().unwrap();
    for text in texts {
        fs::write(&file, &text).unwrap();
        // Such a file is ingest's alone: the others do not look into it.
        let of_ingest = text.contains("application_token_file:");
        let stages = if of_ingest { &["ingest"][..] } else { &["ingest", "router", "notifier"] };
        for stage in stages {
            let mut command = Command::new(programs.join(stage));
            let output = command.arg("--config").arg(&file).env_clear().output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            let shown = String::from_utf8_lossy(&said);
            assert_eq!(output.status.code(), Some(64), "{text}\n{shown}");
            canaries.absent(&format!("the start of {stage}"), &said);
        }
    }
    let variables =
        [("ROTA__DATABASE", database_url.as_str()), ("ROTA__AMQP", amqp_url), ("ROTA__PORTALS__0", &portal)];
    for (variable, value) in variables {
        let mut command = Command::new(programs.join("router"));
        let output = command.arg("--config").arg(pipeline.dir().join("rota.yaml"));
        let output = output.env_clear().env(variable, value).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{variable}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(variable));
        canaries.absent("an error of a variable", &output.stderr);
    }
}

/// The words of the last panic.
static SHOWN: Mutex<String> = Mutex::new(String::new());

/// What a panic could show: everything that holds a secret, as `{:?}` writes it.
fn panics(pipeline: &Pipeline, canaries: &Canaries) {
    let config =
        Config::load(common::config::Reader::Ingest, Some(&pipeline.dir().join("rota.yaml"))).unwrap();
    let settings = HttpSettings { timeout: SOON, connect_timeout: SOON, allow_http: true };
    let transport = HttpTransport::new(&config.portals[0].webhook_url, settings).unwrap();
    let store = store::postgres::Postgres::prepare(&config.database.url, 1).unwrap();
    let settings = common::broker::rabbitmq::Settings {
        url: config.amqp.url.clone(),
        name: "canaries".to_owned(),
        declare: true,
        publish_timeout: SOON,
    };
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| SHOWN.lock().unwrap().push_str(&info.to_string())));
    let text = format!("{config:?} {transport:?} {store:?} {settings:?}");
    catch_unwind(|| panic!("{text}")).unwrap_err();
    std::panic::set_hook(before);
    let shown = SHOWN.lock().unwrap();
    assert!(shown.contains("portals") && shown.contains("canaries"), "{shown}");
    canaries.absent("a panic", shown.as_bytes());
}

fn folder_of(dir: &Path, start: &str) -> std::path::PathBuf {
    let mut folders = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &std::path::PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(start);
    folders.find(named).unwrap()
}

fn database_log(dir: &Path) -> std::path::PathBuf {
    let mut files = fs::read_dir(dir.join("postgres")).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|ending| ending == "log")).unwrap()
}

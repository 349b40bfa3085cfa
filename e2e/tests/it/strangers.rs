//! What a stranger is answered who goes on and on, what the log and `/ready` say, and who may see the metrics.

use std::collections::BTreeMap;

use e2e::harness::{MEMBER_ID, TOKEN};
use e2e::portal::{client, send};
use serde_json::{Value, json};

use crate::common_parts::{plan, start};

const CLIENT: &str = "203.0.113.7";

/// As through the proxy, which this computer is taken for, and from one client.
async fn post(url: &str, token: &str, member_id: &str) -> u16 {
    let body = format!("event=ONCRMDEALADD&auth[application_token]={token}&auth[member_id]={member_id}");
    let request = client().unwrap().post(url).header("x-forwarded-for", CLIENT);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    send(request.body(body)).await.unwrap().0
}

#[tokio::test]
async fn a_stranger_who_goes_on_is_turned_away_in_few_words_and_the_portal_never() {
    let mut pipeline = start(&plan()).await;
    let url = pipeline.events_url.clone();
    let mut answers: BTreeMap<u16, usize> = BTreeMap::new();
    for n in 0..300 {
        *answers.entry(post(&url, &format!("guess{n}"), "somebody").await).or_default() += 1;
        if n % 10 == 0 {
            assert_eq!(post(&url, TOKEN, MEMBER_ID).await, 200, "from the same address");
        }
    }
    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), [403, 429], "{answers:?}");
    assert!(answers[&403] >= 30, "{answers:?}");

    let refused = async |labels: &[&str]| {
        pipeline.metric("ingest", "rota_events_forbidden_total", labels).await.unwrap()
    };
    assert_eq!(refused(&[r#"portal="acme""#, r#"reason="wrong_token""#]).await, 300.0);
    assert_eq!(refused(&[]).await, 300.0);
    let (status, ready) = pipeline.ready("ingest").await.unwrap();
    assert_eq!((status, ready.contains("acme")), (200, false), "a stranger is no mistake of ours: {ready}");

    pipeline.stop_all().unwrap();
    let log = pipeline.log_text("ingest");
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let lines: Vec<&Value> = lines.iter().filter(|line| line["event"] == "event.forbidden").collect();
    let told: u64 = lines.iter().map(|line| line["count"].as_u64().unwrap()).sum();
    assert_eq!(told, 300, "{lines:?}");
    assert!(lines.len() < 30, "{lines:?}");
    for line in lines {
        assert_eq!(line["client"], CLIENT);
        assert_eq!(line["reasons"], format!("acme: wrong token {}", line["count"]));
    }
    assert!(!log.contains("guess") && !log.contains(TOKEN));
}

#[tokio::test]
async fn a_mistake_in_our_own_configuration_is_said_until_something_is_right() {
    let mut plan = plan();
    plan.portal_keys.push("robot_key: 0123456789abcdef".to_owned());
    let pipeline = start(&plan).await;
    let url = &pipeline.events_url;
    let warnings = async || {
        let (status, ready) = pipeline.ready("ingest").await.unwrap();
        assert_eq!(status, 200, "nobody can close the intake by this: {ready}");
        serde_json::from_str::<Value>(&ready).unwrap()["warnings"].clone()
    };
    assert_eq!(warnings().await, json!({}));
    assert_eq!(post(url, "another-token", MEMBER_ID).await, 403);
    assert_eq!(post(&url.replace("/events", "/robot?key=wrong"), "", MEMBER_ID).await, 403);
    let said = warnings().await;
    let events = said["portal acme: events"].as_str().unwrap();
    assert!(events.contains("wrong token") && events.contains("application_token"), "{events}");
    let robots = said["portal acme: robots"].as_str().unwrap();
    assert!(robots.contains("wrong key") && robots.contains("robot_key"), "{robots}");
    let refused = async |entrance: &str| {
        let label = format!("entrance=\"{entrance}\"");
        pipeline.metric("ingest", "rota_portal_events_refused", &[&label]).await.unwrap()
    };
    assert_eq!((refused("events").await, refused("robots").await), (1.0, 1.0));
    assert_eq!(post(&format!("{url}/"), TOKEN, MEMBER_ID).await, 200, "a slash too many does no harm");
    assert_eq!((refused("events").await, refused("robots").await), (0.0, 1.0));
    assert!(warnings().await.get("portal acme: events").is_none());
}

#[tokio::test]
async fn metrics_and_details_are_for_those_who_send_the_token() {
    const ADMIN: &str = "0123456789abcdef-of-admin";
    let mut plan = plan();
    plan.config += "\nadmin: { token: 0123456789abcdef-of-admin }";
    let pipeline = start(&plan).await;
    for (name, _, address) in pipeline.admin_addresses() {
        let get = async |path: &str, token: Option<&str>| {
            let request = client().unwrap().get(format!("http://{address}{path}"));
            let request =
                token.into_iter().fold(request, |request, token| request.header("authorization", token));
            send(request).await.unwrap()
        };
        let bearer = format!("bearer {ADMIN}");
        for wrong in [None, Some(""), Some("Bearer "), Some("Bearer 0123456789abcdef"), Some(ADMIN)] {
            assert_eq!(get("/metrics", wrong).await.0, 401, "{name} {wrong:?}");
            assert_eq!(get("/live", wrong).await, (200, "live\n".to_owned()));
            assert_eq!(get("/ready", wrong).await, (200, r#"{"ready":true}"#.to_owned()), "{name}");
        }
        let (status, metrics) = get("/metrics", Some(&bearer)).await;
        assert!(status == 200 && metrics.contains("rota_ready 1"), "{name} {status}");
        let (_, ready) = get("/ready", Some(&bearer)).await;
        assert_eq!(
            serde_json::from_str::<Value>(&ready).unwrap(),
            json!({ "ready": true, "failures": {}, "warnings": {} })
        );
    }
}

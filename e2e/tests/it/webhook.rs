//! What the portal's POST is answered, and that nothing of a refused one goes on.

use e2e::harness::Pipeline;
use e2e::portal::{client, send};

use crate::common_parts::{SOON, assert_nothing_left, plan, start, wait_for_notices};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const AUTH: &str = "auth%5Bapplication_token%5D=51856fefc120afa4b628cc82d3935cce\
                    &auth%5Bmember_id%5D=a223c6b3710f85df22e9377d6c4f7553";

async fn post(url: &str, kind: &str, body: impl Into<Vec<u8>>) -> (u16, String) {
    let request = client().unwrap().post(url).header("content-type", kind).body(body.into());
    send(request).await.unwrap()
}

fn form(rest: &str) -> String {
    format!("event=ONCRMLEADADD&{rest}&ts=1742807175&{AUTH}")
}

fn json(event: &str, data: &str) -> String {
    format!(
        r#"{{"event":"{event}","data":{data},"auth":{{"application_token":"51856fefc120afa4b628cc82d3935cce",
            "member_id":"a223c6b3710f85df22e9377d6c4f7553"}}}}"#
    )
}

#[tokio::test]
async fn every_answer_is_as_documented_and_what_is_refused_goes_no_further() {
    let mut pipeline = start(&plan()).await;
    let url = pipeline.events_url.clone();
    assert_refusals(&url).await;
    assert_one_answer_for_whoever_is_not_proved(&url).await;

    let (status, text) = post(&url, FORM, format!("event=ONCRMDEALADD&{AUTH}")).await;
    assert_eq!((status, text.as_str()), (200, "ignored\n"));
    let events = async |outcome: &str| {
        pipeline.metric("ingest", "rota_events_received_total", &[&format!("outcome=\"{outcome}\"")]).await
    };
    assert_eq!(events("ignored").await.unwrap(), 1.0);
    assert_eq!(events("accepted").await.unwrap(), 0.0);

    let new = serde_json::json!({ "count": 4, "events": false, "fields": { "TITLE": "Very private" } });
    let leads = pipeline.portal.add_leads(&new).await.unwrap();
    for (body, kind) in [
        (form(&format!("data%5BFIELDS%5D%5BID%5D={}", leads[0])), FORM),
        (
            form(&format!("data[FIELDS_AFTER][ID]={}", leads[1])),
            "application/x-www-form-urlencoded; charset=utf-8",
        ),
        (json("ONCRMLEADADD", &format!(r#"{{"FIELDS":{{"ID":"{}"}}}}"#, leads[2])), JSON),
        (json("onCrmLeadAdd", &format!(r#"{{"FIELDS_AFTER":{{"ID":{}}}}}"#, leads[3])), JSON),
    ] {
        assert_eq!(post(&url, kind, body.clone()).await, (200, "accepted\n".to_owned()), "{body}");
    }
    wait_for_notices(&pipeline, 4).await;
    pipeline
        .wait_for("exactly the four accepted leads are decided", SOON, async || {
            Ok(pipeline.metric("router", "rota_messages_processed_total", &[]).await? == 4.0)
        })
        .await
        .unwrap();
    assert_nothing_left(&pipeline).await;
    pipeline.stop_all().unwrap();
    assert_no_secret_in_any_log(&pipeline);
}

async fn assert_refusals(url: &str) {
    let id = "data%5BFIELDS%5D%5BID%5D";
    let mut invalid_utf8 = form(&format!("{id}=1&x=")).into_bytes();
    invalid_utf8.push(0xff);
    for (status, says, kind, body) in [
        (400, "`data[FIELDS][ID]` is missing", FORM, form("x=1").into_bytes()),
        (400, "\"0\"", FORM, form(&format!("{id}=0")).into()),
        (400, "\"-1\"", FORM, form(&format!("{id}=-1")).into()),
        (400, "\"abc\"", FORM, form(&format!("{id}=abc")).into()),
        (400, "\"4.2\"", FORM, form(&format!("{id}=4.2")).into()),
        (400, "99999999999999999999", FORM, form(&format!("{id}=99999999999999999999")).into()),
        (400, "`event` is missing", FORM, format!("{id}=1&{AUTH}").into()),
        (400, "encoding", FORM, form(&format!("{id}=%zz")).into()),
        (400, "encoding", FORM, invalid_utf8),
        (400, "comes twice", FORM, form(&format!("{id}=1&{id}=2")).into()),
        (400, "brackets", FORM, form("data[FIELDS=1").into()),
        (400, "nested deeper", FORM, form("data[a][b][c]=1").into()),
        (400, "EOF", JSON, "{\"event\":".into()),
        (400, "comes twice", JSON, json("ONCRMLEADADD", r#"{"FIELDS":{"ID":1,"ID":2}}"#).into()),
        (415, "application/x-www-form-urlencoded", "text/plain", form(&format!("{id}=1")).into()),
        (413, "", FORM, form(&format!("{id}=1&x={}", "y".repeat(17 * 1024))).into()),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        let (answered, text) = post(url, kind, body).await;
        assert_eq!(answered, status, "{shown}: {text}");
        assert!(text.contains(says), "{shown}: {text}");
    }
    assert_eq!(send(client().unwrap().get(url)).await.unwrap().0, 405);
}

async fn assert_one_answer_for_whoever_is_not_proved(url: &str) {
    let right = form("data%5BFIELDS%5D%5BID%5D=1");
    let answers = [
        post(url, FORM, right.replace("51856", "61856")).await,
        post(url, FORM, right.replace("a223c", "b223c")).await,
        post(url, FORM, "event=ONCRMLEADADD&data[FIELDS][ID]=1").await,
        post(&url.replace("/acme/", "/nobody/"), FORM, right).await,
    ];
    for answer in answers {
        assert_eq!(answer, (403, "forbidden\n".to_owned()));
    }
}

fn assert_no_secret_in_any_log(pipeline: &Pipeline) {
    for stage in ["ingest", "router-1", "notifier-1"] {
        let log = pipeline.log_text(stage);
        assert!(log.contains("process.stopped"), "{stage} stopped in order: {log}");
        for secret in ["51856fefc120afa4b628cc82d3935cce", "/rest/1/secret", "guest:guest", "Very private"] {
            assert!(!log.contains(secret), "{secret} is in the log of {stage}: {log}");
        }
    }
}

//! The binary: how it tells where it is, and how it ends.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{client, eventually, send};

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simulator"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[tokio::test]
async fn it_prints_one_line_serves_and_ends_on_sigterm() {
    let settings = json!({ "webhook_user": 5, "webhook_secret": "s3" }).to_string();
    let mut process = Process(program().args(["--settings", &settings]).spawn().unwrap());
    let mut output = BufReader::new(process.0.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    let webhook = line["webhook_url"].as_str().unwrap();
    assert!(webhook.starts_with("http://127.0.0.1:") && webhook.ends_with("/rest/5/s3/"), "{webhook}");

    let client = client();
    assert_eq!(send(client.post(format!("{webhook}server.time"))).await.status, 200);
    let stats = send(client.get(format!("{}/stats", line["control"].as_str().unwrap()))).await;
    assert_eq!(stats.json()["requests"], json!(1));

    let kill = Command::new("kill").args(["-TERM", &process.0.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let end = eventually("its end", async || process.0.try_wait().unwrap()).await;
    assert!(end.success(), "{end}");
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "it prints nothing else");
}

#[tokio::test]
async fn what_it_keeps_in_a_file_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portal.json").display().to_string();
    for (ids, leads) in [(json!(["1", "2"]), r#"{"count":2}"#), (json!(["1", "2", "3"]), r#"{"count":1}"#)] {
        let mut process = Process(program().args(["--data", &file, "--leads", leads]).spawn().unwrap());
        let (_, control) = addresses(&mut process);
        let there = send(client().get(format!("{control}/leads"))).await.json();
        let there: Vec<Value> =
            there.as_array().unwrap().iter().map(|lead| lead["fields"]["ID"].clone()).collect();
        assert_eq!(json!(there), ids);

        let health = |address: &str| program().args(["healthcheck", "--control", address]).status().unwrap();
        assert!(health(control.trim_start_matches("http://")).success());
        let kill = Command::new("kill").args(["-TERM", &process.0.id().to_string()]).status().unwrap();
        assert!(kill.success());
        assert!(eventually("its end", async || process.0.try_wait().unwrap()).await.success());
        assert!(!health(control.trim_start_matches("http://")).success());
    }
}

/// Of a process that keeps its portal in a file: where its REST API and its control API are.
fn addresses(process: &mut Process) -> (String, String) {
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    let address = |name: &str| line[name].as_str().unwrap().to_owned();
    (address("webhook_url"), address("control"))
}

#[tokio::test]
async fn a_file_of_an_earlier_version_is_read_and_clients_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("portal.json");
    let phone = json!([{ "ID": "1", "VALUE_TYPE": "WORK", "VALUE": "111", "TYPE_ID": "PHONE" }]);
    let lead = json!({ "fields": { "ID": "4", "STATUS_ID": "NEW", "PHONE": phone }, "history": [] });
    let deal =
        json!({ "id": 2, "stageId": "C9:LOSE", "contactId": 7, "createdTime": "2025-11-01T10:00:00+03:00" });
    let earlier = json!({ "leads": { "4": lead }, "next_lead": 5, "deals": { "2": deal }, "users": {}, "notifications": [] });
    std::fs::write(&file, earlier.to_string()).unwrap();
    let file = file.display().to_string();
    for (stages, found) in [
        (json!([]), json!({ "LEAD": [4] })),
        (json!([1]), json!({ "LEAD": [4], "CONTACT": [1], "COMPANY": [1] })),
    ] {
        let mut process = Process(program().args(["--data", &file]).spawn().unwrap());
        let (webhook, control) = addresses(&mut process);
        let client = client();
        let call = async |method: &str, params: Value| {
            send(client.post(format!("{webhook}{method}")).json(&params)).await.json()["result"].take()
        };
        let search = json!({ "type": "PHONE", "values": ["111"] });
        assert_eq!(call("crm.duplicate.findbycomm", search).await, found);
        let select = json!(["contactIds", "stageSemanticId", "updatedTime"]);
        assert_eq!(
            call("crm.item.list", json!({ "entityTypeId": 2, "select": select })).await["items"],
            json!([{ "id": 2, "contactIds": [7], "stageSemanticId": "F", "updatedTime": "2025-11-01T10:00:00+03:00" }])
        );
        let rows = call("crm.stagehistory.list", json!({ "entityTypeId": 1 })).await["items"].take();
        let ids: Vec<&Value> = rows.as_array().unwrap().iter().map(|row| &row["ID"]).collect();
        assert_eq!(json!(ids), stages);

        for path in ["contacts", "companies"] {
            let body = json!({ "PHONE": ["111"] });
            assert_eq!(send(client.post(format!("{control}/{path}")).json(&body)).await.status, 201);
        }
        call("crm.lead.update", json!({ "id": 4, "fields": { "STATUS_ID": "IN_PROCESS" } })).await;
        let kill = Command::new("kill").args(["-TERM", &process.0.id().to_string()]).status().unwrap();
        assert!(kill.success());
        assert!(eventually("its end", async || process.0.try_wait().unwrap()).await.success());
    }
}

#[test]
fn it_refuses_settings_that_it_does_not_know() {
    let output = program().args(["--settings", r#"{"colour":"red"}"#]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("colour"), "{output:?}");
}

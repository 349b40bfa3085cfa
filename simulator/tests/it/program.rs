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
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        let control = line["control"].as_str().unwrap();
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

#[test]
fn it_refuses_settings_that_it_does_not_know() {
    let output = program().args(["--settings", r#"{"colour":"red"}"#]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("colour"), "{output:?}");
}

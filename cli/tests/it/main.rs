//! The command as a person and a program meet it: what it prints, and how it ends.

#![cfg(test)]

mod check;
mod explain;
mod simulate;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// An office with most keys of the language.
const ROUTING: &str = r#"
version: 1
time_zone: Europe/Moscow
schedules:
  office: { days: mon-fri, hours: ["09:00-13:00", "14:00-18:00"] }
  always: { days: mon-sun, hours: "00:00-24:00" }
people:
  ivanov: { user: 11, schedule: office, skills: [moscow] }
  petrov: { user: 12, schedule: office, weight: 2, limits: { per_hour: 2 } }
  duty:   { user: 20, schedule: always }
queues:
  main: { members: [ivanov, petrov], on_duty: [duty] }
  pool: { members: [ivanov, petrov], working_day: required }
rules:
  - { name: Retargeting, when: { utm_campaign: vk_retarget }, queue: main, deal: { category: 5, stage: "C5:NEW" }, set: { status: IN_PROCESS } }
  - { name: Pool, when: { source: POOL }, queue: pool }
default: { queue: main }
"#;

/// A folder with files, and what a command in it printed.
struct Desk(TempDir);

/// How a command ended.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.write("routing.yaml", ROUTING).write("lead.json", r#"{"ID":"42"}"#)
    }

    fn write(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        fs::write(self.0.path().join(name), text).unwrap();
        self
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn rota(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rota"));
        let output = command.args(arguments).current_dir(self.path()).output().unwrap();
        Ended {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn json(&self, arguments: &[&str], code: i32) -> Value {
        let ended = self.rota(arguments);
        assert_eq!(ended.code, code, "{}{}", ended.out, ended.err);
        serde_json::from_str(&ended.out).unwrap()
    }

    /// That the command fails with this code and says this.
    #[track_caller]
    fn refuses(&self, arguments: &[&str], code: i32, says: &str) {
        let ended = self.rota(arguments);
        assert_eq!((ended.code, ended.out.as_str()), (code, ""), "{}", ended.err);
        assert!(ended.err.contains(says), "{}", ended.err);
    }
}

#[test]
fn wrong_arguments_end_with_64_and_help_with_0() {
    let desk = Desk::new();
    desk.refuses(&["chekc"], 64, "unrecognized subcommand 'chekc'");
    desk.refuses(&["check"], 64, "<FILE>");
    desk.refuses(&["explain", "routing.yaml"], 64, "--lead <FILE>");
    let explain = ["explain", "routing.yaml", "--lead", "lead.json"];
    desk.refuses(&[explain.as_slice(), &["--at", "noon"]].concat(), 64, "--at: `noon` is no time");
    desk.refuses(
        &[explain.as_slice(), &["--language", "de"]].concat(),
        64,
        "unknown language; known: en, ru",
    );
    desk.refuses(&["publish", "routing.yaml"], 64, "--config <FILE>");
    desk.refuses(&["versions", "--config", "nowhere.yaml"], 64, "nowhere.yaml");
    for (arguments, says) in [
        (&["dead", "list", "--class", "bad"][..], "unknown class; known: throttled, transient"),
        (&["dead", "list", "--newer-than", "4"], "a duration such as 90s, 15m, 4h or 7d is needed"),
        (&["dead", "show", "seven"], "invalid digit"),
        (&["dead", "replay", "--status", "--cancel"], "cannot be used with"),
        (&["dead", "discard", "7"], "--config <FILE>"),
        (&["portal", "forget-address"], "<PORTAL>"),
    ] {
        desk.refuses(arguments, 64, says);
    }
    for arguments in [&["--help"][..], &["--version"], &["check", "--help"]] {
        let ended = desk.rota(arguments);
        assert_eq!(ended.code, 0, "{}", ended.err);
        assert!(!ended.out.is_empty());
    }
}

/// `docs/CLI.md` shows what `--help` says of each command.
#[test]
fn the_page_of_commands_is_what_they_say_of_themselves() {
    let desk = Desk::new();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CLI.md");
    let mut text = fs::read_to_string(&page).unwrap();
    let commands = [
        "check", "explain", "simulate", "publish", "versions", "rollback", "credits", "correct", "refund",
        "lead", "migrate",
    ];
    let people = ["people list", "people pause", "people resume", "people absent", "people cancel"];
    let dead = ["dead list", "dead show", "dead replay", "dead discard"];
    let portal = ["portal addresses", "portal forget-address"];
    for command in commands.into_iter().chain(people).chain(dead).chain(portal) {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = desk.rota(&words).out;
        let (start, end) = (format!("<!-- help {command} -->\n```text\n"), "```\n");
        let from = text.find(&start).unwrap_or_else(|| panic!("docs/CLI.md has no place for `{command}`"));
        let from = from + start.len();
        let to = from + text[from..].find(end).unwrap();
        text.replace_range(from..to, &help);
    }
    let written = fs::read_to_string(&page).unwrap();
    #[expect(clippy::disallowed_methods, reason = "how generated pages are brought up to date")]
    if std::env::var("ROTA_UPDATE_DOCS").is_ok() {
        fs::write(&page, &text).unwrap();
    } else {
        assert_eq!(written, text, "docs/CLI.md is out of date: ROTA_UPDATE_DOCS=1 cargo nextest run -p cli");
    }
}

//! The configuration of every process: one YAML file, overridden by the environment.
//!
//! All keys with their meaning, unit and default stand in `config/default.yaml`; a test keeps that
//! file and the `Default`s here equal. An unknown key or a wrong value is refused at start, by line
//! and column or by the variable's name, before any port is open. Secrets may come from files, which only the processes
//! that use them read ([`Reader`]), and are never shown by `Debug`.

mod addresses;
mod check;
mod overlay;
mod reader;
mod secrets;
mod sections;
mod values;
mod wording;

use std::path::Path;

use serde_json::Value;
use serde_path_to_error::Segment;

pub use self::check::{DIGEST_PLACEHOLDERS, PLACEHOLDERS};
pub use self::reader::Reader;
pub use self::sections::*;
use self::wording::without_values;

/// `config/default.yaml`, as shown by `config-defaults`.
pub const DEFAULT_YAML: &str = include_str!("../../../config/default.yaml");

/// The start of every variable that overrides a key: `ROTA__SECTION__KEY`.
const VARIABLE_PREFIX: &str = "ROTA__";

/// A configuration that cannot be used; each line names what is wrong and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

impl ConfigError {
    fn one(problem: String) -> Self {
        Self(vec![problem])
    }
}

impl Config {
    /// Reads the file, if one is named, and the environment over it, for one of the processes.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong.
    pub fn load(reader: Reader, file: Option<&Path>) -> Result<Self, ConfigError> {
        let text = match file {
            Some(file) => std::fs::read_to_string(file)
                .map_err(|error| ConfigError::one(format!("{}: {error}", file.display())))?,
            None => String::new(),
        };
        let name = file.map_or_else(|| "configuration".to_owned(), |file| file.display().to_string());
        let folder = file.and_then(Path::parent).unwrap_or_else(|| Path::new(""));
        #[expect(clippy::disallowed_methods, reason = "this is the place that reads the environment")]
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
            .collect::<Vec<_>>();
        Self::parse(reader, &text, &name, folder, &variables)
    }

    /// Reads a text and variables over it; paths in it are relative to `folder`.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong.
    pub fn parse(
        reader: Reader,
        text: &str,
        name: &str,
        folder: &Path,
        variables: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let located = |error: serde_saphyr::Error| {
            let place = error.location().map(|at| (at.line(), at.column()));
            let text = error.without_snippet().to_string();
            // The library says the place in words of its own.
            let in_words = place.map(|(line, column)| format!(" at line {line}, column {column}"));
            let problem = without_values(text.strip_suffix(&in_words.unwrap_or_default()).unwrap_or(&text));
            let at = place.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default();
            ConfigError::one(format!("{name}{at}: {problem}"))
        };
        let has_content = text.lines().any(|line| !line.trim().is_empty() && !line.trim().starts_with('#'));
        let text = if has_content { text } else { "{}" };
        // No snippets: they would print the lines around a mistake, secrets included.
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let from_file = serde_saphyr::from_str_with_options(text, options.clone()).map_err(located);
        let mut config: Self = if variables.is_empty() {
            from_file?
        } else {
            let mut tree: Value = serde_saphyr::from_str_with_options(text, options).map_err(located)?;
            for (variable, value) in variables {
                overlay::set(&mut tree, variable, value)?;
            }
            // What the variables cure is no mistake of the file; what they do not has a place in it.
            serde_path_to_error::deserialize(tree).map_err(|error| match from_file {
                Err(in_file) => in_file,
                Ok(Self { .. }) => in_variables(&error, variables),
            })?
        };
        config.read_secrets(reader, folder)?;
        for portal in &mut config.portals {
            portal.routing = folder.join(&portal.routing);
        }
        if let Some(directory) = &mut config.ingest.spool.directory {
            *directory = folder.join(&directory);
        }
        config.check(reader)?;
        Ok(config)
    }
}

/// A mistake that the variables brought, with the one that did it where that is known.
fn in_variables(
    error: &serde_path_to_error::Error<serde_json::Error>,
    variables: &[(String, String)],
) -> ConfigError {
    let parts = error.path().iter().filter_map(|part| match part {
        Segment::Map { key } => Some(key.to_uppercase()),
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    let place = format!("{VARIABLE_PREFIX}{}", parts.collect::<Vec<_>>().join("__"));
    let problem = without_values(&error.inner().to_string());
    let mut names = variables.iter().map(|(name, _)| name.as_str());
    ConfigError::one(if names.clone().any(|name| name == place) {
        format!("{place}: {problem}")
    } else {
        format!("{problem} (set by one of {})", names.by_ref().collect::<Vec<_>>().join(", "))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secrecy::ExposeSecret;

    use super::*;

    const PORTAL: &str = "
portals:
  - name: acme
    member_id: m1
    webhook_url: https://acme.bitrix24.com/rest/1/very-secret/
    application_token: also-secret
    routing: routing.yaml
";

    fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables: Vec<_> = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Config::parse(Reader::Ingest, text, "rota.yaml", Path::new("/etc/rota"), &variables)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_documented_defaults_are_the_real_ones() {
        let documented = parse(DEFAULT_YAML, &[]).unwrap();
        assert_eq!(format!("{documented:?}"), format!("{:?}", Config::default()));
        assert_eq!(documented.amqp.url.expose_secret(), Amqp::default().url.expose_secret());
        assert_eq!(documented.database.url.expose_secret(), Database::default().url.expose_secret());
        let (_, example) = DEFAULT_YAML.split_once("portals: []").unwrap();
        let uncommented = format!("portals:{}", example.replace("\n#", "\n"));
        let portal = parse(&uncommented, &[]).unwrap().portals.remove(0);
        assert_eq!(format!("{:?}", portal.limits), format!("{:?}", Limits::default()));
        assert_eq!(format!("{:?}", portal.notify), format!("{:?}", Notify::default()));
    }

    #[test]
    fn a_small_file_is_enough() {
        let config = parse(PORTAL, &[]).unwrap();
        let portal = &config.portals[0];
        assert_eq!((portal.limits.burst, portal.limits.per_second), (50, 2));
        assert_eq!(portal.routing, Path::new("/etc/rota/routing.yaml"));
    }

    #[test]
    fn mistakes_are_named_with_their_place_and_without_secrets() {
        for (text, expected) in [
            ("amqp:\n  urll: x\n", "rota.yaml:2:3: unknown field `urll`"),
            ("shutdown:\n  grace: soon\n", "rota.yaml:2:10: not a wait; write 250ms, 5s, 2m, 1h or 30d"),
            ("shutdown: { grace: 20s }\n", "shutdown.grace must be longer than portal_requests.timeout"),
            ("amqp: { url: localhost }\n", "amqp.url: an address is expected"),
            ("http: { idle_timeout: 0s }\n", "http.idle_timeout must be more than 0s"),
            ("http: { connections: 0 }\n", "http.connections must be 1 to"),
            ("http: { connections: 63 }\n", "http.connections_per_client must be at least 1 and not above"),
            ("http: { trusted_proxies: [proxy] }\n", "neither an address nor a network"),
            ("retry: { delays: [5s, 5s] }\n", "retry.delays must be"),
            ("retry: { delays: [0s, 5s] }\n", "wait of zero"),
            ("keep: { decisions: 6d }\n", "keep.decisions must be 7d to 36500d"),
            ("keep: { dead_letters: 0d }\n", "keep.dead_letters must be 1d to 36500d"),
            ("keep: { titles: 1w2 }\n", "not a wait; write 250ms, 5s, 2m, 1h or 30d"),
            ("router: { in_flight: 0 }\n", "router.in_flight must be 1 to 1000"),
            ("router: { in_flight: -1 }\n", "rota.yaml:1:22: "),
            ("portals: [{ name: Acme }]\n", "is not a portal name"),
            (
                &PORTAL.replace("also-secret", "\"\""),
                "portal acme: application_token (or application_token_file) is missing",
            ),
            (&PORTAL.replace("routing:", "rooting:"), "unknown field `rooting`"),
            (&format!("{PORTAL}    notify: {{ template: \"{{name}}\" }}\n"), "notify.template has {name}"),
            (&format!("{PORTAL}    limits: {{ burst: 1 }}\n"), "limits.burst must be at least 2"),
            (&format!("{PORTAL}    event_key: \"\"\n"), "event_key is empty"),
            (&format!("{PORTAL}    robot_key: very-secret\n"), "robot_key has less than 16 characters"),
            ("admin: { token: very-secret }\n", "admin.token has less than 16 characters"),
            (
                "database: postgres://rota:very-secret@db/rota\n",
                "rota.yaml:1:11: expected a section with keys",
            ),
            (
                "database: { url_file: 'postgres://rota:very-secret@db/rota' }\n",
                "database.url_file: the name of a",
            ),
            ("database: { connections: very-secret }\n", "rota.yaml:1:26: expected a whole number"),
            ("log: { format: very-secret }\n", "unknown value, expected"),
            ("database: { \"url:very-secret\": x }\n", "unknown field `…`"),
            (&PORTAL.replace("acme\n", "Very-secret\n"), "`…` is not a portal name"),
            (&PORTAL.replace("also-secret", "application_token=very-secret"), "more than the token"),
            (&PORTAL.replace("application_token:", "application_token_file:"), "file cannot be read"),
            (&PORTAL.replace("m1", "'auth[member_id]=very-secret'"), "member_id is more than"),
        ] {
            let error = parse(text, &[]).unwrap_err();
            assert!(error.contains(expected), "{text}\n{error}");
            assert!(!error.contains("very-secret"), "{error}");
        }
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let config = parse(
            PORTAL,
            &[
                ("ROTA__PORTALS__0__NAME", "beta"),
                ("ROTA__ROUTER__IN_FLIGHT", "7"),
                ("ROTA__RETRY__DELAYS", "1s, 2s"),
                ("ROTA__HTTP__TRUSTED_PROXIES", "10.0.0.0/8, ::1"),
                ("ROTA__PORTAL_REQUESTS__ALLOW_HTTP", "true"),
                ("ROTA__AMQP__URL", "amqp://elsewhere"),
            ],
        )
        .unwrap();
        assert_eq!(config.portals[0].name.as_str(), "beta");
        assert_eq!(config.router.in_flight, 7);
        assert_eq!(config.retry.delays, [1, 2].map(Duration::from_secs));
        assert_eq!(config.http.trusted_proxies, ["10.0.0.0/8", "::1/128"].map(|text| text.parse().unwrap()));
        assert!(config.portal_requests.allow_http);
        assert_eq!(config.amqp.url.expose_secret(), "amqp://elsewhere");
        let whole =
            parse(&PORTAL.replace("    member_id: m1\n", ""), &[("ROTA__PORTALS__0__MEMBER_ID", "m2")]);
        assert_eq!(whole.unwrap().portals[0].member_id, "m2", "what the file lacks");
        let error = parse(PORTAL, &[("ROTA__ROUTER__INFLIGHT", "7")]).unwrap_err();
        assert!(error.contains("inflight") && error.contains("ROTA__ROUTER__INFLIGHT"), "{error}");
        for variable in ["ROTA__DATABASE", "ROTA__PORTALS", "ROTA__PORTALS__0", "ROTA__HTTP__CONNECTIONS"] {
            let error = parse(PORTAL, &[(variable, "postgres://u:very-secret@h/d")]).unwrap_err();
            assert!(error.starts_with(&format!("{variable}: expected ")), "{error}");
            assert!(!error.contains("very-secret"), "{error}");
        }
        let error = parse(PORTAL, &[("ROTA__PORTALS__4__NAME", "x")]).unwrap_err();
        assert!(error.contains("no entry 4"), "{error}");
    }

    #[test]
    fn secrets_come_from_files_and_are_never_shown() {
        let folder = std::env::temp_dir().join(format!("rota-config-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("token"), "from-a-file\n").unwrap();
        let text = PORTAL.replace("application_token: also-secret", "application_token_file: token");
        let config = Config::parse(Reader::Ingest, &text, "rota.yaml", &folder, &[]).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(config.portals[0].application_token.expose_secret(), "from-a-file");
        let shown = format!("{config:?}");
        for secret in ["from-a-file", "very-secret", "guest:guest"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn a_secrets_file_is_read_by_those_who_use_it_alone() {
        const FILES: &str = "
amqp: { url_file: broker }
database: { url_file: database }
portals:
  - name: acme
    member_id: m1
    webhook_url_file: webhook
    application_token_file: token
    event_key_file: event-key
    robot_key_file: robot-key
    routing: routing.yaml
";
        let of_servers = ["amqp.url_file: broker", "database.url_file: database"];
        let webhook = ["portal acme: webhook_url_file: webhook"];
        let doors = [
            "portal acme: application_token_file: token",
            "portal acme: event_key_file: event-key",
            "portal acme: robot_key_file: robot-key",
        ];
        let no_scan = "ingest: { sweep: { every: 0s } }";
        for (reader, more, needs) in [
            (Reader::Ingest, "", [&of_servers[..], &webhook, &doors].concat()),
            (Reader::Ingest, no_scan, [&of_servers[..], &doors].concat()),
            (Reader::Router, no_scan, [&of_servers[..], &webhook].concat()),
            (Reader::Notifier, "", [&of_servers[..], &webhook].concat()),
            (Reader::Command, "", vec![of_servers[1]]),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let file = |key: &str| folder.path().join(key.rsplit(' ').next().unwrap());
            let write = |key: &str| {
                let secret = match key.rsplit(' ').next().unwrap() {
                    "broker" => "amqp://localhost",
                    "database" => "postgres://localhost/rota",
                    "webhook" => "https://acme.bitrix24.com/rest/1/very-secret/",
                    _ => "0123456789abcdef",
                };
                std::fs::write(file(key), secret).unwrap();
            };
            needs.iter().copied().for_each(write);
            let text = format!("{FILES}{more}\n");
            let read = || Config::parse(reader, &text, "rota.yaml", folder.path(), &[]);
            let portal = read().unwrap().portals.remove(0);
            let takes_events = needs.contains(&doors[0]);
            assert_eq!(portal.application_token.expose_secret().is_empty(), !takes_events, "{reader:?}");
            let keys = (portal.event_key.is_some(), portal.robot_key.is_some());
            assert_eq!(keys, (takes_events, takes_events), "{reader:?}");
            let has_webhook = !portal.webhook_url.expose_secret().is_empty();
            assert_eq!(has_webhook, needs.contains(&webhook[0]), "{reader:?}");
            for key in &needs {
                std::fs::remove_file(file(key)).unwrap();
                let missing = read().unwrap_err().to_string();
                let (named, _) = key.rsplit_once(' ').unwrap();
                assert!(missing.starts_with(&format!("{named} the file cannot be read")), "{missing}");
                write(key);
            }
        }
    }
}

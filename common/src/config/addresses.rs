//! What is wrong with the address of the broker or of the database, as far as it can be told without asking anybody.

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::broker::rabbitmq::Settings;

const AMQP: &str = "write amqp://user:password@host:5672/%2f";
const DATABASE: &str = "write postgres://user:password@host:5432/database";
const ENCODED: &str = "a character such as # / ? @ % in the password is written as %23 %2F %3F %40 %25";

/// What the driver reads behind the `?` of the database's address. It would log others with their values.
///
/// Source: sqlx-postgres, `options/parse.rs`.
const DATABASE_PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// What is wrong with `amqp.url`.
pub(super) fn amqp(url: &SecretString) -> Option<String> {
    let Ok(parsed) = Url::parse(url.expose_secret()) else {
        return Some(format!("amqp.url cannot be read: {AMQP}; {ENCODED}"));
    };
    if !matches!(parsed.scheme(), "amqp" | "amqps") {
        return Some(format!("amqp.url must begin with amqp:// or amqps://: {AMQP}"));
    }
    if parsed.host_str().is_none_or(str::is_empty) {
        return Some(format!("amqp.url names no host: {AMQP}"));
    }
    if parsed.path() == "/" {
        return Some(format!(
            "amqp.url ends with a slash, which names a virtual host without a name; for the usual one {AMQP}"
        ));
    }
    (!Settings::can_be_read(url)).then(|| format!("amqp.url cannot be read: {AMQP}; {ENCODED}"))
}

/// What is wrong with `database.url`.
pub(super) fn database(url: &SecretString) -> Option<String> {
    let Ok(parsed) = Url::parse(url.expose_secret()) else {
        return Some(format!("database.url cannot be read: {DATABASE}; {ENCODED}"));
    };
    if !matches!(parsed.scheme(), "postgres" | "postgresql") {
        return Some(format!("database.url must begin with postgres:// or postgresql://: {DATABASE}"));
    }
    let parameters: Vec<(String, String)> = parsed.query_pairs().into_owned().collect();
    let has = |names: &[&str]| parameters.iter().any(|(name, _)| names.contains(&name.as_str()));
    if parsed.host_str().is_none_or(str::is_empty) && !has(&["host", "hostaddr"]) {
        return Some(format!("database.url names no host: {DATABASE}"));
    }
    if parsed.path().trim_matches('/').is_empty() && !has(&["dbname"]) {
        return Some(format!("database.url names no database: {DATABASE}"));
    }
    parameters.iter().find_map(|(name, value)| {
        let right = match name.as_str() {
            "sslmode" | "ssl-mode" => SSL_MODES.contains(&value.as_str()),
            "port" => value.parse::<u16>().is_ok(),
            "statement-cache-capacity" => value.parse::<usize>().is_ok(),
            "hostaddr" => value.parse::<std::net::IpAddr>().is_ok(),
            name => DATABASE_PARAMETERS.contains(&name) || name.starts_with("options["),
        };
        // An unknown name may be half of a password.
        let known = DATABASE_PARAMETERS.contains(&name.as_str());
        let which = if known { format!("the parameter {name}") } else { "a parameter".to_owned() };
        let problem = format!(
            "database.url: {which} behind the ? is not known to the driver or has a wrong value; {ENCODED}"
        );
        (!right).then_some(problem)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(problem: impl Fn(&SecretString) -> Option<String>, cases: &[(&str, Option<&str>)]) {
        for (url, expected) in cases {
            let problem = problem(&(*url).into());
            assert_eq!(problem.is_some(), expected.is_some(), "{url}: {problem:?}");
            let text = problem.unwrap_or_default();
            assert!(text.contains(expected.unwrap_or_default()), "{url}: {text}");
            assert!(!text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn the_brokers_address() {
        check(
            amqp,
            &[
                ("amqp://guest:s3cret@127.0.0.1:5672/%2f", None),
                ("amqps://rota:s3cret@mq.acme.test/rota?heartbeat=10", None),
                ("amqp://elsewhere", None),
                ("amqp://rota:s3cret@mq/", Some("ends with a slash")),
                ("http://rota:s3cret@mq:15672/", Some("must begin with amqp://")),
                ("amqp://rota:s3cret#1@mq/%2f", Some("%23")),
                ("amqp:///s3cret", Some("no host")),
                ("amqp://mq/%2f?auth_mechanism=s3cret", Some("cannot be read")),
            ],
        );
    }

    #[test]
    fn the_databases_address() {
        check(
            database,
            &[
                ("postgres://rota:s3cret@127.0.0.1:5432/rota", None),
                ("postgresql://rota@db.acme.test/rota?sslmode=verify-full&options[search_path]=rota", None),
                ("postgres:///rota?host=/var/run/postgresql", None),
                ("mysql://rota:s3cret@db/rota", Some("must begin with postgres://")),
                ("postgres://rota:s3cret@db", Some("no database")),
                ("postgres:///rota", Some("no host")),
                ("postgres://rota:pa/s3cret@db/rota", Some("%2F")),
                ("postgres://rota@db/rota?sslmode=s3cret", Some("parameter sslmode")),
                ("postgres://rota@db/rota?s3cret=1", Some("a parameter behind")),
            ],
        );
    }
}

//! The users of an installation whose processes may do no more than they need: one of the broker and one role of the
//! database for each stage, a role for the command `rota`, and one that owns the tables and is used by nobody else.
//!
//! The broker's users are those of deploy/rabbitmq/definitions.json, with which every private broker starts. Roles are
//! shared by all databases of a server, so all tests on one server share them.

use anyhow::Context as _;
use common::failure::chain;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use store::postgres::Postgres;

/// The role that owns the database.
pub const OWNER: &str = "rota_owner";
/// The role of the command `rota`.
pub const COMMAND: &str = "rota_cli";

/// All roles.
pub const ROLES: [&str; 6] = [OWNER, COMMAND, "rota_ingest", "rota_router", "rota_notifier", "rota_exporter"];

/// The broker's users, with the passwords that they have in tests.
const USERS: [&str; 3] = ["rota_ingest", "rota_router", "rota_notifier"];

/// As an installation has it.
const DEFINITIONS: &str = include_str!("../../deploy/rabbitmq/definitions.json");

/// The user of a stage, on both servers.
#[must_use]
pub fn user_of(stage: &str) -> String {
    format!("rota_{stage}")
}

/// The URL of a database for one of the roles; their password is that of the URL's own user.
///
/// # Errors
/// When it has no user and password.
pub fn as_role(database_url: &str, role: &str) -> anyhow::Result<String> {
    let (_, password, server) = parts(database_url)?;
    Ok(format!("postgres://{role}:{password}@{server}"))
}

/// The URL of a private broker for the user of a stage.
///
/// # Errors
/// When it has no user and password.
pub fn as_user(amqp_url: &str, user: &str) -> anyhow::Result<String> {
    let (_, _, server) = parts(amqp_url)?;
    Ok(format!("amqp://{user}:{user}@{server}"))
}

fn parts(url: &str) -> anyhow::Result<(&str, &str, &str)> {
    let found = url.split_once("://").and_then(|(_, rest)| {
        let (user, rest) = rest.split_once(':')?;
        let (password, server) = rest.split_once('@')?;
        Some((user, password, server))
    });
    found.context("a URL with user and password")
}

/// What a broker of the tests is told to have: the users of an installation, for the prefixes that pipelines of tests have,
/// and `guest`, whom tests use to look.
#[must_use]
pub fn definitions() -> String {
    let of_tests = DEFINITIONS.replace(r"rota\\.", r"e2e-[0-9a-f]+\\.");
    let known = USERS.iter().fold(of_tests, |text, user| text.replace(&format!("@{user}@"), user));
    known
        .replace("\"users\": [", r#""users": [{ "name": "guest", "password": "guest", "tags": "administrator" },"#)
        .replace(
            "\"permissions\": [",
            r#""permissions": [{ "user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*" },"#,
        )
}

/// Makes the roles on the server of a database, those that are not there, and hands the database over to its owner.
///
/// # Errors
/// When the server cannot be reached or refuses.
pub async fn hand_over(database_url: &str) -> anyhow::Result<()> {
    let (administrator, password, server) = parts(database_url)?;
    let (server, name) = server.rsplit_once('/').context("a URL with a database")?;
    // A lock holds within one database; so all who make roles meet in this one.
    let meeting = format!("postgres://{administrator}:{password}@{server}/postgres");
    let mut connection = PgConnection::connect(&meeting).await.context("connect to the database server")?;
    sqlx::query("SELECT pg_advisory_lock(1)").execute(&mut connection).await?;
    for role in ROLES {
        let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)")
            .bind(role)
            .fetch_one(&mut connection)
            .await?;
        if !known {
            let make = format!("CREATE ROLE {role} LOGIN PASSWORD '{password}'");
            sqlx::query(AssertSqlSafe(make)).execute(&mut connection).await?;
        }
    }
    let owner = format!("ALTER DATABASE {name} OWNER TO {OWNER}");
    sqlx::query(AssertSqlSafe(owner)).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// Makes the tables, as their owner.
///
/// # Errors
/// When that fails.
pub async fn migrate(database_url: &str) -> anyhow::Result<()> {
    let store = Postgres::prepare(&as_role(database_url, OWNER)?.into(), 1)?;
    store.migrate().await.map_err(|error| anyhow::anyhow!(chain(&error)))?;
    store.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{as_role, as_user, definitions};

    #[test]
    fn a_url_keeps_its_server() {
        let url = as_role("postgres://rota:secret@127.0.0.1:5432/own", "rota_router").unwrap();
        assert_eq!(url, "postgres://rota_router:secret@127.0.0.1:5432/own");
        let url = as_user("amqp://guest:guest@127.0.0.1:5672/%2f", "rota_ingest").unwrap();
        assert_eq!(url, "amqp://rota_ingest:rota_ingest@127.0.0.1:5672/%2f");
        assert!(as_role("postgres://127.0.0.1/own", "rota_router").is_err());
    }

    #[test]
    fn the_definitions_have_a_password_for_everybody_and_hold_for_the_prefixes_of_tests() {
        let read: serde_json::Value = serde_json::from_str(&definitions()).unwrap();
        let users: Vec<_> = read["users"].as_array().unwrap().iter().map(|user| &user["password"]).collect();
        assert_eq!(users, ["guest", "rota_ingest", "rota_router", "rota_notifier"]);
        let written: Vec<_> =
            read["permissions"].as_array().unwrap().iter().map(|user| &user["write"]).collect();
        assert_eq!(written[1], r"^e2e-[0-9a-f]+\.work$");
        assert_eq!(written[2], r"^(e2e-[0-9a-f]+\.|amq\.default$)");
    }
}

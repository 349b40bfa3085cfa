//! No process may do more than it needs: each has a role of its own in the database and a user of its own on the broker.
//!
//! That each may do what it needs is seen by all tests of whole pipelines, which run with these roles and users.

use common::failure::chain;
use e2e::least_rights::{COMMAND, OWNER, ROLES, as_role, as_user, hand_over, migrate, user_of};
use e2e::services::{Postgres, ScratchDir, create_database, psql};
use lapin::options::{BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ExchangeDeclareOptions};
use lapin::options::{QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection as Broker, ConnectionProperties, ExchangeKind};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use store::postgres::Postgres as Store;

use crate::common_parts::{
    amqp_url, assert_nothing_left, database_url, mixed_leads, plan, start, wait_for_notices,
};

const INGEST: &str = "rota_ingest";
const ROUTER: &str = "rota_router";
const NOTIFIER: &str = "rota_notifier";
const EXPORTER: &str = "rota_exporter";

/// What PostgreSQL says to whom it lets do nothing.
const DENIED: &str = "42501";

/// A database whose tables are made by their owner, with the rights of all roles.
async fn database() -> String {
    let name = format!("rights_{}", uuid::Uuid::now_v7().simple());
    let url = create_database(&database_url(), &name).unwrap();
    hand_over(&url).await.unwrap();
    migrate(&url).await.unwrap();
    url
}

async fn connect(url: &str, role: &str) -> PgConnection {
    PgConnection::connect(&as_role(url, role).unwrap()).await.unwrap()
}

/// The database's code for why it did not do something; none where it did.
async fn refusal(connection: &mut PgConnection, statement: &str) -> Option<String> {
    match sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await {
        Ok(_) => None,
        Err(error) => Some(error.as_database_error().unwrap().code().unwrap().into_owned()),
    }
}

async fn tables(connection: &mut PgConnection) -> Vec<String> {
    let ours = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1";
    let tables: Vec<String> = sqlx::query_scalar(ours).fetch_all(connection).await.unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    tables
}

#[tokio::test]
async fn nobody_but_the_owner_makes_or_drops_anything_and_nobody_is_a_superuser() {
    let url = database().await;
    for role in ROLES {
        let mut connection = connect(&url, role).await;
        let may: bool = sqlx::query_scalar(
            "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls FROM pg_roles
             WHERE rolname = current_user",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        assert!(!may, "{role}");
        for statement in [
            "CREATE TABLE more (id integer)",
            "CREATE TEMPORARY TABLE more (id integer)",
            "CREATE SCHEMA more",
            "CREATE FUNCTION more() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
            "ALTER TABLE sweeps ADD COLUMN more integer",
            "DROP TABLE sweeps",
            "TRUNCATE sweeps",
            "DROP FUNCTION pace_now",
            "DELETE FROM _sqlx_migrations",
        ] {
            let refused = refusal(&mut connection, &format!("BEGIN; {statement}; ROLLBACK")).await;
            refusal(&mut connection, "ROLLBACK").await;
            let expected = (role != OWNER).then(|| DENIED.to_owned());
            assert_eq!(refused, expected, "{role}: {statement}");
        }
    }
}

#[tokio::test]
async fn ingest_sees_of_decisions_only_which_leads_have_one() {
    let url = database().await;
    let mut ingest = connect(&url, INGEST).await;
    for statement in [
        "SELECT explanation FROM decisions",
        "SELECT reason FROM decisions",
        "SELECT to_user, person FROM decisions",
        "SELECT title FROM decisions",
        "UPDATE decisions SET outcome = 'skip'",
        "SELECT body FROM dead_letters",
        "SELECT needs FROM waiting_leads",
        "UPDATE waiting_leads SET state = 'held'",
        "DELETE FROM waiting_leads",
        "INSERT INTO routing_versions VALUES ('acme', 9, '', '', NULL, now())",
        "INSERT INTO routing_activations (portal, version, author, activated_at) VALUES ('acme', 1, '', now())",
        "DELETE FROM givings",
    ] {
        assert_eq!(refusal(&mut ingest, statement).await.as_deref(), Some(DENIED), "{statement}");
    }
    assert_eq!(refusal(&mut ingest, "SELECT epoch, outcome FROM decisions").await, None);
    let mut owner = connect(&url, OWNER).await;
    let may_use = [
        "_sqlx_migrations",
        "addresses",
        "budgets",
        "dead_letters",
        "deciding",
        "decisions",
        "givings",
        "method_times",
        "routing_activations",
        "routing_versions",
        "sweeps",
        "waiting_leads",
    ];
    for table in tables(&mut owner).await {
        let refused = refusal(&mut ingest, &format!("SELECT FROM {table}")).await;
        let expected = if may_use.contains(&table.as_str()) { None } else { Some(DENIED) };
        assert_eq!(refused.as_deref(), expected, "{table}");
    }
}

#[tokio::test]
async fn others_write_nothing_that_is_not_theirs() {
    let url = database().await;
    for (role, statement) in [
        (NOTIFIER, "SELECT explanation FROM decisions"),
        (NOTIFIER, "UPDATE decisions SET to_user = 1"),
        (NOTIFIER, "SELECT FROM ledger_balances"),
        (NOTIFIER, "SELECT FROM routing_versions"),
        (NOTIFIER, "SELECT FROM dead_letters"),
        (NOTIFIER, "DELETE FROM assignments"),
        (ROUTER, "UPDATE routing_versions SET text = ''"),
        (ROUTER, "DELETE FROM routing_activations"),
        (COMMAND, "DELETE FROM routing_versions"),
        (COMMAND, "UPDATE decisions SET to_user = 1"),
        (COMMAND, "INSERT INTO assignments (portal, lead_id, epoch, to_user) VALUES ('acme', 1, 1, 1)"),
        (COMMAND, "DELETE FROM dead_letters"),
    ] {
        let refused = refusal(&mut connect(&url, role).await, statement).await;
        assert_eq!(refused.as_deref(), Some(DENIED), "{role}: {statement}");
    }
}

#[tokio::test]
async fn a_table_of_a_later_version_is_the_routers_by_itself_and_nobody_elses() {
    let url = database().await;
    let mut owner = connect(&url, OWNER).await;
    sqlx::raw_sql("CREATE TABLE later (id integer)").execute(&mut owner).await.unwrap();
    migrate(&url).await.unwrap();
    let all =
        "INSERT INTO later VALUES (1); UPDATE later SET id = 2; SELECT id FROM later; DELETE FROM later";
    assert_eq!(refusal(&mut connect(&url, ROUTER).await, all).await, None);
    assert_eq!(refusal(&mut connect(&url, COMMAND).await, "SELECT id FROM later").await, None);
    for role in [INGEST, NOTIFIER, EXPORTER] {
        let refused = refusal(&mut connect(&url, role).await, "SELECT FROM later").await;
        assert_eq!(refused.as_deref(), Some(DENIED), "{role}");
    }
    // The router reads and writes all that there is.
    let mut router = connect(&url, ROUTER).await;
    for table in tables(&mut owner).await {
        assert_eq!(refusal(&mut router, &format!("SELECT FROM {table}")).await, None, "{table}");
    }
}

#[tokio::test]
async fn the_exporter_reads_the_servers_statistics_and_no_table() {
    let url = database().await;
    let mut owner = connect(&url, OWNER).await;
    let mut exporter = connect(&url, EXPORTER).await;
    for table in tables(&mut owner).await {
        let refused = refusal(&mut exporter, &format!("SELECT FROM {table}")).await;
        assert_eq!(refused.as_deref(), Some(DENIED), "{table}");
    }
    let statistics =
        "SELECT sum(xact_commit) FROM pg_stat_database; SELECT count(*) FROM pg_stat_user_tables";
    assert_eq!(refusal(&mut exporter, statistics).await, None);
}

#[tokio::test]
async fn a_stage_says_what_to_do_about_a_schema_that_is_not_its_own() {
    let open = async |url: &str, role: &str| {
        Store::prepare(&as_role(url, role).unwrap().into(), 1)
            .unwrap()
            .open()
            .await
            .map_err(|error| chain(&error))
    };
    let url = database().await;
    assert_eq!(open(&url, INGEST).await, Ok(()));
    let mut owner = connect(&url, OWNER).await;
    let mut newest = async |change: &str| {
        sqlx::raw_sql(AssertSqlSafe(change.to_owned())).execute(&mut owner).await.unwrap();
    };

    newest("UPDATE _sqlx_migrations SET version = 9000 WHERE version = (SELECT max(version) FROM _sqlx_migrations)").await;
    let newer = open(&url, ROUTER).await.unwrap_err();
    assert!(newer.contains("newer than this program (migration 9000, known is "), "{newer}");
    assert!(newer.contains("update the program"), "{newer}");

    newest("DELETE FROM _sqlx_migrations WHERE version = 9000").await;
    let older = open(&url, NOTIFIER).await.unwrap_err();
    assert!(
        older.contains("older than this program") && older.contains("the role rota_notifier may not"),
        "{older}"
    );
    assert!(older.contains("run `rota migrate` as the role that owns the database"), "{older}");

    newest("REVOKE ALL ON _sqlx_migrations FROM rota_router").await;
    let hidden = open(&url, ROUTER).await.unwrap_err();
    assert!(
        hidden.contains("the role rota_router may not read") && hidden.contains("run `rota migrate`"),
        "{hidden}"
    );
}

#[tokio::test]
async fn one_role_and_one_user_for_everything_still_do() {
    let mut plan = plan();
    plan.least_rights = false;
    let pipeline = start(&plan).await;
    pipeline.portal.add_leads(&mixed_leads(20)).await.unwrap();
    wait_for_notices(&pipeline, 20).await;
    assert_nothing_left(&pipeline).await;
    let output = pipeline.rota(&["versions"]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// As deploy/compose does it with the data of an installation from before the roles.
#[tokio::test]
async fn own_database_server_of_an_earlier_installation_is_handed_over_with_its_data() {
    let dir = ScratchDir::new().unwrap();
    let server = Postgres::start(dir.path()).unwrap();
    let url = create_database(&server.url(), "rota").unwrap();
    // All of it is the superuser's.
    let store = Store::prepare(&url.clone().into(), 1).unwrap();
    store.migrate().await.unwrap();
    let mut superuser = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("INSERT INTO sweeps (portal, first_id, last_id) VALUES ('acme', 1, 4711)")
        .execute(&mut superuser)
        .await
        .unwrap();

    let passwords = dir.path().join("passwords");
    std::fs::create_dir(&passwords).unwrap();
    for role in ROLES {
        std::fs::write(passwords.join(role), format!("{role}'s own")).unwrap();
    }
    let roles = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/postgres/roles.sql");
    // Once more is harmless.
    for _ in 0..2 {
        psql(&url, &[&format!("--set=passwords={}", passwords.display()), &format!("--file={roles}")])
            .unwrap();
    }
    let (_, server) = url.split_once('@').unwrap();
    let of = |role: &str| format!("postgres://{role}:{role}'s%20own@{server}");
    Store::prepare(&of(OWNER).into(), 1).unwrap().migrate().await.unwrap();

    let strangers: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relowner <> 'rota_owner'::regrole
         UNION ALL
         SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proowner <> 'rota_owner'::regrole",
    )
    .fetch_all(&mut superuser)
    .await
    .unwrap();
    assert_eq!(strangers, Vec::<String>::new());
    for role in [INGEST, ROUTER, NOTIFIER, COMMAND] {
        Store::prepare(&of(role).into(), 1).unwrap().open().await.unwrap();
    }
    let mut ingest = PgConnection::connect(&of(INGEST)).await.unwrap();
    let last: i64 = sqlx::query_scalar("SELECT last_id FROM sweeps").fetch_one(&mut ingest).await.unwrap();
    assert_eq!(last, 4711);
    let mut exporter = PgConnection::connect(&of(EXPORTER)).await.unwrap();
    // Others' queries, which only somebody with `pg_monitor` sees.
    let seen = "SELECT count(*) FROM pg_stat_activity WHERE query = '<insufficient privilege>'";
    let hidden: i64 = sqlx::query_scalar(seen).fetch_one(&mut exporter).await.unwrap();
    assert_eq!(hidden, 0);
}

/// Why the broker did not do something, with which it closes the channel; none where it did.
async fn denied<T>(
    connection: &Broker,
    ask: impl AsyncFnOnce(Channel) -> Result<T, lapin::Error>,
) -> Option<String> {
    let channel = connection.create_channel().await.unwrap();
    ask(channel).await.err().map(|error| error.to_string())
}

#[tokio::test]
async fn the_brokers_users_do_only_what_their_stages_do() {
    let pipeline = start(&plan()).await;
    let prefix = &pipeline.prefix;
    let (events, work) = (format!("{prefix}.acme.lead-events"), format!("{prefix}.work"));
    let table = FieldTable::default;
    let refused = |answer: Option<String>| answer.is_some_and(|why| why.contains("ACCESS_REFUSED"));
    for stage in ["ingest", "router", "notifier"] {
        let url = as_user(&amqp_url(), &user_of(stage)).unwrap();
        let broker = Broker::connect(&url, ConnectionProperties::default()).await.unwrap();
        let strange = denied(&broker, async |channel| {
            channel.queue_declare("somebody's".into(), QueueDeclareOptions::default(), table()).await
        });
        assert!(refused(strange.await), "{stage} makes queues that are not Rota's");
        let through = denied(&broker, async |channel| {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            channel.confirm_select(lapin::options::ConfirmSelectOptions::default()).await?;
            let to = "amq.direct".into();
            channel.basic_publish(to, "x".into(), options, b"{}", BasicProperties::default()).await?.await
        });
        assert!(refused(through.await), "{stage} publishes to exchanges that are not Rota's");
        let own = denied(&broker, async |channel| {
            channel.queue_declare(events.as_str().into(), passive(), table()).await
        });
        assert_eq!(own.await, None, "{stage} sees that a queue is there");
        if stage != "ingest" {
            continue;
        }
        let queue = || events.as_str().into();
        let reads =
            denied(&broker, async |channel| channel.basic_get(queue(), BasicGetOptions::default()).await);
        assert!(refused(reads.await), "ingest reads");
        let consumes = denied(&broker, async |channel| {
            channel.basic_consume(queue(), "".into(), BasicConsumeOptions::default(), table()).await
        });
        assert!(refused(consumes.await), "ingest consumes");
        let purges =
            denied(&broker, async |channel| channel.queue_purge(queue(), QueuePurgeOptions::default()).await);
        assert!(refused(purges.await), "ingest purges");
        let declares = denied(&broker, async |channel| {
            let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            channel.exchange_declare(work.as_str().into(), ExchangeKind::Direct, options, table()).await
        });
        assert!(refused(declares.await), "ingest declares");
    }
}

fn passive() -> QueueDeclareOptions {
    QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() }
}

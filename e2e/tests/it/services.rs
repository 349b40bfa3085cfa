//! The servers that tests use start, come back, and leave nothing behind.
//!
//! `own_broker` in a name: such a test starts its own broker, and nextest runs one of them at a time.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use e2e::services::{Postgres, RabbitMq, ScratchDir, create_database};

#[test]
fn own_broker_restarts_on_its_port_and_leaves_nothing_behind() {
    let dir = ScratchDir::new().unwrap();
    let path = dir.path().to_owned();
    let mut broker = RabbitMq::start(dir.path()).unwrap();
    let (url, port, first) = (broker.url(), broker.port(), broker.pid().unwrap());
    broker.rabbitmqctl(&["add_vhost", "kept"]).unwrap();

    broker.restart().unwrap();
    let second = broker.pid().unwrap();
    assert_eq!(broker.url(), url);
    assert_ne!(first, second);
    assert!(is_open(port));
    assert!(!is_process(first));

    broker.kill();
    assert!(!is_open(port));
    broker.restart().unwrap();
    let third = broker.pid().unwrap();
    assert!(broker.rabbitmqctl(&["list_vhosts"]).unwrap().contains("kept"));

    broker.set_memory_alarm(true).unwrap();
    assert!(broker.rabbitmqctl(&["status"]).unwrap().contains("Memory alarm"));
    broker.set_memory_alarm(false).unwrap();
    assert!(!broker.rabbitmqctl(&["status"]).unwrap().contains("Memory alarm"));

    broker.stop().unwrap();
    assert_eq!(broker.pid(), None);
    assert!(!is_open(port));
    drop(broker);
    drop(dir);
    assert!([first, second, third].into_iter().all(|pid| !is_process(pid)));
    assert!(!path.exists());
}

#[test]
fn own_database_server_survives_a_crash_and_leaves_nothing_behind() {
    let dir = ScratchDir::new().unwrap();
    let path = dir.path().to_owned();
    let mut server = Postgres::start(dir.path()).unwrap();
    let (url, port, first) = (server.url(), server.port(), server.pid().unwrap());
    let own = create_database(&url, "own").unwrap();
    assert_eq!(own, url.replace("/postgres", "/own").replace("postgres:/own", "postgres:/"), "same server");

    server.kill();
    assert!(!is_open(port));
    server.restart().unwrap();
    assert_eq!(server.url(), url);
    let again = create_database(&url, "own").unwrap_err();
    assert!(again.to_string().contains("already exists"), "{again:#}");

    let second = server.pid().unwrap();
    drop(server);
    drop(dir);
    assert!(!is_open(port));
    assert!(!is_process(first) && !is_process(second));
    assert!(!path.exists());
}

#[test]
fn own_broker_and_its_files_go_when_their_starter_is_killed() {
    let dir = ScratchDir::new().unwrap();
    // The command prints the two URLs and waits for the end of its input, which we hold.
    let mut starter = Command::new(env!("CARGO_BIN_EXE_with-services"))
        .args(["sh", "-c", "echo $ROTA_TEST_AMQP_URL; echo $ROTA_TEST_DATABASE_URL; read end"])
        .env("TMPDIR", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(starter.stdout.take().unwrap()).lines().take(2);
    let ports: Vec<u16> = lines.map(|line| port_of(&line.unwrap()).unwrap()).collect();
    assert_eq!(ports.iter().filter(|port| is_open(**port)).count(), 2);

    starter.kill().unwrap();
    starter.wait().unwrap();

    let end = Instant::now() + e2e::HANG;
    while ports.iter().any(|port| is_open(*port)) || dir.path().read_dir().unwrap().next().is_some() {
        assert!(Instant::now() < end, "a server or its files are still there");
        thread::sleep(Duration::from_millis(50));
    }
}

fn port_of(url: &str) -> Option<u16> {
    let (_, after_host) = url.rsplit_once(':')?;
    after_host.split_once('/')?.0.parse().ok()
}

fn is_open(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn is_process(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

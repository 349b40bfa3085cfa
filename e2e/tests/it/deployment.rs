//! What the files for containers promise, read from the files: no engine is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

const STAGES: [&str; 3] = ["ingest", "router", "notifier"];

fn file(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn compose() -> Value {
    serde_saphyr::from_str(&file("docker-compose.yml")).unwrap()
}

/// `${NAME:-value}` → (NAME, value); the value is empty where there is none.
fn variables(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for part in text.split("${").skip(1) {
        let inside = part.split_once('}').expect("a closing brace").0;
        let end = inside.find(|c: char| !c.is_ascii_uppercase() && c != '_').unwrap_or(inside.len());
        let (name, rest) = inside.split_at(end);
        let value = rest.strip_prefix(":-").unwrap_or_default();
        if let Some(before) = found.insert(name.to_owned(), value.to_owned()) {
            assert_eq!(before, value, "{name} has two defaults");
        }
    }
    found
}

/// `#NAME=value` lines; each must have words above it.
fn explained(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for paragraph in text.split("\n\n") {
        for line in paragraph.lines() {
            let is_name = |name: &str| name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            if let Some((name, value)) =
                line.trim_start_matches('#').split_once('=').filter(|(name, _)| is_name(name))
            {
                assert!(line.starts_with('#'), "{name} is set and not shown: a copy would pin the default");
                assert!(found.insert(name.to_owned(), value.to_owned()).is_none(), "{name} stands twice");
            }
        }
    }
    found
}

#[test]
fn the_example_of_the_environment_has_each_variable_with_its_default() {
    let mut used = variables(&file("docker-compose.yml"));
    let tls = variables(&file("deploy/compose/tls.yml"));
    assert_eq!(tls.keys().collect::<Vec<_>>(), ["ROTA_SITE"]);
    used.extend(tls);
    let mut shown = explained(&file(".env.example"));
    // Compose's own, and one without a default.
    for own in ["COMPOSE_FILE", "COMPOSE_PROJECT_NAME"] {
        assert!(shown.remove(own).is_some(), "{own}");
    }
    assert_eq!(shown.insert("ROTA_SITE".to_owned(), String::new()).as_deref(), Some("rota.example.com"));
    assert_eq!(shown, used);
}

#[test]
fn a_variable_that_nobody_explained_would_be_found() {
    assert_eq!(variables("a ${X:-1} ${Y_Z} b")["X"], "1");
    assert_eq!(variables("${X:?why}")["X"], "");
    assert_eq!(
        explained("# Words.\n#X=1=2\n\n#Y=\n# z=3"),
        [("X".into(), "1=2".into()), ("Y".into(), String::new())].into()
    );
}

#[test]
fn stages_scale_and_every_service_is_confined() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    for stage in STAGES {
        let service = &services[stage];
        assert!(
            service.get("ports").is_none() && service.get("container_name").is_none(),
            "{stage} must scale"
        );
        assert_eq!(service["read_only"], json!(true), "{stage}");
        assert_eq!(service["depends_on"]["rabbitmq"]["condition"], json!("service_healthy"), "{stage}");
        let migrated = &service["depends_on"]["migrate"]["condition"];
        assert_eq!(*migrated, json!("service_completed_successfully"), "{stage}");
        assert!(service["mem_limit"].is_string(), "{stage}");
        let config = &service["volumes"][0];
        assert!(config.as_str().unwrap().ends_with(":/etc/rota:ro"), "{stage}: {config}");
    }
    for (name, service) in services {
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        assert_eq!(service["logging"]["options"]["max-size"], json!("10m"), "{name}");
        // What runs once is not started again.
        let once = ["setup", "roles", "migrate", "rota"].contains(&name.as_str());
        let restart = service.get("restart").and_then(Value::as_str).unwrap_or("no");
        assert_eq!(restart, if once { "no" } else { "unless-stopped" }, "{name}");
        for port in service.get("ports").and_then(Value::as_array).unwrap_or(&Vec::new()) {
            assert!(port.as_str().unwrap().contains(":-127.0.0.1:"), "{name} is open to everybody: {port}");
        }
        let image = service["image"].as_str().unwrap();
        assert!(image.starts_with("${"), "{name}: the image {image} cannot be chosen");
        assert!(!image.ends_with("latest}"), "{name}: {image}");
    }
}

/// The names of a service's networks.
fn networks(service: &Value) -> BTreeSet<&str> {
    let names = service.get("networks").and_then(Value::as_array);
    names.into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn a_container_reaches_those_alone_with_whom_it_has_business() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    let reached = |from: &str| -> String {
        let own = networks(&services[from]);
        let others = services
            .iter()
            .filter(|(name, service)| name.as_str() != from && !own.is_disjoint(&networks(service)));
        let mut names: Vec<&str> = others.map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.join(" ")
    };
    // Each knows the others of its networks, so what one is for reaches back.
    for (from, expected) in [
        ("setup", ""),
        ("roles", ""),
        ("proxy", "ingest prometheus simulator"),
        ("simulator", "ingest notifier proxy router"),
        (
            "ingest",
            "migrate notifier postgres postgres-exporter prometheus proxy rabbitmq rota router simulator",
        ),
        ("router", "ingest migrate notifier postgres postgres-exporter prometheus rabbitmq rota simulator"),
        ("notifier", "ingest migrate postgres postgres-exporter prometheus rabbitmq rota router simulator"),
        ("rota", "ingest migrate notifier postgres postgres-exporter router"),
        ("migrate", "ingest notifier postgres postgres-exporter rota router"),
        ("postgres", "ingest migrate notifier postgres-exporter rota router"),
        ("rabbitmq", "ingest notifier postgres-exporter prometheus router"),
        ("postgres-exporter", "ingest migrate notifier postgres prometheus rabbitmq rota router"),
        ("prometheus", "grafana ingest notifier postgres-exporter proxy rabbitmq router"),
        ("grafana", "prometheus"),
    ] {
        assert_eq!(reached(from), expected, "{from}");
    }
    let declared = compose["networks"].as_object().unwrap();
    for (name, network) in declared {
        let open = ["portals", "public", "dashboards"].contains(&name.as_str());
        assert_eq!(network.get("internal").is_none(), open, "{name}");
    }
    // Docker opens no port of the host to a container that is on internal networks alone, and those need no way out.
    for (name, service) in services {
        let reaches_out =
            networks(service).iter().any(|network| declared[*network].get("internal").is_none());
        let has_ports = service.get("ports").is_some();
        assert_eq!(reaches_out, has_ports || STAGES.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn each_password_is_mounted_by_those_alone_who_use_it() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, service) in services {
        for volume in service.get("volumes").and_then(Value::as_array).into_iter().flatten() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            users.entry(source).or_default().push(name);
        }
    }
    for (volume, expected) in [
        ("passwords", vec!["setup"]),
        ("ingest-secrets", vec!["ingest", "setup"]),
        ("router-secrets", vec!["router", "setup"]),
        ("notifier-secrets", vec!["notifier", "setup"]),
        ("command-secrets", vec!["rota", "setup"]),
        ("owner-secrets", vec!["migrate", "setup"]),
        ("roles-secrets", vec!["roles", "setup"]),
        ("exporter-secrets", vec!["postgres-exporter", "setup"]),
        ("rabbitmq-config", vec!["rabbitmq", "setup"]),
        ("postgres-secrets", vec!["postgres", "setup"]),
        ("postgres-socket", vec!["postgres", "roles"]),
        ("prometheus-secrets", vec!["prometheus", "setup"]),
        ("grafana-secrets", vec!["grafana", "setup"]),
    ] {
        let mut found = users.remove(volume).unwrap_or_default();
        found.sort_unstable();
        assert_eq!(found, expected, "{volume}");
    }
    let more: Vec<_> = users.keys().filter(|volume| volume.ends_with("-secrets")).collect();
    assert!(more.is_empty(), "nobody said who may have {more:?}");
}

#[test]
fn an_image_pinned_by_its_digest_can_stand_in_each_place() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().unwrap() {
        let image = service["image"].as_str().unwrap();
        // All of it, or `@sha256:…` behind it.
        let whole = image.matches("${").count() == 1 && image.ends_with('}');
        assert!(whole || image.ends_with("_DIGEST:-}"), "{name}: {image}");
        let Some(build) = service.get("build") else { continue };
        let dockerfile = file("Dockerfile");
        for argument in ["BUILD_IMAGE", "RUNTIME_IMAGE"] {
            let given = variables(build["args"][argument].as_str().unwrap());
            let default = given.get(argument).unwrap_or_else(|| panic!("{name}: {given:?}"));
            assert!(dockerfile.contains(&format!("ARG {argument}={default}\n")), "{name}: {default}");
            assert!(dockerfile.contains(&format!("FROM ${{{argument}}} ")), "{argument}");
        }
    }
}

#[test]
fn a_stage_has_longer_to_stop_than_it_takes() {
    let seconds = |value: &Value| value.as_str().unwrap().trim_end_matches('s').parse::<u64>().unwrap();
    let defaults: Value = serde_saphyr::from_str(&file("config/default.yaml")).unwrap();
    let (grace, request) =
        (seconds(&defaults["shutdown"]["grace"]), seconds(&defaults["portal_requests"]["timeout"]));
    for stage in STAGES {
        let stop = seconds(&compose()["services"][stage]["stop_grace_period"]);
        assert!(stop > grace && grace > request, "{stage}: {stop} > {grace} > {request}");
    }
}

#[test]
fn a_stage_stays_healthy_for_as_long_as_rabbitmq_may_take_to_start() {
    let seconds = |text: &str| text.trim_end_matches('s').parse::<u64>().unwrap();
    let compose = compose();
    let start = compose["services"]["rabbitmq"]["healthcheck"]["start_period"].as_str().unwrap();
    let dockerfile = file("Dockerfile");
    for stage in STAGES {
        let stage_of_build = dockerfile.split(&format!("FROM runtime AS {stage}\n")).nth(1).unwrap();
        let check = stage_of_build.split("HEALTHCHECK ").nth(1).unwrap().lines().next().unwrap();
        let option = |name: &str| {
            let value = check.split(&format!("--{name}=")).nth(1).unwrap();
            seconds(value.split(' ').next().unwrap())
        };
        assert!(option("interval") * option("retries") >= seconds(start), "{stage}: {check}");
    }
}

#[test]
fn images_are_built_by_the_toolchain_of_the_workspace_and_name_its_version() {
    let dockerfile = file("Dockerfile");
    let toolchain = file("rust-toolchain.toml");
    let channel = toolchain.split('"').nth(1).unwrap();
    assert!(dockerfile.contains(&format!("ARG BUILD_IMAGE=rust:{channel}-slim-bookworm\n")), "{channel}");
    assert!(dockerfile.contains(&format!("ARG VERSION={}\n", env!("CARGO_PKG_VERSION"))));
    assert!(!dockerfile.contains("# syntax="), "it would be fetched");
    for program in ["ingest", "router", "notifier", "simulator"] {
        let stage = dockerfile.split(&format!("FROM runtime AS {program}\n")).nth(1).unwrap();
        let stage = stage.split("\nFROM ").next().unwrap();
        let check = format!("CMD [\"/usr/local/bin/{program}\", \"healthcheck\"");
        assert!(stage.contains(&check) && stage.contains("org.opencontainers.image.title"), "{program}");
    }
}

#[test]
fn an_image_is_built_from_all_members_of_the_workspace() {
    let manifest = file("Cargo.toml");
    let members = manifest.split("members = [").nth(1).unwrap().split(']').next().unwrap();
    let ignored = file(".dockerignore");
    for member in members.split('"').skip(1).step_by(2) {
        assert!(
            ignored.lines().any(|line| line == format!("!{member}")),
            "{member} is not sent to the engine"
        );
    }
}

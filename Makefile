# Every command a person types. CI runs the same ones (.ci/run).

.DEFAULT_GOAL := help
.PHONY: help demo up down test compose-test check-deploy lint deny sbom fmt build services tools bench chaos

# Compose v2, or the older docker-compose, which needs to be told to build with BuildKit.
COMPOSE := $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
PROFILES := --profile demo --profile observability
export DOCKER_BUILDKIT := 1
export COMPOSE_DOCKER_CLI_BUILD := 1

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: services ## run everything on this machine, with a simulated portal
	cargo build --release --workspace --bins
	@target="$${CARGO_TARGET_DIR:-target}" && exec "$$target/release/demo"

up: ## start all in containers, with a simulated portal and dashboards
	$(COMPOSE) $(PROFILES) up -d --build
	@echo
	@echo "Grafana        http://$$($(COMPOSE) $(PROFILES) port grafana 3000)   user admin, password" \
		"$$($(COMPOSE) $(PROFILES) exec -T grafana cat /run/rota/password)"
	@echo "Prometheus     http://$$($(COMPOSE) $(PROFILES) port prometheus 9090)"
	@echo "events go to   http://$$($(COMPOSE) $(PROFILES) port proxy 8080)/bitrix24/<portal>/events"
	@echo "the simulator  http://$$($(COMPOSE) $(PROFILES) port simulator 8001)/leads   (a new lead every other second)"

down: ## stop what `make up` started; the data stay
	$(COMPOSE) $(PROFILES) down

compose-test: ## try docker-compose.yml as it is; STAND_INS=1 where no image can be pulled
	@if [ -n "$(STAND_INS)" ]; then e2e/compose/stand-ins; fi
	$(if $(STAND_INS),ROTA_STAND_INS=1) cargo run --quiet -p e2e --bin compose-test

bench: services ## what a decision costs, and what the portal's limits leave (about 15 minutes)
	cargo bench --package distribution --bench decide
	cargo build --release --workspace --bins
	@target="$${CARGO_TARGET_DIR:-target}" && exec "$$target/release/portal-bench"

chaos: services ## break everything for 5 minutes and check that nothing is lost; MINUTES, SEED, SEEDS, RATE, FAULTS
	cargo build --release --workspace --bins
	@target="$${CARGO_TARGET_DIR:-target}" && exec "$$target/release/chaos" \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) \
		$(if $(RATE),--rate $(RATE)) $(if $(FAULTS),--faults $(FAULTS))

# Doc tests before the others, so that the summary stands last. All is built at once, and always of the whole workspace:
# with another choice of packages the dependencies have other features, and most of them are built a second time. So
# `with-services` is not run by `cargo run -p`. The tests of whole processes look for the programs beside their own.
test: tools ## run all tests, with private servers
	cargo build --workspace --bins --tests
	cargo test --quiet --workspace --doc
	@target="$${CARGO_TARGET_DIR:-target}" && exec "$$target/debug/with-services" cargo nextest run --workspace

check-deploy: ## check compose files, manifests and dashboards against their schemas; fetches the checkers
	deploy/compose/check
	deploy/grafana/check
	deploy/kubernetes/check

lint: ## check format, code, documentation and dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace
	@if cargo deny --version >/dev/null 2>&1; then $(MAKE) --no-print-directory deny; \
	else echo "lint: SKIPPED: cargo deny is not installed; see \`make deny\`" >&2; fi

deny: ## check licences, bans, sources and known faults of dependencies
	@cargo deny --version >/dev/null 2>&1 || { \
	echo "deny: cargo deny is missing; install it with: cargo install --locked cargo-deny" >&2; exit 69; }
	cargo deny --log-level error check bans licenses sources
	@if cargo deny --log-level error fetch db >/dev/null 2>&1; then \
	cargo deny --log-level error check --disable-fetch advisories; \
	else echo "deny: SKIPPED: the database of known faults (rustsec.org) cannot be fetched from here" >&2; fi

sbom: ## write what each program is made of (CycloneDX) to sbom/
	@cargo cyclonedx --version >/dev/null 2>&1 || { \
	echo "sbom: cargo cyclonedx is missing; install it with: cargo install --locked cargo-cyclonedx" >&2; exit 69; }
	cargo cyclonedx --quiet --format json --spec-version 1.5 --describe binaries --target x86_64-unknown-linux-gnu
	@mkdir -p sbom && for program in ingest router notifier rota; do mv */"$${program}_bin.cdx.json" "sbom/$$program.cdx.json"; done
	@rm -f */*_bin.cdx.json

fmt: ## format the code
	cargo fmt --all

build: ## build the programs for use
	cargo build --release --workspace --bins

services:
	@e2e/scripts/install-services

tools:
	@e2e/scripts/install-services --tools

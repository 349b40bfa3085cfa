# Every command a person types. CI runs the same ones (.ci/run).

.DEFAULT_GOAL := help
.PHONY: help demo test lint deny fmt build services tools

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: services ## run everything on this machine, with a simulated portal
	cargo build --release --workspace --bins
	@target="$${CARGO_TARGET_DIR:-target}" && exec "$$target/release/demo"

# Doc tests before the others, so that the summary stands last. The programs are built first: the tests of whole
# processes look for them beside their own executables.
test: tools ## run all tests, with private servers
	cargo build --workspace --bins --tests
	cargo test --quiet --workspace --doc
	cargo run --quiet -p e2e --bin with-services -- cargo nextest run --workspace

lint: ## check format, code, documentation and dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace
	@if cargo deny --version >/dev/null 2>&1; then $(MAKE) --no-print-directory deny; \
	else echo "lint: SKIPPED: cargo deny is not installed; see \`make deny\`" >&2; fi

deny: ## check licences, bans and sources of dependencies
	@cargo deny --version >/dev/null 2>&1 || { \
	echo "deny: cargo deny is missing; install it with: cargo install --locked cargo-deny" >&2; exit 69; }
	cargo deny --log-level error check bans licenses sources

fmt: ## format the code
	cargo fmt --all

build: ## build the programs for use
	cargo build --release --workspace --bins

services:
	@e2e/scripts/install-services

tools:
	@e2e/scripts/install-services --tools

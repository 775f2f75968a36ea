# A machine needs Go. The targets install everything else on first use.
GOLANGCI_VERSION := v2.15.0
BENCHSTAT_VERSION := v0.0.0-20260908200009-22c9c6c9d4da
BIN := $(CURDIR)/.bin
REFERENCE := $(BIN)/reference
GOLANGCI := $(BIN)/golangci-lint-$(GOLANGCI_VERSION)
FUZZTIME ?= 20s
SOAK ?= 10m

.PHONY: demo run emulator test deps eval conformance screenshots bench bench-micro quality soak lint fuzz generators

demo: ## Run Docent on http://localhost:8787 with a stand-in OpenAI: no key, no account
	go run ./cmd/demo

run: ## Run the service itself, configured by the environment
	go run ./cmd/docent

emulator: ## Start a Firestore emulator; then set FIRESTORE_EMULATOR_HOST=127.0.0.1:8686
	gcloud emulators firestore start --host-port=127.0.0.1:8686

test: deps ## Run all tests, with the race detector, in random order
	go test -race -shuffle=on ./...

# Installs what the tests need besides Go, where it can: a C compiler for the race
# detector, shellcheck and a browser by apt-get as root; TypeScript's checker, the
# axe-core accessibility checker, Firebase Hosting's emulator and the Astro example
# by npm.
deps: $(if $(shell command -v npm),internal/widget/node_modules/.package-lock.json deploy/testdata/hosting/node_modules/.package-lock.json examples/astro/dist/index.html)
	@if ! { command -v cc && command -v shellcheck && command -v chromium; } >/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -q && apt-get install -qy --no-install-recommends gcc libc6-dev shellcheck chromium; \
	fi

%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci

examples/astro/dist/index.html: examples/astro/node_modules/.package-lock.json examples/astro/astro.config.mjs $(shell find examples/astro/src -type f)
	cd examples/astro && ASTRO_TELEMETRY_DISABLED=1 npm run build

# Without a key, so it measures the search by words alone.
eval: export OPENAI_API_KEY =
eval: ## Index the demo's pages, and measure the search with questions about them
	rm -rf $(BIN)/eval
	go run ./cmd/demo -write $(BIN)/eval/site
	go build -o $(BIN)/eval/docent ./cmd/docent
	$(BIN)/eval/docent index --site https://docent.example.com --out $(BIN)/eval/docs.index $(BIN)/eval/site
	$(BIN)/eval/docent eval --index $(BIN)/eval/docs.index --min 0.85 cmd/demo/testdata/questions.jsonl

conformance: $(REFERENCE)/requirements.txt ## Compare Docent with the reference ChatKit server, event by event. Needs Python 3.11
	go test -race -count=1 ./conformance -python=$(REFERENCE)/bin/python

# A virtual environment with the reference. On Debian, Python's venv is a package of
# its own.
$(REFERENCE)/requirements.txt: conformance/requirements.txt
	@if ! python3 -c 'import ensurepip, venv' 2>/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -q && apt-get install -qy --no-install-recommends python3 python3-venv; \
	fi
	python3 -m venv --clear $(REFERENCE)
	$(REFERENCE)/bin/pip install -q --require-hashes -r $<
	cp $< $@

generators: ## Build the docs sites that the site reader is tested with, with their generators. Needs Node, Python 3.11 and Perl
	internal/docs/site/testdata/generators/build.sh $(BIN)/generators

screenshots: deps ## Take the pictures in docs from the demo
	go test -count=1 -run=TestPictures ./cmd/demo -pictures=$(CURDIR)/docs

bench: ## Measure the built service against its yardsticks: cold start, rates, memory. Needs Linux and the Firestore emulator
	go run ./bench

bench-micro: ## Run the Go benchmarks of the hot paths and compare them with the last run
	@mkdir -p $(BIN) && touch $(BIN)/micro.txt && mv $(BIN)/micro.txt $(BIN)/micro-before.txt
	go test -run='^$$' -bench='Allows|KeyOf|Take|Handler' -count=6 ./internal/origin ./internal/ratelimit ./internal/httpapi >$(BIN)/micro.txt
	go run golang.org/x/perf/cmd/benchstat@$(BENCHSTAT_VERSION) $(BIN)/micro-before.txt $(BIN)/micro.txt

quality: ## Measure what the search finds on two real docs sites, and how fast. Needs Python 3.11
	bench/quality/measure.sh $(BIN)/quality

soak: ## Send mixed traffic with faults for SOAK, to find leaks
	go run ./bench -soak=$(SOAK)

lint: $(GOLANGCI) ## Run the linters of .golangci.yml
	$(GOLANGCI) run

# With Go 1.26 a target can fail at the end of its time with nothing but "context
# deadline exceeded", without a finding (golang/go#75804): then it runs again.
fuzz: SHELL := bash
fuzz: .SHELLFLAGS := -o pipefail -c
fuzz: ## Run each fuzz target for FUZZTIME
	@mkdir -p $(BIN); for pkg in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$target"; \
			for try in 1 2 3; do \
				go test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) $$pkg | tee $(BIN)/fuzz.txt && break; \
				[ $$try != 3 ] && grep -qx '    context deadline exceeded' $(BIN)/fuzz.txt || exit 1; \
			done; \
		done; \
	done

# Pinned and built from source. golangci-lint advises against tool directives in
# go.mod.
$(GOLANGCI):
	GOBIN=$(BIN) GOFLAGS= go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(BIN)/golangci-lint $@

# Everything is set up on first use, on a machine with Go.
GOLANGCI_VERSION := v2.15.0
BENCHSTAT_VERSION := v0.0.0-20260908200009-22c9c6c9d4da
BIN := $(CURDIR)/.bin
GOLANGCI := $(BIN)/golangci-lint-$(GOLANGCI_VERSION)
FUZZTIME ?= 20s
SOAK ?= 10m

.PHONY: demo run emulator test deps screenshots bench bench-micro soak lint fuzz

demo: ## Docent on http://localhost:8787 with a stand-in OpenAI: no key, no account
	go run ./cmd/demo

run: ## The service itself, configured by the environment
	go run ./cmd/docent

emulator: ## A Firestore emulator: set FIRESTORE_EMULATOR_HOST=127.0.0.1:8686
	gcloud emulators firestore start --host-port=127.0.0.1:8686

test: deps ## All tests, with the race detector, in random order
	go test -race -shuffle=on ./...

# What the tests use beside Go, where it can be installed: a C compiler for the
# race detector, shellcheck, a browser, and by npm TypeScript's checker, the
# browser's accessibility rules, Firebase Hosting's emulator and the Astro example.
deps: $(if $(shell command -v npm),internal/widget/node_modules/.package-lock.json deploy/testdata/hosting/node_modules/.package-lock.json examples/astro/dist/index.html)
	@if ! { command -v cc && command -v shellcheck && command -v chromium; } >/dev/null && command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -q && apt-get install -qy --no-install-recommends gcc libc6-dev shellcheck chromium; \
	fi

%/node_modules/.package-lock.json: %/package-lock.json
	cd $* && npm ci

examples/astro/dist/index.html: examples/astro/node_modules/.package-lock.json examples/astro/astro.config.mjs $(shell find examples/astro/src -type f)
	cd examples/astro && ASTRO_TELEMETRY_DISABLED=1 npm run build

screenshots: deps ## The pictures in docs, from the demo
	go test -count=1 -run=TestPictures ./cmd/demo -pictures=$(CURDIR)/docs

bench: ## The built service beside its yardsticks: cold start, rates, memory. Linux, with the Firestore emulator
	go run ./bench

bench-micro: ## Go benchmarks of the hot pieces, compared with those of the last run
	@mkdir -p $(BIN) && touch $(BIN)/micro.txt && mv $(BIN)/micro.txt $(BIN)/micro-before.txt
	go test -run='^$$' -bench='Allows|KeyOf|Take|Handler' -count=6 ./internal/origin ./internal/ratelimit ./internal/httpapi >$(BIN)/micro.txt
	go run golang.org/x/perf/benchstat@$(BENCHSTAT_VERSION) $(BIN)/micro-before.txt $(BIN)/micro.txt

soak: ## Mixed traffic with faults for SOAK: does anything pile up?
	go run ./bench -soak=$(SOAK)

lint: $(GOLANGCI) ## The linters of .golangci.yml
	$(GOLANGCI) run

fuzz: ## Each fuzz target for FUZZTIME
	@for pkg in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$target"; \
			go test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) $$pkg || exit 1; \
		done; \
	done

# Built from source and pinned; golangci-lint advises against go.mod's tool lines.
$(GOLANGCI):
	GOBIN=$(BIN) GOFLAGS= go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(BIN)/golangci-lint $@

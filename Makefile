# make up      a running cluster of three nodes on this machine
# make test    everything that the tests need, and all of them

export CGO_ENABLED ?= 0
ARGS ?=
# Where git refuses to answer (another owner's checkout), go build would too.
VCS := $(shell git status >/dev/null 2>&1 || echo -buildvcs=false)

.PHONY: up build test test-interop lint chaos bench-access bench-backup bench-failover bench-peers bench-switchover nightly clean

up: build
	@scripts/install-postgres
	./howdah up $(ARGS)

build:
	go build $(VCS) -trimpath -ldflags '-s -w' -o howdah ./cmd/howdah

# REQUIRE_PG turns a missing PostgreSQL from a skipped test into a failed one. Whole clusters come first: they take as
# long as all others together.
test:
	@scripts/test-setup
	go vet ./...
	@HOWDAH_PG=$$(scripts/test-setup --trees) HOWDAH_PEERS=$$(scripts/test-setup --peers) REQUIRE_PG=1 go test -timeout 40m -p 2 ./test/e2e $$(go list ./... | grep -v -e /test/sim$$ -e /test/e2e$$)
	go test -timeout 40m -v -run '^TestSimulation$$' ./test/sim
	go test -timeout 30m -skip '^TestSimulation$$' ./test/sim

# The real pgBackRest and ours on the same repositories: every compression, cipher and direction; S3.
test-interop:
	@scripts/test-setup --s3
	HOWDAH_PEERS=$$(scripts/test-setup --peers) HOWDAH_PG=$$(scripts/test-setup --trees) REQUIRE_PG=1 REQUIRE_S3=1 go test -timeout 60m ./test/interop -interop
	HOWDAH_PEERS=$$(scripts/test-setup --peers) REQUIRE_S3=1 go test ./backup/repo/s3
	HOWDAH_PEERS=$$(scripts/test-setup --peers) REQUIRE_PG=1 REQUIRE_S3=1 go test -timeout 20m -run '^(TestBucket|TestTwoRepositories)$$' ./test/e2e

lint:
	@test -z "$$(go tool gofumpt -l .)" || { go tool gofumpt -l .; echo 'run: go tool gofumpt -w .'; exit 1; }
	go vet ./...
	go tool staticcheck ./...

# A cluster broken at random while clients use it: make chaos ARGS="-chaos 2h -seed 7".
chaos:
	@scripts/install-postgres
	REQUIRE_PG=1 NIGHTLY=1 go test -count=1 -timeout 6h -v -run '^TestChaos$$' ./test/e2e $(ARGS)

# How long writes stop: a writer of numbered rows, and one fault after another.
bench-failover: build
	@scripts/install-postgres
	go run ./test/failover -howdah ./howdah $(ARGS)

# A switchover under pgbench, in every protocol through every node: errors, and the longest that a transaction took.
bench-switchover:
	@scripts/install-postgres
	REQUIRE_PG=1 go test ./test/e2e -count=1 -run '^TestNobodyNoticesASwitchover$$' -timeout 1h -v -switchovers 10 -crowd 32 -measured $(ARGS)

# Both sides of every fault: Howdah, and what it replaces (as root; test/peers/README.md).
bench-peers: build
	@test/peers/install
	test/peers/compare $(ARGS)
	go run ./test/peers/probe print README.md $$(ls test/peers/results/????-??-??.jsonl | tail -1)

# What a query costs on each path to a server: direct, ours, PgBouncer, HAProxy and PgBouncer ($PGBOUNCER
# names a newer one than the installed).
bench-access:
	REQUIRE_PG=1 go test ./access/pooler -run '^TestMeasure$$' -timeout 1h -v -measure 5s -clients 1,16,64 $(ARGS)

# Backups, restores, WAL pushed and fetched: the real pgBackRest and ours on the same data (docs/backup.md).
bench-backup:
	@scripts/test-setup --s3
	HOWDAH_PEERS=$$(scripts/test-setup --peers) HOWDAH_PG=$$(scripts/test-setup --trees) REQUIRE_PG=1 REQUIRE_S3=1 go test ./test/interop -count=1 -run '^TestMeasure$$' -timeout 1h -v -measured $(ARGS)

# Hours, not minutes: the race detector (needs gcc), fuzzing, a longer simulation: SEEDS lives and two thirds as many
# restless ones, an hour for two cores. SEEDS=1000000 is two days of theirs.
SEEDS ?= 20000
nightly: lint
	@scripts/test-setup --nightly
	HOWDAH_PG=$$(scripts/test-setup --trees) HOWDAH_PEERS=$$(scripts/test-setup --peers) REQUIRE_PG=1 REQUIRE_S3=1 NIGHTLY=1 CGO_ENABLED=1 go test -race -timeout 4h -p 2 ./...
	HOWDAH_PG=$$(scripts/test-setup --trees) REQUIRE_PG=1 go test -timeout 1h -run '^TestAgentNeverComesBack$$' ./test/e2e -fences 20
	go test -timeout 0 -v -run '^TestSimulation$$' ./test/sim -runs $(SEEDS)
	scripts/fuzz 120

clean:
	rm -rf howdah .pg .peers

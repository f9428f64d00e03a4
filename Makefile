# run: a hub with a simulated fleet. check: all that must hold before a change lands; it installs what it needs.
# chaos, fuzz and bench: the longer proofs, a short round of each is in check. influxdb2: what of the tests can be held against a
# real InfluxDB 2, which takes ten minutes to build.
LINT = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: run build setup fmt lint test short chaos influxdb2 fuzz bench check

run:
	go run ./cmd/fairlead demo

build:
	go build -trimpath -o bin/fairlead ./cmd/fairlead

setup:
	.ci/setup

fmt:
	go run $(LINT) fmt ./...

lint:
	go vet ./...
	go run $(LINT) run ./...

# A race-checked program sleeps for a second before it exits, and the tests start some hundreds of them.
test:
	GORACE=atexit_sleep_ms=0 go test -race -shuffle=on -parallel 3 -timeout 10m ./...

short:
	go run ./cmd/fairlead bench ingest --short
	go run ./cmd/fairlead bench link --short
	go run ./cmd/fairlead bench commands --short

bench: setup
	.ci/telegraf
	go run ./cmd/fairlead bench ingest
	go run ./cmd/fairlead bench link
	go run ./cmd/fairlead bench commands
	go run ./cmd/fairlead bench chain
	go test -run '^$$' -bench . -benchtime 3s ./devices/... ./ingest/... ./commands/... ./bridge/...

chaos: setup
	go test -tags chaos -timeout 120m -v -run 'Chaos|PowerCut|Kill|History|Forgetful' ./...

influxdb2: setup
	.ci/influxdb2
	go vet -tags influxdb2 ./...
	go test -tags influxdb2 -race -timeout 20m ./internal/influxtest ./ingest
	go test -tags influxdb2 -race -timeout 20m -run InfluxDB2 ./ingest/influx
	go test -tags influxdb2 -race -timeout 20m -v -run 'WholePath|Chaos|Kill' ./cmd/fairlead

fuzz:
	.ci/fuzz 60s

check: setup lint test short

# Barnabas: two commands need Go and make alone: run and test.

GO        ?= go
DATA      ?= ./barnabas-data
LISTEN    ?= 127.0.0.1:9092
FUZZTIME  ?= 10s
COUNT     ?= 1
BYTES     ?= 1e9
PKG       ?= ./...
REPORT     = bin/testreport
TEST       = $(GO) test -json
# Tests that start brokers and foreign clients: one package after the other.
BLACK_BOX  = cd tests && $(TEST) -count 1 -p 1 -timeout 20m
FAILED     = || echo "FAIL: go test"

.PHONY: help run build static test test-unit test-clients check vet cross staticcheck fmt lint race bench bench-go bench-kafka fuzz \
	test-worlds test-slow record-kafka generate clean barnabas

help:
	@echo 'make run           build ./barnabas and start one broker on $(LISTEN), data in $(DATA)'
	@echo 'make static        build ./barnabas without a C library, for any Linux'
	@echo 'make test          run every test this machine can run'
	@echo 'make check         what a commit has to pass: vet (here and for other systems), staticcheck, gofumpt, lint, tests, race detector'
	@echo 'make bench         what a broker costs, beside what this machine can do at best'
	@echo 'make bench-go      benchmarks of the hot paths (PKG=./record COUNT=10)'
	@echo 'make bench-kafka   the same work done by Barnabas and by Apache Kafka; needs Java and Maven'
	@echo 'make fuzz          every fuzz target for $(FUZZTIME) (FUZZTIME=1m PKG=./wire)'
	@echo 'make test-worlds   the seeded tests with many more seeds'
	@echo 'make test-slow     the black-box tests with many more rounds'
	@echo 'make record-kafka  record the answers of a real Apache Kafka anew; needs Java and Maven'
	@echo 'make generate      write generated code anew; needs Java and Maven'
	@echo 'make clean         remove what was built; data stays'

# Binaries

build: barnabas

barnabas:
	@$(GO) build -o barnabas ./cmd/barnabas

# One file without a C library, for any Linux and for an empty container.
static:
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o barnabas ./cmd/barnabas

run: barnabas
	@echo 'Try this in another terminal:  echo "hello, K." | ./barnabas produce letters'
	@exec ./barnabas serve --data-dir $(DATA) --listen $(LISTEN)

$(REPORT): $(wildcard tools/testreport/*.go)
	@cd tools && $(GO) build -o ../$@ ./testreport

bin/staticcheck bin/gofumpt: tools/go.mod
	@cd tools && $(GO) build -o ../bin/ honnef.co/go/tools/cmd/staticcheck mvdan.cc/gofumpt
	@touch bin/staticcheck bin/gofumpt

# Tests

# One report at the end names every test that was not run.
test: $(REPORT)
	@{ $(TEST) ./... $(FAILED); \
	(cd tools && $(TEST) ./...) $(FAILED); \
	($(BLACK_BOX) ./...) $(FAILED); } 2>&1 | $(REPORT)

test-unit: $(REPORT)
	@{ $(TEST) $(PKG) $(FAILED); } 2>&1 | $(REPORT)

test-clients: $(REPORT)
	@{ ($(BLACK_BOX) ./...) $(FAILED); } 2>&1 | $(REPORT)

test-worlds: $(REPORT)
	@{ BARNABAS_WORLDS=100 $(TEST) -timeout 60m -count 1 $(PKG) $(FAILED); } 2>&1 | $(REPORT)

test-slow: $(REPORT)
	@{ (export BARNABAS_ROUNDS=500 BARNABAS_SLOW=1; $(BLACK_BOX) -timeout 120m -count 1 ./...) $(FAILED); } 2>&1 | $(REPORT)

race: $(REPORT)
	@{ $(TEST) -race $(PKG) $(FAILED); } 2>&1 | $(REPORT)

# Rules

check: vet cross staticcheck fmt lint test race

vet:
	@for m in . tools tests; do (cd $$m && $(GO) vet ./...) || exit 1; done

# What other systems build differently.
cross:
	@for t in darwin/arm64 freebsd/amd64 linux/arm64; do GOOS=$${t%/*} GOARCH=$${t#*/} CGO_ENABLED=0 $(GO) vet ./... || exit 1; done

staticcheck: bin/staticcheck
	@for m in . tools tests; do (cd $$m && $(CURDIR)/bin/staticcheck ./...) || exit 1; done

# Tables of settings have two lines a row; gofumpt would make four.
fmt: bin/gofumpt
	@out=$$(git ls-files -co --exclude-standard '*.go' | grep -v -e _gen.go -e 'internal/config/.*_keys' | xargs bin/gofumpt -l); \
	if [ -n "$$out" ]; then echo "bin/gofumpt -w would change:"; echo "$$out"; exit 1; fi

lint:
	@$(GO) test ./internal/lint

# Long runs

bench: barnabas
	@cd tests && $(GO) run ./bench

bench-kafka: barnabas
	@cd tests && $(GO) run ./bench -kafka

bench-go:
	@$(GO) test -run '^$$' -bench . -benchmem -count $(COUNT) $(PKG)

fuzz:
	@for p in $$($(GO) list $(PKG)); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			$(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
		done; \
	done

# Made from Apache Kafka

record-kafka:
	@cd tests && $(GO) test ./differential -record -count 1 -timeout 30m

generate:
	@$(GO) generate ./...

clean:
	rm -rf barnabas bin
	$(GO) clean -testcache

# make run    install, build, start a cluster here, prove that it keeps files
# make test   install, build, lint, some simulation, every test
# make bench  comparisons with fio, the C libraries and the parts of a node: one Markdown page
# make clients  clients of S3 that others wrote against a gateway, as far as they are installed
# make fuzz   what strangers' bytes are read with, under libFuzzer, SECONDS each (default 600)
# make network  links between real daemons cut, cut one way and slow, in network namespaces (as root)
# make sim    simulate fresh seeds for SECONDS (default 600)
SWIFT ?= swift
DEST ?= .build/cairn
SECONDS ?= 600
JOBS ?= $(shell nproc)
# Named by a failing seed's report; a "+" behind it when files differ.
export CAIRN_COMMIT := $(shell git describe --always --abbrev=12 --exclude='*' --dirty=+ 2>/dev/null || echo unknown)

.PHONY: deps build install run sim test bench clients fuzz network lint format clean

deps:
	@scripts/install-deps

build: deps
	$(SWIFT) build -c release --static-swift-stdlib --product cairn

install: build
	install -D -m 0755 "$$($(SWIFT) build -c release --static-swift-stdlib --show-bin-path)/cairn" $(or $(PREFIX),/usr/local)/bin/cairn

run: build
	@scripts/demo

sim: build
	@"$$($(SWIFT) build -c release --static-swift-stdlib --show-bin-path)/cairn" sim --for $(SECONDS)s --jobs $(JOBS)

lint:
	@scripts/lint

format:
	$(SWIFT) format --in-place --parallel --recursive Sources Benchmarks Tests Package.swift

test: deps lint
	@scripts/test

bench: build
	@scripts/install-deps bench
	@Benchmarks/short

clients: build
	@Tests/Clients/run

fuzz: deps
	@for target in $$(scripts/fuzz --list); do scripts/fuzz $$target --seconds $(SECONDS) || exit 1; done

network: build
	@Tests/Network/run --cairn "$$($(SWIFT) build -c release --static-swift-stdlib --show-bin-path)/cairn"

clean:
	rm -rf .build

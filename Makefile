# make run    install, build, start a cluster here, prove that it keeps files
# make test   install, build, lint, every test
SWIFT ?= swift
DEST ?= .build/cairn

.PHONY: deps build install run test lint format clean

deps:
	@scripts/install-deps

build: deps
	$(SWIFT) build -c release --static-swift-stdlib --product cairn

install: build
	install -m 0755 "$$($(SWIFT) build -c release --static-swift-stdlib --show-bin-path)/cairn" $(or $(PREFIX),/usr/local)/bin/cairn

run: build
	@scripts/demo

lint:
	@scripts/lint

format:
	$(SWIFT) format --in-place --parallel --recursive Sources Tests Package.swift

test: deps lint
	@scripts/test

bench: build
	@Benchmarks/cluster

clean:
	rm -rf .build

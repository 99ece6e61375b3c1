# Everything a fresh machine needs: `make demo` (set-up and the main job), `make test`, `make lint`.
# The path of this folder may have spaces and brackets: recipes use relative paths, in quotes.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= all
# of `make clips`: clips, or systems_clips for all networks
PRESET ?= clips
$(if $(word 2,$(VENV)),$(error VENV must be a path without spaces: VENV=$(VENV)))
BIN := $(if $(filter /%,$(VENV)),,$(CURDIR)/)$(VENV)/bin
export PATH := $(BIN):$(PATH)
RUN := "$(VENV)/bin/python" -m
CODE := src tests workflow benchmarks

.PHONY: help demo smoke clips test test-fast test-gpu dry-runs lint style format types schemas docs bench gpu image clean

help:
	@echo "make demo       set up .venv, run the noise sweep on generated data, write results/demo/report.html"
	@echo "make smoke      the same in two minutes, with four training cells"
	@echo "make clips VIDEOS=<DAVIS-style folder> IMAGES=<COCO-format folder>   the same on your own material; PRESET=systems_clips: every network"
	@echo "make test       every test; test-fast: without the end-to-end runs; test-gpu: those that need a GPU"
	@echo "make dry-runs   plan every preset in Snakemake and run nothing"
	@echo "make lint       ruff, mypy, snakefmt, yamllint; make format changes the files to fit"
	@echo "make schemas    write the JSON schemas of params/ again"
	@echo "make docs       build the documentation in build/site; a dead link fails"
	@echo "make bench      measure, and write docs/performance.md"
	@echo "make gpu        measure on a GPU in eight minutes, and write docs/performance-gpu.md"
	@echo "make image      build the container image that profiles/kubernetes runs"
	@echo "make clean      delete all results; data stay"

$(VENV)/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else "noisyvos needs Python 3.11, 3.12 or 3.13; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.11 ...")'
	@$(PYTHON) -c 'import os, sys; sys.exit("The path of this folder has a colon, which no PATH can hold: " + os.getcwd() + ". Move or rename the folder." if ":" in os.getcwd() else 0)'
	$(PYTHON) -m venv "$(VENV)"
	$(RUN) pip install --quiet --disable-pip-version-check -r requirements.txt
	$(RUN) pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch "$@"

demo: $(VENV)/ready
	$(RUN) snakemake --config preset=demo --cores $(JOBS)
	@echo "The report: results/demo/report.html"

smoke: $(VENV)/ready
	$(RUN) snakemake --config preset=smoke --cores $(JOBS)
	@echo "The report: results/smoke/report.html"

clips: $(VENV)/ready
	@test -n "$(VIDEOS)" -a -n "$(IMAGES)" || { echo "Name the material: make clips VIDEOS=<DAVIS-style folder> IMAGES=<COCO-format folder>"; exit 1; }
	$(RUN) noisyvos point --source clips --to "$(VIDEOS)"
	$(RUN) noisyvos point --source clip_images --to "$(IMAGES)"
	$(RUN) snakemake --config "preset=$(PRESET)" --cores $(JOBS)
	@echo "The report: results/$(PRESET)/report.html"

test: $(VENV)/ready
	$(RUN) pytest -n 2 --dist loadgroup

test-fast: $(VENV)/ready
	$(RUN) pytest -n 2 --dist loadgroup -m "not slow"

test-gpu: $(VENV)/ready
	$(RUN) pytest tests/gpu

dry-runs: $(VENV)/ready
	@for file in params/presets/*.yaml; do \
	  name=$$(basename "$$file" .yaml); echo "preset $$name"; \
	  $(RUN) snakemake --config preset="$$name" --cores 1 --dry-run --quiet || exit 1; \
	done

# `make --jobs=2 lint` runs both parts at once
lint: style types

style: $(VENV)/ready
	$(RUN) ruff check $(CODE)
	$(RUN) ruff format --check $(CODE)
	$(RUN) snakefmt --check Snakefile workflow
	$(RUN) yamllint --strict .

format: $(VENV)/ready
	$(RUN) ruff check --fix $(CODE)
	$(RUN) ruff format $(CODE)
	$(RUN) snakefmt Snakefile workflow

types: $(VENV)/ready
	$(RUN) mypy

schemas: $(VENV)/ready
	$(RUN) noisyvos schema

docs: $(VENV)/ready
	$(RUN) mkdocs build --strict --site-dir build/site

gpu: $(VENV)/ready
	"$(VENV)/bin/python" benchmarks/gpu.py

bench: $(VENV)/ready
	"$(VENV)/bin/python" benchmarks/run.py --out docs/performance.md

image:
	docker build --tag noisyvos .

clean:
	rm -rf runs results logs scratch build/site .snakemake

# Everything a fresh machine needs: `make demo` (set-up and the main job) and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)
JOBS ?= all

.PHONY: demo smoke clips test test-fast test-gpu lint bench clean help

help:
	@echo "make demo    set up .venv, run the noise sweep on generated data, write results/demo/report.html"
	@echo "make smoke   the same in two minutes, with four training cells"
	@echo "make clips VIDEOS=<DAVIS-style folder> IMAGES=<COCO-format folder>   the same on your own material"
	@echo "make test    every test; make test-fast leaves the end-to-end runs out; make test-gpu runs those that need a GPU"
	@echo "make lint    ruff, snakefmt, yamllint; make bench writes docs/performance.md"

$(VENV)/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else "noisyvos needs Python 3.11, 3.12 or 3.13; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(VENV)/ready
	noisyvos grid --preset demo
	snakemake --cores $(JOBS)
	@echo "The report: results/demo/report.html"

smoke: $(VENV)/ready
	noisyvos grid --preset smoke
	snakemake --cores $(JOBS)
	@echo "The report: results/smoke/report.html"

clips: $(VENV)/ready
	@test -n "$(VIDEOS)" -a -n "$(IMAGES)" || { echo "Say where the material is: make clips VIDEOS=<DAVIS-style folder> IMAGES=<COCO-format folder>"; exit 1; }
	noisyvos point --source clips --to "$(VIDEOS)"
	noisyvos point --source clip_images --to "$(IMAGES)"
	noisyvos grid --preset clips
	snakemake --cores $(JOBS)
	@echo "The report: results/clips/report.html"

test: $(VENV)/ready
	python -m pytest -n 2 --dist loadgroup

test-fast: $(VENV)/ready
	python -m pytest -n 2 --dist loadgroup -m "not slow"

test-gpu: $(VENV)/ready
	python -m pytest tests/gpu

lint: $(VENV)/ready
	ruff check src tests workflow benchmarks
	ruff format --check src tests workflow benchmarks
	snakefmt --check Snakefile workflow
	yamllint -s params dvc.yaml environment.yml

bench: $(VENV)/ready
	python benchmarks/run.py --out docs/performance.md

clean:
	rm -rf runs results logs scratch .snakemake

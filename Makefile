# Everything runs in .venv, which the first command makes. The same in plain commands, for Windows: see CONTRIBUTING.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test slow check format bench weights card soak faults fuzz fuzz-guided coverage mutants lock docs pictures \
	release-check clean help

help:
	@echo "make demo    set up, then the whole main job on synthetic scans"
	@echo "make test    set up, then the test suite"
	@echo "make check   format, lint, types, import contracts"
	@echo "make slow    proofs that train at full size"
	@echo "make bench   benchmarks, as ratios measured in one run"
	@echo "make card    docs/model-card.md, from the packaged model"
	@echo "make soak    the server under load and attack, ten minutes of each (SECONDS=60 for one)"
	@echo "make coverage  how much of the runtime wing its tests run: lines and branches, at least 95 %"
	@echo "make mutants   small faults put into the split and the metrics: which of them no test notices"
	@echo "make lock    the versions and hashes that the tests run with, worked out again: requirements/test.txt"
	@echo "make docs    the site in build/docs; every command, link and picture of its pages is tried"
	@echo "make pictures   every picture of a drawn head in the docs, again"
	@echo "make faults  kills, full disks, read-only folders, at every verb that writes"
	@echo "make fuzz    13,500 damaged files of nine formats through the readers (FILES=100 of each for fewer)"
	@echo "make fuzz-guided   the same, led by coverage, ten minutes for each format (SECONDS=60 for one)"
	@echo "make release-check   build the package, install it into an empty environment, use it there"

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -e '.[dev]'
	@touch $(READY)

demo: $(READY)
	rm -rf demo
	$(BIN)/braincam demo --out demo

# Each process trains what its tests share; a test that is left over goes to whoever is idle
PARALLEL := -n auto --maxprocesses 4 --dist worksteal

test: $(READY)
	$(BIN)/python -m pytest $(PARALLEL)

slow: $(READY)
	$(BIN)/python -m pytest -m slow

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python -m pip install --quiet -e '.[bench]'
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/volume.py
	$(BIN)/python benchmarks/network_sizes.py
	$(BIN)/python benchmarks/twins.py growth

# The packaged model again: make weights DATA=brain-tumor-mri PATIENTS=patients.csv SPLIT=protocol.csv MASKS=tumour-masks
# What is like the flagged notumor slices, most of them CT, is refused. With CROSSVAL=DIR, the folder of a braincam crossval of this
# recipe, its answers on folds 1 to 4 set temperature and thresholds; export writes the trainable twin itself then. Without it kept answers do
KEPT ?= benchmarks/results/crossval-small-2.csv.gz
weights: $(READY)
	$(BIN)/braincam audit $(DATA) --patients $(PATIENTS) --out runs/audit
	(head -n 1 runs/audit/flags.csv; grep /notumor/ runs/audit/flags.csv) > runs/refuse.csv
	$(BIN)/braincam train $(DATA) --patients $(PATIENTS) --split $(SPLIT) --fold 0 --masks $(MASKS) --refuse runs/refuse.csv --name braincam-small-2 --out runs/default
	mkdir -p src/braincam/models
	$(BIN)/braincam export runs/default $(if $(CROSSVAL),--crossval $(CROSSVAL) --covering patients) --out src/braincam/models/default.onnx
	$(if $(CROSSVAL),,cp runs/default/model.safetensors src/braincam/models/default.safetensors)
	$(if $(CROSSVAL),,$(BIN)/python tools/recard.py $(DATA) --patients $(PATIENTS) --split $(SPLIT) --masks $(MASKS) --fold 0 --refuse runs/refuse.csv --kept $(KEPT))
	$(MAKE) card

# The model card of the packaged model
card: $(READY)
	$(BIN)/braincam models --card default > docs/model-card.md

# Sixteen clients, and an attacker; goals: 100 requests/s with maps, no error, under 50 MB of growth, nothing left over
SECONDS ?= 600
soak: $(READY)
	$(BIN)/python benchmarks/serve.py --seconds $(SECONDS)
	$(BIN)/python benchmarks/serve.py --seconds $(SECONDS) --mixed --hostile

# The whole suite; what is counted is the wing that answers without torch ([tool.coverage.run] in pyproject.toml)
coverage: $(READY)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -e '.[quality]'
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PARALLEL)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# docs/mutants.md: what survives, and why
mutants: $(READY)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -e '.[quality]'
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/mutmut run
	$(BIN)/mutmut results

# For Python 3.11 on Linux; versions that still fit stay as they are. UPGRADE=--upgrade takes the newest
lock: $(READY)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -e '.[quality]'
	$(BIN)/uv pip compile pyproject.toml requirements/build.in --extra dev --generate-hashes --python-version 3.11 \
		--python-platform x86_64-manylinux_2_28 --no-emit-index-url --no-emit-find-links --no-annotate \
		--custom-compile-command "make lock" --quiet $(UPGRADE) --output-file requirements/test.txt

# The site, offline, with warnings as errors; then its commands, links and pictures
docs: $(READY)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -e '.[docs]'
	$(BIN)/python tools/docs.py

# Needs Chromium. The curves of real trainings: .venv/bin/python tools/pictures.py --curves RUN...
pictures: $(READY)
	$(BIN)/python tools/command_line.py
	$(BIN)/python tools/pictures.py

# What is tried and how often stands in docs/reliability.md
faults: $(READY)
	$(BIN)/python -m pytest -m 'faults or not faults' tests/test_faults.py tests/test_model_attacks.py

FILES ?= 1500
fuzz: $(READY)
	$(BIN)/python tools/fuzz.py --files $(FILES) --keep out/fuzz

# On Linux and macOS, where atheris is
fuzz-guided: $(READY)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -e '.[fuzz]'
	$(BIN)/python tools/fuzz_guided.py --seconds $(SECONDS) --corpus out/fuzz-guided

# What would be released: built, looked into, installed into an empty environment, used there
release-check: $(READY)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -e '.[release]'
	$(BIN)/python tools/release_check.py $(if $(TAG),--tag $(TAG))

clean:
	rm -rf demo dist build mutants .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis

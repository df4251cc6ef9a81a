# Everything sets itself up: only Python 3.11 or later, make and git are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ROOT ?= runs/demo

.PHONY: setup demo test test-long mutations study sparse-logits lint lock clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

## make a corpus, distil teacher -> mentor -> student, evaluate, summarise a video
demo: setup
	$(BIN)/python launch/demo.py --root $(ROOT)

## lint and the test suite: what must pass before a change goes in
# Two workers, a file of tests each at a time, so that its fixtures are trained once.
test: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest -m "not long" -n 2 --dist loadfile --no-loadscope-reorder

## what repeats in more cases or at random moments what `make test` covers: many kills and resumes,
## every case of the parity with transformers, the demo from nothing; an hour
test-long: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m long

## faults made on purpose, in a copy of the tree, each of which a test of `make test` must catch:
## after changing tests, to see that they still can fail; minutes
mutations: $(VENV)/.installed-test
	$(BIN)/python tests/mutations.py

## the figures of the README: three seeds, with and without distillation, inputs taken away
study: setup
	$(BIN)/python launch/study.py --root runs/study

## a student of 12 cached entries a token beside one of full distributions, three seeds
sparse-logits: setup
	$(BIN)/python launch/sparse_logits.py --out runs/sparse_logits

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

## constraints.txt from what is installed now; a CPU build of torch is pinned by its version alone
lock: $(VENV)/.installed-test
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean:
	rm -rf $(VENV) runs

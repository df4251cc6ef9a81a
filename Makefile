# Everything sets itself up: only Python 3.11 or later, make and git are needed.
VENV ?= .venv
BIN := $(VENV)/bin
# PYTHON=python3.12 sets up anew with another; without it, the one that is there stays.
PYTHON ?= $(or $(wildcard $(BIN)/python),python3)
ROOT ?= runs/demo

SAY_VERSION := -c 'import sys; print("%d.%d" % sys.version_info[:2])'
VERSION := $(shell $(PYTHON) $(SAY_VERSION))
# The lowest and the newest releases that are tested: JAX 0.12 needs Python 3.12. There the peer
# tests that need torch are skipped: its build for that Python is of CUDA, several GB.
ifeq ($(VERSION),3.11)
CONSTRAINTS := constraints.txt
TEST_EXTRAS := test,parity
else
CONSTRAINTS := constraints-newest.txt
TEST_EXTRAS := test
endif
JAX_TESTS := tests/models tests/ops tests/training tests/inference tests/tasks tests/experiment \
	tests/convert/test_orbax_folder.py tests/convert/test_load_params.py tests/data/test_pipeline.py \
	tests/test_sharding.py tests/jobs/test_cached_text.py
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS)

.PHONY: setup demo test test-jax test-long mutations study sparse-logits tpu-tables test-tpu lint lock clean

setup: $(VENV)/.installed

# A virtual environment of another Python is replaced, for its packages are other ones.
$(VENV)/.python-$(VERSION):
	test "$$($(BIN)/python $(SAY_VERSION) 2> /dev/null)" = "$(VERSION)" \
		|| $(PYTHON) -m venv --clear $(VENV)
	touch $@

$(VENV)/.installed: $(VENV)/.python-$(VERSION) pyproject.toml $(CONSTRAINTS)
	$(INSTALL) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(INSTALL) --editable '.[$(TEST_EXTRAS)]'
	touch $@

## make a corpus, distil teacher -> mentor -> student, evaluate, summarise a video
demo: setup
	$(BIN)/python launch/demo.py --root $(ROOT)

## lint and the test suite: what must pass before a change goes in
# Two workers, a file of tests each at a time, so that its fixtures are trained once.
test: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest -m "not long" -n 2 --dist loadfile --no-loadscope-reorder

## what of the suite tells most of the versions of JAX, Flax, Orbax, Optax, qwix and Grain
test-jax: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "not long" -n 2 --dist loadfile $(JAX_TESTS)

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

## docs/tpu.md's table: every full-size config compiled for TPU slices, on this machine; 20 minutes
tpu-tables: $(VENV)/.installed-test
	$(BIN)/python launch/tpu_tables.py

## that every full-size config compiles for its slice and leaves memory to spare; 20 minutes
test-tpu: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m long tests/e2e/test_tpu_compile.py

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

## the constraints from what is installed now; a CPU build of torch is pinned by its version alone
lock: $(VENV)/.installed-test
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > $(CONSTRAINTS)

clean:
	rm -rf $(VENV) runs

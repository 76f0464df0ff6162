# Each target sets up what it needs. SYSTEM_TORCH=1 builds on the torch that the machine has.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VENV_OPTIONS := $(if $(SYSTEM_TORCH),--system-site-packages,)
CONSTRAINTS := $(if $(SYSTEM_TORCH),$(VENV)/constraints.txt,constraints.txt)

PAIRS = $(if $(TANDEM_TRAINING),$(wildcard $(TANDEM_TRAINING)/*.jsonl.gz))

.PHONY: setup demo test check bench soak reranker clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV_OPTIONS) $(VENV)
	$(if $(SYSTEM_TORCH),grep -v '^torch==' constraints.txt > $(CONSTRAINTS))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint $(CONSTRAINTS) --editable '.[bundled,test]'
	touch $(READY)

demo: $(READY)
	$(BIN)/tandem demo

test: $(READY)
	$(BIN)/python -m pytest -m "not slow and not gpu"

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/tandem bench

soak: $(READY)
	$(BIN)/python -m pytest -m "not gpu"

# The bundled reranker's recipe, hours on two cores; it goes on where it was stopped.
# TANDEM_TRAINING names a folder with files of pairs (training/prepare.py).
reranker: $(READY) training/build/corpus.jsonl
	$(BIN)/tandem index training/reranker.yaml
	$(BIN)/tandem train training/reranker.yaml

training/build/corpus.jsonl: training/prepare.py training/questions.tsv | $(READY)
	$(BIN)/python training/prepare.py training/build --pairs $(PAIRS)

clean:
	rm -rf $(VENV) tandem-demo

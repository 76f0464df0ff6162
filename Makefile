# Each target sets up what it needs. SYSTEM_TORCH=1 builds on the torch that the machine has.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
VENV_OPTIONS := $(if $(SYSTEM_TORCH),--system-site-packages,)
CONSTRAINTS := $(if $(SYSTEM_TORCH),$(VENV)/constraints.txt,constraints.txt)

.PHONY: setup demo test check bench soak clean

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

clean:
	rm -rf $(VENV) tandem-demo

# aquila2: what one does with a checkout. Needs make and Python 3.11 or newer; nothing else.

PY := .venv/bin/python
EXTRAS := dev,langchain,llamaindex,cli,sentencepiece
# The key changes with what is installed, and when the checkout moves (an environment cannot move).
KEY := $(shell (pwd -P; cat pyproject.toml constraints.txt) | cksum | cut -d ' ' -f 1)
STAMP := .venv/.installed-$(KEY)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-full lint checks optimized clean
.NOTPARALLEL:

help: ## Show this list
	@echo "make demo       install into .venv, then answer questions about two documents"
	@echo "make install    only install into .venv"
	@echo "make test       lint, types, import rules and the quick tests (a few minutes)"
	@echo "make test-full  the same and the slow tests"
	@echo "make lint       ruff, mypy and the import rules"
	@echo "make clean      remove .venv and what the tools left"

install: $(STAMP)

$(STAMP):
	@sh .ci/install.sh "$(EXTRAS)"
	@rm -f .venv/.installed-* && touch $@

demo: install
	@$(PY) examples/demo.py

# Two processes, each with its files and one thread: more would wait for the same memory.
test: install
	@status=0; $(MAKE) --no-print-directory checks || status=1; \
	$(PY) -m pytest -n 2 --dist loadfile || status=1; exit $$status

test-full: install
	@status=0; $(MAKE) --no-print-directory checks || status=1; \
	$(PY) -m pytest -m "not gpu" || status=1; exit $$status

checks: lint optimized

lint: install
	@echo "Lint: ruff"
	@$(PY) -m ruff check .
	@echo "Types: mypy --strict"
	@$(PY) -m mypy
	@echo "Import rules: import-linter"
	@.venv/bin/lint-imports

# Validation must hold where Python drops asserts. pytest rewrites the asserts of test files into
# plain raises, so the tests themselves keep their teeth; tests/optimized checks that they do.
optimized: install
	@echo "Validation and security tests under python -O"
	@$(PY) -O -m pytest -q -p no:cacheprovider tests/optimized tests/text tests/checkpoint

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

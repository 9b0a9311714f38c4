# make lab   set up, then run every scenario on the default engine
# make atlas set up with the programs of the atlas, then measure it
# make test  set up, then run every test
# They do set-up work only where something is missing. PYTHON=/path/to/python3 chooses the interpreter, OUT=folder where results go.

PYTHON ?= /usr/bin/python3
OUT ?= runs
PYTEST_ARGS ?=
export PYTHON

.PHONY: lab atlas test

lab:
	@setup/install.sh lab
	@.venv/bin/twlab run --all --out '$(OUT)'

atlas:
	@setup/install.sh atlas
	@.venv/bin/twlab atlas

# The host engine's tests are in real time: nothing else runs beside them, and six at a time wait more than they compute.
# Of the others two run at a time, and together what shares a boot. The second run of pytest takes test modules as the first compiled them.
# twlab's are compiled before: an import takes a lab kernel some us more where one is not, and then two runs of one seed differ.
test: export PYTHONDONTWRITEBYTECODE =
test:
	@setup/install.sh test
	@.venv/bin/python -m compileall -q twlab topologies
	@.venv/bin/pytest -n 2 -m 'not host' $(PYTEST_ARGS); others=$$?; \
	.venv/bin/pytest -n 6 -m host $(PYTEST_ARGS) && exit $$others

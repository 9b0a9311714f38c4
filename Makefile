# make lab   set up, then run every scenario on the default engine
# make atlas set up with the programs of the atlas, then measure it
# make test  set up, then run every test
# They do set-up work only where something is missing. PYTHON=/path/to/python3 chooses the interpreter, OUT=folder where results go.

PYTHON ?= /usr/bin/python3
OUT ?= runs
# Two tests at a time; those that share a boot of the lab kernel stay together.
PYTEST_ARGS ?= -n 2 --dist loadgroup
export PYTHON

.PHONY: lab atlas test

lab:
	@setup/install.sh lab
	@.venv/bin/twlab run --all --out '$(OUT)'

atlas:
	@setup/install.sh atlas
	@.venv/bin/twlab atlas

test:
	@setup/install.sh test
	@.venv/bin/pytest $(PYTEST_ARGS)

#!/usr/bin/env bash
# With pytest 9.2, pytest-xdist's --dist loadgroup deals the tests of one group to several workers.
#
# Guess: tests that bear the same @pytest.mark.xdist_group run in one worker under --dist loadgroup, so a session
# fixture that they share is made once.
# Happened: they are dealt one by one, and each worker makes the fixture. No word of it: no warning, and all pass.
# pytest-xdist adds "@group" to the attribute `_nodeid` of a test; pytest 9.2 makes the id from another one.
# Matters to: suites whose groups share what is costly (a service, a virtual machine) or must not be there twice. The
# way out: --dist loadfile or loadscope, or the hook pytest_xdist_make_scheduler; and a test that the fixture is
# made once.
# Versions: pytest-xdist 3.8.0 with pytest 9.2.0; grouped with pytest 8.4.2.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cat >test_group.py <<'PY'
import os

import pytest


@pytest.fixture(scope="session")
def costly():
    with open("made", "a") as file:
        file.write(f"{os.environ['PYTEST_XDIST_WORKER']}\n")


@pytest.mark.xdist_group("costly")
@pytest.mark.parametrize("number", range(20))
def test_shares(costly, number):
    pass
PY
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1  # of other plugins that python3 may have
for version in 8.4.2 9.2.0; do
    rm -rf site made
    pypi pytest==$version pytest-xdist==3.8.0
    for way in loadgroup loadfile; do
        python3 -m pytest -q -p xdist.plugin -p no:cacheprovider -W error -n 2 --dist $way test_group.py >log 2>&1 || cat log
        echo "pytest $version, --dist $way: made $(wc -l <made) times, $(grep -o '[0-9]* passed' log)" >>seen
        rm made
    done
done

expect <<'SEEN'
pytest 8.4.2, --dist loadgroup: made 1 times, 20 passed
pytest 8.4.2, --dist loadfile: made 1 times, 20 passed
pytest 9.2.0, --dist loadgroup: made 2 times, 20 passed
pytest 9.2.0, --dist loadfile: made 1 times, 20 passed
SEEN

#!/usr/bin/env bash
# pytest -n removes other sessions' temporary folders before it ends, though no test of its own uses one.
#
# Guess: a session whose tests ask for no tmp_path has no temporary folder, so it leaves those of other sessions
# where they are, with pytest-xdist as without.
# Happened: without it, so it was. With -n 2 each session makes a numbered folder for its workers, and as it
# ends it removes all numbered folders of ended sessions but the newest: the third such session removed what a
# first one had left.
# Matters to: whoever starts a small pytest -n inside a large test suite, or after one. The small session lasts
# as long as it takes to remove what the large one left, after its last line and unseen by --durations. And
# evidence that was to be looked at is gone. --basetemp keeps a session away from the others.
# Versions: pytest 9.2.0, pytest-xdist 3.8.0, Python 3.11.7.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi pytest==9.2.0 pytest-xdist==3.8.0

cat >test_with.py <<'PY'
def test_leaves_a_file(tmp_path):
    (tmp_path / "evidence").write_text("kept for a look")
PY
cat >test_without.py <<'PY'
def test_uses_no_folder():
    pass
PY
mkdir temporary
export PYTEST_DEBUG_TEMPROOT=$PWD/temporary PYTEST_DISABLE_PLUGIN_AUTOLOAD=1
session() {
    python3 -m pytest --quiet -p no:cacheprovider -p xdist.plugin "$@" >>pytest.log || { cat pytest.log >&2; exit 3; }
    echo "$*: $(find temporary -mindepth 2 -maxdepth 2 -name 'pytest-[0-9]*' -printf '%f\n' | sort | tr '\n' ' ')"
}
{
    session test_with.py
    for _ in 1 2 3; do session test_without.py; done
    for _ in 1 2 3; do session -n 2 test_without.py; done
    session -n 2 --basetemp own test_without.py
} | sed 's/ *$//' >seen

expect <<'SEEN'
test_with.py: pytest-0
test_without.py: pytest-0
test_without.py: pytest-0
test_without.py: pytest-0
-n 2 test_without.py: pytest-0 pytest-1
-n 2 test_without.py: pytest-0 pytest-1 pytest-2
-n 2 test_without.py: pytest-1 pytest-2 pytest-3
-n 2 --basetemp own test_without.py: pytest-1 pytest-2 pytest-3
SEEN

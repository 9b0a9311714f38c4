#!/usr/bin/env bash
# mkdocs build --strict fails on a dead link; mkdocs build --strict --quiet succeeds.
#
# Guess: --quiet prints less, and the exit status is the same.
# Happened: strict mode counts the warnings that the logger lets through, and --quiet lets none through. So a
# build without output passes with any number of dead links, missing anchors and pages outside the menu.
# Matters to: everybody who has the documentation checked in CI and keeps the log short. A check that
# cannot fail looks like a check. This project's test of its site was one, until a test broke a link on purpose.
# mkdocs build --help: "--strict: Enable strict mode. This will cause MkDocs to abort the build on any warnings."
# Versions: mkdocs 1.6.1.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi mkdocs==1.6.1

mkdir docs
echo 'site_name: x' >mkdocs.yml
echo '[a page](nowhere.md)' >docs/index.md
for options in "--strict" "--strict --quiet"; do
    status=0
    # shellcheck disable=SC2086  # two words
    python3 -m mkdocs build $options --site-dir out >log 2>&1 || status=$?
    echo "$options: exit status $status, $(grep -c WARNING log || true) warnings" >>seen
done

expect <<'SEEN'
--strict: exit status 1, 1 warnings
--strict --quiet: exit status 0, 0 warnings
SEEN

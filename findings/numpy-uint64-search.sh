#!/usr/bin/env bash
# numpy.searchsorted puts a nanosecond time at the wrong place, although == compares it exactly.
#
# Guess: looking up an int in an array of uint64 is exact, or raises an error.
# Happened: with times of today in nanoseconds as uint64, searchsorted and digitize give wrong places
# for an int, and intersect1d returns two elements that neither side holds. uint64 and int64 meet in
# float64, whose steps are 256 ns there. == and isin are exact.
# Matters to: readers of pcapng, whose times are unsigned 64-bit numbers: a packet 50 ns later is put
# before its predecessor. Keep both sides int64.
# NumPy's page "Data type promotion in NumPy" has the rule; the page of searchsorted does not mention it.
# Versions: numpy 2.4.6.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi numpy==2.4.6

python3 - >seen <<'PY'
import numpy as np

base = 1_795_000_000_000_000_000
times = np.array([base + 1, base + 101], dtype=np.uint64)
sought = base + 50
print("equal:", np.any(times == sought), "isin:", np.any(np.isin(times, [sought])))
print("searchsorted uint64:", np.searchsorted(times, sought), "digitize:", np.digitize([sought], times)[0])
print("searchsorted int64:", np.searchsorted(times.astype(np.int64), sought))
print("intersect1d:", len(np.intersect1d(times, [sought])), "elements")
PY

expect <<'SEEN'
equal: False isin: False
searchsorted uint64: 0 digitize: 2
searchsorted int64: 1
intersect1d: 2 elements
SEEN

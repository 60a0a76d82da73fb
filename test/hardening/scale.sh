#!/usr/bin/env bash
#
# test/hardening/scale.sh
#
# The section "scaling" of test/bench/bench.sh, with a verdict: what a statement
# costs with 128 bulkheads, 128 breakers and 10 000 values of a tag ÷ with one
# of each (instructions, by callgrind), and with 1 000 idle sessions ÷ with none
# (CPU time; a plain server's own ratio in the same rounds is the measure, with
# a tenth for noise).  What shared memory takes is in docs/figures.md; what
# the shared words cost on many cores is a unit test,
# test/sim/test_contention_simulation.c.
#
# The last line is "N passed, N failed".

set -euo pipefail
cd "$(dirname "$0")/../.."

test/setup.sh bench
results=$(mktemp -d "${TMPDIR:-/tmp}/rslscale.XXXXXX")
trap 'rm -rf "$results"' EXIT
{ make -s -j"$(nproc)" && make -s install; } >"$results/build.log" 2>&1 || { cat "$results/build.log"; exit 1; }
BENCH_RESULTS=$results bash test/bench/bench.sh scaling

passed=0
failed=0
at_most() # WHAT FIGURE LIMIT
{
	if awk "BEGIN { exit !(${2:-1000} <= $3) }"; then
		echo "ok - $1: $2, at most $3"
		passed=$((passed + 1))
	else
		echo "not ok - $1: ${2:-not measured}, at most $3"
		failed=$((failed + 1))
	fi
}
figure() { awk -F'\t' -v key="$1" '$1 == key { print $2 }' "$results/figures.tsv"; }

at_most "128 bulkheads / 1" "$(figure scaling_bulkheads)" 1.05
at_most "128 breakers / 1" "$(figure scaling_breakers)" 1.05
at_most "10 000 values of a tag / 1" "$(figure scaling_tags)" 1.05
at_most "1 000 idle sessions / none" "$(figure scaling_idle_many)" "$(awk "BEGIN { print 1.1 * ($(figure scaling_idle_bare) + 0) }")"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

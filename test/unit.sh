#!/usr/bin/env bash
#
# test/unit.sh [test/unit/test_x.c ...] - unit tests and simulations of src/core
#
# Each program is one test file with all of src/core, by a plain C compiler
# without a header of PostgreSQL, with the address and undefined behaviour
# sanitizers where they work.  It prints TAP lines; a program that ends badly
# without a "not ok" gets one here.

set -euo pipefail
cd "$(dirname "$0")/.."
shopt -s nullglob

cc=${CC:-cc}
command -v "$cc" >/dev/null || cc=gcc
out=build/unit
flags=(-std=gnu99 -g -O1 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare
	-Wno-missing-field-initializers -Isrc -Itest/unit -Itest/sim)
tests=("$@")
[ $# -gt 0 ] || tests=(test/unit/test_*.c test/sim/test_*.c)
core=(src/core/*.c)
mkdir -p "$out"

# The trial is run too: a sanitizer may compile and not start (ptrace, limits).
# shellcheck disable=SC2054 # the commas are the compiler's
sanitize=(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
if echo 'int main(void) { return 0; }' | "$cc" "${sanitize[@]}" -x c - -o "$out/trial" 2>/dev/null &&
	"$out/trial" 2>/dev/null; then
	flags+=("${sanitize[@]}")
else
	echo "# no sanitizers with $cc here"
fi

bad=0
for test in ${tests[@]+"${tests[@]}"}; do
	name=$(basename "$test" .c)
	echo "# $name"
	if ! "$cc" "${flags[@]}" "$test" ${core[@]+"${core[@]}"} -o "$out/$name" -lm -lpthread; then
		echo "not ok - $name does not compile"
		bad=1
		continue
	fi
	status=0
	"$out/$name" 2>&1 | tee "$out/$name.out" || status=$?
	if grep -q '^not ok' "$out/$name.out"; then
		bad=1
	elif [ "$status" -ne 0 ]; then
		echo "not ok - $name ended with status $status"
		bad=1
	elif ! awk '/^1\.\.[0-9]+/ { plan = substr($1, 4) } /^ok/ { n++ }
			END { exit !(n > 0 && (plan == "" || plan == n)) }' "$out/$name.out"; then
		echo "not ok - $name did not run the tests it planned"
		bad=1
	fi
done
exit $bad

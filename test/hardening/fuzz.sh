#!/usr/bin/env bash
#
# test/hardening/fuzz.sh [TARGET ...] - fuzzing with libFuzzer, and of HTTP
#
# Each test/fuzz/fuzz_TARGET.c is compiled by clang with all of src/core, the
# address and undefined behaviour sanitizers and libFuzzer, and run from its
# corpus.  "http" sends bad requests to the endpoint of a running server.
#
# RSL_FUZZ_SECONDS   for each target: 20, or 600 with RSL_HARDENING_LONG
# RSL_FUZZ_SEED      of a run that is to be repeated

set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${RSL_FUZZ_SECONDS:-$([ -n "${RSL_HARDENING_LONG:-}" ] && echo 600 || echo 20)}
seed=${RSL_FUZZ_SEED:-$((RANDOM * 32768 + RANDOM))}
echo "seed $seed, $seconds s for each target"

if ! command -v clang >/dev/null || ! echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return 0; }' |
	clang -fsanitize=fuzzer,address -x c - -o /dev/null 2>/dev/null; then
	if [ "$(id -u)" -ne 0 ] || ! { apt-get -q -y -o DPkg::Lock::Timeout=300 update &&
		apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends clang "libclang-rt-$(apt-cache depends clang 2>/dev/null |
			sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p')-dev"; } >/dev/null 2>&1; then
		echo "no clang with libFuzzer here (packages clang, libclang-rt-14-dev)"
		exit 77
	fi
fi

# shellcheck source=test/lib.sh
. test/lib.sh
rsl_begin
passed=0
failed=0

fuzz() # TARGET
{
	local out=$RSL_TMP/$1

	mkdir -p "$out/corpus"
	if ! clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
		-Isrc -Itest/fuzz "test/fuzz/fuzz_$1.c" src/core/*.c -lm -o "$out/fuzz" 2>"$out/log"; then
		cat "$out/log"
		return 1
	fi
	if ! timeout $((seconds + 60)) "$out/fuzz" -max_total_time="$seconds" -max_len=4096 -seed="$seed" -timeout=10 \
		-print_final_stats=1 -artifact_prefix="$out/" "$out/corpus" "test/fuzz/corpus/$1" >"$out/log" 2>&1; then
		grep -v '^#[0-9]' "$out/log" | tail -n 40
		return 1
	fi
	echo "$1: $(sed -n 's/^stat::number_of_executed_units: *//p' "$out/log") inputs, $(find "$out/corpus" -type f | wc -l) of them new paths"
}

fuzz_http()
{
	local before after i status

	if ! have_extension; then
		{ make -s -j"$(nproc)" && make -s install; } >"$RSL_TMP/build.log" 2>&1 || { cat "$RSL_TMP/build.log"; return 1; }
	fi
	start_cluster http "shared_preload_libraries = 'resilience'" "resilience.http_listen = '$RSL_TMP/endpoint'"
	sql http "CREATE EXTENSION resilience"
	for i in {1..100}; do
		[ -S "$RSL_TMP/endpoint" ] && break
		sleep 0.1
	done
	before=$(sql http "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity WHERE backend_type LIKE 'resilience%'")
	echo "http: $(perl test/hardening/http_fuzz.pl "$RSL_TMP/endpoint" "$seconds" "$seed")"
	for i in {1..60}; do
		status=$(curl -s -m 5 -o /dev/null -w '%{http_code}' --unix-socket "$RSL_TMP/endpoint" http://localhost/live || true)
		[ "$status" != 200 ] || break
		sleep 0.5
	done
	after=$(sql http "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity WHERE backend_type LIKE 'resilience%'")
	if [ "$status" != 200 ] || [ "$before" != "$after" ] || grep -E 'terminated by signal|PANIC|TRAP|XX000|libmicrohttpd gave up' "$RSL_TMP/http.log"; then
		echo "http: status $status; processes before: $before, after: $after"
		tail -n 20 "$RSL_TMP/http.log"
		return 1
	fi
}

targets=("$@")
if [ $# -eq 0 ]; then
	for file in test/fuzz/fuzz_*.c; do
		name=${file##*/fuzz_}
		targets+=("${name%.c}")
	done
	targets+=(http)
fi
for target in "${targets[@]}"; do
	if { [ "$target" = http ] && fuzz_http; } || { [ "$target" != http ] && fuzz "$target"; }; then
		passed=$((passed + 1))
	else
		echo "FAILED: $target"
		failed=$((failed + 1))
	fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

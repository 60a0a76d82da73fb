#!/usr/bin/env bash
#
# test/hardening/run.sh [--short] [CAMPAIGN ...]
#
# Runs the campaigns of docs/hardening.md, all or those named, one after the
# other, each bounded in time.  --short: those, and at the length, that CI has
# time for; without it the long ones, for a night.  Each prints "N passed, N
# failed" itself; the last line here is the sum, as in .ci/run.
#
#   test/hardening/run.sh storm model       two of them, long
#   make hardening                          all, long
#
# Wants root on Debian 12, as .ci/run does: PostgreSQL is built from its source
# package, other releases live in chroots, and servers run as postgres.

set -euo pipefail
cd "$(dirname "$0")/../.."
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive

# name       short    long     seconds that it may take; -: not in the short run
campaigns='
model          600    7200
fuzz           300    7200
arguments      300    1800
storm          400    1500
races          120     120
sqlsmith       300    3600
scale            -    1800
upgrade          -    1800
suites           -    5400
assertions       -    5400
sanitizers       -    5400
valgrind         -    7200
'

short=
names=()
for arg; do
	case $arg in
		--short) short=yes ;;
		-*)
			sed -n '3,/^$/s/^# \{0,1\}//p' "$0" >&2
			exit 2
			;;
		*) names+=("$arg") ;;
	esac
done
if [ -n "$short" ]; then
	export RSL_FUZZ_SECONDS=${RSL_FUZZ_SECONDS:-10} RSL_STORM_SECONDS=${RSL_STORM_SECONDS:-60}
	export RSL_SQLSMITH_SECONDS=${RSL_SQLSMITH_SECONDS:-40}
else
	export RSL_HARDENING_LONG=1
fi

# The script of a campaign, which may have several: memory.sh valgrind.
command_of()
{
	case $1 in
		sanitizers | assertions | valgrind) echo test/hardening/memory.sh "$1" ;;
		suites) echo test/hardening/server_suites.sh ;;
		*) ls "test/hardening/$1".sh "test/hardening/$1".pl 2>/dev/null ;;
	esac
}

if [ ${#names[@]} -eq 0 ]; then
	while read -r name in_short _; do
		[ -z "$name" ] || { [ -n "$short" ] && [ "$in_short" = - ]; } || names+=("$name")
	done <<<"$campaigns"
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0
failed=0
skipped=0
for name in "${names[@]}"; do
	read -r _ in_short in_long < <(grep "^$name " <<<"$campaigns") || {
		echo "${0##*/}: no campaign \"$name\"" >&2
		exit 2
	}
	limit=$in_long
	[ -z "$short" ] || [ "$in_short" = - ] || limit=$in_short
	read -ra command < <(command_of "$name")
	echo "== $name (at most $limit s)"
	start=$SECONDS
	status=0
	timeout --foreground -k 30 "$limit" "${command[@]}" </dev/null 2>&1 | tee "$log" |
		sed -u 's/^\([0-9]* passed, [0-9]* failed.*\)$/-- \1/' || status=$?
	read -r ok bad < <(awk '
		/^[0-9]+ passed, [0-9]+ failed/ { ok = $1; bad = $3 }
		END { print ok + 0, bad + 0 }' "$log")
	passed=$((passed + ok))
	failed=$((failed + bad))
	if [ "$status" -eq 77 ]; then
		skipped=$((skipped + 1))
		echo "== $name: skipped"
		continue
	elif [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
		# it did not come to its last line
		failed=$((failed + 1))
	fi
	echo "== $name: status $status after $((SECONDS - start)) s"
done

[ "$skipped" -eq 0 ] && tail= || tail=", $skipped skipped"
echo "$passed passed, $failed failed$tail"
[ "$failed" -eq 0 ]

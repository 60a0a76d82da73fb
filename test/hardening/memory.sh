#!/usr/bin/env bash
#
# test/hardening/memory.sh assertions|sanitizers|valgrind [check.sh arguments]
#
# The project's own suites on a PostgreSQL that watches memory:
#
#   assertions   all suites, on a server built with --enable-cassert
#   sanitizers   regression, isolation and TAP tests, with AddressSanitizer and
#                UndefinedBehaviorSanitizer in the server and in the library
#   valgrind     regression tests, with every process of the server under
#                valgrind, PostgreSQL's hints and its suppressions
#
# (The unit tests always run with both sanitizers, see test/unit.sh.)
# RSL_MAJOR   15; RSL_POSTGRES as in postgres.sh

set -euo pipefail
cd "$(dirname "$0")/../.."
major=${RSL_MAJOR:-15}
what=${1:-}
shift || true

work=$(mktemp -d "${TMPDIR:-/tmp}/rslmemory.XXXXXX")
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The server is installed into by check.sh, this tree is built in: both are
# copies, as either may be in use.  A copy of PostgreSQL works where it stands.
copy_of()
{
	local config prefix

	config=$(test/hardening/postgres.sh "$major" "$1")
	prefix=$(dirname "$(dirname "$config")")
	mkdir "$work/postgres" "$work/tree"
	cp -a "$prefix"/{bin,lib,share,include} "$work/postgres/"
	tar --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude=./build -cf - . | tar -C "$work/tree" -xf -
	export PG_CONFIG=$work/postgres/bin/pg_config TMPDIR=$work RSL_NO_BROWSER=1 RSL_NO_PROMETHEUS=1
	suppressions=$prefix/src/src/tools/valgrind.supp
}

# check.sh, with its last line in another form and in $ok and $bad
check()
{
	local count

	"$work/tree/test/check.sh" "$@" 2>&1 </dev/null | tee "$work/log" |
		sed -u 's/^\([0-9]* passed, [0-9]* failed\)$/-- \1/' || true
	count=$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$work/log" | tail -n 1)
	read -r ok bad <<<"${count:-0 1}"
}

case $what in
	assertions)
		copy_of assert
		export RSL_RERUN=1 RSL_LIMIT=3000
		check "$@"
		;;

	sanitizers)
		copy_of asan
		# Leaks at exit are no news in a server that ends its processes.
		export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:disable_coredump=1:log_path=$work/report
		export UBSAN_OPTIONS=print_stacktrace=1:log_path=$work/report
		chmod 1777 "$work"
		# The second sanitizer, as a guest of the first, writes to the server's log.
		export RSL_KEEP_LOGS=1 RSL_LIMIT=${RSL_LIMIT:-6000}
		# three tests expect the speed or the size of a server without them
		if [ $# -eq 0 ]; then
			set -- regress isolation
			for file in test/t/*.pl; do
				case $file in
					*/019_storm.pl | */040_turns.pl | */094_endpoint_load.pl) ;;
					*) set -- "$@" "$file" ;;
				esac
			done
		fi
		check "$@"
		if grep -rh 'runtime error: ' "$work"/rslcheck.* >"$work/undefined"; then
			bad=$((bad + 1))
			sort "$work/undefined" | uniq -c | sort -rn | head -n 40
		fi
		for report in "$work"/report.*; do
			[ -e "$report" ] || continue
			bad=$((bad + 1))
			head -n 40 "$report"
		done
		;;

	valgrind)
		command -v valgrind >/dev/null || { echo "no valgrind"; exit 77; }
		copy_of assert
		mkdir -m 1777 "$work/reports"
		# NOTIFY's queue has what was on the stack between its entries
		cat >"$work/more.supp" <<-'SUPPRESSIONS'
			{
			   padding_NotifyQueue
			   Memcheck:Param
			   pwrite64(buf)
			   fun:pwrite
			   fun:SlruPhysicalWritePage
			}
		SUPPRESSIONS
		mv "$work/postgres/bin/postgres" "$work/postgres/bin/postgres.real"
		# initdb has nothing of ours to watch
		cat >"$work/postgres/bin/postgres" <<-WRAPPER
			#!/bin/sh
			case " \$* " in
				*" --boot "* | *" --single "* | *" -V "* | *" --version "* | *" -C "*) exec "$work/postgres/bin/postgres.real" "\$@" ;;
			esac
			exec valgrind -q --leak-check=no --trace-children=yes --num-callers=30 \\
				--suppressions="$suppressions" --suppressions="$work/more.supp" --error-markers=ERROR-BEGIN,ERROR-END \\
				--log-file="$work/reports/%p" "$work/postgres/bin/postgres.real" "\$@"
		WRAPPER
		chmod 755 "$work/postgres/bin/postgres"
		[ $# -gt 0 ] || set -- regress
		export RSL_LIMIT=6000
		check "$@"
		# a statement_timeout of a test is met here: not what is looked for
		if [ "$bad" -gt 0 ] && ! grep -q 'the server crashed' "$work/log"; then
			echo "$bad tests differ on a server as slow as this: not counted"
			bad=0
		fi
		errors=$(cat "$work"/reports/* 2>/dev/null | grep -c 'ERROR-BEGIN' || true)
		processes=$(find "$work/reports" -type f | wc -l)
		echo "valgrind watched $processes processes: $errors errors"
		if [ "$processes" -lt 5 ]; then
			echo "too few: it did not watch the server"
			bad=$((bad + 1))
		fi
		if [ "$errors" -gt 0 ]; then
			bad=$((bad + 1))
			echo "by place:"
			grep -h -A 2 'ERROR-BEGIN' "$work"/reports/* | sed -n 's/.*    at 0x[0-9A-F]*: //p' | sort | uniq -c | sort -rn | head -n 40
			grep -h -A 40 'ERROR-BEGIN' "$work"/reports/* | head -n 300
		fi
		;;

	*)
		sed -n '3,/^$/s/^# \{0,1\}//p' "$0" >&2
		exit 2
		;;
esac

echo "$ok passed, $bad failed"
[ "$bad" -eq 0 ]

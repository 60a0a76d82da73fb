#!/usr/bin/env bash
#
# test/check.sh [--accept] [unit|regress|isolation|tap | FILE ...]
#
# Builds, installs and tests, on a private server and, when started by root,
# as the user postgres: PostgreSQL refuses root.  Everything that the tests
# write is in one temporary directory, kept only if a test failed.
#
#   test/check.sh                           all suites
#   test/check.sh unit regress              two of them
#   test/check.sh test/t/003_crash.pl sql/bulkhead.sql
#   test/check.sh --accept sql/new.sql      takes the output as the expected one
#
# The last line is "N passed, N failed".  WERROR=1 makes warnings errors,
# PROVE_JOBS is how many TAP files run at once (2), RSL_LIMIT the seconds for
# one suite (1200), RSL_KEEP_LOGS=1 keeps the logs of what passed as well.

set -euo pipefail
cd "$(dirname "$0")/.."
source=$PWD

usage() { sed -n '3,/^$/s/^# \{0,1\}//p' "test/${0##*/}" >&2; exit 2; }

# A server of the caller's, or make's own flags, are none of our business.
for var in ${!PG@} MAKEFLAGS MFLAGS MAKELEVEL; do
	[ "$var" = PG_CONFIG ] || unset "$var"
done
export PG_CONFIG=${PG_CONFIG:-pg_config}
limit=${RSL_LIMIT:-1200}

accept=
suites=
units=()
regress=()
isolation=()
tap=()
for arg; do
	name=${arg##*/}
	case $arg in
		unit | regress | isolation | tap) suites+=" $arg" ;;
		--accept) accept=yes ;;
		*sim/test_*.c) units+=("test/sim/$name") suites+=" unit" ;;
		*test_*.c) units+=("test/unit/$name") suites+=" unit" ;;
		*.sql) regress+=("${name%.sql}") suites+=" regress" ;;
		*.spec) isolation+=("${name%.spec}") suites+=" isolation" ;;
		*hardening/*.pl) tap+=("test/hardening/t/$name") suites+=" tap" ;;
		*.pl) tap+=("test/t/$name") suites+=" tap" ;;
		*) usage ;;
	esac
done
[ -n "$suites" ] || suites=" unit regress isolation tap"
wanted() { [[ $suites == *" $1"* ]]; }

# Without names: every file there is; extension scripts are no tests.
shopt -s nullglob
if [ ${#regress[@]} -eq 0 ]; then
	for file in sql/*.sql; do
		[[ $file == sql/resilience--* ]] || regress+=("$(basename "$file" .sql)")
	done
fi
[ ${#isolation[@]} -gt 0 ] ||
	for file in test/isolation/specs/*.spec; do isolation+=("$(basename "$file" .spec)"); done
[ ${#tap[@]} -gt 0 ] || tap=(test/t/*.pl)
[ ${#units[@]} -gt 0 ] || units=(test/unit/test_*.c test/sim/test_*.c)
shopt -u nullglob

passed=0
failed=0
work=
finish()
{
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ] || exit 1
	exit 0
}

# ---------------------------------------------------------------------------
# Every way out ends what was started here: the running suite (timeout hands
# the signal on to its whole group), then servers that outlived their test.
# ---------------------------------------------------------------------------
# shellcheck disable=SC2317 # called by the trap
gone() # PID: wait up to 10 s until it has ended
{
	local i

	for ((i = 0; i < 100; i++)); do
		# a zombie that nobody reaps counts as ended
		case $(sed "s/.*) //" "/proc/$1/stat" 2>/dev/null || true) in
			"" | Z*) return 0 ;;
		esac
		sleep 0.1
	done
	return 1
}

# shellcheck disable=SC2317 # called by the trap
cleanup()
{
	local status=$? pid file

	trap '' INT TERM HUP
	[ -n "$work" ] || return 0
	if pid=$(cat "$work/pid" 2>/dev/null); then
		kill -TERM "$pid" 2>/dev/null && gone "$pid" || true
	fi
	# Deeper than any test puts a data directory there is nothing.
	find "$work" -maxdepth 7 -name postmaster.pid 2>/dev/null | while read -r file; do
		pid=$(head -n 1 "$file" 2>/dev/null) || continue
		kill -QUIT "$pid" 2>/dev/null && { gone "$pid" || kill -KILL "$pid"; } || true
	done
	if [ -n "${RSL_KEEP_LOGS:-}" ] || { [ "$status" -eq 1 ] && [ "$failed" -gt 0 ]; }; then
		# Logs and diffs are worth keeping, clusters are not.
		find "$work" -maxdepth 7 -name PG_VERSION -printf '%h\n' 2>/dev/null | xargs -r rm -rf
		rm -rf "$work/tree"
	else
		rm -rf "$work"
	fi
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 141' PIPE
trap 'exit 130' INT
trap 'exit 143' TERM

# ---------------------------------------------------------------------------
# Build and install
# ---------------------------------------------------------------------------
work=$(mktemp -d "${TMPDIR:-/tmp}/rslcheck.XXXXXX")

build_and_install()
{
	local installed

	make -s -j"$(nproc)" ${WERROR:+"WERROR=$WERROR"} || return 1
	installed=$("$PG_CONFIG" --pkglibdir)/resilience.so
	if [ -w "$("$PG_CONFIG" --pkglibdir)" ]; then
		make -s install
	elif ! cmp -s resilience.so "$installed"; then
		echo "cannot write $installed: run \"make install\" as root before"
		return 1
	fi
}

if [ "$suites" != " unit" ]; then
	echo "== build, $("$PG_CONFIG" --version)"
	if ! build_and_install >"$work/build.log" 2>&1; then
		cat "$work/build.log"
		echo "build failed"
		failed=1
		finish
	fi
	cat "$work/build.log"
fi

# ---------------------------------------------------------------------------
# Whose tests, and where.  The source tree may be closed to that user: it gets
# a copy.  TMPDIR is short, as a socket's path must be.
# ---------------------------------------------------------------------------
mkdir "$work/tree" "$work/tmp" "$work/home" "$work/sock"
tar --exclude=./.git --exclude=./build --exclude='*.o' -cf - . | tar --no-same-owner -C "$work/tree" -xf -

clean_env=(env "HOME=$work/home" "TMPDIR=$work/tmp" "USER=$(id -un)")
as_user=("${clean_env[@]}")
if [ "$(id -u)" -eq 0 ]; then
	chown -R postgres: "$work"
	chmod 755 "$work"
	as_user=(setpriv --reuid=postgres --regid=postgres --init-groups
		"${clean_env[@]}" USER=postgres LOGNAME=postgres)
fi

# What psql says while pg_regress of 15 makes its database.
noise="(SET|(DROP|CREATE|ALTER) (DATABASE|EXTENSION))"

# Run a command of a suite as that user, within the time limit, with its
# output on the screen and in a file.  In the background, since bash runs a
# trap only between two foreground commands.
run() # LOG COMMAND ...
{
	local log=$1

	shift
	rm -f "$work/rc"
	{
		timeout -k 20 "$limit" "${as_user[@]}" "$@" &
		echo $! >"$work/pid"
		wait $! && echo 0 >"$work/rc" || echo $? >"$work/rc"
		rm -f "$work/pid"
	} </dev/null 2>&1 | tee "$log" | { grep -v --line-buffered -xE "$noise" || true; } &
	wait $! || true
	status=$(cat "$work/rc")
	if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
		echo "-- time limit of $limit s reached"
	fi
}

# Add up a suite.  One that ended badly without a failed test has failed, too.
count() # SUITE OK NOT_OK
{
	local bad=$3

	[ "$bad" -gt 0 ] || [ "$status" -eq 0 ] || bad=1
	passed=$((passed + $2))
	failed=$((failed + bad))
	echo "-- $1: $2 ok, $bad not ok"
}

lines() { grep -cE "$1" "$2" || true; }

# ---------------------------------------------------------------------------
# The private server: no TCP, and a socket in a directory of its own, so any
# port will do.
# ---------------------------------------------------------------------------
bindir=$("$PG_CONFIG" --bindir)
pgtest=$(dirname "$(dirname "$("$PG_CONFIG" --pgxs)")")/test
server=(--host="$work/sock" --port=5432 --user=postgres --bindir="$bindir")

start_server()
{
	"${as_user[@]}" "$bindir/initdb" -D "$work/data" -A trust -N -U postgres -E UTF8 --no-locale >"$work/initdb.log" 2>&1 ||
		{ cat "$work/initdb.log"; return 1; }
	"${as_user[@]}" tee -a "$work/data/postgresql.conf" >/dev/null <<-CONF
		shared_preload_libraries = 'resilience'
		listen_addresses = ''
		unix_socket_directories = '$work/sock'
		fsync = off
		max_prepared_transactions = 10
		log_line_prefix = '%m [%p] %q%a '
	CONF
	"${as_user[@]}" "$bindir/pg_ctl" -D "$work/data" -w -t 60 -l "$work/server.log" start >"$work/start.log" 2>&1 ||
		{ cat "$work/start.log" "$work/server.log"; return 1; }
}

# pg_regress and pg_isolation_regress differ in name and folders only.
regress_suite() # SUITE PROGRAM INPUTDIR TEST ...
{
	local suite=$1 program=$2 input=$3 out=$work/$1 crashes

	shift 3
	"${as_user[@]}" mkdir -p "$out"
	run "$out/log" env -C "$out" "$program" "${server[@]}" --load-extension=resilience \
		--dbname="${suite}_resilience" --inputdir="$work/tree/$input" --outputdir="$out" "$@"
	[ ! -s "$out/regression.diffs" ] || head -n 400 "$out/regression.diffs"

	# "test x ... ok" until 15, "ok 1 - x" since 16
	count "$suite" "$(lines '^(ok |test .*\.\.\. ok|     .*\.\.\. ok)' "$out/log")" \
		"$(lines '^(not ok |test .*\.\.\. FAILED|     .*\.\.\. FAILED)' "$out/log")"

	# A crash that a test did not notice is one all the same.
	crashes=$(lines 'was terminated by signal|PANIC:|TRAP:' "$work/server.log")
	if [ "$crashes" -gt 0 ]; then
		grep -E -B 5 -A 3 'was terminated by signal|PANIC:|TRAP:' "$work/server.log" | tail -n 60
		echo "-- the server crashed during $suite"
		failed=$((failed + 1))
		: >"$work/server.log"
	fi

	if [ -n "$accept" ]; then
		for test; do
			[ ! -e "$out/results/$test.out" ] || cp "$out/results/$test.out" "$source/$input/expected/"
		done
	fi
}

# ---------------------------------------------------------------------------
# The suites
# ---------------------------------------------------------------------------
if wanted unit && [ ${#units[@]} -gt 0 ]; then
	echo "== unit tests"
	run "$work/unit.log" "$work/tree/test/unit.sh" "${units[@]}"
	count unit "$(lines '^ok' "$work/unit.log")" "$(lines '^not ok' "$work/unit.log")"
fi

if { wanted regress && [ ${#regress[@]} -gt 0 ]; } || { wanted isolation && [ ${#isolation[@]} -gt 0 ]; }; then
	if ! start_server; then
		echo "-- the server does not start"
		failed=$((failed + 1))
	else
		if wanted regress && [ ${#regress[@]} -gt 0 ]; then
			echo "== regression tests"
			regress_suite regress "$pgtest/regress/pg_regress" . "${regress[@]}"
		fi
		if wanted isolation && [ ${#isolation[@]} -gt 0 ]; then
			echo "== isolation tests"
			regress_suite isolation "$pgtest/isolation/pg_isolation_regress" test/isolation "${isolation[@]}"
		fi
		"${as_user[@]}" "$bindir/pg_ctl" -D "$work/data" -m fast -w stop >/dev/null || failed=$((failed + 1))
	fi
fi

if wanted tap && [ ${#tap[@]} -gt 0 ]; then
	echo "== TAP tests"
	"${as_user[@]}" mkdir -p "$work/tap/tmp_check/log" "$work/raw" "$work/portlock"
	# The environment of PGXS' prove_installcheck, until 15 and since 16; the
	# raw TAP goes to files, to be counted test by test.
	prove_tap() # FOLDER JOBS TEST ...
	{
		local folder=$work/$1 jobs=$2

		shift 2
		"${as_user[@]}" mkdir -p "$folder/tmp_check/log"
		run "$folder.log" env -C "$work/tree" TESTDIR="$folder" \
			TESTDATADIR="$folder/tmp_check" TESTLOGDIR="$folder/tmp_check/log" \
			PATH="$bindir:$PATH" PGPORT=65432 PG_REGRESS="$pgtest/regress/pg_regress" \
			top_builddir="$work" PG_TEST_PORT_DIR="$work/portlock" \
			PERL_TEST_HARNESS_DUMP_TAP="$work/raw" \
			prove --timer -j "$jobs" -I "$pgtest/perl" -I "$work/tree" "$@"
	}

	# A plan that was not kept is a failed test, and so is a bad exit status
	# (prove tells of it in its summary: a test that dies early says "1..0 #
	# SKIP" before); one that skips everything is none at all.
	count_tap() # TEST
	{
		local log=$work/tap.log bad=

		! grep -qF "$1 .." "$work/tap_again.log" 2>/dev/null || log=$work/tap_again.log
		! grep -q "^$1 .*(Wstat: [1-9]" "$log" || bad=yes
		awk -v bad="$bad" '
			/^ok/ && !/# skip/ { good++ }
			/^ok/ { n++ }
			/^not ok/ { n++; if (/# TODO/) good++; else wrong++ }
			/^1\.\.[0-9]/ { plan = substr($1, 4) + 0; planned = 1 }
			END { if (!wrong && (bad || !planned || plan != n)) wrong++; print good + 0, wrong + 0 }
		' "$work/raw/$1" 2>/dev/null || echo 0 1
	}

	prove_tap tap "${PROVE_JOBS:-2}" "${tap[@]}"

	# CI's machine may stand still for seconds.  A test that fails there gets a
	# second trial, alone; the log of the first one is shown all the same.
	if [ -n "${RSL_RERUN:-}" ]; then
		again=()
		for test in "${tap[@]}"; do
			read -r good wrong < <(count_tap "$test")
			[ "$wrong" -eq 0 ] || again+=("$test")
		done
		for test in ${again[@]+"${again[@]}"}; do
			echo "-- $test failed, the end of its log:"
			tail -n 40 "$work/tap/tmp_check/log/regress_log_$(basename "$test" .pl)" 2>/dev/null || true
			rm -f "$work/raw/$test"
		done
		if [ ${#again[@]} -gt 0 ]; then
			echo "-- once more, one by one: ${again[*]}"
			prove_tap tap_again 1 "${again[@]}"
		fi
	fi

	ok=0
	bad=0
	for test in "${tap[@]}"; do
		read -r good wrong < <(count_tap "$test")
		ok=$((ok + good))
		bad=$((bad + wrong))
		if [ "$wrong" -gt 0 ]; then
			log=$work/tap/tmp_check/log/regress_log_$(basename "$test" .pl)
			echo "-- $test, the end of its log:"
			tail -n 40 "$log" 2>/dev/null || true
		fi
	done
	count tap "$ok" "$bad"
fi

[ "$failed" -eq 0 ] || echo "-- logs are kept in $work"
finish

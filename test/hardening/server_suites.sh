#!/usr/bin/env bash
#
# test/hardening/server_suites.sh [regress|isolation|CONTRIB-MODULE ...]
#
# PostgreSQL's own test suites, on a server built from Debian's source package
# with assertions: once as it is, once with resilience preloaded and at work: a
# server-wide limit that adapts, bulkheads, preemption, runaway rules, features,
# health checks, experiments that are defined, a breaker on each foreign server
# that a test makes.  Every test must give the same result in both.
#
# The suites connect as a superuser, who is counted but never refused.  Many
# tests go on as another role, which has to queue beside the twenty that run in
# parallel: it may wait as long as it takes, as a refusal is another result.
#
# RSL_MAJOR   15; RSL_POSTGRES as in postgres.sh

set -euo pipefail
cd "$(dirname "$0")/../.."
top=$PWD
major=${RSL_MAJOR:-15}

PG_CONFIG=$(test/hardening/postgres.sh "$major" assert)
export PG_CONFIG
source_tree=$(dirname "$("$PG_CONFIG" --bindir)")/src
suites=("$@")
[ $# -gt 0 ] || suites=(regress isolation postgres_fdw dblink file_fdw auto_explain)

# The module is built in a copy: this tree may be in use with another server.
# shellcheck source=test/lib.sh
. test/lib.sh
rsl_begin
mkdir "$RSL_TMP/build"
tar --exclude=./.git --exclude='*.o' --exclude='*.so' --exclude=./build -cf - . | tar -C "$RSL_TMP/build" -xf -
make -s -C "$RSL_TMP/build" -j"$(nproc)" >"$RSL_TMP/build.log" 2>&1 &&
	make -s -C "$RSL_TMP/build" install >>"$RSL_TMP/build.log" 2>&1 || {
	tail -n 20 "$RSL_TMP/build.log"
	die "does not build"
}

common=(
	"max_connections = 60"
	"max_prepared_transactions = 20"
	"max_wal_senders = 4"
	"fsync = off"
	"log_line_prefix = '%m [%p] %q%a '"
	"extra_float_digits = 1"
)
# What is defined in "guard" with database_name '*' holds in every database.
guarded=(
	"resilience.max_running = 12"
	"resilience.min_running_limit = 4"
	"resilience.adaptive_limit = on"
	"resilience.max_wait = '10min'"
	"resilience.preemption = running"
	"resilience.chaos = on"
)

guard()
{
	sql "$1" "CREATE DATABASE guard"
	on "$1" psql -X -q -v ON_ERROR_STOP=1 -d guard -o /dev/null <<-'SQL'
		CREATE EXTENSION resilience;
		CREATE TABLE kept (i int);
		SELECT resilience.create_bulkhead('all', database_name => '*', max_connections => 50, max_running => 10, max_waiting => 100, max_wait => '10 min');
		SELECT resilience.create_bulkhead('by application', database_name => '*', application_name => 'pg_regress%', max_running => 8, max_waiting => 100, max_wait => '10 min');
		SELECT resilience.create_bulkhead('by tag', database_name => '*', tag => 'route', max_running => 2, max_waiting => 100, max_wait => '10 min');
		SELECT resilience.create_bulkhead('writes', database_name => '*', command => 'UPDATE', max_running => 5, max_waiting => 100, max_wait => '10 min');
		SELECT resilience.create_runaway_rule('long', max_duration => '1 hour', action => 'cancel');
		SELECT resilience.create_breaker('generic');
		SELECT resilience.create_health_check('query', query => 'SELECT true', check_interval => '2 s');
		SELECT resilience.create_health_check('connections', kind => 'connections', warning_threshold => 0.9, critical_threshold => 0.99, check_interval => '2 s');
		SELECT resilience.create_health_check('locks', kind => 'lock_waits', warning_threshold => 100, critical_threshold => 1000, check_interval => '2 s');
		SELECT resilience.create_feature('shiny', health_check => 'query', dimmable => true);
		SELECT resilience.create_experiment('elsewhere', 'latency', delay => '1 ms', relation => 'kept');
		SELECT resilience.start_experiment('elsewhere');
	SQL
}

# A database, ready for a suite, in which each foreign server gets a breaker
# when it is made.  A server that a breaker guards cannot be dropped: whatever
# may drop one takes them all away before, and gives them back to the rest.
breakers_everywhere()
{
	sql "$1" "CREATE DATABASE $2 TEMPLATE template0"
	on "$1" psql -X -q -v ON_ERROR_STOP=1 -d "$2" -o /dev/null <<-SQL
		CREATE EXTENSION resilience;
		CREATE FUNCTION resilience.give_breakers() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS \$\$
		BEGIN
			PERFORM resilience.create_breaker('breaker of ' || srvname, server => srvname, call_timeout => '1 min', probe => false)
			FROM pg_catalog.pg_foreign_server WHERE srvname NOT IN (SELECT server FROM resilience.breakers WHERE server IS NOT NULL);
		END \$\$;
		CREATE FUNCTION resilience.take_breakers() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS \$\$
		BEGIN
			PERFORM resilience.drop_breaker(name) FROM resilience.breakers WHERE server IS NOT NULL;
		END \$\$;
		CREATE EVENT TRIGGER give_breakers ON ddl_command_end WHEN TAG IN ('CREATE SERVER', 'DROP SERVER', 'DROP OWNED', 'DROP EXTENSION')
			EXECUTE FUNCTION resilience.give_breakers();
		CREATE EVENT TRIGGER take_breakers ON ddl_command_start WHEN TAG IN ('DROP SERVER', 'DROP OWNED', 'DROP EXTENSION')
			EXECUTE FUNCTION resilience.take_breakers();
		ALTER DATABASE $2 SET lc_messages TO 'C';
		ALTER DATABASE $2 SET lc_monetary TO 'C';
		ALTER DATABASE $2 SET lc_numeric TO 'C';
		ALTER DATABASE $2 SET lc_time TO 'C';
		ALTER DATABASE $2 SET bytea_output TO 'hex';
		ALTER DATABASE $2 SET timezone_abbreviations TO 'Default';
	SQL
}

# One suite on one server; its results in $RSL_TMP/SERVER/SUITE.
suite() # SERVER SUITE
{
	local folder target=installcheck options= status=0 database results

	case $2 in
		regress) folder=src/test/regress target=installcheck-parallel ;;
		isolation) folder=src/test/isolation ;;
		*) folder=contrib/$2 ;;
	esac
	if [ "$1" = guarded ] && [[ $2 == *fdw ]]; then
		for database in contrib_regression isolation_regression; do
			sql "$1" "DROP DATABASE IF EXISTS $database" 2>/dev/null
			breakers_everywhere "$1" "$database"
		done
		PGDATABASE=isolation_regression sql "$1" "CREATE EXTENSION $2"
		options=--use-existing
	fi
	as_server rm -rf "$source_tree/$folder/results" "$source_tree/$folder/output_iso" "$source_tree/$folder/regression.diffs"
	(
		export PGHOST=$RSL_TMP PGPORT=${RSL_PORT[$1]} PGUSER=postgres EXTRA_REGRESS_OPTS=$options MAKEFLAGS=
		as_server timeout -k 10 "${RSL_SUITE_LIMIT:-1500}" make -s -C "$source_tree/$folder" "$target"
	) >"$RSL_TMP/$1.$2.log" 2>&1 </dev/null || status=$?
	mkdir -p "$RSL_TMP/results/$1/$2"
	# the isolation tester keeps its own in output_iso
	for results in results output_iso/results; do
		[ ! -d "$source_tree/$folder/$results" ] || cp "$source_tree/$folder/$results"/*.out "$RSL_TMP/results/$1/$2"
	done
	[ "$status" -eq 0 ] || cp "$source_tree/$folder/"{,output_iso/}regression.diffs "$RSL_TMP/results/$1/$2/" 2>/dev/null || true
}

# "name ok" or "name FAILED" of each test of a run
outcomes() # SERVER SUITE
{
	sed -nE 's/^(test|    |     )* *([a-z0-9_.-]+) +\.\.\. (ok|FAILED).*/\2 \3/p' "$RSL_TMP/$1.$2.log" | sort
}

start_cluster plain "${common[@]}"
start_cluster guarded "shared_preload_libraries = 'resilience'" "${common[@]}" "${guarded[@]}"
guard guarded

passed=0
failed=0
for suite in "${suites[@]}"; do
	for server in plain guarded; do
		start=$SECONDS
		suite "$server" "$suite"
		echo "$suite, $server: $(outcomes "$server" "$suite" | grep -c ' ok$' || true) ok, $(outcomes "$server" "$suite" | grep -c ' FAILED$' || true) failed, $((SECONDS - start)) s"
	done
	same=$(comm -12 <(outcomes plain "$suite") <(outcomes guarded "$suite") | wc -l)
	passed=$((passed + same))
	if [ -z "$(outcomes guarded "$suite")" ]; then
		tail -n 20 "$RSL_TMP/guarded.$suite.log"
		failed=$((failed + 1))
	fi
	while read -r test outcome; do
		failed=$((failed + 1))
		echo "DIFFERENT: $suite/$test is $outcome with resilience"
		diff -u "$RSL_TMP/results/plain/$suite/$test.out" "$RSL_TMP/results/guarded/$suite/$test.out" | head -n 60 || true
	done < <(comm -13 <(outcomes plain "$suite") <(outcomes guarded "$suite"))
	# a run that ended early
	while read -r test; do
		failed=$((failed + 1))
		echo "MISSING: $suite/$test was not run with resilience"
	done < <(comm -23 <(outcomes plain "$suite" | cut -d ' ' -f 1) <(outcomes guarded "$suite" | cut -d ' ' -f 1))
done

# Neither an assertion nor a crash
for server in plain guarded; do
	for pattern in 'TRAP:' 'was terminated by signal' 'PANIC:'; do
		[ "$server" != guarded ] || ! grep -F "$pattern" "$RSL_TMP/$server.log" | head -n 5 || failed=$((failed + 1))
	done
done

# and what was taken was given back
for view in load_shedder bulkheads; do
	left=$(on guarded psql -X -q -At -d guard -c "SELECT count(*) FROM resilience.$view WHERE waiting > 0 OR running > 1")
	if [ "$left" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "resilience.$view is not at rest"; fi
done
admitted=$(on guarded psql -X -q -At -d guard -c "SELECT admitted_total FROM resilience.load_shedder")
waited=$(on guarded psql -X -q -At -d guard -c "SELECT round(sum(wait_seconds_total)::numeric, 1) FROM resilience.load_by_priority")
echo "transactions admitted: $admitted; they waited for $waited s"
if [ "${admitted:-0}" -gt 1000 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

#!/usr/bin/env bash
#
# test/hardening/sqlsmith.sh - random queries by sqlsmith (Debian's package)
#
# Over all that is in a database: the extension's functions and views, tables,
# a foreign table behind a breaker, PostgreSQL's own functions; while another
# session changes policies all the time.  No crash, no internal error that comes
# from the extension's code, and at the end nothing is held.
#
# RSL_SQLSMITH_SECONDS   90, or 1800 with RSL_HARDENING_LONG=1
# RSL_SEED               of sqlsmith
# PG_CONFIG              one with assertions sees more:
#                        PG_CONFIG=$(test/hardening/postgres.sh 15 assert)

set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${RSL_SQLSMITH_SECONDS:-$([ -n "${RSL_HARDENING_LONG:-}" ] && echo 1800 || echo 90)}
seed=${RSL_SEED:-$((RANDOM * 32768 + RANDOM))}

if ! command -v sqlsmith >/dev/null; then
	if [ "$(id -u)" -ne 0 ] || ! { apt-get -q -y -o DPkg::Lock::Timeout=300 update &&
		apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends sqlsmith; } >/dev/null 2>&1; then
		echo "no sqlsmith here"
		exit 77
	fi
fi

# shellcheck source=test/lib.sh
. test/lib.sh
rsl_begin
{ make -s -j"$(nproc)" && make -s install; } >"$RSL_TMP/build.log" 2>&1 || { cat "$RSL_TMP/build.log"; die "does not build"; }

start_cluster smith "shared_preload_libraries = 'resilience'" "max_connections = 40" "fsync = off" \
	"log_error_verbosity = verbose" "log_line_prefix = '%m [%p] %e %a '" "statement_timeout = 2s" "lock_timeout = 500ms" \
	"resilience.max_running = 3" "resilience.adaptive_limit = on" "resilience.preemption = running"
port=${RSL_PORT[smith]}
on smith psql -X -q -v ON_ERROR_STOP=1 -o /dev/null <<SQL
CREATE EXTENSION resilience;
CREATE EXTENSION postgres_fdw;
CREATE TABLE near (id int, t text, at timestamptz, j jsonb, f float8);
INSERT INTO near SELECT i, 'text ' || i, now(), jsonb_build_object('i', i), i FROM generate_series(1, 100) i;
CREATE SERVER loopback FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '$RSL_TMP', port '$port', dbname 'postgres');
CREATE USER MAPPING FOR PUBLIC SERVER loopback OPTIONS (user 'postgres');
CREATE FOREIGN TABLE far (id int, t text, at timestamptz, j jsonb, f float8) SERVER loopback OPTIONS (table_name 'near');
CREATE TABLE kept (LIKE near);
SELECT resilience.create_breaker('of loopback', server => 'loopback', on_open => 'fallback', probe => false);
SELECT resilience.set_fallback('far', 'kept');
SELECT resilience.create_breaker('generic');
SELECT resilience.create_bulkhead('selects', command => 'SELECT', max_running => 2, max_waiting => 5);
SELECT resilience.create_bulkhead('by tag', tag => 'route', max_running => 1);
SELECT resilience.create_runaway_rule('rows', max_rows_estimate => 1e12, action => 'cancel');
SELECT resilience.create_health_check('near', query => 'SELECT true', check_interval => '2 s');
SELECT resilience.create_feature('near', dimmable => true, fallback_sql => 'SELECT 1');
SELECT resilience.create_degradation('light', 'loaded', 'high', '{"work_mem": "1MB"}');
CREATE ROLE smith LOGIN;
GRANT pg_monitor TO smith;
GRANT ALL ON ALL TABLES IN SCHEMA public TO smith;
GRANT USAGE ON SCHEMA resilience TO smith;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA resilience TO smith;
GRANT USAGE ON FOREIGN SERVER loopback TO smith;
ALTER USER MAPPING FOR PUBLIC SERVER loopback OPTIONS (ADD password_required 'false');
SQL

# Policies change all the time
cat >"$RSL_TMP/changes.sql" <<'SQL'
SELECT resilience.alter_bulkhead('selects', max_running => 1 + (random() * 3)::int);
SELECT resilience.create_bulkhead('now and then', role_name => 'smith', max_running => 2, max_waiting => 2);
SELECT resilience.force_breaker('of loopback', (ARRAY['open', 'auto', 'closed'])[1 + (random() * 2)::int]);
SELECT resilience.set_feature('near', random() < 0.5);
SELECT resilience.drop_bulkhead('now and then', if_exists => true);
SQL
background exec_on smith pgbench -n -f "$RSL_TMP/changes.sql" -T $((seconds + 60)) -R 20 postgres >"$RSL_TMP/changes.log" 2>&1
changes=$RSL_LAST_PID

declare -A queries=()
for user in smith postgres; do
	echo "sqlsmith as $user, seed $seed, $((seconds / 2)) s"
	timeout -k 10 $((seconds / 2)) sqlsmith --target="host=$RSL_TMP port=$port dbname=postgres user=$user" \
		--seed="$seed" --verbose >"$RSL_TMP/sqlsmith.$user" 2>&1 </dev/null || true
	# what it says itself of how far it came, every now and then
	queries[$user]=$(sed -n 's/^queries: \([0-9]*\).*/\1/p' "$RSL_TMP/sqlsmith.$user" | tail -n 1)
	echo "queries: ${queries[$user]:-none}"
	[ -n "${queries[$user]}" ] || tail -n 5 "$RSL_TMP/sqlsmith.$user"
	seed=$((seed + 1))
done
end_background "$changes"

passed=0
failed=0
result() # NAME CONDITION-STATUS
{
	if [ "$2" -eq 0 ]; then passed=$((passed + 1)); echo "ok - $1"; else failed=$((failed + 1)); echo "not ok - $1"; fi
}

log=$RSL_TMP/smith.log
status=0
! grep -aE 'PANIC|TRAP:|terminated by signal' "$log" || status=1
result "no crash" "$status"

# PostgreSQL has internal errors of its own that random queries find.  Each line
# has the SQLSTATE of its message, LOCATION too: ours are the files of src.
status=0
files=$(find src -name '*.c' -printf '%f\n' | sort -u | paste -sd'|' | sed 's/\./\\./g')
if grep -aE "\] XX[0-9]{3} .*LOCATION: .*, ($files):" "$log" | sed 's/.*LOCATION: //' | sort | uniq -c | sort -rn | head -n 20 | grep .; then status=1; fi
result "no internal error of the extension's" "$status"

status=0
[ "${queries[smith]:-0}" -gt 100 ] && [ "${queries[postgres]:-0}" -gt 100 ] || status=1
result "sqlsmith came far enough" "$status"

status=1
for _ in {1..50}; do
	left=$(PGOPTIONS='-c resilience.mode=off' sql smith "SELECT (SELECT coalesce(sum(running + waiting), 0) FROM resilience.bulkheads) + (SELECT running + waiting FROM resilience.load_shedder) + (SELECT sum(calls_in_flight) FROM resilience.breakers)")
	[ "$left" != 0 ] || { status=0; break; }
	sleep 0.2
done
result "nothing is held any more ($left)" "$status"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

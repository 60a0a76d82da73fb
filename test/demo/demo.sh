#!/usr/bin/env bash
#
# Two and a half minutes of PostgreSQL under more load than it can bear, of a
# foreign server that fails, of a leak, and of a chaos experiment, without and
# with resilience; and a picture of it at the end.  Builds and installs the extension, starts throw-away servers in a temporary folder, and removes them
# again however this ends.
#
#   RSL_DEMO_SECONDS   seconds for each load phase (4)
#   RSL_DEMO_INSTALLED if set: use what is installed, build nothing
#   RSL_DEMO_RESULTS   where the results are kept (test/demo/last-run)
#   RSL_DEMO_PICTURE   the picture (demo.svg, at the top)

set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=test/lib.sh
source "$HERE/../lib.sh"

SECONDS_EACH=${RSL_DEMO_SECONDS:-4}
[[ $SECONDS_EACH =~ ^[1-9][0-9]*$ ]] || die "RSL_DEMO_SECONDS must be a whole number of seconds"
KEPT=${RSL_DEMO_RESULTS:-$HERE/last-run}
PICTURE=${RSL_DEMO_PICTURE:-$RSL_TOP/demo.svg}
LIMIT=$((4 * RSL_CORES))
BEGUN=$SECONDS
FAILED=()
BOLD='' PLAIN=''
if rsl_tty; then
	BOLD=$'\033[1m'
	PLAIN=$'\033[0m'
fi

title() { printf '\n%s%s%s\n' "$BOLD" "$1" "$PLAIN"; }
# scene LABEL TITLE: one of those that the picture names
scene() {
	printf '%s\t%s\n' "$(date +%s.%N)" "$1" >>"$RSL_TMP/scenes.tsv"
	title "$2"
}
say() { printf '   %s\n' "$@"; }

# The one moving line; without a terminal nothing moves, and the result of
# each step is printed when it is known.
progress() {
	RSL_PROGRESS=1
	if rsl_tty; then printf '\r\033[K   %s' "$1"; fi
}
progress_end() {
	if rsl_tty; then printf '\r\033[K'; fi
	RSL_PROGRESS=
}

# expect TEXT CONDITION: an awk condition that must hold if the scene worked
expect() {
	awk "BEGIN { exit !($2) }" && return
	FAILED+=("$1")
	say "!! $1 ($2)"
}

STEP=
on_exit() {
	if [[ $1 -ne 0 && $1 -lt 128 && $STEP ]]; then
		{
			tail -n 20 "$RSL_TMP/step.out"
			echo "demo.sh: failed: $STEP"
		} >&3
	fi
}

# step TEXT CMD...: something that only takes time
step() {
	local text=$1
	shift
	progress "$text ..."
	# not in an "if", where bash would ignore errors inside CMD; on_exit tells
	STEP=$text
	"$@" >"$RSL_TMP/step.out" 2>&1
	STEP=
	progress_end
	say "$text: done"
}

# show TITLE SQL: a view, as the operator sees it at this moment
show() {
	progress_end
	say "" "demo=# $1"
	on demo psql -X -q -d demo --pset=footer=off --pset=null=- -c "$1" 2>&1 | tee -a "$RSL_TMP/views.txt" |
		sed '/^$/d; s/^/      /'
}

# phase NAME SECONDS VIEWS CMD...: run a load; half-way VIEWS (a function or
# "-") prints what the server says.  Output in $RSL_TMP/NAME.{out,err}
phase() {
	local name=$1 seconds=$2 views=$3 started=$SECONDS pid tps
	shift 3
	background exec_on demo timeout --foreground -k 5 $((seconds + 60)) "$@" >"$RSL_TMP/$name.out" 2>"$RSL_TMP/$name.err"
	pid=$RSL_LAST_PID
	local middle=$((seconds * 5)) tick=0 shown=
	while kill -0 "$pid" 2>/dev/null; do
		if [[ ! $shown && $tick -ge $middle ]]; then
			shown=1
			if [[ $views != - ]]; then "$views"; fi
		fi
		tps=$(awk '/^progress:/ { v = $4 } END { if (v != "") printf "%.0f TPS", v }' "$RSL_TMP/$name.err")
		progress "${PHASE_TITLE:-$name}: $((SECONDS - started)) of $seconds s  $tps"
		sleep 0.1
		tick=$((tick + 1))
	done
	progress_end
	if ! wait "$pid"; then
		tail -n 5 "$RSL_TMP/$name.err" >&2
		die "the load of \"${PHASE_TITLE:-$name}\" failed"
	fi
}

# The first second is left out: that is when 256 sessions connect and run
# their first statement.
tps_of() {
	awk '/^tps/ { whole = $3 } /^progress:/ && $2 > 1.5 { sum += $4; n++ } END { printf "%.0f", n ? sum / n : whole }' \
		"$RSL_TMP/$1.out" "$RSL_TMP/$1.err"
}

# latency NAME: percentiles in ms of the pgbench log NAME.*, in P50 P95 P99
latency() {
	# shellcheck disable=SC2046
	set -- $(cat "$RSL_TMP/$1".log.* | awk '{ print $3 / 1000 }' | sort -g |
		awk '{ a[NR] = $1 } END { printf "%.1f %.1f %.1f", a[int(NR * 0.5) + 1], a[int(NR * 0.95) + 1], a[int(NR * 0.99) + 1] }')
	P50=$1 P95=$2 P99=$3
}

# --- the stage -------------------------------------------------------------

build() {
	local installed
	unset MAKEFLAGS MAKELEVEL MFLAGS
	make -C "$RSL_TOP" -s PG_CONFIG="$PG_CONFIG" || return
	if make -C "$RSL_TOP" -s install PG_CONFIG="$PG_CONFIG"; then return; fi
	# without the right to install, what is there will do if it is the same
	installed=$("$PG_CONFIG" --pkglibdir)/resilience.so
	if cmp -s "$RSL_TOP/resilience.so" "$installed"; then return; fi
	echo "cannot install into $("$PG_CONFIG" --pkglibdir): run \"make install\" as root first, then \"make demo\" again"
	return 1
}

stage() {
	start_cluster demo "max_connections = 400" "shared_buffers = 256MB" "max_wal_size = 4GB" "checkpoint_timeout = 30min" \
		"max_parallel_workers_per_gather = 0" "shared_preload_libraries = 'resilience'" \
		"resilience.max_wait = '30s'" "log_min_messages = fatal"
	on demo psql -X -q -v ON_ERROR_STOP=1 \
		-c "CREATE ROLE app LOGIN" -c "CREATE ROLE app_critical LOGIN" -c "CREATE ROLE report LOGIN" \
		-c "GRANT pg_read_all_data TO app_critical, report" \
		-c "ALTER ROLE app_critical SET resilience.priority = 'high'" \
		-c "ALTER ROLE report SET resilience.priority = 'low'" \
		-c "CREATE DATABASE demo OWNER app"
	on demo pgbench -U app -i -q -s 1 demo
	on demo psql -X -q -v ON_ERROR_STOP=1 -d demo -c "CREATE EXTENSION resilience"
	on demo psql -X -q -v ON_ERROR_STOP=1 -d demo -U app \
		-c "CREATE TABLE sales AS SELECT i AS id, i % 97 AS amount FROM generate_series(1, 1200000) i" \
		-c "VACUUM ANALYZE sales" -c "VACUUM ANALYZE pgbench_accounts"
	echo 'SELECT count(*), sum(amount) FROM sales WHERE amount <> 5;' >"$RSL_TMP/report.sql"
	chmod 644 "$RSL_TMP/report.sql"
}

limit() {
	set_config demo "resilience.max_running = $1"
}

# --- scenes ----------------------------------------------------------------

shedder_view() {
	show "SELECT mode, max_running, running, waiting, admitted_total FROM resilience.load_shedder"
	ran=$(sql_demo "SELECT running FROM resilience.load_shedder")
}

sql_demo() { on demo psql -X -q -At -v ON_ERROR_STOP=1 -d demo -c "$1"; }

one_workload() {
	local key=$1 what=$2 few=$3 must=$4 best round without=0 with=0 ran=0
	shift 4
	# and a second more, see tps_of
	local slice=$(((SECONDS_EACH + 1) / 2 + 1)) run=(pgbench -U app -n -M prepared -P 1 -j "$RSL_CORES" "$@")
	limit -1
	PHASE_TITLE="$what, $few clients, no limit"
	phase "$key.few" "$slice" - "${run[@]}" -c "$few" -T "$slice" demo
	best=$(tps_of "$key.few")
	say "$PHASE_TITLE: $best TPS"
	# twice, by turns: a machine that is busy with something else for a moment
	# should not decide this
	for round in 1 2; do
		limit -1
		PHASE_TITLE="$what, 256 clients, no limit"
		phase "$key.without.$round" "$slice" "$( ((round == 1)) && echo shedder_view || echo -)" "${run[@]}" -c 256 -T "$slice" demo
		without=$((without + $(tps_of "$key.without.$round") / 2))
		say "$PHASE_TITLE: $(tps_of "$key.without.$round") TPS"
		limit "$LIMIT"
		PHASE_TITLE="$what, 256 clients, resilience.max_running = $LIMIT"
		phase "$key.with.$round" "$slice" "$( ((round == 1)) && echo shedder_view || echo -)" "${run[@]}" -c 256 -T "$slice" demo
		with=$((with + $(tps_of "$key.with.$round") / 2))
		say "$PHASE_TITLE: $(tps_of "$key.with.$round") TPS"
	done
	# the session that looks is a superuser: counted, and never held up
	expect "more than $LIMIT transactions ran at once" "$ran <= $LIMIT + 1"
	if [[ $must ]]; then
		expect "the limit did not raise the throughput of $what" "$with > $without"
	fi
	row "$what, 256 clients: TPS ($few clients: $best)" "$without" "$with"
}

scene_collapse() {
	scene "1 overload" "1. 256 clients: PostgreSQL admits them all and collapses; with a limit it keeps its throughput."
	say "\"limit\" means: ALTER SYSTEM SET resilience.max_running = $LIMIT; SELECT pg_reload_conf();"
	say "The other clients wait their turn inside the server, and nobody is refused.  (This psql is a superuser:" \
		"it is counted among the running, but never held up.)"
	# very short transactions gain less, and a busy machine hides it: no condition
	one_workload select "select-only" "$RSL_CORES" "" -S
	one_workload tpcb "TPC-B (scale 1)" "$((2 * RSL_CORES))" must -b tpcb-like
}

priority_view() {
	show "SELECT priority, running, waiting, admitted_total, wait_p50_ms, wait_p99_ms FROM resilience.load_by_priority"
	show "SELECT pid, usename, priority, state, now() - wait_start AS waits FROM resilience.activity
        WHERE usename IN ('app_critical', 'report') AND state <> 'idle' ORDER BY state, priority LIMIT 6"
}

# important NAME VIEWS: the high-priority clients; their latency in P50 P95 P99
important() {
	PHASE_TITLE="400 important selects/s, $3"
	phase "$1" "$SECONDS_EACH" "$2" pgbench -U app_critical -n -S -M prepared -c 4 -j 1 -R 400 -P 1 -T "$SECONDS_EACH" \
		-l --log-prefix="$RSL_TMP/$1.log" demo
	latency "$1"
	say "$PHASE_TITLE: p50 $P50 ms, p95 $P95 ms, p99 $P99 ms"
}

# The flood outlasts the measurement; whoever is still at it then is cut off.
flood() {
	background exec_on demo timeout --foreground -k 5 60 pgbench -U report -n -c 64 -j 1 -T 40 -f "$RSL_TMP/report.sql" demo \
		>"$RSL_TMP/flood.out" 2>&1
	FLOOD=$RSL_LAST_PID
	sleep 1
	kill -0 "$FLOOD" 2>/dev/null || die "the flood ended early: $(tail -n 3 "$RSL_TMP/flood.out")"
}

flood_end() {
	end_background "$FLOOD"
	# some leave by themselves in the meantime: no warnings about those
	PGOPTIONS="-c client_min_messages=error" sql_demo "SELECT count(pg_terminate_backend(pid, 2000)) FROM pg_stat_activity WHERE usename = 'report'" >/dev/null
}

scene_priority() {
	local without alone shed left
	scene "2 priorities" "2. Important work stays fast beside a flood of reports that would take the whole machine."
	say "ALTER ROLE app_critical SET resilience.priority = 'high';  ALTER ROLE report SET resilience.priority = 'low';"
	say "The flood: 64 clients of role report that run aggregates of some 50 ms as fast as they can."
	limit -1
	important alone - "nothing beside"
	alone="$P50 / $P95 / $P99"
	flood
	important without - "beside the flood, no limit"
	flood_end
	without=$P99
	local without_all="$P50 / $P95 / $P99"
	limit "$LIMIT"
	flood
	important with priority_view "beside the flood, max_running = $LIMIT"
	say "" "the lever: resilience.minimum_priority = high, and a reload"
	set_config demo "resilience.minimum_priority = high"
	sleep 1
	shed=$(sql_demo "SELECT shed_total FROM resilience.load_by_priority WHERE priority = 'low'")
	left=$(sql_demo "SELECT running + waiting FROM resilience.load_by_priority WHERE priority = 'low'")
	say "$shed reports were shed, $left still run or wait"
	set_config demo "resilience.minimum_priority = low"
	expect "the lever shed nothing" "$shed > 0"
	row "the lever minimum_priority = high: reports shed / left after 1 s" "-" "$shed / $left"
	flood_end
	expect "the important work did not get faster" "$P99 < $without"
	row "important selects: p50 / p95 / p99 ms (alone: $alone)" "$without_all" "$P50 / $P95 / $P99"
}

scene_bulkhead() {
	local message i refused pids=()
	limit -1                # this scene is about the bulkhead alone
	scene "3 bulkhead" "3. A bulkhead: one role cannot take all connections; the 11th is refused, everybody else gets in."
	say "demo=# SELECT resilience.create_bulkhead('reports', role_name => 'report', max_connections => 10);"
	sql_demo "SELECT resilience.create_bulkhead('reports', role_name => 'report', max_connections => 10)" >/dev/null
	background exec_on demo timeout --foreground -k 5 60 pgbench -U app -n -S -M prepared -c 8 -j 1 -T 30 demo \
		>"$RSL_TMP/others.out" 2>&1
	local others=$RSL_LAST_PID
	for i in {1..10}; do
		background exec_on demo psql -X -q -U report -d demo -c "SELECT pg_sleep(30)" >/dev/null 2>"$RSL_TMP/report.$i"
		pids+=("$RSL_LAST_PID")
	done
	for ((i = 0; i < 100; i++)); do
		[[ $(sql_demo "SELECT connections FROM resilience.bulkheads WHERE name = 'reports'") == 10 ]] && break
		sleep 0.1
	done
	say "" "ten sessions of role report are open, and an application works (pgbench, 8 clients).  The 11th:"
	say '$ psql -U report -c "SELECT 1"'
	if message=$(on demo psql -X -U report -d demo -c "SELECT 1" 2>&1); then
		FAILED+=("the 11th connection was not refused")
	fi
	printf '%s\n' "$message" | tee "$RSL_TMP/refused.txt" | sed 's/^/      /; s/connection to server on socket "[^"]*"/connection to server/'
	expect "the refusal does not name the bulkhead" "$([[ $message == *FATAL*reports* ]] && echo 1 || echo 0)"
	say "" '$ psql -U app -c "SELECT ..."'
	message=$(on demo psql -X -At -U app -d demo -c "SELECT 'connected as ' || current_user" 2>&1) ||
		FAILED+=("another role could not connect")
	printf '      %s\n' "$message"
	show "SELECT name, role_name, max_connections, connections, refused_connections_total FROM resilience.bulkheads"
	refused=$(sql_demo "SELECT refused_connections_total FROM resilience.bulkheads WHERE name = 'reports'")
	expect "the view does not count the refusal" "$refused >= 1"
	sql_demo "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE usename = 'report' LIMIT 1" >/dev/null
	for ((i = 0; i < 50; i++)); do
		message=$(on demo psql -X -At -U report -d demo -c "SELECT 'connected as ' || current_user" 2>&1) && break
		sleep 0.1
	done
	say "" "one of the ten leaves, and the next one gets in: $(tail -n 1 <<<"$message")"
	expect "a slot that was given back cannot be taken" "$([[ $message == "connected as report" ]] && echo 1 || echo 0)"
	end_background "$others"
	for i in "${pids[@]}"; do end_background "$i"; done
	row "11th connection of role report (limit 10)" "accepted" "refused"
	row "other roles meanwhile" "accepted" "accepted"
}

# The price list of another server.  Whoever asks gets an answer or an error;
# both are counted, and neither ends the client.
shop() {
	start_cluster far "listen_addresses = '127.0.0.1'" "log_min_messages = fatal"
	on far psql -X -q -v ON_ERROR_STOP=1 -c "CREATE TABLE price AS SELECT i AS item, i % 97 + 1 AS cents FROM generate_series(1, 10000) i" \
		-c "CREATE UNIQUE INDEX ON price (item)"
	on demo psql -X -q -v ON_ERROR_STOP=1 -d demo <<-SQL
		CREATE EXTENSION postgres_fdw;
		CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '${RSL_PORT[far]}', dbname 'postgres');
		CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'postgres', password_required 'false');
		CREATE FOREIGN TABLE price (item int, cents int) SERVER far;
		CREATE TABLE price_of_yesterday AS SELECT * FROM price;
		CREATE UNIQUE INDEX ON price_of_yesterday (item);
		GRANT SELECT ON price, price_of_yesterday TO app;
		CREATE SEQUENCE answered; CREATE SEQUENCE failed;
		GRANT USAGE ON SEQUENCE answered, failed TO app;
		CREATE FUNCTION ask(wanted int) RETURNS int LANGUAGE plpgsql AS \$\$
		DECLARE result int;
		BEGIN
		  SELECT cents INTO result FROM price WHERE item = wanted;
		  PERFORM nextval('answered');
		  RETURN result;
		EXCEPTION WHEN OTHERS THEN
		  PERFORM nextval('failed');
		  RETURN NULL;
		END \$\$;
	SQL
	printf '%s\n' '\set item random(1, 10000)' 'SELECT ask(:item);' >"$RSL_TMP/ask.sql"
	chmod 644 "$RSL_TMP/ask.sql"
}

# Something that accepts connections on the far server's port and is silent.
silence() {
	background perl -MSocket -e 'socket(my $s, PF_INET, SOCK_STREAM, 0) or die; setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1);
		bind($s, sockaddr_in($ARGV[0], INADDR_LOOPBACK)) or die "bind: $!"; listen($s, 1000) or die; sleep 120' "${RSL_PORT[far]}"
	SILENCE=$RSL_LAST_PID
}

# customers SECONDS: 16 clients that ask 400 times a second.  They may hang, so
# they are cut off, and what they did is read from their log.
customers() {
	rm -f "$RSL_TMP"/ask.log.*
	background exec_on demo timeout --foreground -s KILL "$1" pgbench -U app -n -c 16 -j 1 -R 400 -T 60 -f "$RSL_TMP/ask.sql" \
		-l --log-prefix="$RSL_TMP/ask.log" demo >"$RSL_TMP/ask.out" 2>&1
	CUSTOMERS=$RSL_LAST_PID
}

asked() { sql_demo "SELECT (SELECT last_value FROM answered)::text || ' ' || (SELECT last_value FROM failed)"; }

# watch_customers NAME: after the clients have gone on for a while
watch_customers() {
	local a0 f0 a1 f1
	read -r a0 f0 <<<"$(asked)"
	sleep "$SECONDS_EACH"
	read -r a1 f1 <<<"$(asked)"
	BLOCKED=$(sql_demo "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active' AND now() - query_start > '0.5 s'")
	ANSWERS=$(((a1 - a0) / SECONDS_EACH)) ERRORS=$(((f1 - f0) / SECONDS_EACH))
	progress_end
	say "$1: $ANSWERS answers/s, $ERRORS errors/s, $BLOCKED of 16 sessions blocked"
}

breakers_view() {
	show "SELECT name, state, calls_in_flight AS calls, open_count AS opened, failure_total AS failures, rejected_total AS rejected, fallback_total AS fallbacks, last_sqlstate, probe_total AS probes, last_probe_result FROM resilience.breakers"
}

scene_breaker() {
	local open_after closed_after begun blocked_without answers_without dead_without
	limit -1
	scene "4 foreign server" "4. A foreign server dies, then hangs: without a circuit breaker it takes every session with it."
	step "start a second server, whose table of prices the first one reads by postgres_fdw" shop

	progress "16 clients ask for prices"
	customers $((2 * SECONDS_EACH + 6))
	sleep 1
	watch_customers "no breaker, the far server works"
	stop_cluster far immediate
	watch_customers "no breaker, the far server is dead"
	dead_without="$ANSWERS/s"
	silence
	sleep 1
	watch_customers "no breaker, the far server accepts connections and is silent"
	blocked_without=$BLOCKED answers_without=$ANSWERS
	end_background "$CUSTOMERS"
	end_background "$SILENCE"
	launch_cluster far

	say "" "demo=# SELECT resilience.create_breaker('prices', 'far', call_timeout => '1 s', reset_timeout => '1 s', on_open => 'fallback');" \
		"demo=# SELECT resilience.set_fallback('price', 'price_of_yesterday');"
	sql_demo "SELECT resilience.create_breaker('prices', 'far', call_timeout => '1 s', reset_timeout => '1 s', on_open => 'fallback')" >/dev/null
	sql_demo "SELECT resilience.set_fallback('price', 'price_of_yesterday')" >/dev/null
	progress "16 clients ask for prices"
	customers $((4 * SECONDS_EACH + 20))
	sleep 1
	watch_customers "with a breaker, the far server works"
	breakers_view
	begun=$(date +%s%N)
	stop_cluster far immediate
	open_after=$(state_after open "$begun")
	say "" "the far server is killed: $open_after ms later the breaker is open"
	watch_customers "with a breaker, the far server is dead"
	row "foreign server dead: answers (asked: 400/s)" "$dead_without" "$ANSWERS/s"
	expect "the fallback did not answer" "$ANSWERS > 100"
	show "EXPLAIN (COSTS OFF) SELECT * FROM price WHERE item = 7"
	breakers_view
	begun=$(date +%s%N)
	launch_cluster far
	closed_after=$(state_after closed "$begun")
	say "" "the far server is started again: $closed_after ms later the breaker is closed"
	row "foreign server back: time from its start to closed" "-" "$closed_after ms"
	expect "the breaker was not closed in time" "$closed_after < 6000"
	stop_cluster far immediate
	silence
	sleep 4                 # some sessions have to find out
	watch_customers "with a breaker, the far server accepts connections and is silent"
	breakers_view
	row "foreign server silent: sessions blocked, of 16" "$blocked_without" "$BLOCKED"
	row "foreign server silent: answers (asked: 400/s)" "$answers_without/s" "$ANSWERS/s"
	expect "sessions are blocked in spite of the breaker" "$BLOCKED <= 1"
	expect "the fallback did not answer" "$ANSWERS > 100"
	expect "without a breaker nothing was blocked" "$blocked_without >= 8"
	end_background "$SILENCE"
	launch_cluster far
	say "" "the far server is back: $(state_after closed "$(date +%s%N)") ms later the breaker is closed"
	watch_customers "with a breaker, the far server works again"
	end_background "$CUSTOMERS"
}

# state_after STATE NANOSECONDS: wait for a state, print how long it took, in ms
state_after() {
	local i
	for ((i = 0; i < 1000; i++)); do
		[[ $(sql_demo "SELECT state FROM resilience.breakers WHERE name = 'prices'") == "$1" ]] && break
		sleep 0.01
	done
	echo $((($(date +%s%N) - $2) / 1000000))
}

# A second pair: a primary and its standby, each with a health endpoint, and
# HAProxy in front of both.  It asks the endpoints, not the servers.
pair() {
	local port_a port_b
	port_a=$(free_port)
	RSL_PORT[endpoint_a]=$port_a
	port_b=$(free_port)
	RSL_PORT[endpoint_b]=$port_b
	RSL_PORT[front]=$(free_port)
	start_cluster a "max_connections = 40" "wal_level = replica" "log_min_messages = fatal" \
		"shared_preload_libraries = 'resilience'" "resilience.http_listen = '127.0.0.1:$port_a'"
	RSL_PORT[b]=$(free_port)
	on a as_server pg_basebackup -h "$RSL_TMP" -D "$RSL_TMP/b" -R -c fast
	printf '%s\n' "port = ${RSL_PORT[b]}" "resilience.http_listen = '127.0.0.1:$port_b'" |
		as_server tee -a "$RSL_TMP/b/postgresql.conf" >/dev/null
	launch_cluster b
	# the front asks for a TCP connection to PostgreSQL's own port
	cat >"$RSL_TMP/haproxy.cfg" <<-CFG
		defaults
		  mode tcp
		  timeout connect 2s
		  timeout client 60s
		  timeout server 60s
		listen readers
		  bind 127.0.0.1:${RSL_PORT[front]}
		  option httpchk GET /health
		  http-check expect status 200
		  default-server inter 200ms fall 2 rise 2 on-marked-down shutdown-sessions
		  server a unix@$RSL_TMP/.s.PGSQL.${RSL_PORT[a]} check addr 127.0.0.1 port $port_a
		  server b unix@$RSL_TMP/.s.PGSQL.${RSL_PORT[b]} check addr 127.0.0.1 port $port_b backup
	CFG
	background haproxy -db -f "$RSL_TMP/haproxy.cfg" >"$RSL_TMP/haproxy.out" 2>&1
	on a psql -X -q -v ON_ERROR_STOP=1 <<-SQL
		CREATE EXTENSION resilience;
		CREATE ROLE app LOGIN;
		CREATE TABLE bestseller AS SELECT 'a book that many buy'::text AS title;
		GRANT SELECT ON bestseller TO app;
		GRANT EXECUTE ON FUNCTION resilience.run_feature TO app;
	SQL
}

health_of() { curl -s -m 2 -o "$RSL_TMP/health.json" -w '%{http_code}' "http://127.0.0.1:${RSL_PORT[endpoint_$1]}/health" || true; }
reader() {
	PGHOST=127.0.0.1 PGPORT=${RSL_PORT[front]} psql -X -q -At -U app -d postgres -c \
		"SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END" 2>&1 || true
}
recommendation() {
	# a session that was there before: all others are taken
	printf '%s\n' "SELECT title FROM resilience.run_feature('recommendations', 'SELECT ''a book chosen for you''::text') AS t(title text);" >&"$SHOPPER_IN"
	local line=
	read -r -t 5 line <&"$SHOPPER_OUT" || true
	printf '%s' "$line"
}

# wait_for SECONDS TEXT COMMAND...: until it prints TEXT; the time in ms
wait_for() {
	local begun seconds=$1 wanted=$2
	shift 2
	begun=$(date +%s%N)
	until [[ $("$@") == "$wanted" ]]; do
		(($(date +%s%N) - begun > seconds * 1000000000)) && break
		sleep 0.05
	done
	echo $((($(date +%s%N) - begun) / 1000000))
}

scene_health() {
	local i moved back leak leaks=()
	scene "5 health" "5. A leak takes all connections: the server says that it is not well, HAProxy moves the readers, a feature steps back."
	step "start a primary and its standby, each with a health endpoint, and HAProxy in front" pair
	say "" "postgres=# SELECT resilience.create_health_check('room', 'connections', critical => true, check_interval => '1 s', timeout => '500 ms', failure_threshold => 2);" \
		"postgres=# SELECT resilience.create_feature('recommendations', health_check => 'room', min_degraded_duration => '2 s'," \
		"             fallback_sql => 'SELECT title FROM bestseller', success_threshold => 2, failure_threshold => 2);"
	on a psql -X -q -v ON_ERROR_STOP=1 \
		-c "SELECT resilience.create_health_check('room', 'connections', critical => true, check_interval => '1 s', timeout => '500 ms', failure_threshold => 2)" \
		-c "SELECT resilience.create_feature('recommendations', health_check => 'room', min_degraded_duration => '2 s', fallback_sql => 'SELECT title FROM public.bestseller', success_threshold => 2, failure_threshold => 2)" >/dev/null
	wait_for 15 200 health_of a >/dev/null
	wait_for 15 200 health_of b >/dev/null
	coproc SHOPPER { exec_on a psql -X -q -At -U app -d postgres 2>&1; }
	# shellcheck disable=SC2153
	exec {SHOPPER_OUT}<&"${SHOPPER[0]}" {SHOPPER_IN}>&"${SHOPPER[1]}"
	wait_for 15 primary reader >/dev/null
	say "" "GET /health of the primary: $(health_of a), of the standby: $(health_of b)   readers reach the $(reader)   recommendations: $(recommendation)"
	expect "readers do not reach the primary" "$([[ $(reader) == primary ]] && echo 1 || echo 0)"
	leak=$(date +%s%N)
	# as many as are let in
	for i in {1..40}; do
		background exec_on a psql -X -q -U app -d postgres -c "SELECT pg_sleep(60)" >/dev/null 2>&1
		leaks+=("$RSL_LAST_PID")
	done
	wait_for 20 standby reader >/dev/null
	moved=$((($(date +%s%N) - leak) / 1000000))
	wait_for 20 "a book that many buy" recommendation >/dev/null
	say "" "somebody opens connections and never closes them:" \
		"GET /health of the primary: $(health_of a) (no connection is free, and it answers), of the standby: $(health_of b)   readers reach the $(reader), $moved ms after the leak began   recommendations: $(recommendation)"
	expect "HAProxy did not move the readers" "$([[ $(reader) == standby ]] && echo 1 || echo 0)"
	expect "the feature did not step back" "$([[ $(recommendation) == "a book that many buy" ]] && echo 1 || echo 0)"
	say "" "\$ curl http://127.0.0.1:${RSL_PORT[endpoint_a]}/health"
	health_of a >/dev/null
	cut -c1-400 "$RSL_TMP/health.json" | sed 's/^/      /'
	# connections are kept for superusers
	on a psql -X -q -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'" >/dev/null
	for i in "${leaks[@]}"; do end_background "$i"; done
	back=$(date +%s%N)
	wait_for 30 primary reader >/dev/null
	wait_for 30 "a book chosen for you" recommendation >/dev/null
	say "" "the leak ends, and all is back after $((($(date +%s%N) - back) / 1000000)) ms: readers reach the $(reader), recommendations: $(recommendation)"
	on a psql -X -q --pset=footer=off --pset=null=- -c "SELECT id, kind, object, from_state, to_state FROM resilience.events ORDER BY id" 2>&1 |
		tee -a "$RSL_TMP/views.txt" | sed '/^$/d; s/^/      /'
	expect "readers did not come back" "$([[ $(reader) == primary ]] && echo 1 || echo 0)"
	expect "the feature did not come back" "$([[ $(recommendation) == "a book chosen for you" ]] && echo 1 || echo 0)"
	exec {SHOPPER_IN}>&- {SHOPPER_OUT}<&-
	row "all connections of the primary taken: readers" "fail" "go on, $moved ms"
}

# Game day: the same failure on purpose, while all is well.
scene_chaos() {
	local begun opened ended
	scene "6 chaos" "6. Game day: an experiment makes the foreign server fail; does the breaker hold?"
	set_config demo "resilience.chaos = on"
	say "demo=# SELECT resilience.create_experiment('far is down', 'foreign_error', probability => 1, server => 'far'," \
		"demo-#     max_injections => 10000, max_duration => '1 min');"
	sql_demo "SELECT resilience.create_experiment('far is down', 'foreign_error', probability => 1, server => 'far', max_injections => 10000, max_duration => '1 min')" >/dev/null
	show "SELECT * FROM resilience.preview_experiment('far is down')"
	progress "16 clients ask for prices"
	customers $((SECONDS_EACH + 12))
	sleep 1
	begun=$(date +%s%N)
	sql_demo "SELECT resilience.start_experiment('far is down')" >/dev/null
	opened=$(state_after open "$begun")
	say "" "demo=# SELECT resilience.start_experiment('far is down');      -- $opened ms later the breaker is open"
	watch_customers "the experiment runs"
	expect "the fallback did not answer during the experiment" "$ANSWERS > 100"
	row "chaos: foreign server fails on purpose: answers (asked: 400/s)" "-" "$ANSWERS/s"
	show "SELECT name, state, phase, injections, ends_at - now() AS ends_in FROM resilience.experiments"
	begun=$(date +%s%N)
	set_config demo "resilience.chaos = off"
	ended=$(experiment_after aborted "$begun")
	say "" "resilience.chaos = off and a reload: $ended ms later the experiment is over"
	row "chaos: from the lever to the end of all faults" "-" "$ended ms"
	expect "the lever did not end the experiment in a second" "$ended < 1000"
	say "the breaker is closed again $(state_after closed "$(date +%s%N)") ms later"
	watch_customers "all is well again"
	end_background "$CUSTOMERS"
	show "SELECT name, state, injections_total, stop_reason FROM resilience.experiments"
}

experiment_after() {
	local i
	for ((i = 0; i < 500; i++)); do
		[[ $(sql_demo "SELECT state FROM resilience.experiments") == "$1" ]] && break
		sleep 0.01
	done
	echo $((($(date +%s%N) - $2) / 1000000))
}

# One look at everything, five times a second, for the picture.
sampler() {
	printf '%s\n' "SELECT extract(epoch FROM clock_timestamp()), l.running, l.waiting, coalesce(l.current_limit, -1), l.admitted_total, p.refused, b.state, e.running" \
		"FROM resilience.load_shedder l, (SELECT sum(shed_total + timed_out_total + preempted_total) AS refused FROM resilience.load_by_priority) p," \
		"(SELECT max(CASE state WHEN 'open' THEN 2 WHEN 'half_open' THEN 1 ELSE 0 END) AS state FROM resilience.breakers) b," \
		"(SELECT count(*) AS running FROM resilience.experiments WHERE state = 'running') e" \
		'\watch 0.2' >"$RSL_TMP/sampler.sql"
	chmod 644 "$RSL_TMP/sampler.sql"
	background exec_on demo psql -X -q -At -d demo -f "$RSL_TMP/sampler.sql" >"$RSL_TMP/samples.txt" 2>/dev/null
	SAMPLER=$RSL_LAST_PID
}

picture() {
	end_background "$SAMPLER"
	[[ -w $(dirname "$PICTURE") ]] || PICTURE=$KEPT/demo.svg
	if ! command -v gnuplot >/dev/null; then
		say "" "No picture: gnuplot is not installed (gnuplot-nox)."
		return
	fi
	"$HERE/picture.sh" "$RSL_TMP/samples.txt" "$RSL_TMP/scenes.tsv" "$PICTURE" || FAILED+=("the picture was not made")
	say "" "A picture of all this: $PICTURE"
}

# --- the table -------------------------------------------------------------

row() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$RSL_TMP/table.tsv"; }

table() {
	title "What you have seen"
	{
		printf '   %-72s %20s %20s\n' "" "without resilience" "with resilience"
		while IFS=$'\t' read -r what without with; do
			printf '   %-72s %20s %20s\n' "$what" "$without" "$with"
		done <"$RSL_TMP/table.tsv"
	} | tee "$RSL_TMP/table.txt"
}

# What pgbench and the views said is kept, so that the table can be checked.
keep() {
	mkdir -p "$KEPT" 2>/dev/null && [[ -w $KEPT ]] || KEPT=$(mktemp -d /tmp/resilience-demo.XXXXXX)
	rm -f "$KEPT"/*.out "$KEPT"/*.txt
	cp "$RSL_TMP"/table.txt "$RSL_TMP"/views.txt "$RSL_TMP"/refused.txt "$RSL_TMP"/{select,tpcb}.*.out "$RSL_TMP"/{alone,without,with}.out "$KEPT"
	say "" "pgbench's own reports and what the views said: $KEPT" \
		"These were a few seconds on this machine; \"make bench\" measures properly, and beside PgBouncer."
}

main() {
	exec 3>&2
	RSL_ON_EXIT=on_exit
	rsl_begin
	: >"$RSL_TMP/table.tsv"
	title "resilience: $(postgres --version), $RSL_CORES cores.  About two and a half minutes; ctrl-C stops it and cleans up."
	[[ ${RSL_DEMO_INSTALLED:-} ]] || step "build and install the extension" build
	have_extension || die "resilience is not installed for this PostgreSQL"
	step "start a throw-away server in $RSL_TMP" stage
	sampler
	scene_collapse
	scene_priority
	scene_bulkhead
	scene_breaker
	scene_health
	scene_chaos
	table
	keep
	picture
	say "$((SECONDS - BEGUN)) s in all."
	if ((${#FAILED[@]} > 0)); then
		printf '\nNOT as it should be:\n' >&2
		printf '  %s\n' "${FAILED[@]}" >&2
		exit 1
	fi
}

main "$@"

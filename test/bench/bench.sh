#!/usr/bin/env bash
#
# What resilience costs and what it gives, measured on this machine.
#
#   test/bench/bench.sh [SECTION...]
#
#   instructions  instructions per transaction (callgrind): exact
#   overhead      select-only throughput beside plain, pg_stat_statements, PgBouncer
#   curve         throughput and p99 from 1 to 256 clients, text and SVG
#   peak          throughput at 256 clients beside what is possible with that many
#   priority      latency of important work beside a flood of unimportant work
#   refusal       what a refused statement and a refused connection cost
#   recovery      how fast goodput returns after ten seconds of overload
#   storm         goodput with clients that retry at once and do not wait long
#   scaling       cost with many bulkheads and with many idle sessions
#   adaptive      the limit that finds itself beside the best fixed one (see adaptive.sh)
#   memory        shared memory for 1 000 sessions
#   breaker       what a guarded foreign server costs, and how fast a breaker acts
#   features      what a call of feature_enabled() costs (see features.sh)
#   health        what it costs to look at the health of 128 objects of each kind
#   metrics       what a look at the metrics of 128 objects of each kind costs
#   all           all of the above, and the table at the end (the default)
#   sweep         find the best fixed limits (slow; not part of "all")
#   summary       only print the table again, from the last results
#
# Throughput on a shared machine moves by tens of per cent within minutes.
# So everything that is compared is measured in interleaved rounds, and only
# medians and ratios mean anything.  Where it is possible, instructions
# or CPU time per statement are given too: they are far steadier.
#
# Settings, all by environment:
#   BENCH_RESULTS   folder of the results (test/bench/results)
#   BENCH_SECONDS   seconds for a point of the curve (3)
#   BENCH_SETTLE_SECONDS  seconds that the adaptive limit has before a point (5)
#   BENCH_ROUNDS    rounds of the curve and of the priority section (2)
#   BENCH_CLIENTS   client counts of the curve ("1 2 4 8 16 32 64 128 256")
#   BENCH_PAIRS     interleaved rounds of "overhead" (5; 25 for figures to publish)
#   BENCH_PAIR_SECONDS  seconds for each of them (2)
#   BENCH_LIMIT_SELECT, BENCH_LIMIT_TPCB20, BENCH_LIMIT_TPCB1
#                   the fixed limits (resilience.max_running); find them by "sweep"
#   BENCH_POOL      server connections of PgBouncer (2 for each core)
#   BENCH_CG        transactions counted under callgrind (1000)
#   BENCH_SCALE     scale of the larger pgbench database (20)

set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=test/lib.sh
source "$HERE/../lib.sh"

RESULTS=${BENCH_RESULTS:-$HERE/results}
POINT_SECONDS=${BENCH_SECONDS:-3}
SETTLE_SECONDS=${BENCH_SETTLE_SECONDS:-5}
ROUNDS=${BENCH_ROUNDS:-2}
CLIENTS=${BENCH_CLIENTS:-1 2 4 8 16 32 64 128 256}
PAIRS=${BENCH_PAIRS:-5}
PAIR_SECONDS=${BENCH_PAIR_SECONDS:-2}
POOL=${BENCH_POOL:-$((2 * RSL_CORES))}
CG=${BENCH_CG:-1000}
SCALE=${BENCH_SCALE:-20}
declare -A LIMIT=(
	[select]=${BENCH_LIMIT_SELECT:-$((4 * RSL_CORES))}
	[tpcb20]=${BENCH_LIMIT_TPCB20:-$((4 * RSL_CORES))}
	[tpcb1]=${BENCH_LIMIT_TPCB1:-$((2 * RSL_CORES))}
)
declare -A WORKLOAD_TITLE=(
	[select]="select-only"
	[tpcb20]="TPC-B scale $SCALE"
	[tpcb1]="TPC-B scale 1"
)
LOAD=
TURNS=
SECTION_FILE=

# out TEXT...: a line of the result, on the terminal and in the section's file
out() {
	printf '%s\n' "$*"
	printf '%s\n' "$*" >>"$SECTION_FILE"
}

outf() {
	# shellcheck disable=SC2059
	printf -v LINE "$@"
	out "$LINE"
}

# note TEXT...: progress, on the terminal only
note() { printf '  . %s\n' "$*" >&2; }

# figure KEY VALUE: a number that the table at the end wants
figure() {
	local file=$RESULTS/figures.tsv
	touch "$file"
	awk -F'\t' -v key="$1" '$1 != key' "$file" >"$RSL_TMP/figures.new"
	printf '%s\t%s\t%s\n' "$1" "$2" "$(date -u +%F)" >>"$RSL_TMP/figures.new"
	sort "$RSL_TMP/figures.new" >"$file"
}

machine() {
	local model memory
	model=$(awk -F': *' '/^model name/ { print $2; exit }' /proc/cpuinfo)
	memory=$(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1048576 }' /proc/meminfo)
	echo "$(date -u '+%F %H:%M') UTC, ${model:-unknown CPU}, $RSL_CORES cores, $memory, $(postgres --version | sed 's/^postgres (PostgreSQL) /PostgreSQL /'), $(uname -sr)"
}

# busy: what else this machine is doing while nothing of ours is
busy() {
	local user nice kernel idle wait rest busy0 idle0
	read -r _ user nice kernel idle wait rest </proc/stat
	busy0=$((user + nice + kernel)) idle0=$((idle + wait))
	sleep 1
	read -r _ user nice kernel idle wait rest </proc/stat
	echo "Other work on this machine when the section began: $(calc "100 * ($user + $nice + $kernel - $busy0) / ($user + $nice + $kernel - $busy0 + $idle + $wait - $idle0 + 0.001)" %.0f) % of its CPU time"
}

# section NAME TITLE
section() {
	SECTION_FILE=$RESULTS/$1.txt
	: >"$SECTION_FILE"
	printf '\n'
	out "# $2"
	out "$(machine)"
	if [[ $1 != summary ]]; then out "$(busy)"; fi
	out ""
}

# --- what is being measured ------------------------------------------------

# Three servers with the same data: plain, pgss, res.  They are idle while
# another one is measured, and an idle PostgreSQL takes no CPU worth counting.
CONF=(
	"max_connections = 400"
	"shared_buffers = 512MB"
	# no checkpoint and no autovacuum in the middle of a point; tables are
	# vacuumed between the points instead
	"max_wal_size = 8GB"
	"checkpoint_timeout = 1h"
	"autovacuum = off"
	"max_parallel_workers_per_gather = 0"
	"logging_collector = off"
)
SERVERS_READY=

build_load() {
	[[ $LOAD ]] && return
	LOAD=$RSL_TMP/load
	gcc -O2 -Wall -I"$("$PG_CONFIG" --includedir)" "$HERE/load.c" -o "$LOAD" \
		-L"$("$PG_CONFIG" --libdir)" -lpq -lm || die "load.c does not compile"
	TURNS=$RSL_TMP/turns
	gcc -O2 -Wall -I"$("$PG_CONFIG" --includedir)" "$HERE/turns.c" -o "$TURNS" \
		-L"$("$PG_CONFIG" --libdir)" -lpq -lpthread || die "turns.c does not compile"
}

# The roles are ordinary ones: superusers are never limited, so a benchmark
# as superuser would measure nothing.
create_data() {
	local name=$1 scale=$2
	on "$name" psql -X -q -v ON_ERROR_STOP=1 \
		-c "CREATE ROLE bench LOGIN" -c "CREATE ROLE app_critical LOGIN" -c "CREATE ROLE report LOGIN" \
		-c "GRANT pg_read_all_data TO app_critical, report" \
		-c "CREATE DATABASE bench1 OWNER bench" -c "CREATE DATABASE bench20 OWNER bench"
	on "$name" pgbench -U bench -i -q -s 1 bench1 >/dev/null 2>&1
	on "$name" pgbench -U bench -i -q -s "$scale" bench20 >/dev/null 2>&1
	# for statements that take a known time on a CPU: 50 ms and 1 ms or so
	on "$name" psql -X -q -v ON_ERROR_STOP=1 -U bench -d bench20 \
		-c "CREATE TABLE numbers AS SELECT i AS id, i % 97 AS v FROM generate_series(1, 1200000) i" \
		-c "CREATE UNIQUE INDEX ON numbers (id)" -c "VACUUM (FREEZE, ANALYZE) numbers"
	for db in bench1 bench20; do
		on "$name" psql -X -q -d $db -c "VACUUM (FREEZE, ANALYZE)"
		on "$name" psql -X -q -d $db -c "CHECKPOINT"
	done
}

prepare_servers() {
	[[ $SERVERS_READY ]] && return
	have_extension || die "resilience is not installed for $(postgres --version): make install"
	build_load
	note "preparing three servers with the same data"
	start_cluster plain "${CONF[@]}"
	create_data plain "$SCALE"
	stop_cluster plain
	copy_cluster plain pgss "shared_preload_libraries = 'pg_stat_statements'"
	copy_cluster plain res "shared_preload_libraries = 'resilience'"
	for name in plain pgss res; do
		launch_cluster "$name"
		warm "$name"
	done
	sql pgss "CREATE EXTENSION pg_stat_statements"
	on res psql -X -q -v ON_ERROR_STOP=1 -d bench20 -c "CREATE EXTENSION resilience"
	on res psql -X -q -v ON_ERROR_STOP=1 \
		-c "ALTER ROLE app_critical SET resilience.priority = 'high'" \
		-c "ALTER ROLE report SET resilience.priority = 'low'"
	start_pgbouncer
	SERVERS_READY=1
}

# warm NAME: all pages in the buffers
warm() {
	on "$1" psql -X -q -At -d bench20 -c "SELECT sum(abalance) FROM pgbench_accounts" \
		-c "SET enable_seqscan = off" -c "SET enable_bitmapscan = off" \
		-c "SELECT count(aid) FROM pgbench_accounts WHERE aid > 0" >/dev/null
}

# PgBouncer in front of "plain", as its manual would have it for this load:
# transaction pooling.  Version 1.18 (Debian 12) cannot pass protocol-level
# prepared statements on in that mode, so pgbench uses the simple protocol.
start_pgbouncer() {
	local dir=$RSL_TMP/pgbouncer
	if ! command -v pgbouncer >/dev/null; then
		note "PgBouncer is not installed: measuring without it"
		return
	fi
	as_server mkdir "$dir"
	RSL_PORT["pgbouncer"]=$(free_port)
	cat >"$dir/pgbouncer.ini" <<-INI
		[databases]
		bench1 = host=$RSL_TMP port=${RSL_PORT[plain]} dbname=bench1 user=bench
		bench20 = host=$RSL_TMP port=${RSL_PORT[plain]} dbname=bench20 user=bench
		[pgbouncer]
		listen_addr =
		unix_socket_dir = $RSL_TMP
		unix_socket_mode = 0777
		listen_port = ${RSL_PORT[pgbouncer]}
		auth_type = any
		pool_mode = transaction
		default_pool_size = $POOL
		max_client_conn = 1000
		logfile = $dir/log
		pidfile = $dir/pid
		log_connections = 0
		log_disconnections = 0
		ignore_startup_parameters = extra_float_digits,options
	INI
	background exec_as_server pgbouncer -q "$dir/pgbouncer.ini" 2>/dev/null
	for _ in {1..50}; do
		if on pgbouncer psql -X -q -At -U bench -d bench20 -c 'SELECT 1' >/dev/null 2>&1; then
			HAVE_PGBOUNCER=1
			return
		fi
		sleep 0.1
	done
	die "PgBouncer does not answer: $(tail -n 3 "$dir/log")"
}
HAVE_PGBOUNCER=

# rotate N: begin each round with another system, so that none has the better
# place in line; from the array systems to ORDER
rotate() {
	local k=$(($1 % ${#systems[@]}))
	ORDER=("${systems[@]:k}" "${systems[@]:0:k}")
}

# pgbench_point SYSTEM WORKLOAD CLIENTS SECONDS: one measurement.  Results in
# P_TPS, P_P99 (ms) and P_CPU (pgbench's own share of all CPU time, in per
# cent: with many clients it is large, and no server setting can lower it).
#
# The script of a workload for the first ACTIVE clients; the others have sent
# a statement that sleeps, and wait for its answer as those in a queue do.
script_of_active_clients() {
	cat <<-END
		\\if :client_id >= $2
		SELECT pg_sleep($3);
		\\else
		\\set aid random(1, 100000 * :scale)
		\\set bid random(1, 1 * :scale)
		\\set tid random(1, 10 * :scale)
		\\set delta random(-5000, 5000)
	END
	if [[ $1 == select ]]; then
		echo "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;"
	else
		cat <<-END
			BEGIN;
			UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
			SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
			UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
			UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
			INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
			END;
		END
	fi
	echo "\\endif"
}

# pgbench counts the time in which it connects as part of -T, and has no
# warm-up: at 256 clients much of a short run would be first statements on cold
# caches.  So it runs longer, and only the last SECONDS are counted.
#
# With ACTIVE only so many of the clients work, the others wait for an answer:
# what pgbench itself can do with that many connections, whatever the server.
pgbench_point() {
	local system=$1 workload=$2 clients=$3 seconds=$4 active=${5:-}
	local mode=prepared server=$system script=() database=bench20 rate=1 user kernel wall
	local warm=$((clients >= 64 ? 2 : 1))
	case $workload in
		select) script=(-S) rate=0.1 ;;
		tpcb20) ;;
		tpcb1) database=bench1 ;;
	esac
	if [[ $active ]]; then
		script_of_active_clients "$workload" "$active" "$((seconds + warm))" >"$RSL_TMP/active.sql"
		script=(-f "$RSL_TMP/active.sql" -D "scale=$([[ $database == bench1 ]] && echo 1 || echo "$SCALE")")
	fi
	if [[ $system == pgbouncer ]]; then
		mode=simple
		server=pgbouncer
	fi
	if [[ $workload != select ]]; then
		on "${system/pgbouncer/plain}" psql -X -q -d "$database" -c "VACUUM pgbench_branches" \
			-c "VACUUM pgbench_tellers" -c "TRUNCATE pgbench_history"
	fi
	rm -f "$RSL_TMP"/latency.*
	local TIMEFORMAT='%U %S %R'
	# the bound only matters when something hangs: pgbench ends by itself
	if ! { time PGOPTIONS='' on "$server" timeout --foreground -k 5 "$((seconds + 60))" \
			pgbench -U bench -n "${script[@]}" -M "$mode" -c "$clients" \
			-j "$((clients < RSL_CORES ? clients : RSL_CORES))" -T "$((seconds + warm))" -P 1 \
			-l --log-prefix="$RSL_TMP/latency" --sampling-rate="$rate" "$database" \
			>"$RSL_TMP/pgbench.out" 2>"$RSL_TMP/pgbench.err"; } 2>"$RSL_TMP/pgbench.time"; then
		tail -n 5 "$RSL_TMP/pgbench.err" >&2
		die "pgbench failed on $system, $workload, $clients clients"
	fi
	read -r user kernel wall <"$RSL_TMP/pgbench.time"
	P_COUNT=$(awk -F: '/transactions actually processed/ { v = $2 } END { print v + 0 }' "$RSL_TMP/pgbench.out")
	P_TPS=$(awk -v warm="$warm" '/^tps/ { whole = $3 } /^progress:/ && $2 > warm + 0.5 { sum += $4; n++ } END { printf "%.1f", n ? sum / n : whole }' "$RSL_TMP/pgbench.out" "$RSL_TMP/pgbench.err")
	P_P99=$(cat "$RSL_TMP"/latency.* | awk -v seconds="$seconds" '{ t[NR] = $5 + $6 / 1e6; ms[NR] = $3 / 1000; if (t[NR] > last) last = t[NR] }
		END { for (i = 1; i <= NR; i++) if (t[i] >= last - seconds) print ms[i] }' | sort -g |
		awk '{ a[NR] = $1 } END { if (NR == 0) { print 0; exit } i = int(NR * 0.99); if (i < 1) i = 1; printf "%.2f", a[i] }')
	P_CPU=$(calc "100 * ($user + $kernel) / ($wall * $RSL_CORES)" %.0f)
	rm -f "$RSL_TMP"/latency.*
}

# limit N: the fixed limit of the server with resilience (-1: none).  Nothing
# may be refused here, since pgbench ends a client at the first refusal.
limit() {
	set_config res "resilience.max_running = $1" "resilience.max_wait = '30s'" "resilience.max_waiting = 1000"
}

# load ARGS...: run the load generator; its result line in L_RESULT
load() {
	local server=$1
	shift
	L_RESULT=$(on "$server" timeout --foreground -k 5 120 "$LOAD" "$@" | tail -n 1)
	[[ $L_RESULT ]] || die "the load generator printed nothing: load $*"
}

l() { field "$1" <<<"$L_RESULT"; }

# --- sections --------------------------------------------------------------

# One cluster for all that is counted by callgrind; how it is started differs.
CG_READY=
prepare_callgrind() {
	[[ $CG_READY ]] && return
	command -v valgrind >/dev/null || die "valgrind is not installed"
	note "preparing the server for callgrind"
	start_cluster cg "${CONF[@]}" "bgwriter_lru_maxpages = 0" "shared_preload_libraries = 'resilience'"
	sql cg "CREATE ROLE bench LOGIN"
	sql cg "CREATE DATABASE bench OWNER bench"
	on cg pgbench -U bench -i -q -s 1 bench >/dev/null 2>&1
	on cg psql -X -q -d bench -c "VACUUM (FREEZE, ANALYZE)" -c "CREATE EXTENSION resilience" -c "CHECKPOINT"
	stop_cluster cg
	as_server mkdir "$RSL_TMP/callgrind"
	CG_READY=1
}

# callgrind_start CONF...: the postmaster under callgrind; forked backends are
# followed, and each writes its own file when it ends.
callgrind_start() {
	local args=() setting
	for setting in "$@"; do args+=(-c "$setting"); done
	rm -f "$RSL_TMP/callgrind"/*
	RSL_CG_LOG=$RSL_TMP/callgrind.log
	background exec_as_server setsid valgrind --tool=callgrind --callgrind-out-file="$RSL_TMP/callgrind/out.%p" \
		--log-file=/dev/null postgres -D "$RSL_TMP/cg" "${args[@]}" >"$RSL_CG_LOG" 2>&1
	for _ in {1..300}; do
		if on cg pg_isready -q -t 5; then
			callgrind_client psql -X -q -At -d bench -c "SELECT sum(abalance) FROM pgbench_accounts" \
				-c "SET enable_seqscan = off" -c "SELECT count(aid) FROM pgbench_accounts WHERE aid > 0" >/dev/null
			return
		fi
		sleep 0.2
	done
	tail -n 5 "$RSL_CG_LOG" >&2
	die "the server does not start under callgrind"
}

# callgrind_client CMD...: run a client, and wait until the backends that served it
# are gone, for only then their files are complete.
callgrind_client() {
	local pid child gone
	read -r pid <"$RSL_TMP/cg/postmaster.pid"
	read -ra CG_BEFORE <"/proc/$pid/task/$pid/children" || true
	rm -f "$RSL_TMP/callgrind"/out.*
	on cg timeout --foreground -k 5 300 "$@" || return
	for _ in {1..200}; do
		gone=1
		for child in $(<"/proc/$pid/task/$pid/children"); do
			[[ " ${CG_BEFORE[*]} " == *" $child "* ]] || gone=
		done
		[[ $gone ]] && return
		sleep 0.05
	done
}

callgrind_stop() {
	as_server pg_ctl -D "$RSL_TMP/cg" -m fast -w -t 120 stop >/dev/null
}

# callgrind_total MODE N: instructions of the backend that ran N transactions
# on one connection, in CG_TOTAL; its file in CG_FILE.
CG_SCRIPT=(-S)
callgrind_total() {
	local mode=$1 n=$2 file total
	callgrind_client pgbench -U bench -n "${CG_SCRIPT[@]}" -M "$mode" -c 1 -t "$n" --random-seed=42 bench \
		>/dev/null 2>"$RSL_TMP/pgbench.err" || die "pgbench under callgrind: $(tail -n 3 "$RSL_TMP/pgbench.err")"
	# pgbench asks for the tables on a connection of its own first: that
	# backend's total is the small one
	CG_TOTAL=0
	for file in "$RSL_TMP/callgrind"/out.*; do
		# nor is any process meant that was there before, or a background worker
		[[ " ${CG_BEFORE[*]} " == *" ${file##*.} "* ]] && continue
		grep -q " PostgresMain" "$file" || continue
		total=$(awk '/^totals:/ { v = $2 } END { printf "%.0f", v }' "$file")
		if ((total > CG_TOTAL)); then
			CG_TOTAL=$total
			CG_FILE=$file
		fi
	done
	((CG_TOTAL > 0)) || die "callgrind wrote no result"
}

# callgrind_per_transaction MODE: in CG_PER.  The difference of two runs that
# differ only in their length leaves out start, planning once, and end.
callgrind_per_transaction() {
	local short
	callgrind_total "$1" 200
	short=$CG_TOTAL
	callgrind_total "$1" $((200 + CG))
	CG_PER=$(calc "($CG_TOTAL - $short) / $CG" %.0f)
}

bulkhead_in_force() {
	on "$1" psql -X -q -v ON_ERROR_STOP=1 -d "$2" -c "SELECT resilience.create_bulkhead('everybody', role_name => 'bench',
		max_running => 500, max_waiting => 500)" >/dev/null
}

# A degradation of three settings that holds as long as a check says false.
degradation_holds() {
	sql_in "$1" "$2" "SELECT resilience.create_health_check('down', query => 'SELECT false', check_interval => '1 s',
		timeout => '0.9 s', failure_threshold => 1)"
	sql_in "$1" "$2" "SELECT resilience.create_degradation('light', 'degraded', 'critical',
		'{\"work_mem\": \"1MB\", \"jit\": false, \"max_parallel_workers_per_gather\": 0}')"
	for _ in {1..300}; do
		[[ $(on "$1" psql -X -q -At -d "$2" -c "SELECT active FROM resilience.degradations") == t ]] && return
		sleep 0.2
	done
	die "the degradation does not hold"
}

section_instructions() {
	local mode conf plain added
	local -A count=()
	prepare_callgrind
	section instructions "Instructions per transaction, pgbench -S, one client (callgrind)"
	printf '%s\n' '\set aid random(1, 100000)' \
		"SELECT abalance FROM pgbench_accounts WHERE aid = :aid /*route='%2Fhome',tenant='acme'*/;" >"$RSL_TMP/tagged.sql"
	for conf in plain pgss idle enforced degraded plain_tagged tagged; do
		note "callgrind: $conf"
		CG_SCRIPT=(-S)
		[[ $conf != *tagged ]] || CG_SCRIPT=(-f "$RSL_TMP/tagged.sql")
		case $conf in
			plain | plain_tagged) callgrind_start shared_preload_libraries= ;;
			tagged)
				callgrind_start shared_preload_libraries=resilience resilience.max_running=100
				sql_in cg bench "SELECT resilience.create_bulkhead('everybody', tag => 'tenant', max_running => 500)"
				;;
			pgss) callgrind_start shared_preload_libraries=pg_stat_statements ;;
			idle) callgrind_start shared_preload_libraries=resilience ;;
			enforced)
				callgrind_start shared_preload_libraries=resilience resilience.max_running=100
				bulkhead_in_force cg bench
				;;
			degraded)
				callgrind_start shared_preload_libraries=resilience
				degradation_holds cg bench
				;;
		esac
		for mode in prepared simple; do
			callgrind_per_transaction "$mode"
			count[$conf,$mode]=$CG_PER
			if [[ $conf == enforced ]]; then
				# who spends it: the extension's functions, for the record
				callgrind_annotate --threshold=100 "$CG_FILE" 2>/dev/null |
					grep -F 'resilience.so' | head -n 20 |
					sed 's/^ *//; s#[^ ]*/src/#src/#; s/\[[^]]*resilience.so\]//; s/???://' >"$RSL_TMP/profile.$mode" || true
			fi
		done
		case $conf in
			enforced | tagged) sql_in cg bench "SELECT resilience.drop_bulkhead('everybody')" ;;
			degraded) sql_in cg bench "SELECT resilience.drop_degradation('light'), resilience.drop_health_check('down')" ;;
		esac
		callgrind_stop
	done
	outf '%-44s %22s %22s' "" "-M prepared" "-M simple"
	for conf in plain pgss idle enforced; do
		local text title=$conf
		case $conf in
			pgss) title="pg_stat_statements, default settings" ;;
			idle) title="resilience, nothing configured" ;;
			enforced) title="resilience, limit and bulkhead in force" ;;
		esac
		local cells=()
		for mode in prepared simple; do
			plain=${count[plain,$mode]}
			text=${count[$conf,$mode]}
			if [[ $conf != plain ]]; then printf -v text "%s (%+d)" "$text" "$((count[$conf,$mode] - plain))"; fi
			cells+=("$text")
		done
		outf '%-44s %22s %22s' "$title" "${cells[@]}"
	done
	out ""
	for mode in prepared simple; do
		added=$(calc "(${count[enforced,$mode]} - ${count[plain,$mode]}) / (${count[pgss,$mode]} - ${count[plain,$mode]})")
		outf 'added by resilience / added by pg_stat_statements, -M %-9s %s   (goal: at most 0.5)' "$mode:" "$added"
		figure "instructions_$mode" "$added"
		figure "instructions_idle_$mode" "$((count[idle,$mode] - count[plain,$mode]))"
	done
	out ""
	out "A degradation that holds sets work_mem, jit and max_parallel_workers_per_gather in each transaction:"
	for mode in prepared simple; do
		added=$((count[degraded,$mode] - count[idle,$mode]))
		outf '  added, -M %-9s %+d' "$mode:" "$added"
		figure "instructions_degraded_$mode" "$added"
	done
	out ""
	out "The same statement with a comment of two tags, one compartment for each value of one of them, and a limit:"
	for mode in prepared simple; do
		added=$((count[tagged,$mode] - count[plain_tagged,$mode]))
		outf '  added, -M %-9s %+d' "$mode:" "$added"
		figure "instructions_tagged_$mode" "$added"
	done
	out ""
	out "Where resilience spends them, of a run of $((CG + 200)) transactions, -M prepared (its own functions only):"
	while IFS= read -r added; do out "  $added"; done <"$RSL_TMP/profile.prepared"
}

sql_in() { PGOPTIONS="-c client_min_messages=warning" on "$1" psql -X -q -At -v ON_ERROR_STOP=1 -d "$2" -c "$3" >/dev/null; }

section_overhead() {
	local clients system round systems=(plain pgss idle res) ratio quart cpu us
	prepare_servers
	[[ $HAVE_PGBOUNCER ]] && systems+=(pgbouncer)
	section overhead "Select-only throughput beside plain PostgreSQL, -M prepared"
	bulkhead_in_force res bench20
	for clients in 2 32; do
		rm -f "$RSL_TMP"/overhead.*
		for ((round = 1; round <= PAIRS; round++)); do
			rotate "$round"
			note "overhead: $clients clients, round $round of $PAIRS"
			for system in "${ORDER[@]}"; do
				local server=$system before after
				# "idle": the same server, with no limit (the bulkhead stands aside)
				case $system in
					idle)
						server=res
						sql_in res bench20 "SELECT resilience.drop_bulkhead('everybody', if_exists => true)"
						limit -1
						;;
					res)
						sql_in res bench20 "SELECT resilience.drop_bulkhead('everybody', if_exists => true)"
						bulkhead_in_force res bench20
						limit "${LIMIT[select]}"
						;;
				esac
				before=$(server_cpu "${server/pgbouncer/plain}")
				pgbench_point "$server" select "$clients" "$PAIR_SECONDS"
				after=$(server_cpu "${server/pgbouncer/plain}")
				echo "$P_TPS $P_CPU $(calc "($after - $before) * 1e6 / ($P_COUNT + 1)" %.3f)" >>"$RSL_TMP/overhead.$system"
			done
		done
		outf '%d clients, %d rounds %-25s %10s %9s %9s %15s %15s %16s' "$clients" "$PAIRS" "" "TPS" \
			"/ plain" "quartiles" "server us/tx" "/ plain" "pgbench CPU"
		for system in "${systems[@]}"; do
			paste -d' ' "$RSL_TMP/overhead.$system" "$RSL_TMP/overhead.plain" >"$RSL_TMP/overhead.pair"
			ratio=$(awk '{ print $1 / $4 }' "$RSL_TMP/overhead.pair" | median)
			quart=$(awk '{ print $1 / $4 }' "$RSL_TMP/overhead.pair" | quartiles)
			us=$(awk '{ print $3 }' "$RSL_TMP/overhead.pair" | median)
			cpu=$(awk '{ print $3 / $6 }' "$RSL_TMP/overhead.pair" | median)
			local title=$system shown
			case $system in
				pgss) title="pg_stat_statements" ;;
				idle) title="resilience, nothing configured" ;;
				res) title="resilience, limit ${LIMIT[select]} and a bulkhead" ;;
				pgbouncer) title="PgBouncer, pool $POOL, -M simple" ;;
			esac
			# PgBouncer's backends never end, so their CPU time is not seen
			shown="$(calc "$us" %.1f) $(calc "$cpu" %.3f)"
			[[ $system == pgbouncer ]] && shown="- -"
			# shellcheck disable=SC2086
			outf '  %-44s %10.0f %9.3f %9s %15s %15s %15s%%' "$title" "$(awk '{ print $1 }' "$RSL_TMP/overhead.$system" | median)" \
				"$ratio" "$(awk '{ printf "%.2f-%.2f", $1, $2 }' <<<"$quart")" $shown \
				"$(awk '{ print $2 }' "$RSL_TMP/overhead.$system" | median)"
			figure "overhead_${system}_$clients" "$(calc "$ratio" %.3f)"
			[[ $system == pgbouncer ]] || figure "overhead_cpu_${system}_$clients" "$(calc "$cpu" %.3f)"
		done
		out ""
	done
	sql_in res bench20 "SELECT resilience.drop_bulkhead('everybody', if_exists => true)"
	limit -1
}

# server_cpu NAME: seconds of CPU that the finished backends of a server took.
# The kernel adds the time of each child to its parent when it is reaped.
server_cpu() {
	local pid
	read -r pid <"$RSL_TMP/$1/postmaster.pid"
	sleep 0.1
	awk -v hz="$(getconf CLK_TCK)" '{ sub(/^.*\) /, ""); print ($14 + $15) / hz }' "/proc/$pid/stat"
}

section_curve() {
	local workload clients system round systems=(plain res adaptive) tsv=$RESULTS/curve.tsv raw=$RSL_TMP/curve.raw
	prepare_servers
	[[ $HAVE_PGBOUNCER ]] && systems+=(pgbouncer)
	section curve "Throughput from few to many clients: what happens past the peak"
	: >"$raw"
	for ((round = 1; round <= ROUNDS; round++)); do
		rotate "$round"
		for workload in select tpcb20 tpcb1; do
			limit "${LIMIT[$workload]}"
			for clients in $CLIENTS; do
				for system in "${ORDER[@]}"; do
					# PgBouncer is here for comparison: every other round will do
					[[ $system == pgbouncer && $((round % 2)) == 0 ]] && continue
					if [[ $system == adaptive ]]; then
						# it begins at its start value, and has a while to find the limit
						set_config res "resilience.max_running = -1" "resilience.adaptive_limit = on"
						pgbench_point res "$workload" "$clients" "$SETTLE_SECONDS"
						pgbench_point res "$workload" "$clients" "$POINT_SECONDS"
						set_config res "resilience.adaptive_limit = off"
						limit "${LIMIT[$workload]}"
					else
						pgbench_point "$system" "$workload" "$clients" "$POINT_SECONDS"
					fi
					echo "$workload $system $clients $P_TPS $P_P99 $P_CPU" >>"$raw"
					note "round $round, ${WORKLOAD_TITLE[$workload]}, $clients clients, $system: $(calc "$P_TPS" %.0f) TPS, p99 $P_P99 ms, pgbench $P_CPU % of the CPU"
				done
			done
			clients=${CLIENTS##* }
			pgbench_point plain "$workload" "$clients" "$POINT_SECONDS" "${LIMIT[$workload]}"
			echo "$workload ceiling $clients $P_TPS $P_P99 $P_CPU" >>"$raw"
			note "round $round, ${WORKLOAD_TITLE[$workload]}, $clients clients of which ${LIMIT[$workload]} work: $(calc "$P_TPS" %.0f) TPS"
		done
	done
	limit -1
	for workload in select tpcb20 tpcb1; do
		figure "curve_${workload}_ceiling" "$(awk -v w="$workload" '$1 == w && $2 == "ceiling" { print $4 }' "$raw" | median)"
	done
	# medians of the rounds
	printf 'workload\tsystem\tclients\ttps\tp99_ms\tpgbench_cpu_percent\n' >"$tsv"
	for workload in select tpcb20 tpcb1; do
		for system in "${systems[@]}"; do
			for clients in $CLIENTS; do
				awk -v w="$workload" -v s="$system" -v c="$clients" '$1 == w && $2 == s && $3 == c' "$raw" >"$RSL_TMP/curve.one"
				printf '%s\t%s\t%s\t%.1f\t%.2f\t%.0f\n' "$workload" "$system" "$clients" \
					"$(awk '{ print $4 }' "$RSL_TMP/curve.one" | median)" \
					"$(awk '{ print $5 }' "$RSL_TMP/curve.one" | median)" \
					"$(awk '{ print $6 }' "$RSL_TMP/curve.one" | median)" >>"$tsv"
			done
		done
	done
	curve_table "$tsv"
	perl "$HERE/curve_svg.pl" "$tsv" "$RESULTS/overload.svg" "$(machine)" \
		"select=${WORKLOAD_TITLE[select]} (limit ${LIMIT[select]})" \
		"tpcb20=${WORKLOAD_TITLE[tpcb20]} (limit ${LIMIT[tpcb20]})" \
		"tpcb1=${WORKLOAD_TITLE[tpcb1]} (limit ${LIMIT[tpcb1]})"
	out "Picture: ${RESULTS#"$RSL_TOP"/}/overload.svg"
}

curve_table() {
	local tsv=$1 workload system clients row best plain_best last own all ceiling
	last=${CLIENTS##* }
	for workload in select tpcb20 tpcb1; do
		out "${WORKLOAD_TITLE[$workload]}, resilience.max_running = ${LIMIT[$workload]}, PgBouncer pool $POOL: TPS / p99 ms / pgbench's share of the CPU"
		outf '%9s %24s %24s %24s %24s' clients plain "fixed limit" "adaptive limit" PgBouncer
		for clients in $CLIENTS; do
			row=()
			for system in plain res adaptive pgbouncer; do
				row+=("$(awk -F'\t' -v w="$workload" -v s="$system" -v c="$clients" \
					'$1 == w && $2 == s && $3 == c { printf "%.0f / %s / %s%%", $4, $5, $6 }' "$tsv")")
			done
			outf '%9s %24s %24s %24s %24s' "$clients" "${row[@]}"
		done
		# the denominator is the best of plain and of resilience, so that a
		# slow best of its own cannot flatter the ratio
		plain_best=$(awk -F'\t' -v w="$workload" '$1 == w && $2 == "plain" && $4 > b { b = $4 } END { print b }' "$tsv")
		best=$(awk -F'\t' -v w="$workload" '$1 == w && $2 != "pgbouncer" && $4 > b { b = $4 } END { print b }' "$tsv")
		out "at $last clients / best at any client count of plain and resilience ($(calc "$best" %.0f) TPS; plain's best $(calc "$plain_best" %.0f)):"
		for system in plain res adaptive pgbouncer; do
			own=$(awk -F'\t' -v w="$workload" -v s="$system" '$1 == w && $2 == s && $4 > b { b = $4 } END { print b + 0 }' "$tsv")
			[[ $own == 0 ]] && continue
			all=$(awk -F'\t' -v w="$workload" -v s="$system" -v c="$last" -v b="$best" '$1 == w && $2 == s && $3 == c { printf "%.2f", $4 / b }' "$tsv")
			own=$(awk -F'\t' -v w="$workload" -v s="$system" -v c="$last" -v b="$own" '$1 == w && $2 == s && $3 == c { printf "%.2f", $4 / b }' "$tsv")
			outf '  %-14s %s   (of its own best: %s)' "${system/res/fixed limit}" "$all" "$own"
			figure "curve_${workload}_$system" "$all"
		done
		ceiling=$(f "curve_${workload}_ceiling")
		own=$(awk -F'\t' -v w="$workload" -v c="$last" -v b="${ceiling:-0}" '$1 == w && $2 == "res" && $3 == c && b > 0 { printf "%.2f", $4 / b }' "$tsv")
		out "with $last connections of which only ${LIMIT[$workload]} work while the others wait for an answer, pgbench reaches ${ceiling:-?} TPS; resilience at $last clients / that: $own"
		figure "curve_${workload}_of_ceiling" "$own"
		out ""
	done
}

# What is possible with that many sessions?  Two clients tell.  pgbench with
# 256 connections of which only as many work as the limit admits; it pays for
# polling them all.  And turns.c, which uses epoll: on a plain server it lets
# so many sessions work at a time, each for as long as a turn of ours lasts
# (500 ms for a round), so that all are served and nobody queues.
section_peak() {
	local workload round system n turn rows=$RSL_TMP/peak.raw sessions=256 database scale options
	local systems=(plain res bound few) tps p99 longest of title
	prepare_servers
	section peak "Throughput with $sessions sessions, beside what is possible with that many"
	: >"$rows"
	for ((round = 1; round <= ROUNDS; round++)); do
		rotate "$round"
		for workload in select tpcb20 tpcb1; do
			n=${LIMIT[$workload]}
			limit "$n"
			turn=$(calc "500 * $n / $sessions" %.1f)
			database=bench20 scale=$SCALE options=()
			[[ $workload == tpcb1 ]] && database=bench1 scale=1
			[[ $workload != select ]] && options=(-b)
			for system in "${ORDER[@]}"; do
				local server=plain active=()
				case $system in
					res) server=res ;;
					bound) active=(-A "$n" -R "$turn") ;;
					few) active=(-A "$n") ;;
				esac
				on "$server" psql -X -q -d "$database" -c "VACUUM pgbench_branches" \
					-c "VACUUM pgbench_tellers" -c "TRUNCATE pgbench_history"
				L_RESULT=$(on "$server" timeout --foreground -k 5 120 "$TURNS" -d "dbname=$database user=bench" \
					-c "$sessions" -s "$scale" -T "$POINT_SECONDS" -w 1.5 -j "$RSL_CORES" "${options[@]}" "${active[@]}")
				echo "$workload epoll $system $(l tps) $(l p99_ms) $(l max_ms)" >>"$rows"
				note "round $round, ${WORKLOAD_TITLE[$workload]}, $system: $L_RESULT"
			done
			for system in "${ORDER[@]}"; do
				case $system in
					few) pgbench_point plain "$workload" "$sessions" "$POINT_SECONDS" "$n" ;;
					bound) continue ;;
					*) pgbench_point "$system" "$workload" "$sessions" "$POINT_SECONDS" ;;
				esac
				echo "$workload pgbench $system $P_TPS $P_P99 -" >>"$rows"
				note "round $round, ${WORKLOAD_TITLE[$workload]}, pgbench, $system: $(calc "$P_TPS" %.0f) TPS, p99 $P_P99 ms"
			done
		done
	done
	limit -1
	local client
	for workload in select tpcb20 tpcb1; do
		n=${LIMIT[$workload]}
		out "${WORKLOAD_TITLE[$workload]}, resilience.max_running = $n; medians of $ROUNDS rounds of $POINT_SECONDS s"
		outf '  %-62s %8s %9s %9s' "" "TPS" "p99 ms" "max ms"
		for client in epoll pgbench; do
			for system in "${systems[@]}"; do
				awk -v w="$workload" -v c="$client" -v s="$system" '$1 == w && $2 == c && $3 == s' "$rows" >"$RSL_TMP/peak.one"
				[[ -s $RSL_TMP/peak.one ]] || continue
				case $system in
					plain) title="plain" ;;
					res) title="resilience" ;;
					bound) title="plain, the client lets $n work at a time, for $(calc "500 * $n / $sessions" %.1f) ms each" ;;
					few) title="plain, only $n ever work" ;;
				esac
				tps=$(awk '{ print $4 }' "$RSL_TMP/peak.one" | median)
				p99=$(awk '{ print $5 }' "$RSL_TMP/peak.one" | median)
				longest=-
				[[ $client == epoll && $system != few ]] && longest=$(awk '{ print $6 }' "$RSL_TMP/peak.one" | median)
				[[ $system == bound || $system == few ]] && p99=-  longest=-
				outf '  %-8s%-54s %8.0f %9s %9s' "$client" "$title" "$tps" "$p99" "$longest"
				figure "peak_${workload}_${client}_${system}" "$tps"
				[[ $p99 == - ]] || figure "peak_${workload}_${client}_${system}_p99" "$p99"
			done
		done
		for client in epoll pgbench; do
			of=bound
			[[ $client == pgbench ]] && of=few
			tps=$(calc "$(f "peak_${workload}_${client}_res") / $(f "peak_${workload}_${client}_$of")" %.2f)
			figure "peak_${workload}_${client}_ratio" "$tps"
			out "  $client: resilience / $([[ $of == few ]] && echo "only $n ever work" || echo "the client's own turns"): $tps   (plain: $(calc "$(f "peak_${workload}_${client}_plain") / $(f "peak_${workload}_${client}_$of")" %.2f))"
		done
		out ""
	done
}

section_sweep() {
	local workload n round rows clients
	prepare_servers
	section sweep "The best fixed limit for this machine"
	for workload in select tpcb20 tpcb1; do
		out "${WORKLOAD_TITLE[$workload]}: TPS by limit, median of $ROUNDS rounds of $POINT_SECONDS s"
		rows=$RSL_TMP/sweep.$workload
		: >"$rows"
		for ((round = 1; round <= ROUNDS; round++)); do
			for n in ${BENCH_SWEEP:-1 2 3 4 6 8 12 16 24 32}; do
				limit "$n"
				for clients in 32 256; do
					pgbench_point res "$workload" "$clients" "$POINT_SECONDS"
					echo "$n $clients $P_TPS $P_P99" >>"$rows"
				done
				note "${WORKLOAD_TITLE[$workload]}, round $round, limit $n: $(calc "$P_TPS" %.0f) TPS at 256 clients, p99 $P_P99 ms"
			done
		done
		outf '%8s %14s %14s %16s' limit "32 clients" "256 clients" "p99 ms at 256"
		for n in ${BENCH_SWEEP:-1 2 3 4 6 8 12 16 24 32}; do
			outf '%8s %14.0f %14.0f %16.1f' "$n" "$(awk -v n="$n" '$1 == n && $2 == 32 { print $3 }' "$rows" | median)" \
				"$(awk -v n="$n" '$1 == n && $2 == 256 { print $3 }' "$rows" | median)" \
				"$(awk -v n="$n" '$1 == n && $2 == 256 { print $4 }' "$rows" | median)"
		done
		out ""
	done
	limit -1
}

# shellcheck source=test/bench/adaptive.sh
source "$HERE/adaptive.sh"
# shellcheck source=test/bench/features.sh
source "$HERE/features.sh"

section_priority() {
	local select='SELECT abalance FROM pgbench_accounts WHERE aid = $1'
	local slow='SELECT count(*), sum(v) FROM numbers WHERE v <> 5'
	local range='SELECT count(*), sum(v) FROM numbers WHERE id BETWEEN $1::int AND $1::int + 12000'
	local seconds=$((POINT_SECONDS + 2)) scenario system round ms range_ms high low title k p low_limit low_tps
	local -a high_args=() low_args=()
	prepare_servers
	section priority "4 high-priority clients, 400 statements/s, beside a flood of low priority"
	load plain -d "dbname=bench20 user=report" -n 1 -T 2 -q "$slow"
	ms=$(l p50_ms)
	load plain -d "dbname=bench20 user=report" -n 1 -T 2 -q "$range" -x 1180000 -M prepared
	range_ms=$(l p50_ms)
	low_limit=$((RSL_CORES * 4))
	out "The low-priority aggregate takes $ms ms alone, the \"short range\" $range_ms ms.  resilience: max_running $low_limit,"
	out "low_priority_cap: default (a quarter, $((low_limit / 4))) or 1.  Latencies of the high-priority clients, medians of $ROUNDS rounds of $seconds s."
	out ""
	: >"$RSL_TMP/priority.raw"
	for ((round = 1; round <= ROUNDS; round++)); do
		for scenario in alone arrivals closed retrying alone10 ten; do
			for system in plain res res1; do
				# with nothing beside, there is nothing to cap
				[[ $scenario$system == alone*res1 ]] && continue
				local server=${system/res1/res} bulkhead=
				if [[ $server == res ]]; then
					limit $low_limit
					set_config res "resilience.low_priority_cap = $([[ $system == res1 ]] && echo 1 || echo -1)" \
						"resilience.max_wait = '30s'"
				fi
				high_args=(-d "dbname=bench20 user=app_critical" -n 4 -R 400 -T "$seconds" -w 1 -M prepared)
				low_args=(-d "dbname=bench20 user=report" -n 64 -T "$((seconds + 1))" -w 0.5)
				case $scenario in
					alone*) low_args=() ;;
					# 300 arrivals/s of 50 ms are 15 cores' worth of work; who
					# has waited for 2 s is not interested any more
					arrivals) low_args+=(-R 300 -p 2000 -q "$slow") ;;
					closed) low_args+=(-q "$slow") ;;
					# refused at once and back at once: the worst of manners
					retrying)
						low_args+=(-q "$slow")
						if [[ $server == res ]]; then
							bulkhead=1
							sql_in res bench20 "SELECT resilience.create_bulkhead('reports', role_name => 'report',
								max_running => $([[ $system == res1 ]] && echo 1 || echo 2), max_waiting => 0)"
						fi
						;;
					ten) low_args+=(-R 4000 -p 2000 -q "$range" -x 1180000 -M prepared) ;;
				esac
				case $scenario in
					alone10 | ten) high_args+=(-q "$range" -x 1180000) ;;
					*) high_args+=(-q "$select" -x $((SCALE * 100000))) ;;
				esac
				low="-"
				if ((${#low_args[@]} > 0)); then
					background exec_on "$server" timeout --foreground -k 5 60 "$LOAD" "${low_args[@]}" >"$RSL_TMP/low.out" 2>"$RSL_TMP/low.err"
					sleep 0.3
				fi
				load "$server" "${high_args[@]}"
				high=$L_RESULT
				if ((${#low_args[@]} > 0)); then
					wait "$RSL_LAST_PID" || { cat "$RSL_TMP/low.err" >&2; die "the low-priority load failed"; }
					low=$(tail -n 1 "$RSL_TMP/low.out")
				fi
				[[ $bulkhead ]] && sql_in res bench20 "SELECT resilience.drop_bulkhead('reports')"
				low_tps=-
				if [[ $low != - ]]; then
					# who is done late has been served all the same
					low_tps=$(calc "($(field ok <<<"$low") + $(field late <<<"$low")) / $(field seconds <<<"$low")" %.1f)
				fi
				echo "$scenario $system $(field p50_ms <<<"$high") $(field p95_ms <<<"$high") $(field p99_ms <<<"$high")" \
					"$(field tps <<<"$high") $low_tps" \
					"$([[ $low == - ]] && echo - || field failed_per_s <<<"$low") $(field failed <<<"$high")" >>"$RSL_TMP/priority.raw"
				note "round $round, $scenario, $system: $(tail -n 1 "$RSL_TMP/priority.raw" | cut -d' ' -f3-)"
			done
		done
	done
	outf '%-46s %-24s %8s %8s %8s %9s %9s %11s' "beside" "system" "p50 ms" "p95 ms" "p99 ms" "high TPS" "low TPS" "refused/s"
	for scenario in alone arrivals closed retrying alone10 ten; do
		case $scenario in
			alone) title="nothing (select by key)" ;;
			arrivals) title="64 clients, 300 aggregates/s" ;;
			closed) title="64 clients, aggregates in a closed loop" ;;
			retrying) title="64 clients, refused and retrying at once" ;;
			alone10) title="nothing (short range, 400/s)" ;;
			ten) title="ten times as many of the same, 64 clients" ;;
		esac
		for system in plain res res1; do
			[[ $scenario$system == alone*res1 ]] && continue
			local cells=()
			for k in 3 4 5 6 7 8; do
				p=$(awk -v s="$scenario" -v y="$system" -v k="$k" '$1 == s && $2 == y { print $k }' "$RSL_TMP/priority.raw")
				[[ $p == -* ]] && cells+=("-") || cells+=("$(median <<<"$p")")
			done
			local shown=$system
			case $system in
				res) shown="resilience" ;;
				res1) shown="resilience, low cap 1" ;;
			esac
			outf '%-46s %-24s %8s %8s %8s %9s %9s %11s' "$title" "$shown" "${cells[@]}"
		done
	done
	out ""
	# beside / alone; alone, the servers do the same, so all of those rounds count
	for scenario in arrivals closed retrying ten; do
		local base=alone
		[[ $scenario == ten ]] && base=alone10
		for system in plain res res1; do
			p=$(calc "$(awk -v s=$scenario -v y=$system '$1 == s && $2 == y { print $5 }' "$RSL_TMP/priority.raw" | median) / \
				$(awk -v s=$base '$1 == s { print $5 }' "$RSL_TMP/priority.raw" | median)")
			outf 'p99 beside / alone, %-9s %-6s %s' "$scenario" "$system:" "$p"
			figure "priority_${scenario}_$system" "$p"
		done
	done
	set_config res "resilience.low_priority_cap = -1"
	limit -1
}

section_refusal() {
	local logging round rounds=3 what key value
	prepare_servers
	section refusal "What a refusal costs, one client, attempts per second"
	# one more server, small, so that it can be filled
	copy_res_small
	on small psql -X -q -v ON_ERROR_STOP=1 -d bench1 -c "CREATE EXTENSION resilience" \
		-c "CREATE ROLE refused LOGIN" -c "CREATE ROLE limited LOGIN CONNECTION LIMIT 0" -c "CREATE ROLE outside LOGIN" \
		-c "SELECT resilience.create_bulkhead('closed', role_name => 'refused', max_running => 0, max_waiting => 0)" \
		-c "SELECT resilience.create_bulkhead('full', role_name => 'outside', max_connections => 0)" >/dev/null
	for logging in "stderr into a file" "not logged" "logging_collector"; do
		case $logging in
			"not logged") set_config small "log_min_messages = fatal" ;;
			"logging_collector")
				set_config small "log_min_messages = warning" "logging_collector = on"
				restart_cluster small
				;;
		esac
		rm -f "$RSL_TMP"/refusal.*
		for ((round = 1; round <= rounds; round++)); do
			load small -d "dbname=bench1 user=bench" -T 2 -w 0.3 -q "SELECT 1"
			echo "$(l tps) $(l server_us_per_op)" >>"$RSL_TMP/refusal.select"
			load small -d "dbname=bench1 user=bench" -T 2 -w 0.3 -q "SELECT 1/0"
			echo "$(l failed_per_s) $(l server_us_per_op)" >>"$RSL_TMP/refusal.error"
			load small -d "dbname=bench1 user=refused" -T 2 -w 0.3 -q "SELECT 1"
			[[ $L_RESULT == *failed_53R01=* && $(l ok) == 0 ]] || die "expected only refusals with 53R01: $L_RESULT"
			echo "$(l failed_per_s) $(l server_us_per_op)" >>"$RSL_TMP/refusal.refused"
		done
		out "Statements; server log: $logging (log_min_messages $([[ $logging == "not logged" ]] && echo fatal || echo warning, the default))"
		for what in select error refused; do
			case $what in
				select) key="SELECT 1" ;;
				error) key="SELECT 1/0 (what any error costs)" ;;
				refused) key="SELECT 1, refused by a bulkhead" ;;
			esac
			value=$(awk '{ print $2 }' "$RSL_TMP/refusal.$what" | median)
			outf '  %-40s %10.0f /s   server CPU %7.1f us' "$key" "$(awk '{ print $1 }' "$RSL_TMP/refusal.$what" | median)" "$value"
		done
		value=$(calc "$(awk '{ print $2 }' "$RSL_TMP/refusal.refused" | median) / $(awk '{ print $2 }' "$RSL_TMP/refusal.select" | median)")
		out "  refused / SELECT 1: CPU time of the server $value, time of the client $(calc "$(awk '{ print $1 }' "$RSL_TMP/refusal.select" | median) / $(awk '{ print $1 }' "$RSL_TMP/refusal.refused" | median)")"
		case $logging in
			"stderr into a file") figure refusal_statement "$value" ;;
			"not logged") figure refusal_statement_unlogged "$value" ;;
		esac
		out ""
	done
	set_config small "logging_collector = off"
	restart_cluster small

	note "refused connections"
	rm -f "$RSL_TMP"/refusal.*
	for ((round = 1; round <= rounds; round++)); do
		load small -C -d "dbname=bench1 user=bench" -T 2
		l tps >>"$RSL_TMP/refusal.accepted"
		load small -C -d "dbname=bench1 user=outside" -T 2
		[[ $L_RESULT == *failed_53300=* && $(l ok) == 0 ]] || die "expected only refusals with 53300: $L_RESULT"
		l failed_per_s >>"$RSL_TMP/refusal.bulkhead"
		load small -C -d "dbname=bench1 user=limited" -T 2
		l failed_per_s >>"$RSL_TMP/refusal.role"
		# all ordinary slots taken, then all slots taken
		background exec_on small "$LOAD" -H -n 7 -T 60 -d "dbname=bench1 user=bench" >"$RSL_TMP/hold.out"
		for _ in {1..50}; do
			[[ -s $RSL_TMP/hold.out ]] && break
			sleep 0.1
		done
		load small -C -d "dbname=bench1 user=bench" -T 2
		[[ $(l ok) == 0 ]] || die "the server should have been full: $L_RESULT"
		l failed_per_s >>"$RSL_TMP/refusal.reserved"
		local holder=$RSL_LAST_PID
		background exec_on small "$LOAD" -H -n 3 -T 60 -d "dbname=bench1 user=postgres" >"$RSL_TMP/hold2.out"
		for _ in {1..50}; do
			[[ -s $RSL_TMP/hold2.out ]] && break
			sleep 0.1
		done
		load small -C -d "dbname=bench1 user=bench" -T 2
		[[ $(l ok) == 0 ]] || die "the server should have been full: $L_RESULT"
		l failed_per_s >>"$RSL_TMP/refusal.full"
		end_background "$RSL_LAST_PID"
		end_background "$holder"
		sleep 0.3
	done
	out "Connections (each attempt starts a backend process)"
	for what in accepted bulkhead role reserved full; do
		case $what in
			accepted) key="accepted, then closed" ;;
			bulkhead) key="refused: connection bulkhead full" ;;
			role) key="refused: CONNECTION LIMIT of a role" ;;
			reserved) key="refused: only slots for superusers left" ;;
			full) key="refused: sorry, too many clients already" ;;
		esac
		outf '  %-48s %8.0f attempts/s' "$key" "$(median <"$RSL_TMP/refusal.$what")"
	done
	value=$(calc "$(median <"$RSL_TMP/refusal.full") / $(median <"$RSL_TMP/refusal.bulkhead")")
	out "  bulkhead full / too many clients, time per attempt: $value"
	out "  bulkhead full / only slots for superusers left:     $(calc "$(median <"$RSL_TMP/refusal.reserved") / $(median <"$RSL_TMP/refusal.bulkhead")")"
	out "  bulkhead full / role's CONNECTION LIMIT:            $(calc "$(median <"$RSL_TMP/refusal.role") / $(median <"$RSL_TMP/refusal.bulkhead")")"
	out "  (\"too many clients\" is said before authentication, when no slot of a process is free; the others"
	out "  come after it, because only then the role is known for sure)"
	figure refusal_connection "$value"
	figure refusal_connection_reserved "$(calc "$(median <"$RSL_TMP/refusal.reserved") / $(median <"$RSL_TMP/refusal.bulkhead")")"
	stop_cluster small
}

copy_res_small() {
	start_cluster small "${CONF[@]}" "max_connections = 10" "superuser_reserved_connections = 3" "max_wal_senders = 0" \
		"shared_preload_libraries = 'resilience'"
	sql small "CREATE ROLE bench LOGIN"
	sql small "CREATE DATABASE bench1 OWNER bench"
}

section_recovery() {
	local range='SELECT count(*), sum(v) FROM numbers WHERE id BETWEEN $1::int AND $1::int + 16000'
	local system capacity rate base=3 over=10 after=5 value round i columns
	prepare_servers
	section recovery "Goodput after $over s of five times the load, with clients that retry"
	load plain -d "dbname=bench20 user=bench" -n $((2 * RSL_CORES)) -T 2 -w 0.5 -q "$range" -x 1180000 -M prepared
	capacity=$(l tps)
	rate=$(calc "$capacity / 2" %.0f)
	limit $((2 * RSL_CORES))
	set_config res "resilience.max_wait = '100ms'" "resilience.max_waiting = 100"
	out "256 connections; the server can do $(calc "$capacity" %.0f) such statements/s; arrivals: $rate/s, then 5 x $rate/s, then $rate/s."
	out "A client waits for 1 s (statement_timeout too), retries after 50, 100, 200 ... ms (jittered), and gives up when its second is over."
	out "resilience: max_running $((2 * RSL_CORES)), max_wait 100 ms, max_waiting 100."
	out ""
	outf '%-12s %16s %22s %22s %14s' "" "before, per s" "overload: in time/s" "first second after/s" "back at 95 %"
	for system in plain res; do
		rm -f "$RSL_TMP/recovery.times"
		for ((round = 1; round <= ROUNDS; round++)); do
			note "recovery: $system, round $round"
			PGOPTIONS="-c statement_timeout=1s" on "$system" timeout --foreground -k 5 60 "$LOAD" -d "dbname=bench20 user=bench" -n 256 \
				-q "$range" -x 1180000 -M prepared -R "$rate:$base,$((5 * rate)):$over,$rate:$after" -p 1000 -r 50 -b -s "$round" \
				-T $((base + over + after)) -i 100 >"$RSL_TMP/recovery.$system" 2>"$RSL_TMP/recovery.err" ||
				die "the load failed: $(cat "$RSL_TMP/recovery.err")"
			# windows of 500 ms: the first one after the overload with as many answers
			# in time as 95 % of those before it
			awk -v base=$base -v over=$over '
				function value(key,   i) { for (i = 1; i <= NF; i++) if (index($i, key "=") == 1) return substr($i, length(key) + 2) + 0; return 0 }
				/^t=/ { t = value("t"); i = int(t * 10 + 0.5); ok[i] = value("ok"); n = i }
				END {
					for (i = 10; i < base * 10; i++) { before += ok[i] }
					before /= (base - 1)
					for (i = base * 10 + 10; i < (base + over) * 10; i++) during += ok[i]
					during /= (over - 1)
					for (i = (base + over) * 10; i < (base + over) * 10 + 10; i++) first += ok[i]
					back = "never"
					for (i = (base + over) * 10; i + 4 <= n; i++) {
						o = 0
						for (k = i; k < i + 5; k++) o += ok[k]
						if (o >= 0.95 * before / 2) { back = (i - (base + over) * 10) / 10; break }
					}
					print before, during, first, back
				}' "$RSL_TMP/recovery.$system" >>"$RSL_TMP/recovery.times"
		done
		local columns=()
		for i in 1 2 3 4; do
			columns+=("$(awk -v i=$i '{ print ($i == "never") ? 999 : $i }' "$RSL_TMP/recovery.times" | median)")
		done
		value=${columns[3]}
		figure "recovery_$system" "$value"
		awk -v v="$value" 'BEGIN { exit !(v > 900) }' && value=never || value="$value s"
		outf '%-12s %16.0f %22.0f %22.0f %14s' "${system/res/resilience}" "${columns[0]}" "${columns[1]}" "${columns[2]}" "$value"
	done
	limit -1
}

# The queue is deeper than the clients' patience, so whoever is served in order
# of arrival is served too late, and whoever is refused or times out is back at
# once: without a remedy the overload feeds itself.
section_storm() {
	local range='SELECT count(*), sum(v) FROM numbers WHERE id BETWEEN $1::int AND $1::int + 16000'
	local system server capacity rate before=3 over=8 after=4 round i columns
	prepare_servers
	section storm "Goodput with clients that retry at once and are patient for 200 ms"
	load plain -d "dbname=bench20 user=bench" -n $((2 * RSL_CORES)) -T 2 -w 0.5 -q "$range" -x 1180000 -M prepared
	capacity=$(l tps)
	rate=$(calc "$capacity / 2" %.0f)
	limit $((2 * RSL_CORES))
	set_config res "resilience.max_wait = '200ms'" "resilience.max_waiting = 1000"
	out "200 connections; the server can do $(calc "$capacity" %.0f) such statements/s; arrivals: $rate/s, then 5 x $rate/s for $over s, then $rate/s."
	out "A client retries 5 ms after a refusal or time-out, until its 200 ms are over. Answers in time, per second."
	out "resilience: max_running $((2 * RSL_CORES)), max_wait 200 ms, max_waiting 1000; without queue_target: set to 0."
	out ""
	outf '%-34s %14s %14s %22s' "" "before" "overload" "first second after"
	for system in plain res0 res; do
		rm -f "$RSL_TMP/storm.times"
		server=${system%0}
		[[ $system != res0 ]] || set_config res "resilience.queue_target = 0"
		[[ $system != res ]] || set_config res "resilience.queue_target = -1"
		for ((round = 1; round <= ROUNDS; round++)); do
			note "storm: $system, round $round"
			PGOPTIONS="-c statement_timeout=200ms" on "$server" timeout --foreground -k 5 60 "$LOAD" -d "dbname=bench20 user=bench" -n 200 \
				-q "$range" -x 1180000 -M prepared -R "$rate:$before,$((5 * rate)):$over,$rate:$after" -p 200 -r 5 -s "$round" \
				-T $((before + over + after)) -i 100 >"$RSL_TMP/storm.$system" 2>"$RSL_TMP/storm.err" ||
				die "the load failed: $(cat "$RSL_TMP/storm.err")"
			awk -v before=$before -v over=$over '
				function value(key,   i) { for (i = 1; i <= NF; i++) if (index($i, key "=") == 1) return substr($i, length(key) + 2) + 0; return 0 }
				/^t=/ { ok[int(value("t") * 10 + 0.5)] = value("ok") }
				function mean(from, till,   i, sum) { for (i = from * 10; i < till * 10; i++) sum += ok[i]; return sum / (till - from) }
				END { print mean(1, before), mean(before + 1, before + over), mean(before + over, before + over + 1) }
			' "$RSL_TMP/storm.$system" >>"$RSL_TMP/storm.times"
		done
		columns=()
		for i in 1 2 3; do columns+=("$(awk -v i=$i '{ print $i }' "$RSL_TMP/storm.times" | median)"); done
		figure "storm_$system" "$(calc "${columns[1]} / $capacity" %.2f)"
		case $system in
			plain) system=plain ;;
			res0) system="resilience without queue_target" ;;
			res) system=resilience ;;
		esac
		outf '%-34s %14.0f %14.0f %22.0f' "$system" "${columns[@]}"
	done
	limit -1
}

# In BREAKERS_ONE and BREAKERS_MANY: a foreign table of file_fdw, whose server
# is one of 1, then of 128 that have a breaker.
scaling_breakers() {
	note "callgrind: 1 breaker, then 128"
	on cg psql -X -q -v ON_ERROR_STOP=1 -d bench -o /dev/null <<-'SQL'
		CREATE EXTENSION file_fdw;
		SELECT format('CREATE SERVER server%s FOREIGN DATA WRAPPER file_fdw', i) FROM generate_series(1, 128) i \gexec
		CREATE FOREIGN TABLE far (a int) SERVER server1 OPTIONS (filename '/dev/null');
		GRANT SELECT ON far TO bench;
		SELECT resilience.create_breaker('breaker1', server => 'server1', probe => false);
	SQL
	echo "SELECT a FROM far;" >"$RSL_TMP/far.sql"
	CG_SCRIPT=(-f "$RSL_TMP/far.sql")
	callgrind_per_transaction prepared
	BREAKERS_ONE=$CG_PER
	on cg psql -X -q -v ON_ERROR_STOP=1 -d bench -o /dev/null \
		-c "SELECT resilience.create_breaker('breaker' || i, server => ('server' || i)::name, probe => false) FROM generate_series(2, 128) i"
	callgrind_per_transaction prepared
	BREAKERS_MANY=$CG_PER
	on cg psql -X -q -v ON_ERROR_STOP=1 -d bench -o /dev/null \
		-c "SELECT resilience.drop_breaker('breaker' || i) FROM generate_series(1, 128) i"
	CG_SCRIPT=(-S)
}

# In TAGS_ONE and TAGS_MANY: the same statement with a tag of one value, and of
# 10 000 at random.  Simple protocol: only there pgbench puts values into comments.
scaling_tags() {
	local values
	note "callgrind: 1 value of a tag, then 10 000"
	on cg psql -X -q -v ON_ERROR_STOP=1 -d bench -o /dev/null \
		-c "SELECT resilience.create_bulkhead('by route', tag => 'route', max_running => 5)"
	for values in 1 10000; do
		cat >"$RSL_TMP/route.sql" <<-SQL
			\\set aid random(1, 100000)
			\\set route random(100001, 100000 + $values)
			SELECT abalance FROM pgbench_accounts WHERE aid = :aid /*route=':route'*/;
		SQL
		CG_SCRIPT=(-f "$RSL_TMP/route.sql")
		callgrind_per_transaction simple
		if ((values == 1)); then TAGS_ONE=$CG_PER; else TAGS_MANY=$CG_PER; fi
	done
	on cg psql -X -q -v ON_ERROR_STOP=1 -d bench -o /dev/null -c "SELECT resilience.drop_bulkhead('by route')"
	CG_SCRIPT=(-S)
}

section_scaling() {
	local one many i round pairs=6 system ratio without with
	prepare_callgrind
	build_load
	section scaling "Cost with many bulkheads, and with many idle sessions"
	note "callgrind: 1 bulkhead, then 128"
	callgrind_start shared_preload_libraries=resilience resilience.max_running=100
	bulkhead_in_force cg bench
	callgrind_per_transaction prepared
	one=$CG_PER
	{
		echo "SELECT resilience.create_bulkhead('other' || i, role_name => 'other', max_running => 5) FROM generate_series(1, 127) i;"
	} >"$RSL_TMP/many.sql"
	sql cg "CREATE ROLE other"
	on cg psql -X -q -v ON_ERROR_STOP=1 -d bench -f "$RSL_TMP/many.sql" >/dev/null
	callgrind_per_transaction prepared
	many=$CG_PER
	on cg psql -X -q -v ON_ERROR_STOP=1 -d bench -c "SELECT resilience.drop_bulkhead('other' || i) FROM generate_series(1, 127) i" \
		-c "SELECT resilience.drop_bulkhead('everybody')" >/dev/null
	scaling_breakers
	scaling_tags
	callgrind_stop
	ratio=$(calc "$many / $one" %.3f)
	out "Instructions per transaction (pgbench -S -M prepared), a limit and 1 bulkhead that matches: $one"
	out "the same with 127 more that do not match: $many, ratio $ratio   (goal: at most 1.05)"
	figure scaling_bulkheads "$ratio"
	ratio=$(calc "$BREAKERS_MANY / $BREAKERS_ONE" %.3f)
	out "A select from a foreign table behind a breaker, 1 breaker: $BREAKERS_ONE, 128: $BREAKERS_MANY, ratio $ratio   (goal: at most 1.05)"
	figure scaling_breakers "$ratio"
	ratio=$(calc "$TAGS_MANY / $TAGS_ONE" %.3f)
	out "A tag with a compartment for each value, 1 value: $TAGS_ONE, 10 000 at random: $TAGS_MANY, ratio $ratio   (goal: at most 1.05)"
	figure scaling_tags "$ratio"
	out ""

	note "1 000 idle sessions"
	start_cluster many "${CONF[@]}" "max_connections = 1100" "shared_preload_libraries = 'resilience'" "resilience.max_running = 8"
	start_cluster bare "${CONF[@]}" "max_connections = 1100"
	for system in many bare; do
		sql $system "CREATE ROLE bench LOGIN"
		sql $system "CREATE DATABASE bench OWNER bench"
		on $system pgbench -U bench -i -q -s 1 bench >/dev/null 2>&1
	done
	on many psql -X -q -d bench -c "CREATE EXTENSION resilience"
	bulkhead_in_force many bench
	rm -f "$RSL_TMP"/idle.*
	for ((round = 1; round <= pairs; round++)); do
		for system in many bare; do
			if ((round % 2 == 1)); then without=$(idle_point $system); fi
			background exec_on $system "$LOAD" -H -n 1000 -T 100 -d "dbname=bench user=bench" >"$RSL_TMP/hold.out"
			for _ in {1..300}; do
				[[ -s $RSL_TMP/hold.out ]] && break
				sleep 0.1
			done
			[[ -s $RSL_TMP/hold.out ]] || die "1 000 sessions did not come up"
			with=$(idle_point $system)
			end_background "$RSL_LAST_PID"
			for _ in {1..100}; do
				(($(sql $system "SELECT count(*) FROM pg_stat_activity WHERE usename = 'bench'") == 0)) && break
				sleep 0.2
			done
			if ((round % 2 == 0)); then without=$(idle_point $system); fi
			echo "$without $with" >>"$RSL_TMP/idle.$system"
			note "round $round, $system: $without us without, $with us with"
		done
	done
	out "CPU time of the server per select (us), 4 clients, medians of $pairs interleaved rounds"
	for system in many bare; do
		ratio=$(awk '{ print $2 / $1 }' "$RSL_TMP/idle.$system" | median)
		outf '  %-12s none idle %7.2f   1 000 idle %7.2f   ratio %.3f' "$([[ $system == many ]] && echo resilience || echo plain)" \
			"$(awk '{ print $1 }' "$RSL_TMP/idle.$system" | median)" "$(awk '{ print $2 }' "$RSL_TMP/idle.$system" | median)" "$ratio"
		figure "scaling_idle_$system" "$(calc "$ratio" %.3f)"
	done
	stop_cluster many immediate
	stop_cluster bare immediate
}

idle_point() {
	on "$1" timeout --foreground -k 5 60 "$LOAD" -d "dbname=bench user=bench" -n 4 -T 2 -w 0.5 -M prepared \
		-q 'SELECT abalance FROM pgbench_accounts WHERE aid = $1' -x 100000 | tail -n 1 | field server_us_per_op
}

section_memory() {
	local bytes line
	section memory "Shared memory, max_connections = 1000, default object counts"
	start_cluster memory "${CONF[@]}" "max_connections = 1000" "shared_preload_libraries = 'resilience'"
	while IFS='|' read -r line bytes; do
		outf '  %-44s %12s bytes' "$line" "$bytes"
	done < <(sql memory "SELECT name, allocated_size FROM pg_shmem_allocations WHERE name ILIKE 'resilience%' ORDER BY 2 DESC")
	bytes=$(sql memory "SELECT coalesce(sum(allocated_size), 0) FROM pg_shmem_allocations WHERE name ILIKE 'resilience%'")
	((bytes > 0)) || die "no shared memory named resilience"
	out "  together $bytes bytes = $(calc "$bytes / 1048576" %.3f) MB   (goal: at most 1 MB)"
	figure memory_mb "$(calc "$bytes / 1048576" %.3f)"
	stop_cluster memory immediate
}

# --- the table -------------------------------------------------------------

f() { awk -F'\t' -v key="$1" '$1 == key { print $2 }' "$RESULTS/figures.tsv" 2>/dev/null; }

# ratio_of KEY KEY: one figure / another one; nothing if one was not measured
ratio_of() {
	local one other
	one=$(f "$1") other=$(f "$2")
	if [[ $one && $other ]]; then calc "$one / ($other + 0.0001)" %.2f; fi
}

# row WHAT GOAL VALUE CONDITION: CONDITION is an awk expression of v
row() {
	local verdict
	if [[ -z $3 ]]; then
		outf '%-88s %-26s %10s  %s' "$1" "$2" "-" "not measured"
		return
	fi
	if awk -v v="$3" "BEGIN { exit !($4) }"; then verdict="met"; else verdict="MISSED"; fi
	outf '%-88s %-26s %10s  %s' "$1" "$2" "$3" "$verdict"
}

# --- breaker ---------------------------------------------------------------

# Files stand in for foreign servers where only our own cost matters: there is
# no network in the figures, and a row takes so little time that ours shows.
prepare_breaker() {
	start_cluster far "listen_addresses = '127.0.0.1'" "log_connections = on" "log_min_messages = warning"
	on far psql -X -q -v ON_ERROR_STOP=1 -c "CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i" -c "CREATE UNIQUE INDEX ON t (i)"
	start_cluster near "shared_preload_libraries = 'resilience'" "max_parallel_workers_per_gather = 0"
	seq 1 500000 >"$RSL_TMP/rows.csv"
	echo 1 >"$RSL_TMP/row.csv"
	chmod 644 "$RSL_TMP"/row*.csv
	on near psql -X -q -v ON_ERROR_STOP=1 >/dev/null <<-SQL
		CREATE ROLE bench LOGIN;
		CREATE EXTENSION resilience; CREATE EXTENSION file_fdw; CREATE EXTENSION postgres_fdw;
		CREATE SERVER bare FOREIGN DATA WRAPPER file_fdw;
		CREATE SERVER guarded FOREIGN DATA WRAPPER file_fdw;
		CREATE SERVER far_bare FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '${RSL_PORT[far]}', dbname 'postgres');
		CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '${RSL_PORT[far]}', dbname 'postgres');
		CREATE USER MAPPING FOR PUBLIC SERVER far_bare OPTIONS (user 'postgres', password_required 'false');
		CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'postgres', password_required 'false');
		CREATE FOREIGN TABLE rows_bare (i int) SERVER bare OPTIONS (filename '$RSL_TMP/rows.csv');
		CREATE FOREIGN TABLE rows_guarded (i int) SERVER guarded OPTIONS (filename '$RSL_TMP/rows.csv');
		CREATE FOREIGN TABLE row_bare (i int) SERVER bare OPTIONS (filename '$RSL_TMP/row.csv');
		CREATE FOREIGN TABLE row_guarded (i int) SERVER guarded OPTIONS (filename '$RSL_TMP/row.csv');
		CREATE FOREIGN TABLE far_bare (i int) SERVER far_bare OPTIONS (table_name 't');
		CREATE FOREIGN TABLE far (i int) SERVER far OPTIONS (table_name 't');
		GRANT SELECT ON ALL TABLES IN SCHEMA public TO bench;
		SELECT resilience.create_breaker('files', 'guarded');
		SELECT resilience.create_breaker('far', 'far', reset_timeout => '1 s', jitter => 0);
		CREATE FUNCTION repeat_statement(statement text, n int) RETURNS float8 LANGUAGE plpgsql AS \$\$
		DECLARE t0 timestamptz;
		BEGIN
		  EXECUTE format('CREATE OR REPLACE FUNCTION pg_temp.f(n int) RETURNS void LANGUAGE plpgsql AS %L',
		    format('BEGIN FOR k IN 1..n LOOP PERFORM * FROM %s; END LOOP; END', statement));
		  PERFORM pg_temp.f(10);
		  t0 := clock_timestamp();
		  PERFORM pg_temp.f(n);
		  RETURN extract(epoch FROM clock_timestamp() - t0) * 1e6 / n;
		END \$\$;
		CREATE FUNCTION time_of(statement text) RETURNS float8 LANGUAGE plpgsql AS \$\$
		DECLARE t0 timestamptz := clock_timestamp();
		BEGIN
		  EXECUTE statement;
		  RETURN extract(epoch FROM clock_timestamp() - t0) * 1e6;
		END \$\$;
	SQL
}

# compare_pairs SQL_A SQL_B ROUNDS: medians of both and of their differences,
# in one session, by turns, in A, B and DIFFERENCE
compare_pairs() {
	local round
	for ((round = 1; round <= $3; round++)); do
		echo "SELECT ($1), ($2);"
		echo "SELECT b, a FROM (SELECT ($2) AS a, ($1) AS b OFFSET 0) x;"
	done | on near psql -X -q -At -F ' ' -v ON_ERROR_STOP=1 >"$RSL_TMP/pairs"
	A=$(awk '{ print $1 }' "$RSL_TMP/pairs" | median)
	B=$(awk '{ print $2 }' "$RSL_TMP/pairs" | median)
	DIFFERENCE=$(awk '{ print $2 - $1 }' "$RSL_TMP/pairs" | median)
}

breaker_is() {
	local i begun=$2
	for ((i = 0; i < 3000; i++)); do
		[[ $(sql near "SELECT state FROM resilience.breakers WHERE name = 'far'") == "$1" ]] && break
	done
	echo $((($(date +%s%N) - begun) / 1000000))
}

section_breaker() {
	local round begun log before after
	build_load
	section breaker "Circuit breakers on foreign servers"
	prepare_breaker

	compare_pairs "repeat_statement('row_bare', 2000)" "repeat_statement('row_guarded', 2000)" 15
	outf 'One row of a file, a statement:       %8.2f us, guarded %8.2f us: + %.2f us' "$A" "$B" "$DIFFERENCE"
	figure breaker_statement_us "$(printf %.2f "$DIFFERENCE")"
	compare_pairs "repeat_statement('far_bare WHERE i = 5', 500)" "repeat_statement('far WHERE i = 5', 500)" 15
	outf 'One row by postgres_fdw, a statement: %8.2f us, guarded %8.2f us: + %.2f us' "$A" "$B" "$DIFFERENCE"
	compare_pairs "time_of('SELECT count(*) FROM rows_bare')" "time_of('SELECT count(*) FROM rows_guarded')" 15
	outf 'A file, a row:                        %8.1f ns, guarded %8.1f ns: + %.1f ns' "$(calc "$A / 500" %.3f)" "$(calc "$B / 500" %.3f)" \
		"$(calc "$DIFFERENCE / 500" %.3f)"
	figure breaker_row_ns "$(calc "$DIFFERENCE / 500" %.1f)"

	out ""
	rm -f "$RSL_TMP"/breaker.*
	sql near "SELECT resilience.force_breaker('far', 'open')" >/dev/null
	before=$(grep -c "connection received" "$RSL_TMP/far.log" || true)
	for round in 1 2 3; do
		load near -d "dbname=postgres user=bench" -T 2 -w 0.3 -q "SELECT 1"
		echo "$(l tps) $(l server_us_per_op)" >>"$RSL_TMP/breaker.select"
		load near -d "dbname=postgres user=bench" -T 2 -w 0.3 -q "SELECT i FROM far"
		[[ $L_RESULT == *failed_08R01=* && $(l ok) == 0 ]] || die "expected only rejections with 08R01: $L_RESULT"
		echo "$(l failed_per_s) $(l server_us_per_op)" >>"$RSL_TMP/breaker.open"
		load near -d "dbname=postgres user=bench" -T 2 -w 0.3 -q "SELECT 1/0"
		echo "$(l failed_per_s) $(l server_us_per_op)" >>"$RSL_TMP/breaker.error"
	done
	after=$(grep -c "connection received" "$RSL_TMP/far.log" || true)
	sql near "SELECT resilience.force_breaker('far', 'auto')" >/dev/null
	for round in select error open; do
		outf '%-38s %8.0f /s, server CPU %6.1f us' "$(case $round in select) echo "SELECT 1" ;; error) echo "SELECT 1/0" ;; *) echo "a foreign table, breaker open" ;; esac)" \
			"$(awk '{ print $1 }' "$RSL_TMP/breaker.$round" | median)" "$(awk '{ print $2 }' "$RSL_TMP/breaker.$round" | median)"
	done
	figure breaker_open "$(calc "$(awk '{ print $2 }' "$RSL_TMP/breaker.open" | median) / $(awk '{ print $2 }' "$RSL_TMP/breaker.select" | median)")"
	out "  connection attempts at the foreign server meanwhile: $((after - before))"
	figure breaker_attempts "$((after - before))"

	out ""
	for round in 1 2 3; do
		sql near "SELECT resilience.reset_breaker('far')" >/dev/null
		background exec_on near "$LOAD" -n 16 -T 20 -d "dbname=postgres user=bench" -q "SELECT i FROM far WHERE i = 5" >"$RSL_TMP/breaker.load" 2>&1
		sleep 1
		begun=$(date +%s%N)
		stop_cluster far immediate
		breaker_is open "$begun" >>"$RSL_TMP/breaker.trip"
		sleep 1.5
		before=$(grep -c "connection received" "$RSL_TMP/far.log" || true)
		launch_cluster far
		begun=$(date +%s%N)
		breaker_is closed "$begun" >>"$RSL_TMP/breaker.recovery"
		end_background "$RSL_LAST_PID"
	done
	out "16 sessions, the foreign server is stopped (-m immediate): $(median <"$RSL_TMP/breaker.trip") ms from the order to stop until all fail fast"
	figure breaker_trip_ms "$(median <"$RSL_TMP/breaker.trip")"
	out "it is started again (reset_timeout 1 s): $(sort -g "$RSL_TMP/breaker.recovery" | tr '\n' ' ')ms from ready to closed"
	figure breaker_recovery_ms "$(sort -g "$RSL_TMP/breaker.recovery" | tail -n 1)"
	stop_cluster near
	stop_cluster far
}

# --- health ----------------------------------------------------------------

# bytes_with SETTING VALUE: shared memory of a server with that, in BYTES
bytes_with() {
	[[ ${RSL_PORT[sized]:-} ]] || init_cluster sized "${CONF[@]}" "shared_preload_libraries = 'resilience'"
	echo "$1 = $2" >>"$RSL_TMP/sized/postgresql.conf"
	launch_cluster sized
	BYTES=$(sql sized "SELECT sum(allocated_size) FROM pg_shmem_allocations WHERE name ILIKE 'resilience%'")
	stop_cluster sized immediate
}

# look_time: how long the launcher's look at everything takes, us: the median of
# 20 of its own averages over a second or so
look_time() {
	local i
	for ((i = 0; i < 20; i++)); do
		sleep 1
		sql health "SELECT substring(message FROM '[0-9.]+ ms')::interval FROM resilience.health WHERE component = 'launcher'"
	done | awk -F: '{ print $3 * 1e6 }' | median
}

# latency_of SERVER SQL: microseconds of a statement, one client, for a second
latency_of() {
	echo "$2" >"$RSL_TMP/latency.sql"
	on "$1" pgbench -n -f "$RSL_TMP/latency.sql" -T 1 -M prepared postgres 2>/dev/null | awk '/latency average/ { print $4 * 1000 }'
}

section_health() {
	local base name none many round
	section health "Health: 128 objects of each kind"
	start_cluster health "${CONF[@]}" "shared_preload_libraries = 'resilience'" "resilience.max_degradations = 32" "max_worker_processes = 16"
	sql health "CREATE EXTENSION resilience" >/dev/null
	sleep 3
	none=$(look_time)
	sql health "SELECT count(resilience.create_bulkhead('b' || i, role_name => 'postgres', application_name => 'nobody', max_running => 5)) FROM generate_series(1, 128) i" >/dev/null
	sql health "SELECT count(resilience.create_breaker('b' || i)) FROM generate_series(1, 128) i" >/dev/null
	sql health "SELECT count(resilience.create_health_check('c' || i, query => 'SELECT true', check_interval => '1 min')) FROM generate_series(1, 128) i" >/dev/null
	sql health "SELECT count(resilience.create_feature('f' || i, health_check => 'c' || i)) FROM generate_series(1, 128) i" >/dev/null
	sql health "SELECT count(resilience.create_degradation('d' || i, 'shedding', 'low', '{\"work_mem\": \"1MB\"}')) FROM generate_series(1, 32) i" >/dev/null
	wait_checks
	many=$(look_time)
	outf "The launcher's look at everything, ten times a second: no objects %6.1f us, 128 of each kind %6.1f us   (goal: at most 100 us)" "$none" "$many"
	figure health_look_us "$(printf %.1f "$many")"
	for round in 1 2 3 4 5; do
		latency_of health "SELECT * FROM resilience.health" >>"$RSL_TMP/health.view"
		latency_of health "SELECT resilience.health_status()" >>"$RSL_TMP/health.status"
		latency_of health "SELECT 1" >>"$RSL_TMP/health.one"
	done
	outf 'SELECT * FROM resilience.health, %d rows: %.0f us; health_status(): %.0f us; SELECT 1: %.0f us (medians of 5 interleaved rounds)' \
		"$(sql health "SELECT count(*) FROM resilience.health")" "$(median <"$RSL_TMP/health.view")" \
		"$(median <"$RSL_TMP/health.status")" "$(median <"$RSL_TMP/health.one")"
	figure health_view_us "$(printf %.0f "$(median <"$RSL_TMP/health.view")")"
	stop_cluster health immediate

	out ""
	out "Shared memory, what the component's place on the board of health takes included (16 bytes)"
	for name in health_checks features degradations breakers bulkheads; do
		bytes_with "resilience.max_$name" 16
		base=$BYTES
		bytes_with "resilience.max_$name" 32
		outf '  %-14s %5.0f bytes each' "$name" "$(calc "($BYTES - $base) / 16" %.0f)"
	done
}

# every health check has run
wait_checks() {
	for _ in {1..300}; do
		[[ $(sql health "SELECT count(*) FROM resilience.health_checks WHERE last_run IS NULL") == 0 ]] && return
		sleep 0.2
	done
	die "the health checks are not run"
}

# --- metrics ---------------------------------------------------------------

section_metrics() {
	local series families round
	section metrics "Metrics: 128 objects of each kind"
	start_cluster metrics "${CONF[@]}" "shared_preload_libraries = 'resilience'" "resilience.max_degradations = 32" "max_worker_processes = 16"
	sql metrics "CREATE EXTENSION resilience" >/dev/null
	for round in 1 2 3; do
		latency_of metrics "SELECT octet_length(resilience.prometheus_metrics())" >>"$RSL_TMP/metrics.none"
	done
	sql metrics "SELECT count(resilience.create_bulkhead('bulkhead_' || i, role_name => 'postgres', application_name => 'nobody', max_running => 5)) FROM generate_series(1, 128) i" >/dev/null
	sql metrics "SELECT count(resilience.create_breaker('breaker_' || i)) FROM generate_series(1, 128) i" >/dev/null
	sql metrics "SELECT count(resilience.create_health_check('check_' || i, query => 'SELECT 1', critical_threshold => 5, check_interval => '1 h')) FROM generate_series(1, 128) i" >/dev/null
	sql metrics "SELECT count(resilience.create_feature('feature_' || i)) FROM generate_series(1, 128) i" >/dev/null
	sql metrics "SELECT count(resilience.create_experiment('experiment_' || i, 'error')) FROM generate_series(1, 128) i" >/dev/null
	sql metrics "SELECT count(resilience.create_degradation('degradation_' || i, 'shedding', 'low', '{\"work_mem\": \"1MB\"}')) FROM generate_series(1, 32) i" >/dev/null
	for _ in {1..300}; do
		[[ $(sql metrics "SELECT count(*) FROM resilience.health_checks WHERE last_run IS NULL") == 0 ]] && break
		sleep 0.2
	done
	for round in 1 2 3 4 5; do
		latency_of metrics "SELECT octet_length(resilience.prometheus_metrics())" >>"$RSL_TMP/metrics.text"
		latency_of metrics "SELECT count(*) FROM resilience.metrics" >>"$RSL_TMP/metrics.view"
		latency_of metrics "SELECT 1" >>"$RSL_TMP/metrics.one"
	done
	series=$(sql metrics "SELECT count(*) FROM resilience.metrics")
	families=$(sql metrics "SELECT count(DISTINCT help) FROM resilience.metrics")
	outf 'prometheus_metrics(), %d series in %d families, %d bytes: %.0f us (goal: at most 5000 us); without objects %.0f us; SELECT 1: %.0f us' \
		"$series" "$families" "$(sql metrics "SELECT octet_length(resilience.prometheus_metrics())")" \
		"$(median <"$RSL_TMP/metrics.text")" "$(median <"$RSL_TMP/metrics.none")" "$(median <"$RSL_TMP/metrics.one")"
	outf 'SELECT count(*) FROM resilience.metrics: %.0f us (medians of 5 interleaved rounds)' "$(median <"$RSL_TMP/metrics.view")"
	figure metrics_text_us "$(printf %.0f "$(median <"$RSL_TMP/metrics.text")")"
	figure metrics_view_us "$(printf %.0f "$(median <"$RSL_TMP/metrics.view")")"
	stop_cluster metrics immediate
}

summary() {
	local n
	section summary "The numbers to reach (DESIGN.md), as measured last"
	outf '%-88s %-26s %10s  %s' "what" "goal" "measured" "met?"
	row "instructions added / added by pg_stat_statements, -M prepared" "<= 0.5" "$(f instructions_prepared)" "v <= 0.5"
	row "instructions added / added by pg_stat_statements, -M simple" "<= 0.5" "$(f instructions_simple)" "v <= 0.5"
	for n in 2 32; do
		row "select-only TPS / plain, $n clients" ">= pg_stat_statements $(f overhead_pgss_$n)" "$(f overhead_res_$n)" "v >= $(f overhead_pgss_$n | grep . || echo 0)"
		row "server CPU per select / plain, $n clients" "<= pg_stat_statements $(f overhead_cpu_pgss_$n)" "$(f overhead_cpu_res_$n)" "v <= $(f overhead_cpu_pgss_$n | grep . || echo 0)"
	done
	for n in select tpcb20 tpcb1; do
		row "TPS at 256 clients / best at any count, ${WORKLOAD_TITLE[$n]} (plain: $(f "curve_${n}_plain"), PgBouncer: $(f "curve_${n}_pgbouncer"))" \
			">= 0.95" "$(f "curve_${n}_res")" "v >= 0.95"
		row "   the same, adaptive limit" ">= 0.95" "$(f "curve_${n}_adaptive")" "v >= 0.95"
		row "   the same / pgbench with 256 connections of which only ${LIMIT[$n]} work" "" "$(f "peak_${n}_pgbench_ratio")" "v >= 0.95"
		row "   a client with epoll: TPS / its own turns, ${LIMIT[$n]} of 256 sessions at a time" ">= 0.95" "$(f "peak_${n}_epoll_ratio")" "v >= 0.95"
		row "   p99 at 256 clients / plain's (pgbench)" "< 1" "$(ratio_of "peak_${n}_pgbench_res_p99" "peak_${n}_pgbench_plain_p99")" "v < 1"
	done
	row "high-priority p99 beside ten times as many in low / alone (plain: $(f priority_ten_plain))" "<= 1.5" "$(f priority_ten_res)" "v <= 1.5"
	row "the same, 64 clients with 300 aggregates/s (plain: $(f priority_arrivals_plain))" "<= 1.5" "$(f priority_arrivals_res)" "v <= 1.5"
	row "the same, low_priority_cap = 1" "<= 1.5" "$(f priority_arrivals_res1)" "v <= 1.5"
	row "a refused statement / SELECT 1, CPU of the server" "<= 1" "$(f refusal_statement)" "v <= 1"
	row "the same, with the refusal not written to the log" "<= 1" "$(f refusal_statement_unlogged)" "v <= 1"
	row "a refused connection / too many clients" "<= 1" "$(f refusal_connection)" "v <= 1"
	row "a refused connection / only slots for superusers left" "<= 1" "$(f refusal_connection_reserved)" "v <= 1"
	row "goodput back at 95 % after 10 s of five times the load, s (plain: $(f recovery_plain | sed 's/^999$/never/'))" "<= 1" "$(f recovery_res)" "v <= 1"
	row "goodput / capacity while 2.5 times as much comes, clients that retry at once (plain: $(f storm_plain), without queue_target: $(f storm_res0))" "" "$(f storm_res)" "v >= 0"
	row "cost per statement, 128 bulkheads / 1 (instructions)" "<= 1.05" "$(f scaling_bulkheads)" "v <= 1.05"
	row "   the same, 128 breakers / 1, a foreign table" "<= 1.05" "$(f scaling_breakers)" "v <= 1.05"
	row "   the same, 10 000 values of a tag / 1" "<= 1.05" "$(f scaling_tags)" "v <= 1.05"
	row "cost per statement, 1 000 idle sessions / none (CPU; plain: $(f scaling_idle_bare))" "<= 1.05" "$(f scaling_idle_many)" "v <= 1.05"
	for n in reads tpcb20 tpcb1 sleep; do
		row "adaptive limit / best fixed limit, ${ADAPTIVE_TITLE[$n]}, from 1" ">= 0.95" "$(f "adaptive_${n}_low")" "v >= 0.95"
		row "   the same, from 256" ">= 0.95" "$(f "adaptive_${n}_high")" "v >= 0.95"
	done
	row "adaptive limit: settled after another workload, s" "<= 10" "$(f adaptive_settle)" "v <= 10"
	row "shared memory for 1 000 sessions, MB" "<= 1" "$(f memory_mb)" "v <= 1"
	row "the launcher's look at the health of 128 objects of each kind, us" "<= 100" "$(f health_look_us)" "v <= 100"
	row "SELECT * FROM resilience.health with 549 rows, us" "" "$(f health_view_us)" "v >= 0"
	row "prometheus_metrics() with 128 objects of each kind, us" "<= 5000" "$(f metrics_text_us)" "v <= 5000"
	row "SELECT count(*) FROM resilience.metrics, the same, us" "" "$(f metrics_view_us)" "v >= 0"
	row "a guarded foreign server, breaker closed: us for each statement" "<= 1" "$(f breaker_statement_us)" "v <= 1"
	row "the same: ns for each row" "<= 10" "$(f breaker_row_ns)" "v <= 10"
	row "a statement rejected by an open breaker / SELECT 1, CPU of the server" "<= 1" "$(f breaker_open)" "v <= 1"
	row "connection attempts while open" "0" "$(f breaker_attempts)" "v == 0"
	row "from the order to stop the foreign server to failing fast, 16 sessions, ms" "" "$(f breaker_trip_ms)" "v >= 0"
	row "from its return to closed, ms (probe period 1 s)" "<= 1200" "$(f breaker_recovery_ms)" "v <= 1200"
	row "a call of feature_enabled(), ns, with the PL/pgSQL expression around it" "<= 200" "$(f features_on_ns)" "v <= 200"
	row "   the same among 128 features" "<= 200" "$(f features_many_ns)" "v <= 200"
	row "   instructions of feature_enabled() itself" "" "$(f features_instructions)" "v >= 0"
	row "instructions that a degradation of three settings adds to a transaction" "" "$(f instructions_degraded_prepared)" "v >= 0"
	out ""
	out "Details: ${RESULTS#"$RSL_TOP"/}/*.txt, picture: ${RESULTS#"$RSL_TOP"/}/overload.svg"
}

main() {
	local name wanted=("$@")
	((${#wanted[@]} > 0)) || wanted=(all)
	if [[ ${wanted[*]} == all ]]; then
		wanted=(instructions overhead priority refusal recovery storm scaling memory breaker health metrics features adaptive curve peak summary)
	fi
	for name in "${wanted[@]}"; do
		case $name in
			-h | --help | help)
				sed -n '3,/^$/p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//'
				exit 0
				;;
			instructions | overhead | curve | peak | priority | refusal | recovery | storm | scaling | memory | breaker | health | metrics | features | adaptive | sweep | summary) ;;
			*) die "no section \"$name\" (try --help)" ;;
		esac
	done
	rsl_begin
	mkdir -p "$RESULTS"
	for name in "${wanted[@]}"; do
		[[ $name == summary || $name == all ]] && continue
		have_extension || die "resilience is not installed: make install"
		"section_$name"
	done
	summary
}

main "$@"

# shellcheck shell=bash
# shellcheck disable=SC2154 # RESULTS and the like are bench.sh's
#
# The section "adaptive" of bench.sh: resilience.adaptive_limit beside the
# best fixed limit, which a sweep finds first, for four workloads, from a
# start that is far too low and one that is far too high; then workloads that
# take each other's place.
#
#   BENCH_ADAPTIVE           workloads ("reads tpcb20 tpcb1 sleep")
#   BENCH_ADAPTIVE_CLIENTS   clients (64)
#   BENCH_ADAPTIVE_ROUNDS    rounds of: fixed, from low, fixed, from high, fixed (1)
#   BENCH_ADAPTIVE_SWEEP     limits of the sweep
#   BENCH_ADAPTIVE_SWEEP_SECONDS  for each (3)
#   BENCH_ADAPTIVE_SECONDS   measured after the ten that it has to get there (8)
#   BENCH_LOCK               a file to lock for each workload, on a shared machine

declare -A ADAPTIVE_TITLE=(
	[reads]="reads of 1 000 rows"
	[tpcb20]="TPC-B scale $SCALE"
	[tpcb1]="TPC-B scale 1"
	[sleep]="pg_sleep(0.05)"
)
ADAPTIVE_CLIENTS=${BENCH_ADAPTIVE_CLIENTS:-64}

# adaptive_load WORKLOAD SECONDS: throughput of each second, one a line
adaptive_load() {
	local workload=$1 seconds=$2 database=bench20 script=()
	case $workload in
		reads)
			printf '%s\n' '\set a random(1, 100000)' 'SELECT sum(abalance) FROM pgbench_accounts WHERE aid BETWEEN :a AND :a + 1000;' >"$RSL_TMP/reads.sql"
			script=(-f "$RSL_TMP/reads.sql")
			;;
		tpcb1) database=bench1 ;;
		sleep)
			echo 'SELECT pg_sleep(0.05);' >"$RSL_TMP/sleep.sql"
			script=(-f "$RSL_TMP/sleep.sql")
			;;
	esac
	if [[ $workload == tpcb* ]]; then
		on res psql -X -q -d "$database" -c "VACUUM pgbench_branches" -c "VACUUM pgbench_tellers" -c "TRUNCATE pgbench_history"
	fi
	PGOPTIONS='' on res timeout --foreground -k 5 "$((seconds + 60))" pgbench -U bench -n "${script[@]}" -M prepared \
		-c "$ADAPTIVE_CLIENTS" -j "$RSL_CORES" -T "$seconds" -P 1 "$database" 2>&1 >/dev/null |
		awk '/^progress:/ { print $4 }'
}

# mean_of FROM TO: of the lines FROM to TO on stdin
mean_of() { awk -v from="$1" -v to="$2" 'NR >= from && NR <= to { sum += $1; n++ } END { printf "%.1f", n ? sum / n : 0 }'; }

# adaptive_from low|high: the limit adapts itself, from there on
adaptive_from() {
	local floor=1 ceiling=-1
	if [[ $1 == low ]]; then ceiling=1; else floor=256; fi
	set_config res "resilience.adaptive_limit = on" "resilience.min_running_limit = $floor" "resilience.max_running = $ceiling"
	sleep 0.3
	set_config res "resilience.min_running_limit = 2" "resilience.max_running = -1"
}

adaptive_off() {
	set_config res "resilience.adaptive_limit = off" "resilience.min_running_limit = 2"
	limit "${1:--1}"
}

# One workload: prints "best-limit low high", the last two over the best fixed.
adaptive_workload() {
	local workload=$1 n round best=-1 best_tps=0 tps before after from
	local sweep=$RSL_TMP/adaptive.sweep.$workload runs=$RSL_TMP/adaptive.runs.$workload
	: >"$sweep"
	: >"$runs"
	for n in ${BENCH_ADAPTIVE_SWEEP:-1 2 3 4 6 8 12 16 32 64}; do
		adaptive_off "$n"
		tps=$(adaptive_load "$workload" "$((${BENCH_ADAPTIVE_SWEEP_SECONDS:-3} + 1))" | mean_of 2 99)
		echo "$n $tps" >>"$sweep"
		if [[ $(calc "($tps > $best_tps) ? 1 : 0" %.0f) == 1 ]]; then best=$n best_tps=$tps; fi
	done
	for ((round = 1; round <= ${BENCH_ADAPTIVE_ROUNDS:-1}; round++)); do
		adaptive_off "$best"
		before=$(adaptive_load "$workload" 6 | mean_of 2 99)
		for from in low high; do
			adaptive_from "$from"
			tps=$(adaptive_load "$workload" $((10 + ${BENCH_ADAPTIVE_SECONDS:-8})) | mean_of 11 99)
			adaptive_off "$best"
			after=$(adaptive_load "$workload" 6 | mean_of 2 99)
			echo "$from $tps $(calc "($before + $after) / 2" %.1f) $(calc "2 * $tps / ($before + $after)" %.3f)" >>"$runs"
			before=$after
		done
	done
	echo "$best $(awk '$1 == "low" { print $4 }' "$runs" | median) $(awk '$1 == "high" { print $4 }' "$runs" | median)" >"$RSL_TMP/adaptive.$workload"
}

# Workloads in turn, the limit goes on from one to the next.
adaptive_switches() {
	local workload previous=none
	adaptive_from low
	for workload in sleep tpcb1 reads sleep tpcb20; do
		adaptive_load "$workload" 16 >"$RSL_TMP/adaptive.switch"
		# settled: from where two seconds are at 95 % of the last five
		awk -v name="${ADAPTIVE_TITLE[$workload]}" -v previous="$previous" '{ tps[NR] = $1 }
			END {
				for (i = NR - 4; i <= NR; i++) steady += tps[i] / 5
				for (i = 1; i < NR; i++) if (tps[i] + tps[i + 1] >= 2 * 0.95 * steady) break
				for (j = 1; j <= 10; j++) { got += tps[j] / 10; }
				printf "%s|%s|%d|%.0f|%.2f\n", previous, name, i - 1, steady, got / steady
			}' "$RSL_TMP/adaptive.switch" >>"$RSL_TMP/adaptive.switches"
		previous=${ADAPTIVE_TITLE[$workload]}
	done
	adaptive_off
}

section_adaptive() {
	local workload best low high previous name after steady share
	prepare_servers
	: >"$RSL_TMP/adaptive.switches"
	section adaptive "The limit that finds itself, $ADAPTIVE_CLIENTS clients"
	exec {lock}>"${BENCH_LOCK:-$RSL_TMP/adaptive.lock}"
	outf '%-22s %12s %18s %18s' "workload" "best fixed" "from 1 / best" "from 256 / best"
	for workload in ${BENCH_ADAPTIVE:-reads tpcb20 tpcb1 sleep}; do
		flock "$lock"
		adaptive_workload "$workload"
		flock -u "$lock"
		read -r best low high <"$RSL_TMP/adaptive.$workload"
		outf '%-22s %12s %18s %18s' "${ADAPTIVE_TITLE[$workload]}" "$best" "$low" "$high"
		figure "adaptive_${workload}_low" "$low"
		figure "adaptive_${workload}_high" "$high"
	done
	out ""
	out "The sweep, TPS by limit"
	for workload in ${BENCH_ADAPTIVE:-reads tpcb20 tpcb1 sleep}; do
		out "${ADAPTIVE_TITLE[$workload]}: $(awk '{ printf "%s%s: %d", NR > 1 ? ", " : "", $1, $2 }' "$RSL_TMP/adaptive.sweep.$workload")"
		out "    each run (from, TPS, of the fixed limit around it, ratio): $(tr '\n' ';' <"$RSL_TMP/adaptive.runs.$workload")"
	done
	out ""
	out "One workload after the other: seconds until 95 % of what it settles at, and the share"
	out "of that in the first ten seconds (connecting included)"
	flock "$lock"
	adaptive_switches
	flock -u "$lock"
	while IFS='|' read -r previous name after steady share; do
		outf '%-22s -> %-22s %3s s %10s TPS %8s' "$previous" "$name" "$after" "$steady" "$share"
	done <"$RSL_TMP/adaptive.switches"
	figure adaptive_settle "$(awk -F'|' '$3 > most { most = $3 } END { print most + 0 }' "$RSL_TMP/adaptive.switches")"
	exec {lock}>&-
}

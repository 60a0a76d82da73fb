# shellcheck shell=bash
#
# test/bench/features.sh - section "features" of bench.sh: what a call of
# feature_enabled() costs.
#
# Loops in PL/pgSQL, minus the same loop that assigns a constant: time as the
# median of interleaved rounds, instructions by callgrind.

FEATURE_CALLS=500000
FEATURE_ROUNDS=${FEATURE_ROUNDS:-9}

# feature_loops NODE DATABASE: the functions; each returns ns for a round
feature_loops() {
	on "$1" psql -X -q -v ON_ERROR_STOP=1 -d "$2" >/dev/null <<-'SQL'
		CREATE FUNCTION loop_of(expression text) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
		  EXECUTE format('CREATE OR REPLACE FUNCTION looped(n int) RETURNS float8 LANGUAGE plpgsql AS %L',
		    format('DECLARE t0 timestamptz := clock_timestamp(); b boolean; x text;
		      BEGIN FOR i IN 1..n LOOP b := %s; END LOOP;
		      RETURN extract(epoch FROM clock_timestamp() - t0) * 1e9 / n; END', expression));
		END $$;
	SQL
}

# feature_case TITLE KEY NAME_OF_LOOP EXPRESSION
feature_case() {
	local round
	on feat psql -X -q -v ON_ERROR_STOP=1 -c "SELECT loop_of(\$\$true\$\$); ALTER FUNCTION looped RENAME TO empty_loop" \
		-c "SELECT loop_of(\$\$$3\$\$)" >/dev/null
	for ((round = 1; round <= FEATURE_ROUNDS; round++)); do
		echo "SELECT empty_loop($FEATURE_CALLS), looped($FEATURE_CALLS);"
		echo "SELECT b, a FROM (SELECT looped($FEATURE_CALLS) AS a, empty_loop($FEATURE_CALLS) AS b OFFSET 0) x;"
	done | on feat psql -X -q -At -F ' ' -v ON_ERROR_STOP=1 >"$RSL_TMP/feature_pairs"
	on feat psql -X -q -c "DROP FUNCTION empty_loop; DROP FUNCTION looped" >/dev/null
	DIFFERENCE=$(awk '{ print $2 - $1 }' "$RSL_TMP/feature_pairs" | median)
	outf '  %-62s %8s ns' "$1" "$(calc "$DIFFERENCE" %.0f)"
	if [[ $2 != - ]]; then figure "$2" "$(calc "$DIFFERENCE" %.0f)"; fi
}

section_features() {
	local loop n itself
	local -A per each
	section features "What a call of feature_enabled() costs (goal: at most 200 ns, no lock)"
	start_cluster feat "shared_preload_libraries = 'resilience'" "max_parallel_workers_per_gather = 0"
	sql feat "CREATE EXTENSION resilience" >/dev/null
	feature_loops feat postgres
	feature_case "no feature at all" - "resilience.feature_enabled('recommendations')"
	sql feat "SELECT resilience.create_feature('recommendations'); SELECT resilience.create_feature('off', enabled => false)" >/dev/null
	feature_case "a feature that is on" features_on_ns "resilience.feature_enabled('recommendations')"
	feature_case "one that is off" - "resilience.feature_enabled('off')"
	feature_case "a name that has no feature" - "resilience.feature_enabled('nothing of this name')"
	sql feat "SELECT resilience.create_feature('feature number ' || i) FROM generate_series(1, 126) i" >/dev/null
	feature_case "a feature that is on, among 128" features_many_ns "resilience.feature_enabled('recommendations')"
	feature_case "two names by turns, among 128 (with the CASE)" - \
		"resilience.feature_enabled(CASE WHEN i & 1 = 0 THEN 'feature number 7' ELSE 'feature number 99' END)"
	sql feat "SELECT resilience.create_health_check('c', query => 'SELECT true'); SELECT resilience.alter_feature('recommendations', health_check => 'c', minimum_priority => 'high')" >/dev/null
	feature_case "a feature with a health check and a minimum_priority" - "resilience.feature_enabled('recommendations')"
	stop_cluster feat immediate

	prepare_callgrind
	callgrind_start "resilience.mode=enforce"
	feature_loops cg bench
	on cg psql -X -q -v ON_ERROR_STOP=1 -d bench -c "SELECT resilience.create_feature('recommendations')" \
		-c "SELECT loop_of(\$\$true\$\$); ALTER FUNCTION looped RENAME TO empty_loop" \
		-c "SELECT loop_of(\$\$resilience.feature_enabled('recommendations')\$\$)" >/dev/null
	# long loops minus short ones: what a transaction does once is no call's
	for loop in empty_loop looped; do
		for n in 100 1100; do
			echo "SELECT $loop($n);" >"$RSL_TMP/loop.sql"
			chmod 644 "$RSL_TMP/loop.sql"
			CG_SCRIPT=(-f "$RSL_TMP/loop.sql")
			callgrind_per_transaction prepared
			per[$n]=$CG_PER
		done
		each[$loop]=$(calc "(${per[1100]} - ${per[100]}) / 1000" %.0f)
	done
	CG_SCRIPT=(-S)
	itself=$(callgrind_annotate --inclusive=yes --threshold=100 "$CG_FILE" 2>/dev/null |
		awk -v calls="$((1100 * (200 + CG)))" '/enabled\.c:feature_enabled / && !n++ { gsub(",", "", $1); printf "%.0f", $1 / calls }')
	callgrind_stop
	out ""
	out "  instructions of a call (callgrind): ${itself:--} in feature_enabled() itself,"
	out "  $((each[looped] - each[empty_loop])) with what PL/pgSQL does to call it (a round of the empty loop: ${each[empty_loop]})"
	figure features_instructions "${itself:--}"
}

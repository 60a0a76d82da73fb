#!/usr/bin/env bash
#
# test/hardening/model.sh [pool|cancel ...] - model-check the admission protocol
#
# src/shared/*.pml are models of the code beside them, in Promela.  spin visits
# every state of each configuration below: no assertion fails, and every state
# that nobody can leave is a proper end (a wake-up that is lost would be another
# one).  Then the protocol is broken in one place after the other: each time
# that must be found.  And the steps that the models name must be the ones that
# the C code names.
#
#   RSL_HARDENING_LONG=1   the large configurations too (an hour, 14 GB)
#   RSL_MODEL_JOBS         how many at a time (the number of processors, but one
#                          of the large ones)

set -euo pipefail
cd "$(dirname "$0")/../.."

models=("$@")
[ $# -gt 0 ] || models=(pool cancel)
jobs=$(nproc)
# gcc needs longer to optimize what spin writes than it then saves
limit=900 memory=3000 optimize=-O0
[ -z "${RSL_HARDENING_LONG:-}" ] || limit=3600 memory=14000 optimize=-O2 jobs=1
jobs=${RSL_MODEL_JOBS:-$jobs}

if ! command -v spin >/dev/null || ! command -v gcc >/dev/null; then
	if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
		echo "skipped: needs spin and gcc"
		exit 77
	fi
	export DEBIAN_FRONTEND=noninteractive
	if ! { apt-get -q -o DPkg::Lock::Timeout=300 update &&
		apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends spin gcc libc6-dev; } >/dev/null 2>&1; then
		echo "skipped: spin cannot be installed"
		exit 77
	fi
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/rslmodel.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
results=$work/results
: >"$results"

# said as soon as it is known, by whichever job knows it
ok() { echo "ok - $*" | tee -a "$results"; }
not_ok() { echo "not ok - $*" | tee -a "$results"; }

# check NAME MODEL PAN_FLAGS DEFINE...: all states, in the background; the
# result is in files.
check()
{
	local name=$1 model=$2 flags=$3 dir=$work/$1 run=(-m2000000) cc=($optimize -DCOLLAPSE "-DMEMLIM=$memory")

	shift 3
	mkdir -p "$dir"
	case $flags in
		live) run+=(-a -f) cc+=(-DNFAIR=6) ;;
		*) cc+=(-DSAFETY) ;;
	esac
	# the directory is where spin leaves what it generates
	if (cd "$dir" && spin -a "$@" "$OLDPWD/src/shared/$model.pml" >spin.log 2>&1 &&
		gcc "${cc[@]}" -o pan pan.c >gcc.log 2>&1); then
		SECONDS=0
		(cd "$dir" && timeout "$limit" ./pan "${run[@]}" >out 2>&1) || true
		echo "$SECONDS" >"$dir/seconds"
	fi
	rm -f "$dir/pan"
}

# what spin said: "complete", "error TEXT" or "broken TEXT"
verdict()
{
	local out=$1/out

	if [ ! -s "$out" ]; then
		echo "broken: $(head -n 1 "$1/spin.log" "$1/gcc.log" 2>/dev/null | tail -n 1)"
	elif grep -q '^pan:[0-9]*: \(assertion\|invalid\|acceptance\)' "$out"; then
		echo "error: $(grep -m 1 -o '^pan:.*' "$out")"
	elif grep -q 'errors: 0' "$out" &&
		! grep -qi 'search not completed\|max search depth too small\|out of memory' "$out"; then
		echo complete
	else
		echo "broken: $(grep -v '^Depth=' "$out" | tail -n 1)"
	fi
}

size_of()
{
	awk '/depth reached/ { sub(/.*depth reached /, ""); sub(/,.*/, ""); depth = $0 }
		/states, stored/ { states = $1 }
		/total actual memory/ { memory = $1 }
		END { printf "%d states, depth %d, %d MB", states, depth, memory }' "$1/out"
	echo ", $(cat "$1/seconds") s"
}

throttle() { while [ "$(jobs -pr | wc -l)" -ge "$jobs" ]; do wait -n || true; done; }

# ---------------------------------------------------------------------------
# The configurations: NAME MODEL KIND DEFINE...  "long" ones only when asked.
# ---------------------------------------------------------------------------
configurations="
three-sessions pool - -DNP=3
two-slots pool - -DNP=3 -DLIMIT=2
two-classes pool - -DNP=3 -DCLASSES=2 -DMAXW=1 -DFAULTS=1
cancel-and-timeout pool - -DNP=2 -DTX=2 -DFAULTS=2
cancel-in-a-queue pool - -DNP=3 -DFAULTS=1
forced pool - -DNP=3 -DFORCES=1
small-batch pool - -DNP=3 -DBATCH=1
bulkhead pool - -DNP=2 -DBULKHEAD -DLIMIT=1 -DTX=2 -DFAULTS=1
turns pool - -DNP=2 -DTX=3 -DTURNS=1
turns-of-three pool - -DNP=3 -DTURNS=1
turns-cancelled pool - -DNP=2 -DTX=2 -DTURNS=1 -DFAULTS=1
turns-full-queue pool - -DNP=3 -DTURNS=1 -DMAXW=1 -DBATCH=1
turns-bulkhead pool - -DNP=2 -DTX=2 -DTURNS=1 -DBULKHEAD
lending pool - -DNP=2 -DTX=2 -DLENDS=1
lending-cancelled pool - -DNP=2 -DLENDS=2 -DFAULTS=1
lending-bulkhead pool - -DNP=2 -DLENDS=1 -DBULKHEAD
lending-turns pool long -DNP=2 -DTX=2 -DLENDS=1 -DTURNS=1
let-through pool - -DNP=3 -DTHROUGHS=1
let-through-cancelled pool - -DNP=2 -DTX=2 -DTHROUGHS=2 -DFAULTS=1
served-at-last pool live -DNP=2 -DTX=2 -DTURNS=1 -DLIVE
four-sessions pool long -DNP=4 -DLIMIT=2
two-slots-twice pool long -DNP=3 -DLIMIT=2 -DTX=2
turns-of-three-cancelled pool long -DNP=3 -DTURNS=1 -DFAULTS=1
lending-to-three pool long -DNP=3 -DLENDS=1 -DFAULTS=1
one-victim cancel - -DSTATEMENTS=3 -DCANCELLERS=1
two-cancellers cancel - -DSTATEMENTS=2 -DCANCELLERS=2
user-cancels-too cancel - -DSTATEMENTS=3 -DCANCELLERS=1 -DUSER=1
caught-by-a-function cancel - -DSTATEMENTS=2 -DCANCELLERS=1 -DCATCH=1
all-of-it cancel - -DSTATEMENTS=3 -DCANCELLERS=2 -DUSER=1 -DCATCH=1
"

# What each mutation breaks, and where that shows.
mutations="
1 pool -DNP=3 dispatches before the flag can be seen
2 pool -DNP=3 sets the flag and does not dispatch once more
3 pool -DNP=3 sets the latch before the verdict
4 pool -DNP=3,-DFAULTS=1 a cancelled waiter passes its slot on to nobody
5 pool -DNP=3,-DCLASSES=2 looks whether there is room and then adds, without compare-and-swap
6 pool -DNP=2,-DTX=2,-DTURNS=1,-DLENDS=1 forgets the unit of a slot that it fails to keep
7 pool -DNP=3,-DTURNS=1,-DFAULTS=1 a watchman is chosen without a barrier
8 pool -DNP=2,-DTX=2,-DTURNS=1 all marks of a session are the same
9 pool -DNP=2,-DLENDS=1 gives back what is lent
11 pool -DNP=2,-DTX=2,-DTURNS=1 the watchman reclaims and hands over to nobody
12 pool -DNP=3,-DTURNS=1,-DMAXW=1,-DBATCH=1 ends with a full batch and does not look again
13 pool -DNP=2,-DTX=2,-DTHROUGHS=1 lets through whom it does not find in the queue
1 cancel -DSTATEMENTS=3,-DCANCELLERS=1 the handler does not compare the numbers
2 cancel -DSTATEMENTS=3,-DCANCELLERS=1 the end does not withdraw a cancel
3 cancel -DSTATEMENTS=3,-DCANCELLERS=1,-DUSER=1 withdraws what a user wanted too
4 cancel -DSTATEMENTS=2,-DCANCELLERS=2 a request may replace another one
5 cancel -DSTATEMENTS=2,-DCANCELLERS=1 the end looks for a request before it moves the number on
6 cancel -DSTATEMENTS=2,-DCANCELLERS=1,-DCATCH=1 a function that catches the cancel gets away with it
"

each_configuration() # COMMAND: calls it with the words of each line
{
	local line words

	while read -r line; do
		[ -n "$line" ] || continue
		read -ra words <<<"$line"
		[[ " ${models[*]} " == *" ${words[1]} "* ]] || continue
		[ "${words[2]}" != long ] || [ -n "${RSL_HARDENING_LONG:-}" ] || continue
		"$1" "${words[@]}"
	done <<<"$configurations"
}

each_mutation()
{
	local n model defines what words

	while read -r n model defines what; do
		[ -n "$n" ] || continue
		[[ " ${models[*]} " == *" $model "* ]] || continue
		IFS=, read -ra words <<<"$defines"
		"$1" "$n" "$model" "$what" "${words[@]}"
	done <<<"$mutations"
}

start_configuration()
{
	throttle
	{
		check "$@"
		report_configuration "$@"
	} &
}

start_mutation() # N MODEL WHAT DEFINE...
{
	throttle
	{
		check "mutation-$2-$1" "$2" - "-DMUTATE=$1" "${@:4}"
		report_mutation "$@"
	} &
}

report_configuration() # NAME MODEL KIND DEFINE...
{
	local v

	v=$(verdict "$work/$1")
	if [ "$v" = complete ]; then
		ok "$2, $1: $(size_of "$work/$1")"
	else
		not_ok "$2, $1 (${*:4}): $v"
	fi
}

report_mutation()
{
	local v

	v=$(verdict "$work/mutation-$2-$1")
	if [[ $v == error:* ]]; then
		ok "$2, broken: $3: found"
	else
		not_ok "$2, broken: $3: ${v/complete/not found}"
	fi
}

# The steps that a model names, and those of its C code, are the same.
compare_steps() # MODEL FILE...
{
	local model=$1 missing

	shift
	steps() { grep -oh 'step: [a-z][a-z-]*' "$@" | sort -u; }
	missing=$(comm -3 <(steps "src/shared/$model.pml") <(steps "$@"))
	if [ -z "$missing" ]; then
		ok "$model: the steps are those of $*"
	else
		not_ok "$model: steps of the model alone | of the code alone:"
		echo "$missing"
	fi

	# each write to one of the shared words has its step
	missing=$(awk '
		/step: / { step = FNR }
		/pg_atomic_(compare|exchange|fetch|write)[a-z_0-9]*\(.*(>word|>slot|verdict|in_turn|nturns|watchman|>doom|>statement)[^a-z_]/ &&
			!/add_u64\(&session|&rsl_shmem->cancels/ && FNR - step > 5 { print FILENAME ":" FNR ": " $0 }' "$@")
	if [ -z "$missing" ]; then
		ok "$model: the code names a step wherever it writes one of the shared words"
	else
		not_ok "$model: no step is named near"
		echo "$missing"
	fi
}

for model in "${models[@]}"; do
	case $model in
		pool) compare_steps pool src/shared/pool.c src/shared/turns.c src/shared/session.c ;;
		cancel) compare_steps cancel src/shared/cancel.c src/shared/cancel.h ;;
		*)
			echo "usage: ${0##*/} [pool|cancel ...]" >&2
			exit 2
			;;
	esac
done
each_configuration start_configuration
each_mutation start_mutation
wait

passed=$(grep -c '^ok' "$results" || true)
failed=$(grep -c '^not ok' "$results" || true)
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

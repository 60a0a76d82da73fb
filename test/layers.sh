#!/usr/bin/env bash
#
# test/layers.sh - do includes point downward only?
#
# The folders of src from the ground up, as in docs/architecture.md; those of
# one line do not know each other.

set -euo pipefail
cd "$(dirname "$0")/.."

layers=(
	"core"
	"shared"
	"policy"
	"bulkhead breaker retry"
	"shedding health"
	"degradation chaos metrics"
	"endpoint"
	"worker"
)

declare -A level
for i in "${!layers[@]}"; do
	for folder in ${layers[i]}; do
		level[$folder]=$i
	done
done

wrong=0
complain() { echo "$*" >&2; wrong=1; }

for folder in src/*/; do
	folder=${folder#src/}
	[ -n "${level[${folder%/}]:-}" ] || complain "src/$folder has no layer: see ${0##*/}"
done

while IFS=: read -r file include; do
	from=${file#src/}
	from=${from%%/*}
	to=${include%%/*}
	if [ "$from" = core ]; then
		# plain C: the server's headers are as far above it as everything else
		[ "$to" = core ] || complain "$file: includes \"$include\", but src/core knows itself only"
	elif [ "$from" != "$to" ] && [ -n "${level[$to]:-}" ] && [ "${level[$to]}" -ge "${level[$from]:-0}" ]; then
		complain "$file: includes \"$include\", which is not below it"
	fi
done < <(grep -Eo '^[[:space:]]*#[[:space:]]*include[[:space:]]+"[^"]+"' src/*/*.[ch] | sed -E 's/:.*"([^"]+)"/:\1/')

exit $wrong

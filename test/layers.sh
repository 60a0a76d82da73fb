#!/usr/bin/env bash
#
# test/layers.sh - is the tree as docs/architecture.md says?
#
# The layers are those of its picture: a folder may include what stands below
# it, and nothing that stands above or beside it.  Files and functions that the
# page names exist.

set -euo pipefail
cd "$(dirname "$0")/.."
page=docs/architecture.md

mapfile -t layers < <(sed -n '/^```text/,/^```$/p' "$page" |
	grep -o '^ |  \([a-z]\+/ *\)\+' | tr -d '|/' | tac)

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
	[ -n "${level[${folder%/}]:-}" ] || complain "src/$folder is not in the picture of $page"
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

while read -r name; do
	case $name in
		*'()') grep -rqw --include='*.[ch]' -- "${name%()}" src || complain "$page: no function $name" ;;
		*) compgen -G "$name" >/dev/null || compgen -G "src/$name" >/dev/null ||
			compgen -G "src/*/$name" >/dev/null || complain "$page: no file $name" ;;
	esac
done < <(grep -o '`[^` ]*\(\.[ch]\|\.sh\|\.pm\|\.md\|()\)`' "$page" | tr -d '`' | sort -u)

exit $wrong

#!/usr/bin/env bash
#
# test/indent.sh [--check] [FILE ...] - PostgreSQL's own style, by pgindent
#
# Debian ships pgindent with the server headers of PostgreSQL 17 and later.
# It is taken from the machine, or from the system that test/versions.sh keeps
# for PostgreSQL 17, which is made when root asks and there is none.  --check
# changes nothing: it shows the differences and fails if there are any.  So
# does a line of more than 110 columns that has no text in it; messages stay in
# one piece.

set -euo pipefail
cd "$(dirname "$0")/.."

check=
if [ "${1:-}" = --check ]; then
	check=yes
	shift
fi
shopt -s nullglob
files=("$@")
[ ${#files[@]} -gt 0 ] || files=(src/*.[ch] src/*/*.[ch] test/*/*.[ch])
[ ${#files[@]} -gt 0 ] || exit 0

chroot=${RSL_CHROOTS:-/var/tmp/resilience-chroots}/pg17
find_pgindent()
{
	local dir

	for dir in /usr/lib/postgresql/*/bin "$chroot"/usr/lib/postgresql/17/bin; do
		[ -x "$dir/pgindent" ] && [ -x "$dir/pg_bsd_indent" ] && echo "$dir" && return
	done
	return 1
}

if ! bin=$(find_pgindent); then
	if [ "$(id -u)" -eq 0 ]; then
		test/versions.sh --prepare-only 17 >&2
	fi
	if ! bin=$(find_pgindent); then
		echo "indent: no pgindent here: install postgresql-server-dev-17 or later" >&2
		exit 77
	fi
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A program of another Debian release wants the libraries of that release.
indent=$bin/pg_bsd_indent
typedefs=(/usr/share/postgresql/*/typedefs.list)
case $bin in
	"$chroot"/*)
		printf '#!/bin/sh\nexec %s --library-path %s %s "$@"\n' "$chroot/lib64/ld-linux-x86-64.so.2" \
			"$chroot/lib/x86_64-linux-gnu:$chroot/usr/lib/x86_64-linux-gnu" "$indent" >"$work/indent"
		chmod +x "$work/indent"
		indent=$work/indent
		typedefs=("$chroot/usr/share/postgresql/17/typedefs.list")
		;;
esac

# The names of types that files define.
types_of()
{
	perl -0777 -ne 's{/\*.*?\*/}{}gs;
		print "$_\n" foreach /^typedef\s+(?:struct|union|enum)\s+\w+\s+(\w+);/mg,
		  /^typedef\s+(?:struct|union|enum)\b[^{;]*\{.*?^\}\s*(?:\w+\(.*?\)\s*)?(\w+);/msg,
		  /^typedef\s+[\w\s*]+\(\*\s*(\w+)\)/mg,
		  /^typedef\s+[\w\s*]*?(\w+)(?:\[\w*\])?;/mg' "$@"
}

# PostgreSQL's types, those of our headers, and the C library's that we use.  A
# type that a .c file makes for itself is one in that file only: its name may
# be a variable elsewhere.  So is "text" here, nearly always.
{
	grep -vx text "${typedefs[-1]}"
	printf '%s\n' {u,}int{8,16,32,64}_t {u,}intptr_t pthread_t PGconn PGresult
	types_of src/*.h src/*/*.h test/*/*.h
} | sort -u >"$work/shared_types"

# pgindent leaves its scratch files in the current directory.
root=$PWD
pgindent() # OPTION ... FILE
{
	types_of "${@: -1}" | sort -u - "$work/shared_types" >"$work/typedefs"
	(cd "$work" && perl "$bin/pgindent" --indent="$indent" --typedefs="$work/typedefs" "$@")
}

if [ -z "$check" ]; then
	for file in "${files[@]}"; do pgindent "$root/$file"; done
	exit
fi

status=0
for file in "${files[@]}"; do
	pgindent --check --diff "$root/$file" || status=1
done >"$work/diff"
sed "s,^--- $root/,--- ," "$work/diff"
for file in "${files[@]}"; do
	expand -t 4 "$file" | awk -v file="$file" \
		'length > 110 && !/"/ { print file ":" NR ": " length " columns"; bad = 1 } END { exit bad }' || status=1
done
exit $status

#!/usr/bin/env bash
#
# test/hardening/upgrade.sh
#
# test/hardening/t/upgrade.pl: pg_upgrade from PostgreSQL 15 to 17.  The 17 is
# the one of Debian 13 in test/versions.sh's chroot; the 15 of Debian 12 is
# taken along into it, with the libraries that it was linked with.
#
#   PG_CONFIG    of the 15 (pg_config)
#   RSL_CHROOTS  where the chroots are (/var/tmp/resilience-chroots)
#
# The last line is "N passed, N failed".  Exit status 77: it cannot be had here.

set -euo pipefail
cd "$(dirname "$0")/../.."

root=${RSL_CHROOTS:-/var/tmp/resilience-chroots}/pg17
limit=${RSL_LIMIT:-1200}

cannot() { echo "upgrade.sh: $*" >&2; exit 77; }

[ "$(id -u)" -eq 0 ] || cannot "needs root"
RSL_NO_BROWSER=1 RSL_NO_PROMETHEUS=1 test/setup.sh check
export PG_CONFIG=${PG_CONFIG:-pg_config}
[[ $("$PG_CONFIG" --version) == "PostgreSQL 15"* ]] || cannot "needs PostgreSQL 15, this is $("$PG_CONFIG" --version)"
test/versions.sh --prepare-only 17
[ -x "$root/usr/lib/postgresql/17/bin/pg_upgrade" ] || cannot "no PostgreSQL 17 in $root"

work=$(mktemp -d "$root/tmp/upgrade.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
chmod 755 "$work"
inside=${work#"$root"}

# The tree, and what make leaves of it for 15
mkdir "$work/tree" "$work/built"
tar --exclude=./.git --exclude=./build --exclude='*.o' --exclude='*.so' -cf - . | tar --no-same-owner -C "$work/tree" -xf -
cp -r "$work/tree/." "$work/built"
make -s -C "$work/built" -j"$(nproc)" WERROR=1

# Its folders keep their places to each other: that is how it finds them.
old=$work/lib/postgresql/15
mkdir -p "$old/lib" "$work/share/postgresql" "$work/bookworm" "$work/old/bin"
cp -r "$("$PG_CONFIG" --bindir)" "$old/"
cp "$("$PG_CONFIG" --pkglibdir)"/*.so "$old/lib/"
cp -rL "$("$PG_CONFIG" --sharedir)" "$work/share/postgresql/15"
cp "$work/built/resilience.so" "$old/lib/"
cp "$work/built/resilience.control" "$work"/built/sql/resilience--*.sql "$work/share/postgresql/15/extension/"

# All libraries but the C library's own, for these programs only
ldd "$old"/bin/* "$old/lib/resilience.so" "$old/lib/libpqwalreceiver.so" 2>/dev/null |
	awk '$2 == "=>" && $3 ~ "^/" { print $3 }' | sort -u |
	grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv|ld-linux[^/]*)\.so' |
	while read -r library; do cp -L "$library" "$work/bookworm/"; done
for program in "$old"/bin/*; do
	name=${program##*/}
	printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' \
		"$inside/bookworm" "$inside/lib/postgresql/15/bin/$name" >"$work/old/bin/$name"
	chmod 755 "$work/old/bin/$name"
done

# shellcheck disable=SC2016 # expanded by the inner shell
timeout --foreground -k 10 "$limit" unshare --mount --pid --fork --kill-child bash -c '
	set -e
	root=$1
	shift
	mount -t proc proc "$root/proc"
	mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
	mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
	exec chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		HOME=/root LC_ALL=C.UTF-8 "$@"
' inside "$root" PG_CONFIG=/usr/lib/postgresql/17/bin/pg_config RSL_OLD_INSTALL="$inside/old" \
	"$inside/tree/test/check.sh" test/hardening/t/upgrade.pl

#!/usr/bin/env bash
#
# test/packaging.sh - build the Debian packages, and try what is in them
#
# Builds from a copy of what git has, without network; looks at the contents;
# starts a server that has nothing but the package's files besides its own.
# Nothing is installed on this machine.  The last line is "N passed, N failed".

set -euo pipefail
cd "$(dirname "$0")/.."
. test/lib.sh

passed=0
failed=0
ok() { passed=$((passed + 1)); echo "ok - $1"; }
not_ok() { failed=$((failed + 1)); echo "not ok - $1"; }
check() { if eval "$2"; then ok "$1"; else not_ok "$1"; fi; }

if ! command -v dpkg-buildpackage >/dev/null || ! command -v pg_buildext >/dev/null; then
	echo "packaging: no dpkg-buildpackage or pg_buildext here" >&2
	exit 77
fi

work=$(mktemp -d /tmp/rslpackage.XXXXXX)
chmod 755 "$work"
trap 'cleanup' EXIT
server=
cleanup() {
	[ -z "$server" ] || as pg_ctl -D "$work/data" -m immediate stop >/dev/null 2>&1 || true
	rm -rf "$work"
}

# The server refuses to run as root.
as() {
	if [ "$(id -u)" -eq 0 ]; then
		(cd "$work" && setpriv --reuid=postgres --regid=postgres --init-groups env PATH="$bin:$PATH" "$@")
	else
		env PATH="$bin:$PATH" "$@"
	fi
}

# 1. the archive, as PGXN and Debian would get it
mkdir "$work/source"
if git rev-parse --git-dir >/dev/null 2>&1; then
	git -c safe.directory="$PWD" archive --prefix=postgresql-resilience/ HEAD | tar -x -C "$work/source"
else
	mkdir "$work/source/postgresql-resilience"
	tar -c --exclude=./.git . | tar -x -C "$work/source/postgresql-resilience"
fi
cd "$work/source/postgresql-resilience"
check "the archive has the sources, and no .git" '[ -e src/resilience.c ] && [ ! -e .git ]'
check "META.json is what PGXN wants" 'perl test/meta.pl META.json'

# 2. the packages
env -u PG_CONFIG PATH=/usr/sbin:/usr/bin:/sbin:/bin pg_buildext updatecontrol
if env -u PG_CONFIG PATH=/usr/sbin:/usr/bin:/sbin:/bin DEB_BUILD_OPTIONS="parallel=2" \
	dpkg-buildpackage -us -uc -b >"$work/build.log" 2>&1; then
	ok "dpkg-buildpackage"
else
	not_ok "dpkg-buildpackage"
	tail -n 30 "$work/build.log" >&2
fi
check "built without warnings of the compiler" '! grep -q "warning:" "$work/build.log"'
debs=("$work"/source/postgresql-*-resilience_*.deb)
check "there is a package" '[ -e "${debs[0]}" ]'
for deb in "${debs[@]}"; do
	name=$(basename "$deb")
	version=$(sed 's/^postgresql-\([0-9]*\)-.*/\1/' <<<"$name")
	dpkg-deb -c "$deb" >"$work/contents"
	for file in "usr/lib/postgresql/$version/lib/resilience.so" \
		"usr/share/postgresql/$version/extension/resilience.control" \
		"usr/share/postgresql/$version/extension/resilience--1.0.sql" \
		"usr/share/doc/postgresql-$version-resilience/README.md" \
		"usr/share/doc/postgresql-$version-resilience/monitoring/prometheus/alerts.yml"; do
		check "$name has $file" 'grep -q "$file" "$work/contents"'
	done
	check "$name depends on its server" 'dpkg-deb -f "$deb" Depends | grep -q "postgresql-$version"'
	check "$name does not depend on libmicrohttpd" '! dpkg-deb -f "$deb" Depends | grep -q microhttpd'
	if command -v lintian >/dev/null; then
		lintian --allow-root --fail-on error "$deb" >"$work/lintian" 2>&1 && ok "$name: lintian has no errors" || {
			not_ok "$name: lintian has no errors"
			cat "$work/lintian" >&2
		}
	fi
done

# 3. a server with the package's files, in a tree of its own
deb=${debs[${#debs[@]} - 1]}
version=$(basename "$deb" | sed 's/^postgresql-\([0-9]*\)-.*/\1/')
tree=$work/tree
mkdir -p "$tree/usr/lib/postgresql" "$tree/usr/share/postgresql"
cp -a "/usr/lib/postgresql/$version" "$tree/usr/lib/postgresql/"
cp -a "/usr/share/postgresql/$version" "$tree/usr/share/postgresql/"
rm -f "$tree/usr/lib/postgresql/$version/lib/resilience.so" \
	"$tree/usr/share/postgresql/$version/extension/resilience"*
dpkg-deb -x "$deb" "$tree"
chmod -R a+rX "$tree"
bin=$tree/usr/lib/postgresql/$version/bin
install -d -m 700 "$work/data" "$work/sock"
[ "$(id -u)" -ne 0 ] || chown postgres "$work/data" "$work/sock"
as initdb -D "$work/data" -A trust -U postgres >/dev/null
cat >>"$work/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$work/sock'
shared_preload_libraries = 'resilience'
CONF
as pg_ctl -D "$work/data" -l "$work/data/log" -w -t 60 start >/dev/null && server=1
answer=$(as psql -X -q -At -h "$work/sock" -U postgres -d postgres -c "CREATE EXTENSION resilience" \
	-c "SELECT resilience.create_bulkhead('b', max_running => 1)" \
	-c "SELECT name, max_running FROM resilience.bulkheads" 2>&1) || true
check "a server with the package's files works" '[ "$(tail -n 1 <<<"$answer")" = "b|1" ]'

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]

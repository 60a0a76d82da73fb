#!/usr/bin/env bash
#
# test/setup.sh [check|demo|bench|packaging|versions] - install what a bare Debian lacks
#
# Everything that is there stays as it is; when nothing is missing, apt is not
# called and no root is needed.  The PostgreSQL is the one of PG_CONFIG when
# that is set, else one that is installed with its headers, else the release's
# own (Debian 12: 15); PG_MAJOR asks for another one.

set -euo pipefail

purpose=${1:-check}

say() { echo "setup: $*" >&2; }

# Which PostgreSQL packages to ask for; none if PG_CONFIG names a server.
postgres_packages()
{
	local major=${PG_MAJOR:-}

	if [ -z "$major" ] && [ -n "${PG_CONFIG:-}" ] && command -v "$PG_CONFIG" >/dev/null &&
		[ -e "$("$PG_CONFIG" --pgxs)" ]; then
		return
	fi
	if [ -z "$major" ]; then
		# The newest with server and headers: the one that Debian's
		# pg_config speaks of.
		major=$(for dir in /usr/lib/postgresql/*; do
			[ -x "$dir/bin/postgres" ] && [ -e "$dir/lib/pgxs/src/makefiles/pgxs.mk" ] &&
				echo "${dir##*/}"
		done | sort -n | tail -n 1) || major=
	fi
	if [ -z "$major" ]; then
		# shellcheck source=/dev/null
		case $(. /etc/os-release && echo "${VERSION_ID:-}") in
			12) major=15 ;;
			13) major=17 ;;
			*) major=18 ;;
		esac
	fi
	echo "postgresql-$major postgresql-client-$major postgresql-server-dev-$major"
}

# perl: prove and the modules of PostgreSQL's tests (minbase has perl-base only)
# chromium is big, and only looks at the status page: RSL_NO_BROWSER=1 leaves it
# out, and so does a chroot of test/versions.sh
browser=
[ -n "${RSL_NO_BROWSER:-}" ] || browser=chromium
# likewise the monitoring that is tried with the real tools: RSL_NO_PROMETHEUS=1
monitoring= plots=
[ -n "${RSL_NO_PROMETHEUS:-}" ] || monitoring="prometheus prometheus-postgres-exporter prometheus-sql-exporter"
[ -n "${RSL_NO_PROMETHEUS:-}" ] || plots=gnuplot-nox
case $purpose in
	check) wanted="$(postgres_packages) gcc libc6-dev make libpq-dev libmicrohttpd-dev perl libipc-run-perl libio-pty-perl curl haproxy $browser $monitoring $plots" ;;
	demo) wanted="$(postgres_packages) gcc libc6-dev make libpq-dev libmicrohttpd-dev curl haproxy perl gnuplot-nox" ;;
	bench) wanted="$(postgres_packages) gcc libc6-dev make libpq-dev libmicrohttpd-dev perl valgrind pgbouncer" ;;
	packaging) wanted="$(postgres_packages) gcc libc6-dev make libpq-dev libmicrohttpd-dev perl debhelper dpkg-dev fakeroot lintian postgresql-server-dev-all" ;;
	versions) wanted="debootstrap debian-archive-keyring" ;;
	*)
		say "unknown purpose \"$purpose\": check, demo, bench, packaging or versions"
		exit 2
		;;
esac

if ! command -v dpkg-query >/dev/null; then
	say "not a Debian system, nothing installed; wanted here: $wanted"
	exit 0
fi

# One call for all names; libfoo:amd64 and libfoo count alike.
installed=" $(dpkg-query -W -f '${db:Status-Status} ${Package}\n' 2>/dev/null |
	awk '$1 == "installed" { printf "%s ", $2 }')"
missing=
for package in $wanted; do
	case $installed in
		*" $package "*) ;;
		*) missing+=" $package" ;;
	esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	say "missing packages, install them as root:"
	say "  apt-get install --no-install-recommends$missing"
	exit 1
fi

# Installing postgresql-NN would create and start a cluster "main", pgbouncer
# and Prometheus services: nobody asked for them.  Both switches are taken back
# afterwards, and neither touches what exists.
no_cluster=/etc/postgresql-common/createcluster.d/resilience-setup.conf
no_service=/usr/sbin/policy-rc.d
[ ! -e "$no_service" ] || no_service=
restore() { rm -f "$no_cluster" ${no_service:+"$no_service"}; }
trap restore EXIT
trap 'exit 130' INT TERM
mkdir -p "${no_cluster%/*}"
echo 'create_main_cluster = false' >"$no_cluster"
if [ -n "$no_service" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$no_service"
	chmod 755 "$no_service"
fi

say "installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -q -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
log=$(mktemp)
# shellcheck disable=SC2086 # a list of words
if ! { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
	tail -n 30 "$log" >&2
	rm -f "$log"
	say "apt-get failed"
	exit 1
fi
rm -f "$log"

# What was installed for the tests or the benchmark only need not run at boot.
for service in pgbouncer prometheus prometheus-postgres-exporter prometheus-sql-exporter; do
	case "$missing " in
		*" $service "*) systemctl disable --quiet "$service" 2>/dev/null || true ;;
	esac
done

#!/usr/bin/env bash
#
# test/hardening/postgres.sh MAJOR plain|assert|asan
#
# Builds a PostgreSQL from Debian's source package, for what the packaged
# binaries cannot do: assertions, sanitizers, PostgreSQL's own test suites, two
# versions side by side.  Prints the path of its pg_config; the source and the
# build are in src beside it.  What is there already is not built again.
#
#   plain     as released, -O2
#   assert    --enable-cassert, and with the hints that valgrind needs
#   asan      --enable-cassert, AddressSanitizer, UndefinedBehaviorSanitizer
#
# RSL_POSTGRES        where they are kept (/var/tmp/resilience-postgres)
# RSL_DEBIAN_MIRROR   where the source comes from
#
# Exit status 77: it cannot be had here.

set -euo pipefail

major=${1:-} flavour=${2:-}
root=${RSL_POSTGRES:-/var/tmp/resilience-postgres}
mirror=${RSL_DEBIAN_MIRROR:-http://deb.debian.org/debian}
prefix=$root/$major-$flavour

say() { echo "postgres.sh: $*" >&2; }

case $major in
	15) suite=bookworm ;;
	17) suite=trixie ;;
	18) suite=forky ;;
	19) suite=experimental ;;
	*) suite= ;;
esac
options=()
flags=
case $flavour in
	plain) flags="-O2" ;;
	assert)
		flags="-Og -fno-omit-frame-pointer -DUSE_VALGRIND"
		options=(--enable-cassert --enable-debug)
		;;
	asan)
		flags="-O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"
		options=(--enable-cassert --enable-debug)
		;;
	*) suite= ;;
esac
if [ -z "$suite" ]; then
	echo "usage: ${0##*/} 15|17|18|19 plain|assert|asan" >&2
	exit 2
fi

if [ ! -e "$prefix/complete" ]; then
	if [ "$(id -u)" -ne 0 ]; then
		say "needs root: build tools are installed, and the tests run as postgres"
		exit 77
	fi
	mkdir -p "$root"
	# two campaigns may want the same one
	exec 9>"$root/$major-$flavour.lock"
	flock 9
fi
if [ ! -e "$prefix/complete" ]; then
	export DEBIAN_FRONTEND=noninteractive
	needed="gcc libc6-dev make perl bison flex dpkg-dev zlib1g-dev valgrind libipc-run-perl ca-certificates"
	# shellcheck disable=SC2086 # a list of words
	if ! dpkg-query -W $needed >/dev/null 2>&1; then
		apt-get -q -y -o DPkg::Lock::Timeout=300 update >&2 &&
			apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $needed >&2 || {
			say "no build tools"
			exit 77
		}
	fi

	# The source comes through a list of its own: the system's stay as they are.
	say "PostgreSQL $major: source package"
	rm -rf "$prefix"
	mkdir -p "$prefix/apt/lists/partial"
	echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" \
		>"$prefix/apt/sources.list"
	apt=(apt-get -q -y -o "Dir::Etc::sourcelist=$prefix/apt/sources.list" -o Dir::Etc::sourceparts=-
		-o "Dir::State::lists=$prefix/apt/lists" -o Acquire::Check-Valid-Until=false -o Acquire::Retries=3
		-o APT::Sandbox::User=root)
	if ! (cd "$prefix/apt" && "${apt[@]}" update && "${apt[@]}" source "postgresql-$major") >"$prefix/log" 2>&1; then
		tail -n 5 "$prefix/log" >&2
		say "no source package of PostgreSQL $major"
		exit 77
	fi
	mv "$prefix"/apt/postgresql-"$major"-*/ "$prefix/src"
	rm -rf "$prefix/apt"

	# on unless refused, since 16
	[ "$major" -lt 16 ] || options+=(--without-icu)

	say "PostgreSQL $major: build ($flavour)"
	build()
	{
		cd "$prefix/src"
		# what the compiler's sanitizers find in configure's own tests is no news
		export ASAN_OPTIONS=detect_leaks=0
		./configure --prefix="$prefix" --without-readline --enable-tap-tests \
			${options[@]+"${options[@]}"} CFLAGS="-g $flags"
		make -s -j"$(nproc)"
		make -s -j"$(nproc)" -C contrib
		make -s install
		make -s -C contrib install
		make -s -C src/test/isolation all
		make -s -C src/test/regress all
	}
	if ! (set -e; build) >>"$prefix/log" 2>&1; then
		tail -n 30 "$prefix/log" >&2
		say "PostgreSQL $major ($flavour) does not build, see $prefix/log"
		exit 1
	fi
	# its suites are run, and write their results, as postgres
	id postgres >/dev/null 2>&1 && chown -R postgres: "$prefix/src"
	touch "$prefix/complete"
fi
echo "$prefix/bin/pg_config"

#!/usr/bin/env bash
#
# test/versions.sh [--build-only|--prepare-only] [17|18|19 ...] [-- check.sh arguments]
#
# Compiles (warnings are errors) and tests on other PostgreSQL versions, each
# in a Debian release of its own, made by debootstrap and kept for the next
# run.  A version that cannot be had here (no root, no mirror) is skipped.
#
#   test/versions.sh --build-only 17
#   test/versions.sh 18 -- regress isolation
#
# RSL_CHROOTS         where the systems are kept, 2 GB each (clang is a
#                     dependency of the server headers)
# RSL_DEBIAN_MIRROR   where they come from
# RSL_VERSION_LIMIT   seconds for one version's tests

set -euo pipefail
cd "$(dirname "$0")/.."

chroots=${RSL_CHROOTS:-/var/tmp/resilience-chroots}
mirror=${RSL_DEBIAN_MIRROR:-http://deb.debian.org/debian}
limit=${RSL_VERSION_LIMIT:-1800}
build_only=
prepare_only=
versions=()
check_args=()
while [ $# -gt 0 ]; do
	case $1 in
		--build-only) build_only=yes ;;
		--prepare-only) prepare_only=yes ;;
		--)
			shift
			check_args=("$@")
			break
			;;
		[0-9]*) versions+=("$1") ;;
		*)
			echo "usage: ${0##*/} [--build-only|--prepare-only] [17|18|19 ...] [-- check.sh arguments]" >&2
			exit 2
			;;
	esac
	shift
done
[ ${#versions[@]} -gt 0 ] || versions=(17 18)

passed=0
failed=0
skipped=0

# The suites that have the version, best first.  forky becomes Debian 14; sid
# is its stand-in as long as a mirror lacks it.
suites_of()
{
	case $1 in
		15) echo bookworm ;;
		17) echo trixie ;;
		18) echo forky sid ;;
		19) echo sid ;;
	esac
}

# What is packaged in experimental only, for a system of sid.
in_experimental() { [ "$1" -eq 19 ]; }

skip()
{
	echo "PostgreSQL $1: skipped ($2)"
	skipped=$((skipped + 1))
}

# Run a command inside, with its own mounts and processes: they vanish with
# it, whatever happens to us.
inside()
{
	local root=$1

	shift
	# unshare holds SIGTERM back until its child has ended: hence -k.
	# shellcheck disable=SC2016 # expanded by the inner shell
	timeout --foreground -k 10 "$limit" unshare --mount --pid --fork --kill-child bash -c '
		set -e
		root=$1
		shift
		mount -t proc proc "$root/proc"
		mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
		mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
		chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
			${http_proxy:+"http_proxy=$http_proxy"} HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
	' inside "$root" "$@"
}

# Make $chroots/pgNN, or bring it up to date with test/setup.sh.
prepare()
{
	local version=$1 root=$chroots/pg$1 suite script

	mkdir -p "$chroots"
	# Two runs must not make or change the same system at once.
	exec 9>"$root.lock"
	flock 9
	if [ ! -d "$root" ]; then
		for suite in $(suites_of "$version"); do
			echo "-- PostgreSQL $version: debootstrap $suite"
			# Debian 12 has not heard of forky.
			script=()
			[ -e "/usr/share/debootstrap/scripts/$suite" ] ||
				script=(/usr/share/debootstrap/scripts/sid)
			# Renamed when complete: an interrupted one is not reused.
			rm -rf "$root.new"
			if debootstrap --variant=minbase "$suite" "$root.new" "$mirror" "${script[@]}" >"$chroots/pg$version.log" 2>&1; then
				mv "$root.new" "$root"
				break
			fi
			tail -n 3 "$chroots/pg$version.log"
		done
		[ -d "$root" ] || return 1
	fi

	# Names must resolve today, not as on the day of the debootstrap; a
	# mirror may lag behind, its signatures are checked all the same; and
	# what can be made again at any time needs no fsync.
	cp /etc/resolv.conf "$root/etc/resolv.conf"
	[ -e "$root/etc/hosts" ] || echo '127.0.0.1 localhost' >"$root/etc/hosts"
	echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/90resilience"
	echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/resilience"

	# experimental is never chosen by itself: pinned up for PostgreSQL only.
	if in_experimental "$version"; then
		echo "deb $mirror experimental main" >"$root/etc/apt/sources.list.d/experimental.list"
		printf '%s\n' 'Package: /postgresql/ libpq* libecpg* libpgtypes*' \
			'Pin: release a=experimental' 'Pin-Priority: 500' >"$root/etc/apt/preferences.d/experimental"
	fi

	cp test/setup.sh "$root/root/setup.sh"
	inside "$root" env PG_MAJOR="$version" RSL_NO_BROWSER=1 RSL_NO_PROMETHEUS=1 bash /root/setup.sh check 9>&- || return 1
	rm -rf "$root"/var/cache/apt/archives/*.deb
	exec 9>&-
}

# Build and test there; the last line of check.sh is its count.
run()
{
	local version=$1 root=$chroots/pg$1 count src
	local inside=(inside "$root" env WERROR=1 RSL_NO_BROWSER=1 RSL_NO_PROMETHEUS=1 "RSL_RERUN=${RSL_RERUN:-}" "PROVE_JOBS=${PROVE_JOBS:-2}" "PG_CONFIG=/usr/lib/postgresql/$1/bin/pg_config")

	# A copy for this run alone: a second one may be under way.
	copy=$(mktemp -d "$root/tmp/src.XXXXXX")
	src=${copy#"$root"}
	tar --exclude=./.git --exclude=./build --exclude='*.o' --exclude='*.so' -cf - . |
		tar -C "$copy" --no-same-owner -xf -

	# shellcheck disable=SC2016 # expanded by the inner shell
	if ! "${inside[@]}" bash -c 'make -s -C "$1" -j"$(nproc)" WERROR=1' build "$src"; then
		echo "PostgreSQL $version: does not compile"
		failed=$((failed + 1))
		return
	fi
	passed=$((passed + 1))
	if [ -n "$build_only" ]; then
		echo "PostgreSQL $version: compiled"
		return
	fi

	"${inside[@]}" "$src/test/check.sh" ${check_args[@]+"${check_args[@]}"} 2>&1 </dev/null |
		tee "$copy.log" | sed '/^[0-9]* passed, [0-9]* failed$/d' || true
	count=$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$copy.log" | tail -n 1)
	if [ -z "$count" ]; then
		echo "PostgreSQL $version: tests did not end"
		failed=$((failed + 1))
		return
	fi
	echo "PostgreSQL $version: ${count% *} passed, ${count#* } failed"
	passed=$((passed + ${count% *}))
	failed=$((failed + ${count#* }))
}
copy=
trap '[ -z "$copy" ] || rm -rf "$copy" "$copy.log"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

for version in "${versions[@]}"; do
	if [ "$(id -u)" -ne 0 ]; then
		skip "$version" "needs root"
	elif [ -z "$(suites_of "$version")" ]; then
		skip "$version" "no Debian release known for it"
	elif ! unshare --mount --pid --fork true 2>/dev/null; then
		skip "$version" "no mount namespaces here"
	elif [ ! -d "$chroots/pg$version" ] && ! test/setup.sh versions; then
		skip "$version" "no debootstrap"
	elif ! prepare "$version"; then
		skip "$version" "no system with it, see above"
	elif [ -n "$prepare_only" ]; then
		echo "PostgreSQL $version: in $chroots/pg$version"
	else
		run "$version"
		rm -rf "$copy" "$copy.log"
	fi
done

[ -z "$prepare_only" ] || exit 0
echo "$passed passed, $failed failed${skipped:+, $skipped skipped}" | sed 's/, 0 skipped//'
[ "$failed" -eq 0 ]

#!/usr/bin/env bash
#
# test/hardening/races.sh
#
# test/hardening/t/races.pl as root on a bare Debian: a race that is held open by
# gdb, on a running server.  The others are found by the models (model.sh).
#
# The last line is "N passed, N failed".

set -euo pipefail
cd "$(dirname "$0")/../.."

RSL_NO_BROWSER=1 RSL_NO_PROMETHEUS=1 test/setup.sh check
command -v gdb >/dev/null || { apt-get -q -y -o DPkg::Lock::Timeout=300 update &&
	apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends gdb; } >/dev/null
exec test/check.sh test/hardening/t/races.pl

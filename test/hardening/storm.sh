#!/usr/bin/env bash
#
# test/hardening/storm.sh
#
# test/hardening/t/storm.pl as root on a bare Debian: 64 clients, cancels,
# terminations, kills, reloads, policies that change, databases that come and
# go; then the server has to be as if nothing had been.
#
#   RSL_STORM_SECONDS   how long: 120, or 600 with RSL_HARDENING_LONG=1
#   RSL_STORM_CLIENTS   64
#   RSL_SEED            repeats a storm's random sequences
#   PG_CONFIG           another PostgreSQL, e.g. one with assertions:
#                       PG_CONFIG=$(test/hardening/postgres.sh 15 assert)
#
# The last line is "N passed, N failed".

set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=120
[ -z "${RSL_HARDENING_LONG:-}" ] || seconds=600
export RSL_STORM_SECONDS=${RSL_STORM_SECONDS:-$seconds}
export RSL_LIMIT=${RSL_LIMIT:-$((RSL_STORM_SECONDS * 2 + 300))}

RSL_NO_BROWSER=1 RSL_NO_PROMETHEUS=1 test/setup.sh check
exec test/check.sh test/hardening/t/storm.pl

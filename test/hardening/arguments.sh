#!/usr/bin/env bash
#
# test/hardening/arguments.sh
#
# test/hardening/t/arguments.pl as root on a bare Debian: every function of the
# extension with arguments that nobody should give, in databases of four
# encodings.
#
#   RSL_ARGUMENTS_CALLS  random calls of each function: 15, or 200 with
#                        RSL_HARDENING_LONG=1
#   RSL_SEED             repeats a run's random choices
#   PG_CONFIG            another PostgreSQL, e.g. one with assertions
#
# The last line is "N passed, N failed".

set -euo pipefail
cd "$(dirname "$0")/../.."

export RSL_LIMIT=${RSL_LIMIT:-1800}
RSL_NO_BROWSER=1 RSL_NO_PROMETHEUS=1 test/setup.sh check
exec test/check.sh test/hardening/t/arguments.pl

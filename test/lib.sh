# shellcheck shell=bash
# shellcheck disable=SC2034  # read by the scripts that source this file
#
# Shared functions of the demo and the benchmark: throw-away clusters that
# leave nothing behind, and a little arithmetic.
#
# Source this file from a script with `set -euo pipefail`, then call
# rsl_begin.  PostgreSQL refuses to run as root, so when the caller is root
# servers run as the user "postgres" (RSL_USER to change); otherwise as the
# caller.  Clients always run as the caller: sockets need no password.

RSL_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PG_CONFIG=${PG_CONFIG:-pg_config}
RSL_USER=${RSL_USER:-postgres}
RSL_TMP=
RSL_CORES=$(nproc)
declare -A RSL_PORT=()      # cluster name -> port (which also names the socket)
declare -a RSL_PIDS=()      # background processes to end with the script

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# Tell apart "printed for a person at a terminal" and "goes into a log".
rsl_tty() { [[ -t 1 && ${TERM:-dumb} != dumb ]]; }

# --- start and end ---------------------------------------------------------

# rsl_begin: temporary folder, PATH, traps.  Nothing is left behind, whichever
# way the script ends; only kill -9 of the script itself gets past this.
rsl_begin() {
	local bindir
	command -v "$PG_CONFIG" >/dev/null || die "pg_config not found: install PostgreSQL and its development files (test/setup.sh)"
	bindir=$("$PG_CONFIG" --bindir)
	[[ -x $bindir/initdb && -x $bindir/pgbench ]] || die "no initdb or pgbench in $bindir (test/setup.sh installs them)"
	PATH=$bindir:$PATH
	# short, because the path of a Unix socket must fit in 107 characters
	RSL_TMP=$(mktemp -d /tmp/rsl.XXXXXX)
	chmod 755 "$RSL_TMP"
	if ((EUID == 0)); then
		id "$RSL_USER" >/dev/null 2>&1 || die "running as root needs a user \"$RSL_USER\" for the server"
		chown "$RSL_USER" "$RSL_TMP"
	fi
	trap rsl_end EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	trap 'exit 129' HUP
	export PGHOST=$RSL_TMP PGUSER=postgres PGDATABASE=postgres PGCONNECT_TIMEOUT=30
	unset PGPORT PGOPTIONS PGSERVICE PGPASSWORD
	export PGAPPNAME=
	unset PGAPPNAME
}

rsl_end() {
	local status=$? name pid
	trap - EXIT
	trap '' INT TERM HUP
	set +e
	[[ ${RSL_ON_EXIT:-} ]] && "$RSL_ON_EXIT" "$status"
	rsl_tty && [[ ${RSL_PROGRESS:-} ]] && printf '\r\033[K'
	for pid in "${RSL_PIDS[@]}"; do
		kill -TERM "$pid" 2>/dev/null
	done
	for name in "${!RSL_PORT[@]}"; do
		rsl_kill_cluster "$name"
	done
	# background jobs are children of this shell: wait for no more than 5 s
	for _ in {1..50}; do
		[[ $(jobs -pr) ]] || break
		sleep 0.1
	done
	for pid in $(jobs -pr); do
		kill -KILL "$pid" 2>/dev/null
	done
	if [[ $RSL_TMP == /tmp/rsl.* ]]; then
		if ((status != 0)) && [[ ${RSL_KEEP:-} ]]; then
			echo "kept: $RSL_TMP" >&2
		else
			rm -rf "$RSL_TMP"
		fi
	fi
	exit "$status"
}

# as_server CMD...: run as the user that owns the servers.  setpriv rather than
# su or runuser, which would go through PAM and lower the limit of open files.
exec_as_server() {
	# ours is for clients: a server would hand it to its foreign data wrappers
	unset PGCONNECT_TIMEOUT
	if ((EUID == 0)); then
		cd "$RSL_TMP" || exit
		HOME=$RSL_TMP exec setpriv --reuid="$RSL_USER" --regid="$(id -g "$RSL_USER")" --init-groups -- "$@"
	fi
	exec "$@"
}

as_server() { (exec_as_server "$@"); }

# background CMD...: start CMD, remember to end it; its pid is in RSL_LAST_PID.
# CMD is a program, exec_on or exec_as_server (not on or as_server: the signal
# that ends it would only reach the shell in between).
background() {
	"$@" &
	RSL_LAST_PID=$!
	RSL_PIDS+=("$RSL_LAST_PID")
}

# end_background PID: end one of them early.
end_background() {
	local pid=$1 i
	kill -TERM "$pid" 2>/dev/null || true
	wait "$pid" 2>/dev/null || true
	for i in "${!RSL_PIDS[@]}"; do
		if [[ ${RSL_PIDS[$i]} == "$pid" ]]; then unset "RSL_PIDS[$i]"; fi
	done
	RSL_PIDS=(${RSL_PIDS[@]+"${RSL_PIDS[@]}"})
}

# --- clusters --------------------------------------------------------------

# free_port: a port that nobody listens on, and that no cluster here has.
free_port() {
	local port used
	used=$(awk '$4 == "0A" { split($2, a, ":"); print a[2] }' /proc/net/tcp /proc/net/tcp6 2>/dev/null || true)
	for ((port = 54300 + $$ % 1000; ; port++)); do
		[[ $used == *"$(printf '%04X' "$port")"* ]] && continue
		[[ " ${RSL_PORT[*]:-} " == *" $port "* ]] && continue
		[[ -e $RSL_TMP/.s.PGSQL.$port ]] && continue
		echo "$port"
		return
	done
}

# init_cluster NAME [CONF LINE...]: a new data folder, not started.  Unix
# sockets only unless a line says otherwise; durability is left as PostgreSQL
# has it, because a benchmark without it is no benchmark.
init_cluster() {
	local name=$1 line
	shift
	as_server initdb -D "$RSL_TMP/$name" -A trust -N -U postgres --locale=C --encoding=UTF8 \
		>"$RSL_TMP/$name.initdb" 2>&1 || { cat "$RSL_TMP/$name.initdb" >&2; die "initdb failed"; }
	RSL_PORT[$name]=$(free_port)
	{
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$RSL_TMP'"
		echo "port = ${RSL_PORT[$name]}"
		for line in "$@"; do echo "$line"; done
	} >>"$RSL_TMP/$name/postgresql.conf"
}

# copy_cluster FROM TO [CONF LINE...]: FROM must be stopped.
copy_cluster() {
	local from=$1 to=$2 line
	shift 2
	as_server cp -a "$RSL_TMP/$from" "$RSL_TMP/$to"
	RSL_PORT[$to]=$(free_port)
	{
		echo "port = ${RSL_PORT[$to]}"
		for line in "$@"; do echo "$line"; done
	} >>"$RSL_TMP/$to/postgresql.conf"
}

# launch_cluster NAME: start what init_cluster or copy_cluster made.
launch_cluster() {
	local name=$1
	if ! as_server pg_ctl -D "$RSL_TMP/$name" -l "$RSL_TMP/$name.log" -w -t 120 start >"$RSL_TMP/$name.start" 2>&1; then
		tail -n 20 "$RSL_TMP/$name.log" "$RSL_TMP/$name.start" >&2
		die "the server \"$name\" did not start"
	fi
}

# start_cluster NAME [CONF LINE...]
start_cluster() {
	init_cluster "$@"
	launch_cluster "$1"
}

# stop_cluster NAME [MODE]
stop_cluster() {
	as_server pg_ctl -D "$RSL_TMP/$1" -m "${2:-fast}" -w -t 120 stop >/dev/null
}

restart_cluster() {
	stop_cluster "$1"
	launch_cluster "$1"
}

# Used at the end only: quick, and sure.  The pid is the one that this very
# data folder names, so nobody else's server can be hit.
rsl_kill_cluster() {
	local pidfile=$RSL_TMP/$1/postmaster.pid pid
	[[ -f $pidfile ]] || return 0
	read -r pid <"$pidfile" || return 0
	[[ $pid =~ ^[0-9]+$ ]] || return 0
	kill -QUIT "$pid" 2>/dev/null || return 0
	for _ in {1..100}; do
		# gone, or a zombie whose parent takes its time
		grep -qs "^State:.[^ZX]" "/proc/$pid/status" || return 0
		sleep 0.1
	done
	kill -KILL "$pid" 2>/dev/null
}

# on NAME CMD...: run a client program against that cluster.
on() {
	local name=$1
	shift
	PGPORT=${RSL_PORT[$name]} "$@"
}

# exec_on NAME CMD...: the same, for "background".
exec_on() {
	export PGPORT=${RSL_PORT[$1]}
	shift
	exec "$@"
}

# sql NAME SQL: run SQL, print the bare result.
sql() {
	on "$1" psql -X -q -At -v ON_ERROR_STOP=1 -c "$2"
}

# set_config NAME "a = b"...: change the server's settings without a restart.
set_config() {
	local name=$1 setting args=()
	shift
	for setting in "$@"; do args+=(-c "ALTER SYSTEM SET $setting"); done
	on "$name" psql -X -q -v ON_ERROR_STOP=1 "${args[@]}" -c 'SELECT pg_reload_conf()' >/dev/null
	sleep 0.3               # the postmaster passes the signal on
}

# have_extension: is resilience installed where this PostgreSQL looks?
have_extension() {
	[[ -f $("$PG_CONFIG" --pkglibdir)/resilience.so && -f $("$PG_CONFIG" --sharedir)/extension/resilience.control ]]
}

# --- numbers ---------------------------------------------------------------

# median: of the numbers on stdin, one a line
median() {
	sort -g | awk '{ a[NR] = $1 } END { if (NR == 0) { print "nan"; exit } print (NR % 2) ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2 }'
}

# quartiles: first and third of the numbers on stdin
quartiles() {
	sort -g | awk '{ a[NR] = $1 } END { if (NR == 0) { print "nan nan"; exit } print a[int((NR + 3) / 4)], a[int((3 * NR + 3) / 4)] }'
}

# calc EXPRESSION [FORMAT]: floating point
calc() {
	awk "BEGIN { printf \"${2:-%.2f}\", $1 }"
}

# field KEY: the value of KEY in the key=value pairs on stdin
field() {
	tr ' ' '\n' | awk -F= -v key="$1" '$1 == key { v = $2 } END { print v }'
}

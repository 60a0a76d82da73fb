/*-------------------------------------------------------------------------
 *
 * remote.c
 *		What can be known about a connection of postgres_fdw.
 *
 * Two things cannot be solved by the functions of a wrapper alone:
 *
 * - The remote transactions are committed in a callback at the end of the
 *	 local one.  If that fails, the state of the connections says which server
 *	 it was.  The callbacks of a backend run in the reverse order of their
 *	 registration, so one that is registered after postgres_fdw's own and one
 *	 registered before it enclose the remote commits.
 *
 * - After a timeout postgres_fdw would try to cancel the remote query and wait
 *	 up to 30 s for the answer of a server that is silent, or for ever.  A
 *	 connection that is known to be lost is given up at once instead.
 *
 * PostgreSQL 15's postgres_fdw exports GetConnection(), which tells the libpq
 * connection that a session uses for a server, in about a microsecond and
 * without a round trip.  Later ones do not (modules hide their symbols since
 * 16).  There we look at the sockets of this process: which of them are
 * connected to that server?  The timer ends these instead of cancelling the
 * statement; and a server to which there is none any more has been lost.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "access/xact.h"
#include "breaker/remote.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "libpq-fe.h"
#include "shared/errcodes.h"
#include "utils/elog.h"
#include "utils/inval.h"
#include "utils/syscache.h"

/* more servers and users in one session are not looked after at commit */
#define MAX_REMOTES		32

/* sockets with higher numbers are not found */
#define MAX_SOCKET		65536

typedef PGconn *(*get_connection_function) (UserMapping *user,
											bool will_prep_stmt, void **state);

typedef struct remote
{
	rsl_server *server;
	Oid			user;
	UserMapping mapping;
	bool		mapping_valid;

	/* of this transaction */
	bool		used;
	PGconn	   *connection;
	bool		blamed;
} remote;

static remote remotes[MAX_REMOTES];
static int	nremotes = 0;
static bool any_used = false;

static get_connection_function get_connection = NULL;
static bool callbacks_registered = false;
static emit_log_hook_type prev_emit_log_hook = NULL;

/* The remote commits are under way, or a savepoint's release is. */
static bool committing = false;
static rsl_guard commit_guard;
static rsl_section commit_section;
static volatile int broken = -1;	/* whose connection the timer has ended
									 * last */

static void
forget_mappings(Datum arg, int cacheid, uint32 hashvalue)
{
	for (int i = 0; i < nremotes; i++)
		remotes[i].mapping_valid = false;
}

/*
 * Sockets.  All this may run in a signal handler.
 */

/* Is a number one of a list with commas? */
static bool
lists_port(const char *list, int port)
{
	while (*list)
	{
		if (atoi(list) == port)
			return true;
		list += strcspn(list, ",");
		list += *list ? 1 : 0;
	}
	return false;
}

/*
 * Could an address be the server's?  A host that is given by name could be
 * anywhere; one that is given as an address is compared.
 */
static bool
is_address_of(const rsl_server *server, const struct sockaddr_storage *address)
{
	const char *wanted = server->hostaddr[0] ? server->hostaddr : server->host;
	struct in_addr ipv4;
	struct in6_addr ipv6;

	if (address->ss_family == AF_UNIX)
	{
		const char *path = ((const struct sockaddr_un *) address)->sun_path;
		const char *name = strrchr(path, '/');

		if (name == NULL || strncmp(name, "/.s.PGSQL.", 10) != 0 ||
			!lists_port(server->port, atoi(name + 10)) || server->hostaddr[0])
			return false;
		return server->host[0] != '/' ||
			(strlen(server->host) == (size_t) (name - path) &&
			 strncmp(server->host, path, name - path) == 0);
	}
	if (address->ss_family == AF_INET)
	{
		const struct sockaddr_in *in = (const struct sockaddr_in *) address;

		return lists_port(server->port, ntohs(in->sin_port)) &&
			wanted[0] != '/' &&
			(inet_pton(AF_INET, wanted, &ipv4) != 1 ||
			 memcmp(&ipv4, &in->sin_addr, sizeof(ipv4)) == 0);
	}
	if (address->ss_family == AF_INET6)
	{
		const struct sockaddr_in6 *in = (const struct sockaddr_in6 *) address;

		return lists_port(server->port, ntohs(in->sin6_port)) &&
			wanted[0] != '/' &&
			(inet_pton(AF_INET6, wanted, &ipv6) != 1 ||
			 memcmp(&ipv6, &in->sin6_addr, sizeof(ipv6)) == 0);
	}
	return false;
}

/* Count this process's connections to a server, and end them if asked to. */
static int
count_sockets(const rsl_server *server, bool end)
{
	int			saved_errno = errno;
	long		limit = sysconf(_SC_OPEN_MAX);
	int			n = 0;

	for (int fd = 3; fd < Min(limit, MAX_SOCKET); fd++)
	{
		struct sockaddr_storage address = {0};
		socklen_t	length = sizeof(address) - 1;

		if (getpeername(fd, (struct sockaddr *) &address, &length) != 0 ||
			!is_address_of(server, &address))
			continue;
		n++;
		if (end)
			shutdown(fd, SHUT_RDWR);
	}
	errno = saved_errno;
	return n;
}

/* Has the connection been lost, as far as can be known? */
static bool
is_lost(const remote *r)
{
	if (RSL_HAS_GET_CONNECTION)
		return r->connection && PQstatus(r->connection) == CONNECTION_BAD;
	return count_sockets(r->server, false) == 0;
}

/* See rsl_guard.break_call. */
static bool
break_connection(rsl_guard *guard)
{
	return count_sockets(((remote *) guard->arg)->server, true) > 0;
}

/*
 * One of several servers does not answer, and one cannot see which.  So end
 * the connections one after the other, a tick of the timer apart: when the
 * error comes it was the last one.  The others have committed already, or
 * will not any more.
 */
static bool
break_next_connection(rsl_guard *guard)
{
	while (broken + 1 < nremotes)
	{
		remote	   *r = &remotes[++broken];

		if (r->used && r->server->breaker >= 0 &&
			count_sockets(r->server, true) > 0)
			return true;
	}
	return false;
}

/* Nothing will be waited for on a connection whose server is silent. */
static void
give_up(remote *r)
{
	if (r->connection && PQsocket(r->connection) >= 0)
	{
		shutdown(PQsocket(r->connection), SHUT_RDWR);
		(void) PQconsumeInput(r->connection);
	}
}

/* The timeout of a statement: see rsl_guard.on_timeout. */
static void
statement_timed_out(rsl_guard *guard)
{
	give_up((remote *) guard->arg);
}

/* A statement's failure: what it leads to later is not another one. */
static void
statement_failed(rsl_guard *guard)
{
	((remote *) guard->arg)->blamed = true;
}

/* Count a failure that no section has seen. */
static void
blame(remote *r, int sqlstate, const char *message)
{
	rsl_call	call;

	if (r->blamed || r->server->breaker < 0)
		return;
	r->blamed = true;
	if (rsl_call_enter(&call, r->server->breaker, true, false) == RSL_ADMITTED)
		rsl_call_leave(&call, RSL_CALL_FAILURE, false, sqlstate, message);
}

/* Was a command sent that has not been answered? */
static bool
waits_for_answer(const remote *r)
{
	if (r->connection == NULL ||
		PQtransactionStatus(r->connection) != PQTRANS_ACTIVE)
		return false;

	/* with parallel_commit answers are read one after the other */
	return !PQconsumeInput(r->connection) || PQisBusy(r->connection);
}

/* The time is up while remote transactions are being ended. */
static void
commit_timed_out(rsl_guard *guard)
{
	for (int i = 0; i < nremotes; i++)
	{
		remote	   *r = &remotes[i];

		if (!r->used)
			continue;
		if (RSL_HAS_GET_CONNECTION ? waits_for_answer(r) : i == broken)
		{
			guard->policy = &r->server->policy;
			give_up(r);
			blame(r, ERRCODE_CALL_TIMED_OUT, "commit timed out");
		}
		/* connections that the timer has ended prove nothing */
		r->blamed = true;
	}
}

/*
 * Remote transactions are about to be ended.  The shortest call_timeout of
 * those concerned limits each wait.
 */
static void
begin_commit(void)
{
	const rsl_breaker_policy *policy = NULL;

	committing = true;
	for (int i = 0; i < nremotes; i++)
	{
		if (!remotes[i].used || remotes[i].server->breaker < 0)
			continue;
		if (policy == NULL ||
			(remotes[i].server->policy.call_timeout_ms > 0 &&
			 (policy->call_timeout_ms == 0 ||
			  remotes[i].server->policy.call_timeout_ms < policy->call_timeout_ms)))
			policy = &remotes[i].server->policy;
	}
	if (policy == NULL || policy->call_timeout_ms == 0)
		return;
	broken = -1;
	rsl_guard_watch(&commit_guard, policy, commit_timed_out);
	if (!RSL_HAS_GET_CONNECTION)
		commit_guard.break_call = break_next_connection;
	rsl_section_enter(&commit_section, &commit_guard, RSL_SECTION_TIMED);
}

/* They have been ended, or not: then the connections tell who is to blame. */
static void
end_commit(bool failed)
{
	if (!committing)
		return;
	committing = false;
	if (commit_guard.watching)
	{
		if (rsl_cancel_is_ours && failed)
			commit_timed_out(&commit_guard);
		rsl_section_leave(&commit_section);
		rsl_guard_unwatch(&commit_guard);
	}
	if (!failed)
		return;
	for (int i = 0; i < nremotes; i++)
	{
		remote	   *r = &remotes[i];

		if (r->used && !r->blamed && is_lost(r))
			blame(r, ERRCODE_CONNECTION_FAILURE,
				  "the connection was lost when the remote transaction was to be ended");
	}
}

static void
forget_transaction(void)
{
	if (!any_used)
		return;
	for (int i = 0; i < nremotes; i++)
	{
		remotes[i].used = false;
		remotes[i].connection = NULL;
		remotes[i].blamed = false;
	}
	any_used = false;
}

/* Runs before postgres_fdw's own. */
static void
outer_callback(XactEvent event, void *arg)
{
	if (!any_used)
		return;
	if (event == XACT_EVENT_PRE_COMMIT)
		begin_commit();
	else if (event == XACT_EVENT_ABORT)
		end_commit(true);
}

/* Runs after it. */
static void
inner_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			end_commit(false);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			forget_transaction();
			break;
		default:
			break;
	}
}

static void
outer_subxact_callback(SubXactEvent event, SubTransactionId mySubid,
					   SubTransactionId parentSubid, void *arg)
{
	if (!any_used)
		return;
	if (event == SUBXACT_EVENT_PRE_COMMIT_SUB)
		begin_commit();
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		end_commit(true);
}

static void
inner_subxact_callback(SubXactEvent event, SubTransactionId mySubid,
					   SubTransactionId parentSubid, void *arg)
{
	if (event == SUBXACT_EVENT_PRE_COMMIT_SUB)
		end_commit(false);
}

static void
emit_log(ErrorData *edata)
{
	(void) rsl_guard_rewrite_error(edata);
	if (prev_emit_log_hook)
		prev_emit_log_hook(edata);
}

static void
first_use(void)
{
	if (RSL_HAS_GET_CONNECTION)
		get_connection = (get_connection_function)
			load_external_function("$libdir/postgres_fdw", "GetConnection",
								   false, NULL);
	if (!callbacks_registered)
	{
		/* postgres_fdw has registered its own: it is connected */
		RegisterXactCallback(outer_callback, NULL);
		RegisterSubXactCallback(outer_subxact_callback, NULL);
		CacheRegisterSyscacheCallback(USERMAPPINGOID, forget_mappings, (Datum) 0);
		callbacks_registered = true;
	}
}

static remote *
find_remote(rsl_server *server, Oid user)
{
	for (int i = 0; i < nremotes; i++)
	{
		if (remotes[i].server == server && remotes[i].user == user)
			return &remotes[i];
	}

	/* forget one that this transaction does not need */
	for (int i = 0; i < MAX_REMOTES; i++)
	{
		if (remotes[i].used)
			continue;
		memset(&remotes[i], 0, sizeof(remote));
		remotes[i].server = server;
		remotes[i].user = user;
		nremotes = Max(nremotes, i + 1);
		return &remotes[i];
	}
	return NULL;
}

/*
 * postgres_fdw has just used its connection to a server: remember which one it
 * is, until the end of the transaction.  "guard" may be NULL.
 */
void
rsl_remote_used(rsl_server *server, rsl_guard *guard, Oid user)
{
	remote	   *r = find_remote(server, user);

	if (r == NULL)
		return;
	if (!r->used)
	{
		if (!callbacks_registered)
			first_use();
		r->used = any_used = true;
	}
	if (get_connection && r->connection == NULL)
	{
		if (!r->mapping_valid)
		{
			r->mapping = *GetUserMapping(user, server->serverid);
			r->mapping.options = NIL;
			r->mapping_valid = true;
		}
		r->connection = get_connection(&r->mapping, false, NULL);
	}
	if (guard)
	{
		guard->on_timeout = statement_timed_out;
		if (!RSL_HAS_GET_CONNECTION)
			guard->break_call = break_connection;
		guard->on_failure = statement_failed;
		guard->arg = r;
	}
}

/*
 * Foreign tables come into play in this backend: be there before postgres_fdw
 * has registered its own callbacks, so that ours run after them.  Who has
 * nothing to do with foreign tables does not pay for them.
 */
void
rsl_remote_prepare(void)
{
	static bool registered = false;

	if (registered)
		return;
	RegisterXactCallback(inner_callback, NULL);
	RegisterSubXactCallback(inner_subxact_callback, NULL);
	registered = true;
}

/* Called by _PG_init() when the library is being preloaded. */
void
rsl_remote_init(void)
{
	prev_emit_log_hook = emit_log_hook;
	emit_log_hook = emit_log;
}

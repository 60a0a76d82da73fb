/*-------------------------------------------------------------------------
 *
 * remote.c
 *		What can be known about a connection of postgres_fdw.
 *
 * postgres_fdw exports GetConnection(), which tells the libpq connection that
 * a session uses for a server, in about a microsecond and without a round
 * trip.  That solves two things that the functions of a wrapper cannot:
 *
 * - The remote transactions are committed in a callback at the end of the
 *	 local one.  If that fails, the state of the connections says which server
 *	 it was.  The callbacks of a backend run in the reverse order of their
 *	 registration, so one that is registered after postgres_fdw's own and one
 *	 registered before it enclose the remote commits.
 *
 * - After a timeout postgres_fdw would try to cancel the remote query and wait
 *	 up to 30 s for the answer of a server that is silent, or for ever.  A
 *	 connection whose socket is shut down is given up at once instead.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <sys/socket.h>

#include "access/xact.h"
#include "breaker/remote.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "libpq-fe.h"
#include "shared/pool.h"
#include "utils/elog.h"
#include "utils/inval.h"
#include "utils/syscache.h"

/* more servers and users in one session are not looked after at commit */
#define MAX_REMOTES		32

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

static void
forget_mappings(Datum arg, int cacheid, uint32 hashvalue)
{
	for (int i = 0; i < nremotes; i++)
		remotes[i].mapping_valid = false;
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
	if (rsl_call_enter(&call, r->server->breaker, true) == RSL_ADMITTED)
		rsl_call_leave(&call, RSL_CALL_FAILURE, false, sqlstate, message);
}

/* The time is up while remote transactions are being ended. */
static void
commit_timed_out(rsl_guard *guard)
{
	for (int i = 0; i < nremotes; i++)
	{
		remote	   *r = &remotes[i];

		if (!r->used || r->connection == NULL ||
			PQtransactionStatus(r->connection) != PQTRANS_ACTIVE)
			continue;
		guard->policy = &r->server->policy;
		give_up(r);
		blame(r, ERRCODE_CALL_TIMED_OUT, "commit timed out");
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
	rsl_guard_watch(&commit_guard, policy, commit_timed_out);
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

		if (r->used && r->connection &&
			PQstatus(r->connection) == CONNECTION_BAD)
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
	get_connection = (get_connection_function)
		load_external_function("$libdir/postgres_fdw", "GetConnection", false,
							   NULL);
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
	if (!r->used || r->connection == NULL)
	{
		if (!callbacks_registered)
			first_use();
		if (get_connection == NULL)
			return;
		if (!r->mapping_valid)
		{
			r->mapping = *GetUserMapping(user, server->serverid);
			r->mapping.options = NIL;
			r->mapping_valid = true;
		}
		r->connection = get_connection(&r->mapping, false, NULL);
		r->used = any_used = true;
	}
	if (guard)
	{
		guard->on_timeout = statement_timed_out;
		guard->on_failure = statement_failed;
		guard->arg = r;
	}
}

/* Called by _PG_init() when the library is being preloaded. */
void
rsl_remote_init(void)
{
	/* before postgres_fdw's, so that they run after them */
	RegisterXactCallback(inner_callback, NULL);
	RegisterSubXactCallback(inner_subxact_callback, NULL);
	prev_emit_log_hook = emit_log_hook;
	emit_log_hook = emit_log;
}

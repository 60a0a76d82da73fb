/*-------------------------------------------------------------------------
 *
 * sites.c
 *		Where statements and connections meet chaos experiments.
 *
 * Only what a client has sent is hit, or what it has sent through retry(),
 * run_feature() and call_with_breaker(), and never what runs while a
 * transaction commits: deferred triggers are recognized by being triggers.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "chaos/inject.h"
#include "chaos/record.h"
#include "chaos/sites.h"
#include "chaos/target.h"
#include "chaos/touched.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "shared/session.h"
#include "tcop/pquery.h"
#include "utils/fmgrprotos.h"

/* more foreign servers in one statement are hit again and again */
#define MAX_SERVERS		16

/* Of the statement that started last: whose target it is, until it ends. */
static uint32 targets = 0;
static bool in_statement = false;
static bool holds_locks = false;

/* the runs whose faults had begun before it, until the next one */
static uint32 injecting = 0;

/* The same, of a statement that retry() or the like runs for it. */
static uint32 attempt_targets = 0;

/* the foreign servers that it has called, or that were called to plan one */
static Oid	servers[MAX_SERVERS];
static int	nservers = 0;

/* between the decision to commit and the end of the transaction */
static bool is_committing = false;

static void register_callbacks(void);

static bool
is_in_trigger(void)
{
	return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0)) > 0;
}

/*
 * Was the client's message under way when there began to be something to do?
 * Then the depths were not counted from its beginning, and this may be a
 * statement within another one.
 */
static bool
has_begun_before(void)
{
	return GetCurrentStatementStartTimestamp() <=
		(TimestampTz) pg_atomic_read_u64(&rsl_experiments->armed_at);
}

/*
 * A cursor's query does not end with the statement that opened it: it may end
 * when its transaction commits.
 */
static bool
is_cursor(const QueryDesc *queryDesc)
{
	return queryDesc != NULL && ActivePortal != NULL && ActivePortal->name[0] != '\0';
}

/* Which runs inject faults now?  What began before is not hit by them. */
static uint32
injecting_runs(void)
{
	uint32		found = 0;

	for (int r = 0; r < RSL_MAX_RUNS; r++)
	{
		if (pg_atomic_read_u32(&rsl_experiments->runs[r].phase) == RSL_RUN_DURING)
			found |= UINT32_C(1) << r;
	}
	return found;
}

static void
forget_statement(void)
{
	targets = attempt_targets = 0;
	in_statement = false;
	nservers = 0;
}

/* Each attempt may be hit anew. */
static void
attempt_starts(const rsl_statement *statement)
{
	attempt_targets = 0;
	nservers = 0;
	if (is_committing || is_in_trigger() || has_begun_before())
		return;
	rsl_targets_refresh();
	if (rsl_session_is_spared())
		return;
	attempt_targets = rsl_targets_of_statement(statement);
	rsl_record_attempt(attempt_targets);
	attempt_targets &= injecting;
	if (attempt_targets != 0 && !rsl_statement_is_spared(statement->stmt))
		rsl_inject_at_start(attempt_targets);
}

/*
 * Whose target it is is found out before it is admitted, so that it is known
 * of those that are not.
 */
static void
statement_arrives(const PlannedStmt *stmt, const char *source_text,
				  QueryDesc *queryDesc)
{
	rsl_statement statement = {.stmt = stmt,.source_text = source_text,.queryDesc = queryDesc};

	register_callbacks();
	if (rsl_attempt_depth > 0)
		return;
	forget_statement();
	injecting = 0;
	if (is_committing || is_in_trigger())
		return;
	if (has_begun_before())
	{
		rsl_record_skip();
		return;
	}
	rsl_targets_refresh();
	if (rsl_session_is_spared())
		return;
	targets = rsl_targets_of_statement(&statement);
	if (is_cursor(queryDesc))
		rsl_record_skip();
	else
		rsl_record_start(&statement, targets);
	injecting = injecting_runs();
	targets &= injecting;
	if (targets != 0 && rsl_statement_is_spared(stmt))
		targets = 0;
	in_statement = true;
}

static void
statement_starts(const PlannedStmt *stmt, const char *source_text,
				 QueryDesc *queryDesc)
{
	rsl_statement statement = {.stmt = stmt,.source_text = source_text,.queryDesc = queryDesc};

	if (rsl_attempt_depth > 0)
	{
		attempt_starts(&statement);
		return;
	}
	if (targets == 0)
		return;
	holds_locks = !is_cursor(queryDesc) && rsl_statement_locks(stmt);
	rsl_inject_at_start(targets);
}

static void
statement_ends(void)
{
	uint32		ended = targets;

	if (rsl_attempt_depth > 0)
		return;
	if (in_statement)
	{
		if (ended != 0 && holds_locks)
			rsl_inject_at_end(ended);
		forget_statement();
	}
	if (!is_in_trigger())
		rsl_record_end();
}

static void
connection_starts(void)
{
	uint32		refused = rsl_targets_of_connection();

	if (refused != 0)
		rsl_inject_at_connection(refused);
}

/*
 * A server is called by a statement that runs, or to plan one: of that nothing
 * is known but the session.  Returns false if it is none of our business.
 */
static bool
look_at_call(uint32 *concerned)
{
	if (rsl_me == NULL || is_committing)
		return false;
	register_callbacks();
	*concerned = rsl_attempt_depth > 0 ? attempt_targets : targets;
	if (in_statement)
		return true;
	if (is_in_trigger() || has_begun_before())
		return false;
	rsl_targets_refresh();
	if (rsl_session_is_spared())
		return false;
	*concerned = rsl_targets_of_session();
	return true;
}

/* Each server at most once by a statement, and once while it is planned. */
static void
foreign_call(Oid server)
{
	uint32		concerned;

	if (!look_at_call(&concerned))
		return;
	for (int i = 0; i < nservers; i++)
	{
		if (servers[i] == server)
			return;
	}
	if (nservers < MAX_SERVERS)
		servers[nservers++] = server;
	rsl_record_foreign(concerned, server, !in_statement, false);
	if (in_statement)
		concerned &= injecting;
	if (concerned != 0)
		rsl_inject_at_foreign_call(concerned, server);
}

/* The SQL given to a breaker without a server is not known: the session is. */
static void
call_refused(Oid server)
{
	uint32		concerned;

	if (!look_at_call(&concerned))
		return;
	if (!OidIsValid(server))
		concerned = rsl_targets_of_session();
	rsl_record_foreign(concerned, server, !in_statement, true);
}

static void
transaction_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			is_committing = true;
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			is_committing = false;
			forget_statement();
			rsl_record_commit();
			break;
		case XACT_EVENT_ABORT:
			is_committing = false;
			forget_statement();
			rsl_record_abort();
			break;
		default:
			break;
	}
}

static void
subtransaction_callback(SubXactEvent event, SubTransactionId mine,
						SubTransactionId parent, void *arg)
{
	/* not one within a function of the statement that goes on */
	if (event == SUBXACT_EVENT_ABORT_SUB &&
		rsl_executor_depth + rsl_utility_depth == 0)
	{
		forget_statement();
		rsl_record_abort();
	}
}

/* Only those who have met an experiment pay for looking at transactions' ends. */
static void
register_callbacks(void)
{
	static bool registered = false;

	if (likely(registered))
		return;
	RegisterXactCallback(transaction_callback, NULL);
	RegisterSubXactCallback(subtransaction_callback, NULL);
	registered = true;
}

/* Called by _PG_init() when the library is being preloaded. */
void
rsl_chaos_init(void)
{
	rsl_chaos.statement_arrives = statement_arrives;
	rsl_chaos.statement_starts = statement_starts;
	rsl_chaos.statement_ends = statement_ends;
	rsl_chaos.connection_starts = connection_starts;
	rsl_chaos.foreign_call = foreign_call;
	rsl_chaos.call_refused = call_refused;
	rsl_chaos.error_reported = rsl_record_error;
}

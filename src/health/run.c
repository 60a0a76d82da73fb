/*-------------------------------------------------------------------------
 *
 * run.c
 *		SQL function that runs a health check now, in the caller's session.
 *
 * The check runs as its owner, in a subtransaction that is read-only and is
 * always rolled back, and no longer than its timeout.  What the background
 * workers know stays as it is: a check that somebody runs by hand says nothing
 * of how it does in its own time.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "health/kinds.h"
#include "policy/definitions.h"
#include "policy/health_policy.h"
#include "policy/read_query.h"
#include "shared/cancel.h"
#include "shared/pool.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"

PG_FUNCTION_INFO_V1(run_health_check);

static TimeoutId timer;
static bool timer_registered = false;
static volatile sig_atomic_t time_is_up = false;
static bool running = false;

static void
end_time(void)
{
	time_is_up = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

static void
start_timer(int ms)
{
	if (!timer_registered)
	{
		timer = RegisterTimeout(USER_TIMEOUT, end_time);
		timer_registered = true;
	}
	time_is_up = false;
	enable_timeout_after(timer, ms);
}

/* Whatever came of it: the timer cancels nothing any more. */
static void
stop_timer(void)
{
	disable_timeout(timer, false);
	if (time_is_up)
		rsl_cancel_forget_other();
	running = false;
}

/* Is it the end of the check's time, and not somebody's or another timeout's? */
static bool
is_our_cancel(const ErrorData *error)
{
	return time_is_up && error->sqlerrcode == ERRCODE_QUERY_CANCELED &&
		strcmp(error->message, _("canceling statement due to user request")) == 0;
}

/*
 * The definition, from the table, whoever asks; returns its query, NULL if it
 * has none.  Errors: 42704.
 */
char *
rsl_read_check(const char *name, rsl_check_policy *policy)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(name)};
	HeapTuple	row;
	Relation	relation;
	char	   *query;

	rsl_execute_as_owner(RSL_HEALTH_CHECKS_NAME,
						 "SELECT * FROM resilience.health_check_definitions "
						 "WHERE name OPERATOR(pg_catalog.=) $1",
						 1, types, values, NULL, &row);
	if (row == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("health check \"%s\" does not exist", name),
				 errhint("SELECT name FROM resilience.health_checks lists the health checks of this database.")));
	memset(policy, 0, sizeof(*policy));
	policy->home_database = MyDatabaseId;
	relation = table_open(rsl_extension_relation(RSL_HEALTH_CHECKS_NAME),
						  AccessShareLock);
	query = rsl_text_column(row, RelationGetDescr(relation), RSL_HCOL_QUERY);
	(void) rsl_health_check_kind.from_tuple(row, RelationGetDescr(relation), policy);
	table_close(relation, NoLock);
	return query;
}

static void
note_timeout(const rsl_check_policy *policy, rsl_check_result *result)
{
	memset(result, 0, sizeof(*result));
	result->status = RSL_UNHEALTHY;
	result->timed_out = true;
	rsl_check_say(result, "timed out after %d ms", policy->timeout_ms);
}

/* Run it.  An error that is its own is its result; others are raised. */
static void
run(const rsl_check_policy *policy, const char *query, rsl_check_result *result)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	running = true;
	start_timer(policy->timeout_ms);
	PG_TRY();
	{
		rsl_identity identity;

		rsl_become(policy->owner, &identity);
		rsl_run_check(policy, query, result);
		rsl_become_again(&identity);
		stop_timer();
		RollbackAndReleaseCurrentSubTransaction();
		/* a function that catches the cancel may not pass for a quick one */
		if (time_is_up)
			note_timeout(policy, result);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		stop_timer();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if ((error->sqlerrcode == ERRCODE_QUERY_CANCELED && !is_our_cancel(error)) ||
			error->sqlerrcode == ERRCODE_ASSERT_FAILURE)
			ReThrowError(error);

		if (time_is_up)
			note_timeout(policy, result);
		else
		{
			memset(result, 0, sizeof(*result));
			result->status = RSL_UNHEALTHY;
			rsl_check_message(result->message, error->message);
		}
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
}

/*
 * run_health_check(name text, OUT status text, OUT message text,
 *		OUT value float8, OUT duration interval) returns record
 *
 * Also of a check that is disabled, and on a standby.  status is that of this
 * run alone.  Errors: 42704 when there is no such check, 55000 within another
 * check; those of the check itself are its message.
 */
Datum
run_health_check(PG_FUNCTION_ARGS)
{
	char	   *name = rsl_name_argument(fcinfo, "health check");
	rsl_check_policy policy;
	rsl_check_result result;
	char	   *query;
	TupleDesc	desc;
	Datum		values[4];
	bool		nulls[4] = {0};
	Interval   *duration = palloc0(sizeof(Interval));

	rsl_require_shmem();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (running)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("run_health_check() cannot be called by a health check"),
				 errhint("Let the query look itself at what the other check looks at.")));

	query = rsl_read_check(name, &policy);
	duration->time = -rsl_now_us();
	run(&policy, query, &result);
	duration->time += rsl_now_us();

	values[0] = CStringGetTextDatum(rsl_health_status_name(result.status));
	values[1] = CStringGetTextDatum(result.message);
	nulls[1] = result.message[0] == '\0';
	values[2] = Float8GetDatum(result.value);
	nulls[2] = !result.has_value;
	values[3] = IntervalPGetDatum(duration);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

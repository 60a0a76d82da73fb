/*-------------------------------------------------------------------------
 *
 * generic.c
 *		Circuit breakers for anything: SQL functions that call through them.
 *
 * A breaker without a foreign server guards whatever its users say: an HTTP
 * extension, procedural code, dblink (which does not pass the functions of a
 * foreign data wrapper).
 *
 * breaker_acquire() and breaker_record() are for callers that do the work
 * themselves, maybe outside of the database.  What was acquired and is not
 * recorded goes back when the session ends, or when its lease is over: a trial
 * must not be lost because somebody forgot about it.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "breaker/guard.h"
#include "breaker/rejection.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "policy/publish.h"
#include "shared/experiments.h"
#include "shared/pool.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(call_with_breaker);
PG_FUNCTION_INFO_V1(breaker_acquire);
PG_FUNCTION_INFO_V1(breaker_record);

/* how long an acquired permit is kept at least */
#define MIN_LEASE_US		INT64CONST(30000000)

/* how many permits a session may hold; more push out the oldest */
#define MAX_HELD			64

typedef struct held_permit
{
	rsl_call	call;
	int64		since;			/* microseconds, monotonic */
	int64		lease_us;
} held_permit;

static held_permit held[MAX_HELD];	/* oldest first */
static int	nheld = 0;
static bool exit_registered = false;

static int
find_breaker(FunctionCallInfo fcinfo, rsl_breaker_policy *policy)
{
	char	   *name;
	int			index;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a circuit breaker must not be null")));
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	rsl_require_shmem();
	index = rsl_breaker_by_name(name);
	if (index < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("circuit breaker \"%s\" does not exist", name),
				 errhint("SELECT name FROM resilience.breakers lists the circuit breakers of this database; one that is created takes effect at COMMIT.")));
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	*policy = rsl_breakers[index].policy;
	LWLockRelease(rsl_config_lock);
	return index;
}

/* Run the statement; experiments hit it, and not the one that has called us. */
static int
execute(const char *sql)
{
	int			depth = rsl_attempt_depth;
	int			rc;

	rsl_attempt_depth = rsl_executor_depth + rsl_utility_depth;
	PG_TRY();
	{
		rc = SPI_execute(sql, false, 0);
	}
	PG_FINALLY();
	{
		rsl_attempt_depth = depth;
	}
	PG_END_TRY();
	return rc;
}

/*
 * call_with_breaker(name text, sql text) returns bigint
 *
 * Runs a statement as the caller, and returns how many rows it processed.
 * Errors: 42704 for an unknown breaker, 22023 for a statement that is missing,
 * 08R01 when the breaker is open, 53R01 when there are max_concurrent_calls,
 * 08R02 after call_timeout; else those of the statement.
 */
Datum
call_with_breaker(PG_FUNCTION_ARGS)
{
	rsl_breaker_policy *policy = palloc(sizeof(rsl_breaker_policy));
	int			index = find_breaker(fcinfo, policy);
	char	   *sql = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	rsl_guard  *guard = palloc0(sizeof(rsl_guard));
	uint64		processed;
	int			rc;

	if (sql == NULL || sql[strspn(sql, " \t\r\n;")] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the statement to be called must not be empty"),
				 errhint("For example: SELECT resilience.call_with_breaker('payments', $$SELECT http_get('...')$$);")));

	SPI_connect();
	rsl_guard_open(guard, index, policy, NULL, "call");
	RSL_GUARDED(guard, RSL_SECTION_TIMED, "call",
				rc = execute(sql));
	rsl_guard_close(guard);
	if (rc < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the statement cannot be called through a circuit breaker"),
				 errdetail("%s", SPI_result_code_string(rc)),
				 errhint("Transaction control and COPY to or from the client cannot be called by a function.")));
	processed = SPI_processed;
	SPI_finish();
	PG_RETURN_INT64((int64) processed);
}

static void
give_back(int i, rsl_call_outcome outcome, bool slow)
{
	rsl_call	call = held[i].call;

	nheld--;
	memmove(&held[i], &held[i + 1], (nheld - i) * sizeof(held_permit));
	rsl_call_leave(&call, outcome, slow, 0, NULL);
}

static void
give_back_all(int code, Datum arg)
{
	while (nheld > 0)
		give_back(0, RSL_CALL_NEITHER, false);
}

/* Permits whose lease is over, or whose breaker is gone. */
static void
give_back_expired(void)
{
	int64		now = rsl_now_us();

	for (int i = nheld - 1; i >= 0; i--)
	{
		if (now - held[i].since >= held[i].lease_us ||
			held[i].call.uid != pg_atomic_read_u32(&rsl_breakers[held[i].call.breaker].uid))
			give_back(i, RSL_CALL_NEITHER, false);
	}
}

/*
 * breaker_acquire(name text) returns boolean
 *
 * May the caller go ahead?  True obliges it to say what came of it, by
 * breaker_record(), in this session.
 */
Datum
breaker_acquire(PG_FUNCTION_ARGS)
{
	rsl_breaker_policy *policy = palloc(sizeof(rsl_breaker_policy));
	int			index = find_breaker(fcinfo, policy);
	rsl_breaker *breaker = &rsl_breakers[index];
	rsl_call	call;
	rsl_admittance admittance;

	if (!exit_registered)
	{
		before_shmem_exit(give_back_all, (Datum) 0);
		exit_registered = true;
	}
	give_back_expired();
	if (nheld == MAX_HELD)
		give_back(0, RSL_CALL_NEITHER, false);

	admittance = rsl_call_enter(&call, index, false, false);
	if (admittance != RSL_ADMITTED)
	{
		pg_atomic_fetch_add_u64(admittance == RSL_REJECTED_FULL ?
								&breaker->rejected_full : &breaker->rejected, 1);
		PG_RETURN_BOOL(false);
	}
	held[nheld].call = call;
	held[nheld].since = rsl_now_us();
	held[nheld].lease_us = Max(policy->call_timeout_ms * INT64CONST(1000),
							   MIN_LEASE_US);
	nheld++;
	PG_RETURN_BOOL(true);
}

/*
 * breaker_record(name text, success boolean, duration interval = NULL)
 *		returns void
 *
 * What came of the call that this session acquired last: one that was
 * forgotten does not lend its time to those after it.  Without any it is
 * counted as a call of its own, unless the breaker is not closed: then nobody
 * allowed it.  Without a duration it is the time since breaker_acquire().
 */
Datum
breaker_record(PG_FUNCTION_ARGS)
{
	rsl_breaker_policy *policy = palloc(sizeof(rsl_breaker_policy));
	int			index = find_breaker(fcinfo, policy);
	rsl_call_outcome outcome;
	double		ms = -1;
	int			found = -1;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the outcome of a call must be true or false, not null")));
	outcome = PG_GETARG_BOOL(1) ? RSL_CALL_SUCCESS : RSL_CALL_FAILURE;

	if (!PG_ARGISNULL(2))
	{
		ms = rsl_interval_ms(PG_GETARG_INTERVAL_P(2));
		if (ms < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the duration of a call must not be negative"),
					 errdetail("duration_ms=%.3f", ms)));
	}

	for (int i = nheld - 1; i >= 0 && found < 0; i--)
	{
		if (held[i].call.breaker == index &&
			held[i].call.uid == pg_atomic_read_u32(&rsl_breakers[index].uid))
			found = i;
	}
	if (found >= 0)
	{
		/* also when its lease is over: here it is */
		if (ms < 0)
			ms = (rsl_now_us() - held[found].since) / 1000.0;
		give_back(found, outcome, ms * 1000 >= policy->config.slow_call_us);
		give_back_expired();
	}
	else if (RSL_GATE_POSITION(pg_atomic_read_u64(&rsl_breakers[index].gate)) ==
			 RSL_BREAKER_CLOSED)
	{
		rsl_call	call;

		/* should it have opened in this moment, this is no trial */
		if (rsl_call_enter(&call, index, true, false) == RSL_ADMITTED)
			rsl_call_leave(&call, call.permit.trial ? RSL_CALL_NEITHER : outcome,
						   ms * 1000 >= policy->config.slow_call_us, 0, NULL);
	}
	PG_RETURN_VOID();
}

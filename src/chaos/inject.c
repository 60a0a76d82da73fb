/*-------------------------------------------------------------------------
 *
 * inject.c
 *		Faults: what experiments do to those whom they hit.
 *
 * A fault is one of the run's max_injections and, while it lasts, one of the
 * max_concurrent; both are taken by compare-and-swap, so that they hold
 * however many sessions are hit at once.  A delay looks ten times a second
 * whether its run still may: it does not outlive the experiment, the lever,
 * or the launcher.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "chaos/inject.h"
#include "chaos/target.h"
#include "common/pg_prng.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "shared/pool.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"

/* a delay looks this often whether it is still wanted */
#define LOOK_EVERY_US		INT64CONST(100000)

/* The fault that this backend is in, to be given back when it exits. */
static rsl_run *current_run = NULL;
static bool exit_registered = false;

static void
leave(void)
{
	rsl_run    *run = current_run;

	if (run == NULL)
		return;
	current_run = NULL;
	pg_atomic_fetch_sub_u32(&run->active, 1);
}

static void
leave_at_exit(int code, Datum arg)
{
	leave();
}

/* Take one of at most "max"; false if there is none left. */
static bool
take_one(pg_atomic_uint32 *counter, int32 max, uint32 *taken)
{
	uint32		n = pg_atomic_read_u32(counter);

	do
	{
		if (n >= (uint32) max)
			return false;
	} while (!pg_atomic_compare_exchange_u32(counter, &n, n + 1));
	*taken = n + 1;
	return true;
}

/*
 * Does a fault strike?  Then this backend is in it until it calls leave(),
 * and *number says which one of the run's it is.
 */
static bool
strike(int r, uint32 *number)
{
	const rsl_target *target = rsl_target_of_run(r);
	const rsl_experiment_policy *policy = &target->policy;
	rsl_run    *run = &rsl_experiments->runs[r];
	rsl_experiment *experiment = &rsl_experiments->experiments[target->experiment];
	uint32		ignored;

	if (!rsl_run_may_inject(r) ||
		!rsl_fault_strikes(policy->probability,
						   pg_prng_double(&pg_global_prng_state)))
		return false;
	if (pg_atomic_read_u32(&run->injections) >= (uint32) policy->max_injections)
		return false;

	if (!exit_registered)
	{
		before_shmem_exit(leave_at_exit, (Datum) 0);
		exit_registered = true;
	}
	if (!take_one(&run->active, policy->max_concurrent, &ignored))
	{
		if (pg_atomic_read_u32(&experiment->uid) == target->uid)
			pg_atomic_fetch_add_u64(&experiment->overflowed, 1);
		return false;
	}
	current_run = run;
	if (!take_one(&run->injections, policy->max_injections, number))
	{
		leave();
		return false;
	}
	if (pg_atomic_read_u32(&experiment->uid) == target->uid)
		pg_atomic_fetch_add_u64(&experiment->injections, 1);
	return true;
}

/*
 * Sleep as long as the experiment wants, and may.  Cancel, terminate and
 * time-outs end it with their error.
 */
static void
delay(int r)
{
	const rsl_experiment_policy *policy = &rsl_target_of_run(r)->policy;
	int64		until;

	if (policy->delay_us <= 0)
		return;
	until = rsl_now_us() +
		rsl_fault_delay_us(policy->distribution, policy->delay_us,
						   policy->variance_us,
						   pg_prng_double(&pg_global_prng_state),
						   pg_prng_double(&pg_global_prng_state));
	PG_TRY();
	{
		for (;;)
		{
			int64		left = until - rsl_now_us();

			CHECK_FOR_INTERRUPTS();
			if (left <= 0 || !rsl_run_may_inject(r))
				break;
			left = Min(left, LOOK_EVERY_US);
			if (WaitLatch(MyLatch,
						  WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						  (long) ((left + 999) / 1000), rsl_chaos_wait_event()) & WL_LATCH_SET)
				ResetLatch(MyLatch);
		}
	}
	PG_CATCH();
	{
		leave();
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/*
 * The errors.  Each says in DETAIL whose it is; those that stand for what the
 * server says itself have its words.
 */
static void
raise_fault(int r, uint32 number, int elevel, int sqlstate, const char *message)
{
	const rsl_experiment_policy *policy = &rsl_target_of_run(r)->policy;

	if (policy->sqlstate != 0)
		sqlstate = policy->sqlstate;
	ereport(elevel,
			(errcode(sqlstate),
			 errmsg_internal("%s", message),
			 errdetail_internal("chaos=%s impact=%s injection=%u max_injections=%d",
								policy->name, rsl_impact_name(policy->impact),
								number, policy->max_injections),
			 errhint("SELECT resilience.stop_experiment(%s) ends the experiment; \"resilience.chaos\" = off and a reload end all of them.",
					 quote_literal_cstr(policy->name))));
}

static char *
injected_message(int r)
{
	return psprintf("error injected by chaos experiment \"%s\"",
					rsl_target_of_run(r)->policy.name);
}

/* A statement is about to do its work. */
void
rsl_inject_at_start(uint32 targets)
{
	for (; targets != 0; targets &= targets - 1)
	{
		int			r = pg_rightmost_one_pos32(targets);
		rsl_impact	impact = rsl_target_of_run(r)->policy.impact;
		uint32		number;

		if (impact != RSL_IMPACT_LATENCY && impact != RSL_IMPACT_ERROR &&
			impact != RSL_IMPACT_CANCEL && impact != RSL_IMPACT_TERMINATE)
			continue;
		if (!strike(r, &number))
			continue;
		delay(r);
		leave();
		switch (impact)
		{
			case RSL_IMPACT_ERROR:
				raise_fault(r, number, ERROR, ERRCODE_SYSTEM_ERROR, injected_message(r));
				break;
			case RSL_IMPACT_CANCEL:
				raise_fault(r, number, ERROR, ERRCODE_QUERY_CANCELED,
							_("canceling statement due to user request"));
				break;
			case RSL_IMPACT_TERMINATE:
				raise_fault(r, number, FATAL, ERRCODE_ADMIN_SHUTDOWN,
							_("terminating connection due to administrator command"));
				break;
			default:
				break;
		}
	}
}

/* It has done its work, and holds all its locks. */
void
rsl_inject_at_end(uint32 targets)
{
	for (; targets != 0; targets &= targets - 1)
	{
		int			r = pg_rightmost_one_pos32(targets);
		uint32		number;

		if (rsl_target_of_run(r)->policy.impact != RSL_IMPACT_LOCK_DELAY ||
			!strike(r, &number))
			continue;
		delay(r);
		leave();
	}
}

void
rsl_inject_at_connection(uint32 targets)
{
	for (; targets != 0; targets &= targets - 1)
	{
		int			r = pg_rightmost_one_pos32(targets);
		uint32		number;

		if (!strike(r, &number))
			continue;
		delay(r);
		raise_fault(r, number, FATAL, ERRCODE_CANNOT_CONNECT_NOW,
					psprintf("connection refused by chaos experiment \"%s\"",
							 rsl_target_of_run(r)->policy.name));
	}
}

/* Within the section of a breaker, if the server has one. */
void
rsl_inject_at_foreign_call(uint32 targets, Oid server)
{
	for (; targets != 0; targets &= targets - 1)
	{
		int			r = pg_rightmost_one_pos32(targets);
		const rsl_experiment_policy *policy = &rsl_target_of_run(r)->policy;
		uint32		number;

		if ((policy->impact != RSL_IMPACT_FOREIGN_ERROR &&
			 policy->impact != RSL_IMPACT_FOREIGN_LATENCY) ||
			(OidIsValid(policy->server) && policy->server != server) ||
			!strike(r, &number))
			continue;
		delay(r);
		leave();
		if (policy->impact == RSL_IMPACT_FOREIGN_ERROR)
			raise_fault(r, number, ERROR, ERRCODE_CONNECTION_FAILURE,
						psprintf("call to foreign server \"%s\" failed: error injected by chaos experiment \"%s\"",
								 GetForeignServer(server)->servername, policy->name));
	}
}

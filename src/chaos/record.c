/*-------------------------------------------------------------------------
 *
 * record.c
 *		What statements are like before, during and after an experiment.
 *
 * While a statement runs all that is known of it is in this backend's memory;
 * when it ends it is added to the counts of each run that was measured when it
 * began, at the time (before, during, after) in which it began.  Nothing here
 * takes a lock, and nothing allocates but the look for foreign tables, if there
 * are experiments on servers.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "chaos/record.h"
#include "chaos/target.h"
#include "chaos/touched.h"
#include "foreign/fdwapi.h"
#include "port/pg_bitutils.h"
#include "shared/errcodes.h"
#include "storage/ipc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

/* The statement that is measured. */
typedef struct measured
{
	bool		active;
	bool		planning;		/* nothing but its plan was made yet */
	bool		done;			/* it ends with its transaction */
	bool		refused;		/* by a protection */
	TimestampTz message_at;
	TimestampTz began;
	TimestampTz ended;			/* if it is done */

	/* bits of runs */
	uint32 measured;
	uint32		warm;			/* of them */
	uint32		targets;		/* it is a target of these */
	uint32		foreign;		/* ... if it has to do with their server */
	uint32		named;			/* it names a table of their server */
	uint32		called;			/* it has called their server */

	uint32		serials[RSL_MAX_RUNS];
	uint8		times[RSL_MAX_RUNS];	/* rsl_run_time */
} measured;

static measured current;

/* the end of the one before */
static TimestampTz last_end = 0;

/* Those that are injected into calls of foreign servers. */
static bool
is_foreign(int r)
{
	rsl_impact	impact = rsl_target_of_run(r)->policy.impact;

	return impact == RSL_IMPACT_FOREIGN_ERROR ||
		impact == RSL_IMPACT_FOREIGN_LATENCY;
}

/* Whose experiment is about this server?  InvalidOid = none. */
static uint32
about_server(uint32 runs, Oid server)
{
	uint32		found = 0;

	for (; runs != 0; runs &= runs - 1)
	{
		int			r = pg_rightmost_one_pos32(runs);
		Oid			wanted = rsl_target_of_run(r)->policy.server;

		if (!OidIsValid(wanted) || wanted == server)
			found |= UINT32_C(1) << r;
	}
	return found;
}

/* Does it name tables of the servers that experiments are about? */
static uint32
naming_server(const rsl_statement *statement, uint32 runs)
{
	uint32		found = 0;
	List	   *touched;
	ListCell   *lc;

	touched = rsl_touched_relations(statement);
	foreach(lc, touched)
	{
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_FOREIGN_TABLE)
			found |= about_server(runs, GetForeignServerIdByRelId(lfirst_oid(lc)));
	}
	list_free(touched);
	return found;
}

/* Answers of a protection: not admitted, not called, degraded, no retry. */
static bool
is_refusal(int sqlstate)
{
	switch (sqlstate)
	{
		case ERRCODE_BULKHEAD_FULL:
		case ERRCODE_STATEMENT_SHED:
		case ERRCODE_WAIT_TIMED_OUT:
		case ERRCODE_PREEMPTED:
		case ERRCODE_BREAKER_OPEN:
		case ERRCODE_FEATURE_DEGRADED:
		case ERRCODE_RETRY_BUDGET_EXHAUSTED:
			return true;
		default:
			return false;
	}
}

/* It has ended: count it wherever it is measured. */
static void
settle(bool failed, TimestampTz now)
{
	int			bucket = rsl_histogram_bucket((uint64) Max(now - current.began, 0));

	current.active = false;
	last_end = now;
	for (uint32 left = current.measured; left != 0; left &= left - 1)
	{
		int			r = pg_rightmost_one_pos32(left);
		uint32		bit = UINT32_C(1) << r;
		rsl_run    *run = &rsl_experiments->runs[r];
		uint32		serial = pg_atomic_read_u32(&run->serial);
		rsl_run_time time = current.times[r];
		rsl_run_counts *counts;

		if (serial != current.serials[r])
		{
			/* what was warm has been started, or the place is another's */
			if ((current.warm & bit) == 0 || serial != current.serials[r] + 1)
				continue;
			time = RSL_TIME_BEFORE;
		}
		counts = &run->counts[time][(current.targets & bit) != 0 ?
									RSL_GROUP_TARGET : RSL_GROUP_REST];
		pg_atomic_fetch_add_u32(&counts->statements, 1);
		if (failed)
		{
			pg_atomic_fetch_add_u32(&counts->errors, 1);
			if (current.refused)
				pg_atomic_fetch_add_u32(&counts->refused, 1);
			continue;
		}
		if ((current.named & ~current.called & bit) != 0)
			pg_atomic_fetch_add_u32(&counts->fallbacks, 1);
		pg_atomic_fetch_add_u32(&counts->latencies[bucket], 1);
	}
}

/* Whatever was measured last has ended when the next one begins. */
static void
settle_done(void)
{
	if (current.active && current.done)
		settle(false, current.ended);
	current.active = false;
}

static void
begin(uint32 targets)
{
	uint32		armed = pg_atomic_read_u32(&rsl_shmem->chaos_armed);

	current.active = true;
	current.planning = current.done = current.refused = false;
	current.message_at = GetCurrentStatementStartTimestamp();
	current.began = Max(current.message_at, last_end);
	current.measured = current.warm = 0;
	current.targets = current.foreign = current.named = current.called = 0;
	for (; armed != 0; armed &= armed - 1)
	{
		int			r = pg_rightmost_one_pos32(armed);
		uint32		bit = UINT32_C(1) << r;
		rsl_run    *run = &rsl_experiments->runs[r];

		current.serials[r] = pg_atomic_read_u32(&run->serial);
		pg_read_barrier();
		if (pg_atomic_read_u32(&run->uid) != rsl_target_of_run(r)->uid)
			continue;
		switch (pg_atomic_read_u32(&run->phase))
		{
			case RSL_RUN_WARM:
				current.times[r] = pg_atomic_read_u32(&run->warm_time);
				current.warm |= bit;
				break;
			case RSL_RUN_BEFORE:
				current.times[r] = RSL_TIME_BEFORE;
				break;
			case RSL_RUN_DURING:
				current.times[r] = RSL_TIME_DURING;
				break;
			case RSL_RUN_AFTER:
				current.times[r] = RSL_TIME_AFTER;
				break;
			default:
				continue;
		}
		current.measured |=bit;
		if ((targets & bit) == 0)
			continue;
		if (is_foreign(r))
			current.foreign |= bit;
		else
			current.targets |= bit;
	}
}

void
rsl_record_start(const rsl_statement *statement, uint32 targets)
{
	/* what was called to plan it; by an Execute of its own it is not known */
	uint32		called = current.active && current.planning &&
		current.message_at == GetCurrentStatementStartTimestamp() ?
		current.called : 0;

	settle_done();
	begin(targets);
	if (current.foreign == 0)
		return;
	current.called = called & current.measured;
	current.named = naming_server(statement, current.foreign);
	current.targets |= current.named | current.called;
}

void
rsl_record_skip(void)
{
	settle_done();
}

void
rsl_record_attempt(uint32 targets)
{
	if (!current.active || current.done)
		return;
	for (uint32 left = targets & current.measured; left != 0; left &= left - 1)
	{
		int			r = pg_rightmost_one_pos32(left);

		if (is_foreign(r))
			current.foreign |= UINT32_C(1) << r;
		else
			current.targets |= UINT32_C(1) << r;
	}
}

void
rsl_record_foreign(uint32 targets, Oid server, bool planning, bool refused)
{
	uint32		concerned;

	if (!current.active || current.done)
	{
		if (!planning)
			return;
		settle_done();
		begin(targets);
		current.planning = true;
	}

	/* a breaker without a server refuses the SQL that was given to it */
	if (refused && !OidIsValid(server))
	{
		current.targets |= targets & current.measured &~current.foreign;
		return;
	}
	concerned = about_server(current.foreign, server);
	current.targets |= concerned;
	if (!refused)
		current.called |= concerned;
}

void
rsl_record_error(int sqlstate)
{
	current.refused = is_refusal(sqlstate);
}

/*
 * Without a transaction block the client waits for the commit, too.
 */
void
rsl_record_end(void)
{
	if (!current.active || current.done || current.planning)
		return;
	if (IsTransactionBlock())
	{
		settle(false, GetCurrentTimestamp());
		return;
	}
	current.done = true;
	current.ended = GetCurrentTimestamp();
}

/* A procedure or VACUUM goes on after it has committed. */
void
rsl_record_commit(void)
{
	if (!current.active || rsl_utility_depth > 0)
		return;
	if (current.planning)
		current.active = false;
	else
		settle(false, GetCurrentTimestamp());
}

/* ... or has rolled back; but nothing goes on when the process ends. */
void
rsl_record_abort(void)
{
	if (current.active && (rsl_utility_depth == 0 || proc_exit_inprogress))
		settle(true, GetCurrentTimestamp());
}

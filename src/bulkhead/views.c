/*-------------------------------------------------------------------------
 *
 * views.c
 *		Functions behind the view "bulkheads", and my_bulkheads().
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "policy/match.h"
#include "shared/budget.h"
#include "shared/compartments.h"
#include "shared/pool.h"
#include "shared/session.h"
#include "shared/statistics.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(bulkhead_statistics);
PG_FUNCTION_INFO_V1(compartment_statistics);
PG_FUNCTION_INFO_V1(my_bulkheads);
PG_FUNCTION_INFO_V1(query_cost_statistics);

#define STATISTICS_COLUMNS	19
#define COST_COLUMNS		3

static double
cpu_debt_seconds(rsl_budget *budget)
{
	return rsl_cpu_debt(pg_atomic_read_u64(&budget->debt),
						rsl_budget_number(&budget->rate), rsl_now_us()) / 1e6;
}
#define COMPARTMENT_COLUMNS	10

/*
 * bulkhead_statistics() returns setof record
 *
 * Live numbers of this database's bulkheads: name, connections, running,
 * waiting, admitted_total, refused_connections_total,
 * refused_statements_total, timed_out_total, preempted_total,
 * wait_seconds_total, client_gone_total, dropped_total, retried_total,
 * preempted_running_total, reverted_at, cpu_seconds_total, cpu_debt_seconds,
 * refused_budget_total,
 * no_compartment_total.
 */
Datum
bulkhead_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	LWLockAcquire(rsl_stats_lock, LW_SHARED);
	for (int i = 0; i < rsl_shmem->nbulkheads; i++)
	{
		rsl_bulkhead *bulkhead = &rsl_bulkheads[i];
		Datum		values[STATISTICS_COLUMNS];
		bool		nulls[STATISTICS_COLUMNS] = {0};
		rsl_bulkhead_counts counts;

		if (!bulkhead->published ||
			bulkhead->policy.home_database != MyDatabaseId)
			continue;

		rsl_count_bulkhead(i, &counts);
		values[0] = CStringGetTextDatum(bulkhead->policy.name);
		values[1] = Int32GetDatum(pg_atomic_read_u32(&bulkhead->connections));
		values[2] = Int32GetDatum(counts.running);
		values[3] = Int32GetDatum(counts.waiting);
		values[4] = Int64GetDatum(counts.admitted);
		values[5] = Int64GetDatum(pg_atomic_read_u64(&bulkhead->refused_connections));
		values[6] = Int64GetDatum(pg_atomic_read_u64(&bulkhead->refused_statements));
		values[7] = Int64GetDatum(pg_atomic_read_u64(&bulkhead->timed_out));
		values[8] = Int64GetDatum(pg_atomic_read_u64(&bulkhead->preempted));
		values[9] = Float8GetDatum(pg_atomic_read_u64(&bulkhead->wait_us) / 1e6);
		values[10] = Int64GetDatum(pg_atomic_read_u64(&bulkhead->overload.client_gone));
		values[11] = Int64GetDatum(pg_atomic_read_u64(&bulkhead->overload.dropped));
		values[12] = Int64GetDatum(pg_atomic_read_u64(&bulkhead->overload.retried));
		values[13] = Int64GetDatum(pg_atomic_read_u64(&bulkhead->preempted_running));
		nulls[14] = bulkhead->reverted_at == 0;
		values[14] = TimestampTzGetDatum(bulkhead->reverted_at);
		values[15] = Float8GetDatum(pg_atomic_read_u64(&bulkhead->budget.cpu_us) / 1e6);
		values[16] = Float8GetDatum(cpu_debt_seconds(&bulkhead->budget));
		values[17] = Int64GetDatum(pg_atomic_read_u64(&bulkhead->budget.refused));
		values[18] = Int64GetDatum(pg_atomic_read_u64(&bulkhead->no_compartment));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	LWLockRelease(rsl_stats_lock);
	LWLockRelease(rsl_config_lock);
	return (Datum) 0;
}

/* A row for a compartment, or, if it is NULL, for those that found none. */
static void
put_compartment(ReturnSetInfo *rsinfo, rsl_bulkhead *bulkhead,
				rsl_compartment *compartment, bool show_value,
				int32 running, int32 waiting)
{
	Datum		values[COMPARTMENT_COLUMNS];
	bool		nulls[COMPARTMENT_COLUMNS] = {0};

	values[0] = CStringGetTextDatum(bulkhead->policy.name);
	values[2] = Int32GetDatum(running);
	values[3] = Int32GetDatum(waiting);
	if (compartment == NULL)
	{
		nulls[1] = true;
		values[4] = Int64GetDatum(pg_atomic_read_u64(&bulkhead->no_compartment));
		for (int i = 5; i < COMPARTMENT_COLUMNS; i++)
			nulls[i] = true;
	}
	else
	{
		char		shown[RSL_COMPARTMENT_SHOWN_LEN];

		nulls[1] = !show_value;
		if (show_value)
			values[1] = CStringGetTextDatum(rsl_compartment_value(compartment, shown));
		values[4] = Int64GetDatum(pg_atomic_read_u64(&compartment->admitted));
		values[5] = Int64GetDatum((int64) pg_atomic_read_u32(&compartment->refused));
		values[6] = Int64GetDatum((int64) pg_atomic_read_u32(&compartment->timed_out));
		values[7] = Int64GetDatum((int64) pg_atomic_read_u32(&compartment->preempted));
		values[8] = Float8GetDatum(pg_atomic_read_u64(&compartment->wait_us) / 1e6);
		values[9] = TimestampTzGetDatum((TimestampTz) pg_atomic_read_u64(&compartment->last_used));
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * compartment_statistics() returns setof record
 *
 * Live numbers of the compartments of this database's bulkheads: bulkhead,
 * value, running, waiting, admitted_total, refused_statements_total,
 * timed_out_total, preempted_total, wait_seconds_total, last_used.  Values
 * are NULL for who may not see what other roles do.  A bulkhead some of whose
 * values found no compartment has one row more, without a value.
 */
Datum
compartment_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		show_value;
	int			npools;
	int32	   *running;
	int32	   *waiting;

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);
	show_value = has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	npools = rsl_npools();
	running = palloc(npools * sizeof(int32));
	waiting = palloc(npools * sizeof(int32));
	rsl_count_pools(npools, running, waiting);
	for (int i = 0; i < npools; i++)
	{
		rsl_pool   *pool = rsl_pool_by_number(i);
		rsl_compartment *compartment = rsl_compartment_of(pool);
		rsl_bulkhead *bulkhead = rsl_pool_bulkhead(pool);

		if (!bulkhead->published ||
			bulkhead->policy.home_database != MyDatabaseId)
			continue;
		if (compartment ?
			pg_atomic_read_u32(&compartment->uid) == bulkhead->uid :
			bulkhead->policy.conditions.tag_any_value &&
			pg_atomic_read_u64(&bulkhead->no_compartment) > 0)
			put_compartment(rsinfo, bulkhead, compartment, show_value,
							running[i], waiting[i]);
	}
	LWLockRelease(rsl_config_lock);
	return (Datum) 0;
}

/*
 * my_bulkheads() returns text[]
 *
 * Names of the bulkheads that this session has to pass, in the order in
 * which it passes them.
 */
Datum
my_bulkheads(PG_FUNCTION_ARGS)
{
	Datum	   *names;
	int			n = 0;

	rsl_require_shmem();
	if (rsl_me == NULL)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(TEXTOID));

	/* with the mode "off" nothing has been matched for this transaction */
	if (!rsl_admitted && rsl_match_stale())
		rsl_match_session();

	names = palloc(RSL_MAX_MATCHES * sizeof(Datum));
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_me->nmatches; i++)
	{
		rsl_match  *match = &rsl_me->matches[i];

		if (rsl_bulkheads[match->index].published &&
			rsl_bulkheads[match->index].uid == match->uid)
			names[n++] = CStringGetTextDatum(rsl_bulkheads[match->index].policy.name);
	}
	LWLockRelease(rsl_config_lock);

	PG_RETURN_ARRAYTYPE_P(construct_array(names, n, TEXTOID, -1, false,
										  TYPALIGN_INT));
}

/*
 * query_cost_statistics() returns setof record
 *
 * What budgets have learnt about queries: query_id, mean_cost (the planner's
 * unit), mean_cpu_ms (CPU time of the transactions that began with it).
 */
Datum
query_cost_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);

	for (int i = 0; i < RSL_QUERY_COSTS; i++)
	{
		uint64		query_id = pg_atomic_read_u64(&rsl_query_costs[i].query_id);
		uint64		word = rsl_query_cost_lookup(query_id);
		Datum		values[COST_COLUMNS];
		bool		nulls[COST_COLUMNS] = {0};

		if (word == 0)
			continue;
		values[0] = Int64GetDatum((int64) query_id);
		values[1] = Float8GetDatum(rsl_cost_mean_cost(word));
		values[2] = Float8GetDatum(rsl_cost_mean_cpu(word) / 1000);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

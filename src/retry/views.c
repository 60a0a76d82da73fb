/*-------------------------------------------------------------------------
 *
 * views.c
 *		Functions behind the views "retry_stats" and "retry_budgets".
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "fmgr.h"
#include "funcapi.h"
#include "shared/layout.h"
#include "shared/retry_budget.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(retry_statistics);
PG_FUNCTION_INFO_V1(retry_budget_statistics);

#define RETRY_COLUMNS		5
#define BUDGET_COLUMNS		5

/*
 * retry_statistics() returns setof record
 *
 * A row for each SQLSTATE and result that there was: sqlstate, result,
 * attempts_total, calls_total, delay_seconds_total.
 */
Datum
retry_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);

	LWLockAcquire(&rsl_retry_shmem->lock, LW_SHARED);
	for (int i = 0; i < lengthof(rsl_retry_shmem->entries); i++)
	{
		rsl_retry_entry *entry = &rsl_retry_shmem->entries[i];

		for (int r = 0; r < RSL_RETRY_RESULTS; r++)
		{
			rsl_retry_counts *counts = &entry->counts[r];
			uint64		calls = pg_atomic_read_u64(&counts->calls);
			Datum		values[RETRY_COLUMNS];
			bool		nulls[RETRY_COLUMNS] = {0};

			if (calls == 0)
				continue;
			values[0] = CStringGetTextDatum(i == RSL_RETRY_OTHER ? "other" :
											unpack_sql_state(entry->sqlstate));
			values[1] = CStringGetTextDatum(rsl_retry_result_name(r));
			values[2] = Int64GetDatum(pg_atomic_read_u64(&counts->attempts));
			values[3] = Int64GetDatum(calls);
			values[4] = Float8GetDatum(pg_atomic_read_u64(&counts->delay_us) / 1e6);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
	}
	LWLockRelease(&rsl_retry_shmem->lock);
	return (Datum) 0;
}

/*
 * retry_budget_statistics() returns setof record
 *
 * A row for each budget: name, tokens, first_attempts_total,
 * retries_allowed_total, retries_denied_total.
 */
Datum
retry_budget_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	rsl_require_shmem();
	InitMaterializedSRF(fcinfo, 0);

	LWLockAcquire(&rsl_retry_shmem->lock, LW_SHARED);
	for (int i = 0; i < rsl_retry_shmem->nbudgets; i++)
	{
		rsl_retry_budget *budget = &rsl_retry_shmem->budgets[i];
		Datum		values[BUDGET_COLUMNS];
		bool		nulls[BUDGET_COLUMNS] = {0};

		values[0] = CStringGetTextDatum(budget->name);
		values[1] = Float8GetDatum(rsl_retry_budget_tokens(budget));
		values[2] = Int64GetDatum(pg_atomic_read_u64(&budget->deposits));
		values[3] = Int64GetDatum(pg_atomic_read_u64(&budget->allowed));
		values[4] = Int64GetDatum(pg_atomic_read_u64(&budget->denied));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	LWLockRelease(&rsl_retry_shmem->lock);
	return (Datum) 0;
}

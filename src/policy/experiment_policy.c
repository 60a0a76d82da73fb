/*-------------------------------------------------------------------------
 *
 * experiment_policy.c
 *		Chaos experiments: from the extension's table to shared memory.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "common/hashfn.h"
#include "foreign/foreign.h"
#include "policy/experiment_policy.h"
#include "shared/workers.h"
#include "utils/syscache.h"

static int
capacity(void)
{
	return rsl_experiments->max_experiments;
}

static const void *
published(int index)
{
	rsl_experiment *experiment = &rsl_experiments->experiments[index];

	return experiment->published ? &experiment->policy : NULL;
}

static int64
interval_us(HeapTuple tuple, TupleDesc desc, int column)
{
	return (int64) (rsl_interval_column_ms(tuple, desc, column, 0) * 1000);
}

static TimestampTz
time_column(HeapTuple tuple, TupleDesc desc, int column, TimestampTz if_null)
{
	bool		isnull;
	Datum		datum = heap_getattr(tuple, column, desc, &isnull);

	return isnull ? if_null : DatumGetTimestampTz(datum);
}

/* Not in force: what names a role, database, server or relation that is gone. */
static bool
from_tuple(HeapTuple tuple, TupleDesc desc, void *result)
{
	rsl_experiment_policy *policy = result;
	char	   *word = rsl_text_column(tuple, desc, RSL_ECOL_DISTRIBUTION);
	char	   *code = rsl_text_column(tuple, desc, RSL_ECOL_SQLSTATE);
	char	   *server = rsl_text_column(tuple, desc, RSL_ECOL_SERVER);
	char	   *condition = rsl_text_column(tuple, desc, RSL_ECOL_STOP_CONDITION);
	bool		has_relation;
	Datum		datum;
	bool		isnull;

	strlcpy(policy->name, rsl_text_column(tuple, desc, RSL_COL_NAME), NAMEDATALEN);
	policy->impact = rsl_parse_impact(rsl_text_column(tuple, desc, RSL_ECOL_IMPACT));
	policy->probability = rsl_float_column(tuple, desc, RSL_ECOL_PROBABILITY, 0.001);
	policy->delay_us = interval_us(tuple, desc, RSL_ECOL_DELAY);
	policy->variance_us = interval_us(tuple, desc, RSL_ECOL_VARIANCE);
	policy->distribution = word ? rsl_parse_distribution(word) :
		policy->variance_us > 0 ? RSL_DISTRIBUTION_NORMAL : RSL_DISTRIBUTION_FIXED;
	if (code && strlen(code) == 5)
		policy->sqlstate = MAKE_SQLSTATE(code[0], code[1], code[2], code[3], code[4]);
	datum = heap_getattr(tuple, RSL_ECOL_RELATION, desc, &isnull);
	has_relation = !isnull;
	policy->relation = isnull ? InvalidOid : DatumGetObjectId(datum);
	policy->max_injections = rsl_int_column(tuple, desc, RSL_ECOL_MAX_INJECTIONS, 10);
	policy->max_concurrent = rsl_int_column(tuple, desc, RSL_ECOL_MAX_CONCURRENT, 10);
	policy->max_duration_ms = (int64)
		rsl_interval_column_ms(tuple, desc, RSL_ECOL_MAX_DURATION, 300000);
	policy->schedule_start = time_column(tuple, desc, RSL_ECOL_SCHEDULE_START, DT_NOBEGIN);
	policy->schedule_end = time_column(tuple, desc, RSL_ECOL_SCHEDULE_END, DT_NOEND);
	policy->schedule_interval_ms = (int64)
		rsl_interval_column_ms(tuple, desc, RSL_ECOL_SCHEDULE_INTERVAL, 0);
	policy->stop_when_unhealthy =
		rsl_bool_column(tuple, desc, RSL_ECOL_STOP_WHEN_UNHEALTHY, true);
	policy->has_stop_condition = condition != NULL;
	if (condition)
		policy->stop_hash = hash_bytes((const unsigned char *) condition,
									   (int) strlen(condition));
	datum = heap_getattr(tuple, RSL_ECOL_OWNER, desc, &isnull);
	policy->owner = isnull ? InvalidOid : DatumGetObjectId(datum);
	if (server)
	{
		ForeignServer *found = GetForeignServerByName(server, true);

		if (found == NULL)
			return false;
		policy->server = found->serverid;
	}
	/* nor a relation that was dropped (0 since then) */
	if (has_relation &&
		!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(policy->relation)))
		return false;
	return rsl_conditions_from_tuple(tuple, desc, &policy->conditions) &&
		policy->impact >= 0 && policy->distribution >= 0;
}

static void
put(int index, const void *policy)
{
	rsl_experiment_put(index, policy);
	/* at start, before any reader has been there */
	rsl_database_put(((const rsl_experiment_policy *) policy)->home_database);
}

static void
announce(void)
{
	uint32		n = 0;

	for (int i = 0; i < rsl_experiments->max_experiments; i++)
		n += rsl_experiments->experiments[i].published ? 1 : 0;
	pg_atomic_write_u32(&rsl_experiments->npublished, n);
	rsl_chaos_arm();
}

const rsl_kind rsl_experiment_kind = {
	.relname = RSL_EXPERIMENTS_NAME,
	.singular = "experiment",
	.plural = "experiments",
	.setting = "resilience.max_experiments",
	.event_kind = RSL_EVENT_EXPERIMENT,
	.policy_size = sizeof(rsl_experiment_policy),
	.owner_offset = offsetof(rsl_experiment_policy, owner),
	.role_offset = offsetof(rsl_experiment_policy, conditions) + offsetof(rsl_conditions, role),
	.capacity = capacity,
	.published = published,
	.from_tuple = from_tuple,
	.put = put,
	.retire = rsl_experiment_retire,
	.announce = announce,
};

/*-------------------------------------------------------------------------
 *
 * health_policy.c
 *		Health checks: from the extension's table to shared memory.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "common/hashfn.h"
#include "policy/health_policy.h"
#include "shared/workers.h"

static int
capacity(void)
{
	return rsl_health->max_checks;
}

static const void *
published(int index)
{
	rsl_check  *check = &rsl_health->checks[index];

	return check->published ? &check->policy : NULL;
}

static bool
from_tuple(HeapTuple tuple, TupleDesc desc, void *result)
{
	rsl_check_policy *policy = result;
	char	   *query = rsl_text_column(tuple, desc, RSL_HCOL_QUERY);
	char	   *target = rsl_text_column(tuple, desc, RSL_HCOL_TARGET);
	Datum		datum;
	bool		isnull;

	strlcpy(policy->name, rsl_text_column(tuple, desc, RSL_HCOL_NAME), NAMEDATALEN);
	policy->kind = rsl_parse_check_kind(rsl_text_column(tuple, desc, RSL_HCOL_KIND));
	datum = heap_getattr(tuple, RSL_HCOL_OWNER, desc, &isnull);
	policy->owner = isnull ? InvalidOid : DatumGetObjectId(datum);
	if (query)
		policy->query_hash = hash_bytes((const unsigned char *) query,
										(int) strlen(query));
	if (target)
		strlcpy(policy->target, target, NAMEDATALEN);
	policy->warning_threshold =
		rsl_float_column(tuple, desc, RSL_HCOL_WARNING_THRESHOLD, NAN);
	policy->critical_threshold =
		rsl_float_column(tuple, desc, RSL_HCOL_CRITICAL_THRESHOLD, NAN);
	policy->interval_ms = (int32)
		rsl_interval_column_ms(tuple, desc, RSL_HCOL_CHECK_INTERVAL, 10000);
	policy->timeout_ms = (int32)
		rsl_interval_column_ms(tuple, desc, RSL_HCOL_TIMEOUT, 1000);
	policy->failure_threshold =
		rsl_int_column(tuple, desc, RSL_HCOL_FAILURE_THRESHOLD, 3);
	policy->success_threshold =
		rsl_int_column(tuple, desc, RSL_HCOL_SUCCESS_THRESHOLD, 1);
	policy->critical = rsl_bool_column(tuple, desc, RSL_HCOL_CRITICAL, false);
	policy->enabled = rsl_bool_column(tuple, desc, RSL_HCOL_ENABLED, true);
	return policy->kind >= 0;
}

static void
put(int index, const void *policy)
{
	rsl_check_put(index, policy);
	/* at start, before any reader has been there */
	rsl_database_put(((const rsl_check_policy *) policy)->home_database);
}

static void
announce(void)
{
	uint32		n = 0;

	for (int i = 0; i < rsl_health->max_checks; i++)
		n += rsl_health->checks[i].published ? 1 : 0;
	pg_atomic_write_u32(&rsl_health->npublished, n);
	pg_write_barrier();
	pg_atomic_fetch_add_u64(&rsl_health->generation, 1);
}

const rsl_kind rsl_health_check_kind = {
	.relname = RSL_HEALTH_CHECKS_NAME,
	.singular = "health check",
	.plural = "health checks",
	.setting = "resilience.max_health_checks",
	.event_kind = RSL_EVENT_HEALTH_CHECK,
	.policy_size = sizeof(rsl_check_policy),
	.owner_offset = offsetof(rsl_check_policy, owner),
	.capacity = capacity,
	.published = published,
	.from_tuple = from_tuple,
	.put = put,
	.retire = rsl_check_retire,
	.announce = announce,
};

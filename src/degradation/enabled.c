/*-------------------------------------------------------------------------
 *
 * enabled.c
 *		feature_enabled(): asked everywhere, all the time.
 *
 * Each backend that asks has a hash table of its own with the names of its
 * database's features and where they are in shared memory.  It is made anew
 * by the first question after any feature was defined, changed or dropped,
 * which the generation of the published features tells; all other questions
 * neither lock, allocate, read catalogs nor fail.  A name that is not in the
 * table has no feature, and is enabled.  (About 28 kB for 128 features of one
 * database.)
 *
 * Calls are counted in that table, and added to the totals when the
 * transaction ends, or after some hundred calls.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "degradation/enabled.h"
#include "fmgr.h"
#include "policy/match.h"
#include "port/pg_bitutils.h"
#include "shared/session.h"
#include "shared/settings.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(feature_enabled);
PG_FUNCTION_INFO_V1(feature_enabled_for_key);

/* after so many calls of one feature all counts are added to the totals */
#define FLUSH_CALLS		256

static rsl_known_feature *table = NULL; /* size is a power of two */
static uint32 table_size = 0;
static uint64 table_generation = PG_UINT64_MAX; /* never a generation */

/* those with counts */
static rsl_known_feature *first_counted = NULL;

/* Add this backend's counts to the totals. */
static void
flush_counts(void)
{
	while (first_counted != NULL)
	{
		rsl_known_feature *known = first_counted;

		first_counted = known->next_counted;
		/* one that was dropped meanwhile has no totals any more */
		if (pg_atomic_read_u32(&known->feature->uid) == known->uid)
		{
			pg_atomic_fetch_add_u64(&known->feature->evaluations,
									known->evaluations);
			if (known->degraded > 0)
				pg_atomic_fetch_add_u64(&known->feature->degraded,
										known->degraded);
		}
		known->evaluations = known->degraded = 0;
		known->counted = false;
	}
}

static void
end_of_transaction(XactEvent event, void *arg)
{
	if (first_counted == NULL)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			flush_counts();
			break;
		default:
			break;
	}
}

/* Where a name is, or the unused place where it would be. */
static inline rsl_known_feature *
find_place(const char *name, int length, uint32 hash)
{
	uint32		i = hash & (table_size - 1);

	while (table[i].feature != NULL &&
		   (table[i].hash != hash || table[i].length != length ||
			memcmp(table[i].name, name, length) != 0))
		i = (i + 1) & (table_size - 1);
	return &table[i];
}

/* Have room for so many.  An empty place ends each search. */
static void
make_room(uint32 n)
{
	uint32		size = pg_nextpower2_32(Max(2 * n, 16));

	if (size > table_size)
	{
		rsl_known_feature *larger =
			MemoryContextAlloc(TopMemoryContext,
							   size * sizeof(rsl_known_feature));

		if (table)
			pfree(table);
		table = larger;
		table_size = size;
	}
	memset(table, 0, table_size * sizeof(rsl_known_feature));
}

/* Features have changed: read which there are. */
static void
refresh(void)
{
	static bool registered = false;
	uint32		n = 0;

	if (!registered)
	{
		RegisterXactCallback(end_of_transaction, NULL);
		registered = true;
	}
	flush_counts();
	table_generation = PG_UINT64_MAX;

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_features->max_features; i++)
	{
		if (rsl_features->features[i].published &&
			rsl_features->features[i].policy.home_database == MyDatabaseId)
			n++;
	}
	make_room(n);
	for (int i = 0; i < rsl_features->max_features; i++)
	{
		rsl_feature *feature = &rsl_features->features[i];
		rsl_known_feature *known;
		int			length = strlen(feature->policy.name);
		uint32		hash;

		if (!feature->published ||
			feature->policy.home_database != MyDatabaseId)
			continue;
		hash = hash_bytes((const unsigned char *) feature->policy.name, length);
		known = find_place(feature->policy.name, length, hash);
		known->feature = feature;
		known->uid = pg_atomic_read_u32(&feature->uid);
		known->hash = hash;
		known->length = (uint8) length;
		memcpy(known->name, feature->policy.name, length);
	}
	table_generation = pg_atomic_read_u64(&rsl_features->generation);
	LWLockRelease(rsl_config_lock);
}

rsl_known_feature *
rsl_find_feature(const char *name, int length)
{
	rsl_known_feature *known;

	/* in single-user mode, or not preloaded; no features at all */
	if (unlikely(rsl_features == NULL) ||
		pg_atomic_read_u32(&rsl_features->npublished) == 0)
		return NULL;
	if (unlikely(pg_atomic_read_u64(&rsl_features->generation) != table_generation))
		refresh();
	known = find_place(name, length,
					   hash_bytes((const unsigned char *) name, length));
	return known->feature != NULL ? known : NULL;
}

/* The priority of the work that asks. */
static rsl_priority
my_priority(void)
{
	if (likely(rsl_admitted))
		return rsl_me->priority;
	if (IsParallelWorker() && MyProc->lockGroupLeader != NULL)
		return rsl_sessions[rsl_slot_number(MyProc->lockGroupLeader)].priority;
	if (rsl_me != NULL && rsl_matches.generation != 0)
		return rsl_session_priority(0);
	return Min(rsl_priority_setting, rsl_requested_priority);
}

/* Take one of the calls that may pass although the feature is degraded. */
static bool
take_trial(rsl_feature *feature)
{
	uint32		trials = pg_atomic_read_u32(&feature->trials);

	while (trials > 0)
	{
		if (pg_atomic_compare_exchange_u32(&feature->trials, &trials, trials - 1))
			return true;
	}
	return false;
}

static inline rsl_feature_verdict
judge(rsl_feature *feature, uint32 hash)
{
	uint32		state = pg_atomic_read_u32(&feature->state);
	int32		minimum;

	if (unlikely(state != RSL_FEATURE_ON) &&
		!(state == RSL_FEATURE_DEGRADED && take_trial(feature)))
		return RSL_FEATURE_BY_STATE;
	minimum = (int32) pg_atomic_read_u32(&feature->minimum_priority);
	if (minimum >= 0 && unlikely(rsl_server_is_loaded()) &&
		(int32) my_priority() < minimum)
		return RSL_FEATURE_BY_LOAD;
	return rsl_feature_serves(feature, hash) ? RSL_FEATURE_SERVED :
		RSL_FEATURE_BY_DIMMER;
}

rsl_feature_verdict
rsl_feature_decide(rsl_known_feature *known, uint32 hash)
{
	rsl_feature_verdict verdict = judge(known->feature, hash);

	if (!known->counted)
	{
		known->counted = true;
		known->next_counted = first_counted;
		first_counted = known;
	}
	known->evaluations++;
	if (verdict != RSL_FEATURE_SERVED)
		known->degraded++;
	if (unlikely(known->evaluations >= FLUSH_CALLS))
		flush_counts();
	return verdict;
}

/* A call without a key: any number, where it matters at all. */
uint32
rsl_feature_random_hash(const rsl_known_feature *known)
{
	if (likely(pg_atomic_read_u32(&known->feature->dimmer) >= RSL_DIMMER_ALL))
		return 0;
	return pg_prng_uint32(&pg_global_prng_state);
}

/*
 * feature_enabled(name text) returns boolean
 *
 * Is this feature served in full to this call?  True when there is no such
 * feature.  False while it is degraded or off, while the server is loaded and
 * the session's priority is below the feature's minimum_priority, and for the
 * share of calls that the dimmer takes away.  Never fails.
 */
Datum
feature_enabled(PG_FUNCTION_ARGS)
{
	text	   *name = PG_GETARG_TEXT_PP(0);
	rsl_known_feature *known = rsl_find_feature(VARDATA_ANY(name),
												VARSIZE_ANY_EXHDR(name));

	PG_RETURN_BOOL(known == NULL ||
				   rsl_feature_decide(known, rsl_feature_random_hash(known)) == RSL_FEATURE_SERVED);
}

/*
 * feature_enabled(name text, key text) returns boolean
 *
 * The same, but the dimmer decides by the key: of one feature a key always
 * gets the same answer as long as the share is the same, and who was served
 * with a smaller share is served with a larger one.  A NULL key is as none.
 */
Datum
feature_enabled_for_key(PG_FUNCTION_ARGS)
{
	text	   *name;
	rsl_known_feature *known;
	uint32		hash;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	name = PG_GETARG_TEXT_PP(0);
	known = rsl_find_feature(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name));
	if (known == NULL)
		PG_RETURN_BOOL(true);
	if (PG_ARGISNULL(1))
		hash = rsl_feature_random_hash(known);
	else
	{
		text	   *key = PG_GETARG_TEXT_PP(1);

		/* the same users should not lose all features at once */
		hash = murmurhash32(hash_combine(known->hash,
										 hash_bytes((const unsigned char *) VARDATA_ANY(key),
													VARSIZE_ANY_EXHDR(key))));
	}
	PG_RETURN_BOOL(rsl_feature_decide(known, hash) == RSL_FEATURE_SERVED);
}

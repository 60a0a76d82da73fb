/*-------------------------------------------------------------------------
 *
 * feature_policy.c
 *		Features and degradations: from the tables to shared memory.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "policy/feature_policy.h"
#include "shared/settings.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

/*
 * Features
 */

static int
feature_capacity(void)
{
	return rsl_features->max_features;
}

static const void *
feature_published(int index)
{
	rsl_feature *feature = &rsl_features->features[index];

	return feature->published ? &feature->policy : NULL;
}

static void
copy_text(char *to, size_t size, HeapTuple tuple, TupleDesc desc, int column)
{
	char	   *text = rsl_text_column(tuple, desc, column);

	if (text)
		strlcpy(to, text, size);
}

static bool
feature_from_tuple(HeapTuple tuple, TupleDesc desc, void *result)
{
	rsl_feature_policy *policy = result;
	char	   *priority = rsl_text_column(tuple, desc, RSL_FCOL_MINIMUM_PRIORITY);
	Datum		datum;
	bool		isnull;

	copy_text(policy->name, NAMEDATALEN, tuple, desc, RSL_FCOL_NAME);
	copy_text(policy->health_check, NAMEDATALEN, tuple, desc, RSL_FCOL_HEALTH_CHECK);
	copy_text(policy->breaker, NAMEDATALEN, tuple, desc, RSL_FCOL_BREAKER);
	copy_text(policy->reason, RSL_FEATURE_REASON_LEN, tuple, desc, RSL_FCOL_REASON);
	policy->enabled = rsl_bool_column(tuple, desc, RSL_FCOL_ENABLED, true);
	policy->minimum_priority = priority ? rsl_parse_priority(priority) : -1;
	policy->dimmable = rsl_bool_column(tuple, desc, RSL_FCOL_DIMMABLE, false);
	policy->has_fallback = rsl_text_column(tuple, desc, RSL_FCOL_FALLBACK_SQL) != NULL;
	policy->fallback_on_error =
		rsl_bool_column(tuple, desc, RSL_FCOL_FALLBACK_ON_ERROR, false);
	datum = heap_getattr(tuple, RSL_FCOL_EXPIRES_AT, desc, &isnull);
	policy->expires_at = isnull ? DT_NOEND : DatumGetTimestampTz(datum);
	policy->failure_threshold =
		rsl_int_column(tuple, desc, RSL_FCOL_FAILURE_THRESHOLD, 3);
	policy->success_threshold =
		rsl_int_column(tuple, desc, RSL_FCOL_SUCCESS_THRESHOLD, 5);
	policy->min_degraded_ms = (int32)
		rsl_interval_column_ms(tuple, desc, RSL_FCOL_MIN_DEGRADED_DURATION, 30000);
	policy->dimmer_target_ms = (int32)
		rsl_interval_column_ms(tuple, desc, RSL_FCOL_DIMMER_TARGET, 100);
	datum = heap_getattr(tuple, RSL_FCOL_OWNER, desc, &isnull);
	policy->owner = isnull ? InvalidOid : DatumGetObjectId(datum);
	return true;
}

static void
feature_put(int index, const void *policy)
{
	rsl_feature_put(index, policy);
}

static void
feature_announce(void)
{
	uint32		n = 0;

	for (int i = 0; i < rsl_features->max_features; i++)
		n += rsl_features->features[i].published ? 1 : 0;
	pg_atomic_write_u32(&rsl_features->npublished, n);
	pg_write_barrier();
	pg_atomic_fetch_add_u64(&rsl_features->generation, 1);
}

const rsl_kind rsl_feature_kind = {
	.relname = RSL_FEATURES_NAME,
	.singular = "feature",
	.plural = "features",
	.setting = "resilience.max_features",
	.event_kind = RSL_EVENT_FEATURE,
	.policy_size = sizeof(rsl_feature_policy),
	.owner_offset = offsetof(rsl_feature_policy, owner),
	.capacity = feature_capacity,
	.published = feature_published,
	.from_tuple = feature_from_tuple,
	.put = feature_put,
	.retire = rsl_feature_retire,
	.announce = feature_announce,
};

/*
 * Degradations
 */

static int
degradation_capacity(void)
{
	return rsl_degradations->max_degradations;
}

static const void *
degradation_published(int index)
{
	rsl_degradation *degradation = &rsl_degradations->degradations[index];

	return degradation->published ? &degradation->policy : NULL;
}

/*
 * A name or value of settings as a setting has it; NULL if it can't be one.
 */
char *
rsl_setting_word(const JsonbValue *value)
{
	if (value->type == jbvString)
		return pnstrdup(value->val.string.val, value->val.string.len);
	if (value->type == jbvNumeric)
		return DatumGetCString(DirectFunctionCall1(numeric_out,
												   NumericGetDatum(value->val.numeric)));
	if (value->type == jbvBool)
		return pstrdup(value->val.boolean ? "on" : "off");
	return NULL;
}

/*
 * The settings as names and values, one after the other.  Returns false if
 * there are more than have room: the table's trigger has refused such.
 */
static bool
settings_from_jsonb(Jsonb *settings, rsl_degradation_policy *policy)
{
	JsonbIterator *it = JsonbIteratorInit(&settings->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	size_t		used = 0;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		char	   *word;
		size_t		size;

		if (token != WJB_KEY && token != WJB_VALUE)
			continue;
		word = rsl_setting_word(&value);
		if (word == NULL)
			return false;
		size = strlen(word) + 1;
		if (used + size > RSL_DEGRADATION_SETTINGS_LEN)
			return false;
		memcpy(policy->settings + used, word, size);
		used += size;
		if (token == WJB_KEY)
			policy->nsettings++;
	}
	return policy->nsettings <= RSL_MAX_DEGRADATION_SETTINGS;
}

static bool
degradation_from_tuple(HeapTuple tuple, TupleDesc desc, void *result)
{
	rsl_degradation_policy *policy = result;
	Datum		settings;
	bool		isnull;

	copy_text(policy->name, NAMEDATALEN, tuple, desc, RSL_DCOL_NAME);
	policy->when_state =
		rsl_parse_load_state(rsl_text_column(tuple, desc, RSL_DCOL_WHEN_STATE));
	policy->priority =
		rsl_parse_priority(rsl_text_column(tuple, desc, RSL_DCOL_PRIORITY));
	policy->enabled = rsl_bool_column(tuple, desc, RSL_DCOL_ENABLED, true);
	settings = heap_getattr(tuple, RSL_DCOL_SETTINGS, desc, &isnull);
	return !isnull && settings_from_jsonb(DatumGetJsonbP(settings), policy);
}

static void
degradation_put(int index, const void *policy)
{
	rsl_degradation_put(index, policy);
}

static void
degradation_announce(void)
{
	pg_write_barrier();
	pg_atomic_fetch_add_u64(&rsl_degradations->generation, 1);
}

const rsl_kind rsl_degradation_kind = {
	.relname = RSL_DEGRADATIONS_NAME,
	.singular = "degradation",
	.plural = "degradations",
	.setting = "resilience.max_degradations",
	.event_kind = RSL_EVENT_DEGRADATION,
	.policy_size = sizeof(rsl_degradation_policy),
	.capacity = degradation_capacity,
	.published = degradation_published,
	.from_tuple = degradation_from_tuple,
	.put = degradation_put,
	.retire = rsl_degradation_retire,
	.announce = degradation_announce,
};

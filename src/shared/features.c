/*-------------------------------------------------------------------------
 *
 * features.c
 *		Features and degradations in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "client_port.h"
#include "shared/events.h"
#include "shared/features.h"
#include "shared/measures.h"
#include "shared/pool.h"
#include "shared/settings.h"
#include "utils/timestamp.h"

rsl_features_shared *rsl_features = NULL;
rsl_degradations_shared *rsl_degradations = NULL;

bool		rsl_degradation_decided = false;
uint32		rsl_degraded_by = 0;
uint32		rsl_plans_degraded = 0;
void		(*rsl_degrade_transaction) (int priority) = NULL;

static const char *const state_names[] = {"on", "degraded", "off"};
static const char *const load_names[] = {
	"loaded", "shedding", "degraded", "unhealthy"
};

const char *
rsl_feature_state_name(rsl_feature_state state)
{
	return state_names[state];
}

const char *
rsl_load_state_name(rsl_load_state state)
{
	return load_names[state];
}

/* Returns -1 when there is no such state. */
int
rsl_parse_load_state(const char *word)
{
	for (int i = 0; i < lengthof(load_names); i++)
	{
		if (pg_strcasecmp(load_names[i], word) == 0)
			return i;
	}
	return -1;
}

Size
rsl_features_shmem_size(void)
{
	StaticAssertStmt(sizeof(rsl_feature) == 768, "see features.h");
	return CACHELINEALIGN(add_size(offsetof(rsl_features_shared, features),
								   mul_size(sizeof(rsl_feature),
											rsl_max_features)));
}

void
rsl_features_shmem_place(void *memory)
{
	rsl_features = memory;
}

/* The memory is zero. */
void
rsl_features_shmem_init(void)
{
	rsl_features->max_features = rsl_max_features;
	pg_atomic_init_u64(&rsl_features->generation, 0);
	for (int i = 0; i < rsl_features->max_features; i++)
	{
		rsl_feature *feature = &rsl_features->features[i];

		SpinLockInit(&feature->mutex);
		pg_atomic_init_u32(&feature->uid, 0);
		pg_atomic_init_u32(&feature->state, RSL_FEATURE_ON);
		pg_atomic_init_u32(&feature->minimum_priority, (uint32) -1);
		pg_atomic_init_u32(&feature->dimmer, RSL_DIMMER_ALL);
		pg_atomic_init_u32(&feature->trials, 0);
		pg_atomic_init_u64(&feature->evaluations, 0);
		pg_atomic_init_u64(&feature->degraded, 0);
		pg_atomic_init_u64(&feature->fallbacks, 0);
		pg_atomic_init_u64(&feature->fallback_failures, 0);
		pg_atomic_init_u64(&feature->primary_failures, 0);
	}
}

Size
rsl_degradations_shmem_size(void)
{
	return CACHELINEALIGN(add_size(offsetof(rsl_degradations_shared, degradations),
								   mul_size(sizeof(rsl_degradation),
											rsl_max_degradations)));
}

void
rsl_degradations_shmem_place(void *memory)
{
	rsl_degradations = memory;
}

/* The memory is zero. */
void
rsl_degradations_shmem_init(void)
{
	rsl_degradations->max_degradations = rsl_max_degradations;
	pg_atomic_init_u64(&rsl_degradations->generation, 0);
	for (int i = 0; i < rsl_degradations->max_degradations; i++)
	{
		pg_atomic_init_u64(&rsl_degradations->degradations[i].transactions, 0);
		pg_atomic_init_u64(&rsl_degradations->degradations[i].skipped, 0);
	}
}

void
rsl_feature_reset_statistics(int index)
{
	rsl_feature *feature = &rsl_features->features[index];

	pg_atomic_write_u64(&feature->evaluations, 0);
	pg_atomic_write_u64(&feature->degraded, 0);
	pg_atomic_write_u64(&feature->fallbacks, 0);
	pg_atomic_write_u64(&feature->fallback_failures, 0);
	pg_atomic_write_u64(&feature->primary_failures, 0);
}

/* Enter a state, for a reason ("" = none).  Config lock held. */
void
rsl_feature_set_state(rsl_feature *feature, rsl_feature_state state,
					  const char *reason)
{
	SpinLockAcquire(&feature->mutex);
	feature->since = GetCurrentTimestamp();
	feature->since_us = rsl_now_us();
	rsl_state_clock_move(&feature->clock, state, feature->since_us);
	if (state != RSL_FEATURE_ON)
	{
		if (feature->not_on_us == 0)
			feature->not_on_us = feature->since_us;
	}
	else if (feature->not_on_us != 0)
	{
		rsl_measure_recovery(RSL_RECOVERY_FEATURE,
							 feature->since_us - feature->not_on_us);
		feature->not_on_us = 0;
	}
	strlcpy(feature->reason, reason, RSL_FEATURE_REASON_LEN);
	pg_atomic_write_u32(&feature->state, state);
	SpinLockRelease(&feature->mutex);
}

/* Forget what was seen of a check or a breaker. */
static void
forget_looks(rsl_hysteresis *looks)
{
	memset(looks, 0, sizeof(*looks));
}

/*
 * A command has changed the state: say so.  Who it was is the role that the
 * session came as; on a standby a worker found the change.
 */
static void
note_command(const rsl_feature_policy *policy, uint32 from, uint32 to,
			 const char *reason)
{
	char		role[NAMEDATALEN];
	char		why[RSL_FEATURE_REASON_LEN];

	strlcpy(role, MyProcPort ? MyProcPort->user_name : "", sizeof(role));
	strlcpy(why, reason, sizeof(why));
	(void) rsl_without_quotes(role);
	(void) rsl_without_quotes(why);
	rsl_event(RSL_EVENT_FEATURE, policy->home_database, policy->name,
			  rsl_feature_state_name(from), rsl_feature_state_name(to),
			  "cause=command%s%s%s%s%s%s",
			  role[0] ? " role=\"" : "", role, role[0] ? "\"" : "",
			  why[0] ? " reason=\"" : "", why, why[0] ? "\"" : "");
}

/*
 * Put a policy into force.  What a command says holds at once: a feature that
 * is switched on begins without bad looks, and one that is uncoupled is on.
 */
void
rsl_feature_put(int index, const rsl_feature_policy *policy)
{
	rsl_feature *feature = &rsl_features->features[index];
	bool		is_new = !feature->published;
	bool		expired = policy->expires_at <= GetCurrentTimestamp();
	uint32		before = pg_atomic_read_u32(&feature->state);
	uint32		state;
	const char *reason;

	if (is_new)
	{
		rsl_feature_reset_statistics(index);
		before = RSL_FEATURE_ON;
		memset(&feature->clock, 0, sizeof(feature->clock));
		feature->not_on_us = 0;
		feature->by_load = 0;
		pg_atomic_write_u32(&feature->dimmer, RSL_DIMMER_ALL);
	}
	if (is_new || before == RSL_FEATURE_OFF || !policy->enabled || expired ||
		strcmp(feature->policy.health_check, policy->health_check) != 0)
	{
		forget_looks(&feature->by_check);
		feature->last_look = 0;
	}
	if (is_new || before == RSL_FEATURE_OFF || !policy->enabled || expired ||
		strcmp(feature->policy.breaker, policy->breaker) != 0)
	{
		forget_looks(&feature->by_breaker);
		feature->next_look = 0;
		pg_atomic_write_u32(&feature->trials, 0);
	}

	feature->policy = *policy;
	feature->published = true;
	if (!policy->dimmable)
		pg_atomic_write_u32(&feature->dimmer, RSL_DIMMER_ALL);
	pg_atomic_write_u32(&feature->minimum_priority,
						(uint32) policy->minimum_priority);

	reason = policy->reason;
	if (!policy->enabled)
		state = RSL_FEATURE_OFF;
	else if (expired)
	{
		state = RSL_FEATURE_OFF;
		reason = "expired";
	}
	else if (feature->by_check.is_bad || feature->by_breaker.is_bad)
		state = RSL_FEATURE_DEGRADED;
	else
		state = RSL_FEATURE_ON;

	if (is_new || state != before)
		rsl_feature_set_state(feature, state, reason);
	else if (state != RSL_FEATURE_DEGRADED)
	{
		/* the same state, maybe for another reason */
		SpinLockAcquire(&feature->mutex);
		strlcpy(feature->reason, reason, RSL_FEATURE_REASON_LEN);
		SpinLockRelease(&feature->mutex);
	}
	if (is_new)
		pg_atomic_write_u32(&feature->uid, ++rsl_features->last_uid);
	else if (state != before)
		note_command(policy, before, state, reason);
}

void
rsl_feature_retire(int index)
{
	rsl_feature *feature = &rsl_features->features[index];

	feature->published = false;
	pg_atomic_write_u32(&feature->uid, 0);
}

/* It holds no more because it is another one now, or gone.  Config lock held. */
static void
end_degradation(int index, const char *reason)
{
	rsl_degradation *degradation = &rsl_degradations->degradations[index];
	uint32		bit = UINT32_C(1) << index;

	if ((pg_atomic_fetch_and_u32(&rsl_degradations->active, ~bit) & bit) != 0)
		rsl_event(RSL_EVENT_DEGRADATION, degradation->policy.home_database,
				  degradation->policy.name, "active", "inactive",
				  "reason=%s", reason);
	degradation->since = GetCurrentTimestamp();
	degradation->since_us = rsl_now_us();
	rsl_state_clock_move(&degradation->clock, 0, degradation->since_us);
	degradation->good = 0;
}

void
rsl_degradation_put(int index, const rsl_degradation_policy *policy)
{
	rsl_degradation *degradation = &rsl_degradations->degradations[index];

	if (!degradation->published ||
		degradation->policy.when_state != policy->when_state ||
		!policy->enabled)
		end_degradation(index, policy->enabled ? "altered" : "disabled");
	if (!degradation->published)
	{
		pg_atomic_write_u64(&degradation->transactions, 0);
		pg_atomic_write_u64(&degradation->skipped, 0);
		rsl_state_clock_begin(&degradation->clock, 0, rsl_now_us());
	}
	pg_atomic_write_u32(&degradation->logged, 0);
	degradation->policy = *policy;
	degradation->published = true;
	pg_atomic_write_u32(&degradation->uid, ++rsl_degradations->last_uid);
}

void
rsl_degradation_retire(int index)
{
	rsl_degradation *degradation = &rsl_degradations->degradations[index];

	end_degradation(index, "dropped");
	degradation->published = false;
	pg_atomic_write_u32(&degradation->uid, 0);
}

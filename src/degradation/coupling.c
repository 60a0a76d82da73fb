/*-------------------------------------------------------------------------
 *
 * coupling.c
 *		Features that follow a health check, a circuit breaker or the load.
 *
 * The launcher looks at them ten times a second.
 *
 * A look at a health check is one run of it, good when the run found the
 * check's object healthy.  A feature leaves "on" after failure_threshold bad
 * ones in a row, and returns after success_threshold good ones and
 * min_degraded_duration.  A check whose result is stale gives no looks: the
 * feature stays as it is.  So it does while the checks themselves are
 * suspected (see health/components.h).
 *
 * A breaker has counted failures already before it opened, and each call
 * through an open one would only be an error: the feature is degraded at once.
 * Each second that the breaker is closed is a good look.  A breaker that
 * nobody probes needs callers that try it, or it would never close: when it
 * admits trials again, as many calls of the feature are let through in each
 * second as it takes at a time.
 *
 * One look at each feature for each tick, and the result holds from the next
 * question on: checks and features that depend on each other in a way that
 * nobody saw (see policy/dependencies.c) alternate, at the pace of the check, and nothing
 * loops.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "degradation/coupling.h"
#include "health/components.h"
#include "shared/breakers.h"
#include "shared/events.h"
#include "shared/features.h"
#include "shared/health.h"
#include "shared/pool.h"
#include "shared/settings.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* between two good looks at a breaker, or two rounds of trials */
#define BREAKER_LOOK_US		INT64CONST(1000000)

/* Where each feature's check and breaker were found last. */
typedef struct coupling_hint
{
	int			check;
	int			breaker;
} coupling_hint;

static coupling_hint *hints = NULL; /* one for each entry of features */

/* What was seen, for reasons and events: value pairs, and words. */
typedef struct finding
{
	char		reason[RSL_FEATURE_REASON_LEN];
	char		pairs[RSL_EVENT_TEXT_LEN];
} finding;

static void set_reason(finding *found, const char *format,...) pg_attribute_printf(2, 3);
static void set_pairs(finding *found, const char *format,...) pg_attribute_printf(2, 3);

static void
set_reason(finding *found, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vsnprintf(found->reason, sizeof(found->reason), format, args);
	va_end(args);
}

static void
set_pairs(finding *found, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vsnprintf(found->pairs, sizeof(found->pairs), format, args);
	va_end(args);
}

static bool
is_check(int index, const rsl_feature_policy *policy)
{
	rsl_check  *check = &rsl_health->checks[index];

	return check->published &&
		check->policy.home_database == policy->home_database &&
		strcmp(check->policy.name, policy->health_check) == 0;
}

static bool
is_breaker(int index, const rsl_feature_policy *policy)
{
	rsl_breaker *breaker = &rsl_breakers[index];

	return breaker->published &&
		breaker->policy.home_database == policy->home_database &&
		strcmp(breaker->policy.name, policy->breaker) == 0;
}

static int
find_check(const rsl_feature_policy *policy, int *hint)
{
	if (is_check(*hint, policy))
		return *hint;
	for (int i = 0; i < rsl_health->max_checks; i++)
	{
		if (is_check(i, policy))
			return *hint = i;
	}
	return -1;
}

static int
find_breaker(const rsl_feature_policy *policy, int *hint)
{
	if (is_breaker(*hint, policy))
		return *hint;
	for (int i = 0; i < rsl_breakers_shmem->nbreakers; i++)
	{
		if (is_breaker(i, policy))
			return *hint = i;
	}
	return -1;
}

static rsl_hysteresis_config
config_of(const rsl_feature_policy *policy)
{
	rsl_hysteresis_config config = {policy->failure_threshold,
		policy->success_threshold,
	policy->min_degraded_ms * INT64CONST(1000)};

	return config;
}

/*
 * Nobody looks any more: the feature does not stay degraded for that.
 * Returns whether it was.
 */
static bool
give_up_looking(rsl_hysteresis *looks)
{
	bool		was_bad = looks->is_bad;

	memset(looks, 0, sizeof(*looks));
	return was_bad;
}

/* Returns whether the check's part of the state has changed. */
static bool
look_at_check(rsl_feature *feature, coupling_hint *hint, int64 now_us,
			  finding *found)
{
	rsl_feature_policy *policy = &feature->policy;
	rsl_hysteresis_config config = config_of(policy);
	int			index = find_check(policy, &hint->check);
	rsl_check  *check;
	TimestampTz run;
	rsl_health_status result;
	char		message[RSL_CHECK_MESSAGE_LEN];
	char		name[NAMEDATALEN];
	bool		changed;

	strlcpy(name, policy->health_check, sizeof(name));
	if (index < 0 || !rsl_health->checks[index].policy.enabled)
	{
		set_pairs(found, "cause=health_check health_check=\"%s\" status=%s",
				  rsl_without_quotes(name), index < 0 ? "dropped" : "disabled");
		return give_up_looking(&feature->by_check);
	}
	check = &rsl_health->checks[index];
	SpinLockAcquire(&check->mutex);
	run = check->last_run;
	result = check->last_result;
	memcpy(message, check->message, sizeof(message));
	SpinLockRelease(&check->mutex);

	/* what is found while the checks are suspected is no look, now or later */
	if (rsl_health_is_suspect())
	{
		feature->last_look = run;
		return false;
	}
	if (run == feature->last_look || run == 0 || result == RSL_HEALTH_UNKNOWN)
		changed = pg_atomic_read_u32(&check->status) != RSL_HEALTH_UNKNOWN &&
			rsl_hysteresis_settle(&feature->by_check, &config, now_us);
	else
		changed = rsl_hysteresis_look(&feature->by_check, &config,
									  result == RSL_HEALTHY, now_us);
	feature->last_look = run;
	if (!changed)
		return false;

	set_reason(found, "health check \"%s\" is %s%s%s", policy->health_check,
			   rsl_health_status_name(result), message[0] ? ": " : "", message);
	if (feature->by_check.is_bad)
		set_pairs(found, "cause=health_check health_check=\"%s\" status=%s bad_looks=%u message=\"%s\"",
				  rsl_without_quotes(name), rsl_health_status_name(result),
				  feature->by_check.bad, rsl_without_quotes(message));
	else
		set_pairs(found, "cause=health_check health_check=\"%s\" status=%s good_looks=%u",
				  rsl_without_quotes(name), rsl_health_status_name(result),
				  feature->by_check.good);
	return true;
}

/* Let some calls through, if the breaker wants to be tried by callers. */
static void
grant_trials(rsl_feature *feature, int index, int64 now_us)
{
	if (rsl_breaker_blocks(index))
		pg_atomic_write_u32(&feature->trials, 0);
	else if (now_us >= feature->next_look)
	{
		pg_atomic_write_u32(&feature->trials,
							rsl_breakers[index].policy.config.half_open_calls);
		feature->next_look = now_us + BREAKER_LOOK_US;
	}
}

/* Returns whether the breaker's part of the state has changed. */
static bool
look_at_breaker(rsl_feature *feature, coupling_hint *hint, int64 now_us,
				finding *found)
{
	static const char *const positions[] = {"closed", "half_open", "open"};
	rsl_feature_policy *policy = &feature->policy;
	rsl_hysteresis_config config = config_of(policy);
	int			index = find_breaker(policy, &hint->breaker);
	uint64		gate;
	const char *position;
	bool		forced;
	char		name[NAMEDATALEN];
	bool		changed = false;

	strlcpy(name, policy->breaker, sizeof(name));
	if (index < 0)
	{
		set_pairs(found, "cause=breaker breaker=\"%s\" state=dropped",
				  rsl_without_quotes(name));
		pg_atomic_write_u32(&feature->trials, 0);
		return give_up_looking(&feature->by_breaker);
	}
	gate = pg_atomic_read_u64(&rsl_breakers[index].gate);
	position = positions[RSL_GATE_POSITION(gate)];
	forced = RSL_GATE_FORCE(gate) != RSL_FORCE_AUTO;

	/* one that only observes lets all calls through */
	if (RSL_GATE_POSITION(gate) != RSL_BREAKER_CLOSED &&
		RSL_GATE_MODE(gate) == RSL_MODE_ENFORCE &&
		rsl_mode_setting == RSL_MODE_ENFORCE)
	{
		changed = rsl_hysteresis_trip(&feature->by_breaker, now_us);
		grant_trials(feature, index, now_us);
	}
	else if (feature->by_breaker.is_bad)
	{
		pg_atomic_write_u32(&feature->trials, 0);
		if (now_us >= feature->next_look)
		{
			changed = rsl_hysteresis_look(&feature->by_breaker, &config, true,
										  now_us);
			feature->next_look = now_us + BREAKER_LOOK_US;
		}
		else
			changed = rsl_hysteresis_settle(&feature->by_breaker, &config, now_us);
	}
	if (!changed)
		return false;

	set_reason(found, "circuit breaker \"%s\" is %s%s", policy->breaker,
			   forced ? "forced " : "", position);
	if (feature->by_breaker.is_bad)
		set_pairs(found, "cause=breaker breaker=\"%s\" state=%s forced=%s",
				  rsl_without_quotes(name), position, forced ? "true" : "false");
	else
		set_pairs(found, "cause=breaker breaker=\"%s\" state=%s good_looks=%u",
				  rsl_without_quotes(name), position, feature->by_breaker.good);
	return true;
}

/* Numbers stand first, messages last: the end of long pairs is cut off. */
static void
enter(rsl_feature *feature, rsl_feature_state state, const char *reason,
	  const char *pairs)
{
	rsl_feature_state from = pg_atomic_read_u32(&feature->state);
	int64		lasted_ms = (rsl_now_us() - feature->since_us) / 1000;

	rsl_feature_set_state(feature, state, reason);
	rsl_event(RSL_EVENT_FEATURE, feature->policy.home_database,
			  feature->policy.name, rsl_feature_state_name(from),
			  rsl_feature_state_name(state), "%s_ms=" INT64_FORMAT " %s",
			  rsl_feature_state_name(from), lasted_ms, pairs);
}

/* Two causes, and one of them is gone: the reason is the other one. */
static void
name_the_other(rsl_feature *feature)
{
	finding		other;

	if (feature->by_check.is_bad && feature->by_breaker.is_bad)
		return;
	if (feature->by_check.is_bad)
		set_reason(&other, "health check \"%s\" is not healthy",
				   feature->policy.health_check);
	else
		set_reason(&other, "circuit breaker \"%s\" is not closed",
				   feature->policy.breaker);
	SpinLockAcquire(&feature->mutex);
	strlcpy(feature->reason, other.reason, sizeof(feature->reason));
	SpinLockRelease(&feature->mutex);
}

/*
 * Whom the load keeps from a feature is decided by each call.  Here it is
 * only told, and not each time that the load goes up and down.
 */
static void
look_at_load(rsl_feature *feature, TimestampTz now, int64 now_us)
{
	rsl_feature_policy *policy = &feature->policy;
	bool		loaded = policy->minimum_priority >= 0 && rsl_server_is_loaded();

	if (loaded)
		feature->loaded_us = now_us;
	if (loaded && feature->by_load == 0)
	{
		feature->by_load = now;
		rsl_event(RSL_EVENT_FEATURE, policy->home_database, policy->name,
				  "on", "degraded", "cause=load minimum_priority=%s",
				  rsl_priority_name(policy->minimum_priority));
	}
	else if (!loaded && feature->by_load != 0 &&
			 (policy->minimum_priority < 0 ||
			  now_us - feature->loaded_us >= policy->min_degraded_ms * INT64CONST(1000)))
	{
		rsl_event(RSL_EVENT_FEATURE, policy->home_database, policy->name,
				  "degraded", "on", "cause=load degraded_ms=" INT64_FORMAT,
				  (int64) ((now - feature->by_load) / 1000));
		feature->by_load = 0;
	}
}

static void
look_at(rsl_feature *feature, coupling_hint *hint, TimestampTz now,
		int64 now_us)
{
	rsl_feature_policy *policy = &feature->policy;
	rsl_feature_state state = pg_atomic_read_u32(&feature->state);
	finding		found = {{0}};
	bool		changed = false;

	if (state == RSL_FEATURE_OFF)
		return;
	if (policy->expires_at <= now)
	{
		enter(feature, RSL_FEATURE_OFF, "expired", "cause=expired");
		return;
	}

	if (policy->health_check[0] != '\0')
		changed = look_at_check(feature, hint, now_us, &found);
	if (policy->breaker[0] != '\0' && !changed)
		changed = look_at_breaker(feature, hint, now_us, &found);
	if (changed)
	{
		bool		bad = feature->by_check.is_bad || feature->by_breaker.is_bad;

		if (bad && state == RSL_FEATURE_ON)
			enter(feature, RSL_FEATURE_DEGRADED, found.reason, found.pairs);
		else if (!bad && state == RSL_FEATURE_DEGRADED)
			enter(feature, RSL_FEATURE_ON, policy->reason, found.pairs);
		else if (bad)
			name_the_other(feature);
	}
	if (pg_atomic_read_u32(&feature->state) == RSL_FEATURE_ON)
		look_at_load(feature, now, now_us);
	else
		feature->by_load = 0;
}

void
rsl_features_tick(void)
{
	TimestampTz now;
	int64		now_us;

	/* whoever publishes holds the lock for a while; there is a next tick */
	if (pg_atomic_read_u32(&rsl_features->npublished) == 0 ||
		!LWLockConditionalAcquire(rsl_config_lock, LW_SHARED))
		return;
	if (hints == NULL)
		hints = MemoryContextAllocZero(TopMemoryContext,
									   rsl_features->max_features * sizeof(coupling_hint));
	now = GetCurrentTimestamp();
	now_us = rsl_now_us();
	for (int i = 0; i < rsl_features->max_features; i++)
	{
		if (rsl_features->features[i].published)
			look_at(&rsl_features->features[i], &hints[i], now, now_us);
	}
	LWLockRelease(rsl_config_lock);
}

/*-------------------------------------------------------------------------
 *
 * degradation_tick.c
 *		The launcher decides which degradations hold.
 *
 * One holds as soon as its state is seen, since a degradation is to come
 * before anybody is refused; and until its state has not been seen for 5 s,
 * so that settings do not flutter with the load that they change.
 *
 * "loaded" includes "shedding": where nobody may wait, work is refused
 * without a queue to be seen.  "degraded" includes "unhealthy".  The health
 * of the whole does not count degradations that hold because of it, else they
 * would hold for ever.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "degradation/degrade.h"
#include "health/components.h"
#include "shared/events.h"
#include "shared/features.h"
#include "shared/pool.h"
#include "shared/settings.h"
#include "utils/timestamp.h"

/* it is over after so many looks in a row without the state */
#define OVER_AFTER		(5000 / RSL_TICK_MS)

/* work counts as being refused for so many looks */
#define SHEDDING_LOOKS	(1000 / RSL_TICK_MS)

/* What was seen in this tick. */
typedef struct server_look
{
	bool		loaded;
	bool		shedding;
	bool		health_known;
	rsl_health_status health;
} server_look;

/*
 * Has the server-wide limit refused work within the last second?  In mode
 * "observe", too: then it would have.
 */
static bool
is_shedding(void)
{
	static uint64 last = 0;
	static int	looks = 0;		/* that it still counts for */
	static bool begun = false;
	uint64		refused = 0;

	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
		refused += pg_atomic_read_u64(&rsl_shmem->shed[c]) +
			pg_atomic_read_u64(&rsl_shmem->timed_out[c]) +
			pg_atomic_read_u64(&rsl_shmem->preempted[c]);
	/* fewer after reset_statistics() */
	if (begun && refused > last)
		looks = SHEDDING_LOOKS;
	else if (looks > 0)
		looks--;
	begun = true;
	last = refused;
	return looks > 0;
}

/* 1 = it is in this state, 0 = it is not, -1 = not known */
static int
is_in_state(const server_look *now, rsl_load_state state)
{
	switch (state)
	{
		case RSL_WHEN_LOADED:
			return now->loaded || now->shedding;
		case RSL_WHEN_SHEDDING:
			return now->shedding;
		case RSL_WHEN_DEGRADED:
			return !now->health_known ? -1 :
				now->health == RSL_DEGRADED || now->health == RSL_UNHEALTHY;
		case RSL_WHEN_UNHEALTHY:
			return !now->health_known ? -1 : now->health == RSL_UNHEALTHY;
	}
	return 0;
}

static void
change(rsl_degradation *degradation, uint32 bit, bool holds, const server_look *now)
{
	const rsl_degradation_policy *policy = &degradation->policy;
	rsl_pool_numbers numbers;

	rsl_pool_get_numbers(&rsl_shmem->server, policy->priority, &numbers);
	if (holds)
		pg_atomic_fetch_or_u32(&rsl_degradations->active, bit);
	else
		pg_atomic_fetch_and_u32(&rsl_degradations->active, ~bit);
	degradation->since = GetCurrentTimestamp();
	degradation->since_us = rsl_now_us();
	rsl_state_clock_move(&degradation->clock, holds ? 1 : 0, degradation->since_us);
	rsl_event(RSL_EVENT_DEGRADATION, policy->home_database, policy->name,
			  holds ? "inactive" : "active", holds ? "active" : "inactive",
			  "when_state=%s priority=%s limit=%d running=%d waiting=%d shedding=%s health=%s",
			  rsl_load_state_name(policy->when_state),
			  rsl_priority_name(policy->priority),
			  numbers.limit, numbers.running, numbers.waiting,
			  now->shedding ? "true" : "false",
			  rsl_health_status_name(now->health));
}

static void
look_at(int index, const server_look *now)
{
	rsl_degradation *degradation = &rsl_degradations->degradations[index];
	uint32		bit = UINT32_C(1) << index;
	bool		holds = (pg_atomic_read_u32(&rsl_degradations->active) & bit) != 0;
	int			in_state;

	if (!degradation->published || !degradation->policy.enabled)
		return;
	in_state = is_in_state(now, degradation->policy.when_state);
	if (in_state < 0)
		return;
	if (in_state > 0)
	{
		degradation->good = 0;
		if (!holds)
			change(degradation, bit, true, now);
	}
	else if (holds && ++degradation->good >= OVER_AFTER)
		change(degradation, bit, false, now);
}

void
rsl_degradations_tick(void)
{
	server_look now;

	now.shedding = is_shedding();
	if (pg_atomic_read_u64(&rsl_degradations->generation) == 0)
		return;
	now.loaded = rsl_server_is_loaded();
	now.health = rsl_health_whole(NULL);
	/* who doubts what the checks say leaves things as they are */
	now.health_known = now.health != RSL_HEALTH_UNKNOWN && !rsl_health_is_suspect();

	/* definitions hold still; "since" is one word */
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_degradations->max_degradations; i++)
		look_at(i, &now);
	LWLockRelease(rsl_config_lock);
}

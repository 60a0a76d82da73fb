/*-------------------------------------------------------------------------
 *
 * dimmer_tick.c
 *		The launcher steers which share of calls dimmable features get.
 *
 * Twice a second it measures for how long transactions have waited, shows
 * that to the controller of each dimmable feature (core/dimmer.h), and
 * publishes the share that comes out.  Features with the same target see the
 * same wait and move alike, but each has a controller of its own: one that
 * is new begins at 1.
 *
 * What is measured:
 *
 * - With a server-wide limit: the mean time that transactions waited for it,
 *	 those that got a slot at once (0) and those that gave up included, those
 *	 that were refused at once not.  Who has waited for more than a period and
 *	 waits still counts with what it has waited so far, else a queue in which
 *	 nothing moves would be no wait.  Waits for bulkheads do not count: they
 *	 are not the server's load.
 * - Without a limit nobody waits for it.  Then the wait for a core is
 *	 estimated, by Little's law: as many as are runnable beyond the number of
 *	 cores, over the transactions that begin per second.  That is an estimate
 *	 from five looks, and blind to waits for disks and locks.
 *
 * While the server's mode is not "enforce" everything is served in full.
 *
 * The controllers are the launcher's own.  One that is started again goes on
 * from the shares that are published, and learns anew.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "degradation/dimmer_tick.h"
#include "shared/events.h"
#include "shared/features.h"
#include "shared/pool.h"
#include "shared/settings.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* a feature counts as back when it was served in full for so many periods */
#define BACK_AFTER		10

/* One for each feature's entry. */
typedef struct feature_controller
{
	uint32		uid;			/* of the feature; 0 = none */
	bool		dimmed;			/* as the last event said */
	int			full;			/* periods in a row at 1 */
	rsl_dimmer	dimmer;
} feature_controller;

static feature_controller *controllers = NULL;

/* what was seen at the end of the last period */
static int64 last_now = 0;		/* 0 = there was none */
static uint64 last_admitted;
static uint64 last_timed_out;
static uint64 last_wait_us;

/* runnable beyond the cores, summed up over the looks of this period */
static double excess = 0;
static int	looks = 0;

/* Those who have waited for the server's limit for longer than that. */
static void
count_waiters(int64 longer_than_us, double *wait_us, double *n)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < rsl_shmem->nsessions; i++)
	{
		rsl_session *session = &rsl_sessions[i];
		TimestampTz since = session->wait_start;

		if (session->pid == 0 || since == 0 ||
			(int32) pg_atomic_read_u32(&session->waiting_for) != RSL_SERVER_POOL ||
			now - since <= longer_than_us)
			continue;
		*wait_us += now - since;
		*n += 1;
	}
}

/*
 * The mean wait of the period that ends now, in ms; not a number if it is not
 * known.
 */
static double
measure(int64 now, uint64 admitted)
{
	uint64		timed_out = 0;
	uint64		total_wait_us = 0;
	double		started;
	double		gave_up;
	double		waited;
	double		result = NAN;

	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
	{
		timed_out += pg_atomic_read_u64(&rsl_shmem->timed_out[c]);
		total_wait_us += pg_atomic_read_u64(&rsl_shmem->wait_us[c]);
	}
	started = (double) (int64) (admitted - last_admitted);
	gave_up = (double) (int64) (timed_out - last_timed_out);
	waited = (double) (int64) (total_wait_us - last_wait_us);

	/* negative: reset_statistics() was called */
	if (last_now != 0 && now > last_now && started >= 0 && gave_up >= 0 &&
		waited >= 0)
	{
		if (rsl_pool_limited(&rsl_shmem->server))
		{
			double		n = started + gave_up;

			count_waiters(now - last_now, &waited, &n);
			result = n > 0 ? waited / n / 1000 : 0;
		}
		else if (looks > 0)
			result = excess / looks * (now - last_now) / Max(started, 1) / 1000;
	}

	last_now = now;
	last_admitted = admitted;
	last_timed_out = timed_out;
	last_wait_us = total_wait_us;
	excess = looks = 0;
	return result;
}

/* Note when a feature begins to be dimmed, and when that is over. */
static void
tell(feature_controller *c, const rsl_feature_policy *policy, double wait_ms)
{
	bool		full = c->dimmer.theta >= 1;

	c->full = full ? c->full + 1 : 0;
	if (c->dimmed ? c->full < BACK_AFTER : full)
		return;
	c->dimmed = !c->dimmed;
	rsl_event(RSL_EVENT_FEATURE, policy->home_database, policy->name,
			  c->dimmed ? "on" : "dimmed", c->dimmed ? "dimmed" : "on",
			  "dimmer=%.3f wait_ms=%.1f target_ms=%d limit=%d running=%d",
			  c->dimmer.theta, isnan(wait_ms) ? 0 : wait_ms, policy->dimmer_target_ms,
			  (int32) pg_atomic_read_u32(&rsl_shmem->server.max_running),
			  rsl_pool_running(pg_atomic_read_u64(&rsl_shmem->server.word)));
}

static void
steer(feature_controller *c, rsl_feature *feature, int64 now, double wait_ms)
{
	const rsl_feature_policy *policy = &feature->policy;
	uint32		uid = pg_atomic_read_u32(&feature->uid);

	if (!feature->published || !policy->dimmable)
	{
		c->uid = 0;
		return;
	}
	if (c->uid != uid)
	{
		uint32		share = pg_atomic_read_u32(&feature->dimmer);

		memset(c, 0, sizeof(*c));
		rsl_dimmer_init(&c->dimmer, (double) share / RSL_DIMMER_ALL);
		c->dimmed = share < RSL_DIMMER_ALL;
		c->uid = uid;
	}
	/* nobody is to be held back, so nothing is dimmed */
	if (rsl_mode_setting != RSL_MODE_ENFORCE)
		rsl_dimmer_init(&c->dimmer, 1);
	else
		rsl_dimmer_update(&c->dimmer, now, wait_ms, policy->dimmer_target_ms);
	tell(c, policy, wait_ms);
	pg_atomic_write_u32(&feature->dimmer, rsl_dimmer_share(c->dimmer.theta));
}

void
rsl_dimmer_tick(int64 now, int cores, int on_cpu, uint64 admitted)
{
	double		wait_ms;

	excess += Max(on_cpu - cores, 0);
	looks++;
	if (last_now != 0 && now >= last_now && now - last_now < RSL_DIMMER_PERIOD_US)
		return;

	wait_ms = measure(now, admitted);
	if (pg_atomic_read_u32(&rsl_features->npublished) == 0)
		return;
	if (controllers == NULL)
		controllers = MemoryContextAllocZero(TopMemoryContext,
											 rsl_features->max_features * sizeof(feature_controller));

	/* definitions hold still */
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_features->max_features; i++)
		steer(&controllers[i], &rsl_features->features[i], now, wait_ms);
	LWLockRelease(rsl_config_lock);
}

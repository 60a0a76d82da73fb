/*-------------------------------------------------------------------------
 *
 * health.c
 *		Health checks in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "shared/health.h"
#include "shared/pool.h"
#include "shared/settings.h"

rsl_health_shared *rsl_health = NULL;

static const char *const status_names[] = {
	"unknown", "healthy", "degraded", "unhealthy"
};

static const char *const kind_names[RSL_NUM_CHECK_KINDS] = {
	"sql", "foreign_server", "connections", "replication_lag",
	"replication_slots", "xid_age", "long_transactions", "lock_waits",
	"archiver", "disk_free", "load"
};

const char *
rsl_health_status_name(rsl_health_status status)
{
	return status_names[status];
}

const char *
rsl_check_kind_name(rsl_check_kind kind)
{
	return kind_names[kind];
}

/* Returns -1 when there is no such kind. */
int
rsl_parse_check_kind(const char *word)
{
	for (int i = 0; i < RSL_NUM_CHECK_KINDS; i++)
	{
		if (pg_strcasecmp(kind_names[i], word) == 0)
			return i;
	}
	return -1;
}

Size
rsl_health_shmem_size(void)
{
	return CACHELINEALIGN(add_size(offsetof(rsl_health_shared, checks),
								   mul_size(sizeof(rsl_check),
											rsl_max_health_checks)));
}

void
rsl_health_shmem_place(void *memory)
{
	rsl_health = memory;
}

/* The memory is zero. */
void
rsl_health_shmem_init(void)
{
	rsl_health->max_checks = rsl_max_health_checks;
	pg_atomic_init_u64(&rsl_health->generation, 0);
	pg_atomic_init_u64(&rsl_health->status_since, 0);
	SpinLockInit(&rsl_health->xid_clock_mutex);
	for (int i = 0; i < rsl_health->max_checks; i++)
		SpinLockInit(&rsl_health->checks[i].mutex);
}

/*
 * Put a policy into force.  What the check has found stays unless it is
 * another check by now; the next run is due at once when anything changed.
 */
void
rsl_check_put(int index, const rsl_check_policy *policy)
{
	rsl_check  *check = &rsl_health->checks[index];
	bool		is_new = !check->published;
	bool		other = is_new || check->policy.kind != policy->kind ||
		check->policy.query_hash != policy->query_hash ||
		strcmp(check->policy.target, policy->target) != 0;
	int64		now = rsl_now_us();

	SpinLockAcquire(&check->mutex);
	check->policy = *policy;
	if (other)
	{
		check->consecutive_failures = check->consecutive_successes = 0;
		check->consecutive_unhealthy = check->not_unhealthy = 0;
		check->last_run = check->last_change = 0;
		check->last_run_us = check->duration_us = 0;
		check->has_value = check->cut_off = false;
		check->last_result = RSL_HEALTH_UNKNOWN;
		check->message[0] = '\0';
		check->runs = check->failures = check->timeouts = 0;
		rsl_state_clock_begin(&check->clock, RSL_HEALTH_UNKNOWN, now);
		check->ill_since_us = 0;
		/* who is at it finds another uid, and drops what it has found */
		check->runner = 0;
		check->given_up = false;
		pg_atomic_write_u32(&check->status, RSL_HEALTH_UNKNOWN);
		check->late_us = check->max_late_us = 0;
		pg_atomic_write_u32(&check->uid, ++rsl_health->last_uid);
	}
	if (!policy->enabled)
	{
		/* nothing is known of it from here on, nor was before */
		check->consecutive_failures = check->consecutive_successes = 0;
		check->consecutive_unhealthy = check->not_unhealthy = 0;
		check->runner = 0;
		check->given_up = false;
		pg_atomic_write_u32(&check->status, RSL_HEALTH_UNKNOWN);
		rsl_state_clock_move(&check->clock, RSL_HEALTH_UNKNOWN, now);
		check->ill_since_us = 0;
	}
	check->next_run = now;
	SpinLockRelease(&check->mutex);
	check->published = true;
}

void
rsl_check_retire(int index)
{
	rsl_check  *check = &rsl_health->checks[index];

	check->published = false;
	SpinLockAcquire(&check->mutex);
	check->runner = 0;
	pg_atomic_write_u32(&check->uid, 0);
	pg_atomic_write_u32(&check->status, RSL_HEALTH_UNKNOWN);
	SpinLockRelease(&check->mutex);
}

/* Totals restart at zero. */
void
rsl_check_reset_statistics(int index)
{
	rsl_check  *check = &rsl_health->checks[index];

	SpinLockAcquire(&check->mutex);
	check->runs = check->failures = check->timeouts = 0;
	check->max_late_us = 0;
	SpinLockRelease(&check->mutex);
}

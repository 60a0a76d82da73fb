/*-------------------------------------------------------------------------
 *
 * components.c
 *		All that the extension knows, as components of the server's health.
 *
 * What readers need: the components one by one, and the whole.  The launcher's
 * part is in tick.c, how a component is found to be in looks.c.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "health/looks.h"
#include "shared/pool.h"
#include "utils/timestamp.h"

/* Is the launcher at work?  If not, what it has written down is of the past. */
static bool
launcher_looks(int64 now_us)
{
	int64		looked_us;

	if (rsl_health_board == NULL)
		return false;
	looked_us = (int64) pg_atomic_read_u64(&rsl_health_board->looked_us);
	return looked_us != 0 &&
		now_us - looked_us <= RSL_LAUNCHER_DEAD_MS * INT64CONST(1000);
}

/*
 * Since when?  A change that the launcher has not seen yet is of this moment,
 * or nobody knows.
 */
static TimestampTz
since_when(rsl_component_kind kind, int index, const rsl_look *look)
{
	rsl_board_entry *entry = rsl_board_entry_of(kind, index);
	uint64		word = pg_atomic_read_u64(&entry->word);

	if (look->since != 0)
		return look->since;
	pg_read_barrier();
	if (RSL_ENTRY_UID(word) == look->uid &&
		RSL_ENTRY_STATUS(word) == look->status)
		return (TimestampTz) pg_atomic_read_u64(&entry->since);
	return launcher_looks(look->now_us) ? look->now : 0;
}

void
rsl_each_component(void (*each) (const rsl_component *component, void *arg),
				   void *arg)
{
	rsl_look	look;
	rsl_component component;

	if (rsl_health_board == NULL)
		return;
	look.now_us = rsl_now_us();
	look.now = GetCurrentTimestamp();
	for (rsl_component_kind kind = 0; kind < RSL_NUM_COMPONENT_KINDS; kind++)
	{
		component.kind = rsl_component_kind_name(kind);
		for (int i = 0; i < rsl_health_board->counts[kind]; i++)
		{
			bool		found;

			LWLockAcquire(rsl_config_lock, LW_SHARED);
			found = rsl_look_at(kind, i, &look, &component);
			LWLockRelease(rsl_config_lock);
			if (!found)
				continue;
			component.status = look.status;
			component.critical = look.critical;
			component.since = since_when(kind, i, &look);
			each(&component, arg);
		}
	}
}

rsl_health_status
rsl_health_whole(TimestampTz *since)
{
	rsl_health_status status = RSL_HEALTH_UNKNOWN;
	TimestampTz at = 0;

	if (launcher_looks(rsl_now_us()))
	{
		status = pg_atomic_read_u32(&rsl_health->status);
		at = (TimestampTz) pg_atomic_read_u64(&rsl_health->status_since);
	}
	else if (rsl_health_board)
		at = (TimestampTz) pg_atomic_read_u64(&rsl_health_board->looked_at);
	if (since)
		*since = at;
	return status;
}

bool
rsl_health_is_suspect(void)
{
	return rsl_health_board != NULL &&
		pg_atomic_read_u32(&rsl_health_board->suspect) != 0;
}

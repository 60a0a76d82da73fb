/*-------------------------------------------------------------------------
 *
 * refusal_log.c
 *		Keeping refusals from flooding the server's log.
 *
 * A server that refuses thousands of statements a second should not spend its
 * time, and its disk, on four lines for each of them: the views count them
 * all.  Whoever raises a refusal decides whether it is time to log one of the
 * same object; emit_log() in shedding/hooks.c does the rest.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "shared/layout.h"
#include "shared/refusal_log.h"

/* refusals are logged once for each object in this many ticks (10 s) */
#define LOG_TICKS					100

bool		rsl_refusal_unlogged = false;

/* Has this object not been heard of in the server's log for a while? */
bool
rsl_time_to_log(pg_atomic_uint32 *last_logged)
{
	uint32		tick = pg_atomic_read_u32(&rsl_shmem->tick);
	uint32		last = pg_atomic_read_u32(last_logged);

	return (last == 0 || tick - last >= LOG_TICKS) &&
		pg_atomic_compare_exchange_u32(last_logged, &last, tick);
}

/*-------------------------------------------------------------------------
 *
 * pool_state.h
 *		The state of a pool of running slots in one 64-bit word.
 *
 * Taking and returning a slot must be a single atomic operation on a single
 * cache line, and a releaser must learn in that same operation whether
 * somebody waits.  So the word packs three counts of running transactions
 * and a flag for each class of waiters:
 *
 *	bits  0..17		running, priority low
 *	bits 18..35		running, priority normal
 *	bits 36..53		running, priority high and critical
 *	bits 54..57		somebody of class low, normal, high, critical waits
 *
 * 18 bits hold PostgreSQL's largest number of backends (MAX_BACKENDS,
 * 2^18 - 1).  High and critical share a lane because no cap distinguishes
 * them; views that show them apart count sessions.
 *
 * Everything here is a pure function of the word: the atomic operations are
 * the caller's.  Part of the cores: plain C, no backend headers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_POOL_STATE_H
#define RSL_CORE_POOL_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/priority.h"

#define RSL_LANE_BITS		18
#define RSL_LANE_MASK		((UINT64_C(1) << RSL_LANE_BITS) - 1)
#define RSL_WAIT_SHIFT		(3 * RSL_LANE_BITS)
#define RSL_WAIT_MASK		(UINT64_C(0xF) << RSL_WAIT_SHIFT)

/* no limit, as in CONNECTION LIMIT */
#define RSL_UNLIMITED		(-1)

/*
 * What limits a pool.  The caps hold for a class while a higher class has
 * work: order in the queue alone cannot protect the important work from
 * what already runs.
 */
typedef struct rsl_pool_limits
{
	int32_t		max_running;	/* RSL_UNLIMITED, or 0 .. RSL_LANE_MASK */
	int32_t		low_cap;		/* the same, for class low */
	int32_t		normal_cap;		/* the same, for class normal */
} rsl_pool_limits;

/* One running transaction of a class, to add to or subtract from the word. */
static inline uint64_t
rsl_pool_unit(rsl_priority priority)
{
	int			lane = priority < RSL_PRIORITY_HIGH ? (int) priority : 2;

	return UINT64_C(1) << (lane * RSL_LANE_BITS);
}

/* The flag "somebody of this class waits". */
static inline uint64_t
rsl_pool_wait_bit(rsl_priority priority)
{
	return UINT64_C(1) << (RSL_WAIT_SHIFT + (int) priority);
}

/* Flags of this class and of all higher ones. */
static inline uint64_t
rsl_pool_wait_bits_from(rsl_priority priority)
{
	return (RSL_WAIT_MASK << (int) priority) & RSL_WAIT_MASK;
}

static inline int32_t
rsl_pool_lane(uint64_t word, int lane)
{
	return (int32_t) ((word >> (lane * RSL_LANE_BITS)) & RSL_LANE_MASK);
}

static inline int32_t
rsl_pool_running(uint64_t word)
{
	return rsl_pool_lane(word, 0) + rsl_pool_lane(word, 1) +
		rsl_pool_lane(word, 2);
}

/*
 * Do as many transactions of this class run as its cap lets run beside higher
 * classes?  Only then does it matter whether those have been active.
 */
static inline bool
rsl_pool_cap_reached(uint64_t word, const rsl_pool_limits *limits,
					 rsl_priority priority)
{
	if (priority == RSL_PRIORITY_LOW)
		return limits->low_cap >= 0 &&
			rsl_pool_lane(word, 0) >= limits->low_cap;
	if (priority == RSL_PRIORITY_NORMAL)
		return limits->normal_cap >= 0 &&
			rsl_pool_lane(word, 1) >= limits->normal_cap;
	return false;
}

/*
 * May one more transaction of this class run?
 *
 * "recent" has bit c set when class c has had work a moment ago.  Without
 * that memory a high class that sends short statements would find the lower
 * ones filling every slot between two of them.
 */
static inline bool
rsl_pool_admits(uint64_t word, const rsl_pool_limits *limits,
				rsl_priority priority, uint32_t recent)
{
	if (limits->max_running >= 0 &&
		rsl_pool_running(word) >= limits->max_running)
		return false;

	if (!rsl_pool_cap_reached(word, limits, priority))
		return true;
	if (priority == RSL_PRIORITY_LOW)
		return (recent & 0xE) == 0 && rsl_pool_lane(word, 1) == 0 &&
			rsl_pool_lane(word, 2) == 0 &&
			(word & rsl_pool_wait_bits_from(RSL_PRIORITY_NORMAL)) == 0;
	return (recent & 0xC) == 0 && rsl_pool_lane(word, 2) == 0 &&
		(word & rsl_pool_wait_bits_from(RSL_PRIORITY_HIGH)) == 0;
}

/*
 * The cap in force: an explicit one, or a share (in quarters) of the limit,
 * at least 1; none without a limit.
 */
static inline int32_t
rsl_pool_effective_cap(int32_t configured, int32_t max_running, int quarters)
{
	int64_t		cap;

	if (configured >= 0)
		return configured;
	if (max_running < 0)
		return RSL_UNLIMITED;
	cap = (int64_t) max_running * quarters / 4;
	return cap < 1 ? 1 : (int32_t) cap;
}

#endif							/* RSL_CORE_POOL_STATE_H */

/*-------------------------------------------------------------------------
 *
 * preempt.h
 *		A running statement makes room for one of higher priority.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHEDDING_PREEMPT_H
#define RSL_SHEDDING_PREEMPT_H

#include "shared/pool.h"

/* A statement that waits, and whom it has chosen. */
typedef struct rsl_preemptor
{
	rsl_pool   *pool;
	rsl_priority priority;
	int64		next_look;		/* microseconds, monotonic */
	rsl_session *victim;		/* NULL = nobody yet */
	uint32		statement;		/* the victim's */
} rsl_preemptor;

extern void rsl_preempt_init(void);
extern void rsl_preempt_begin(rsl_preemptor *preemptor, rsl_pool *pool,
							  rsl_priority priority);
extern long rsl_preempt_look(rsl_preemptor *preemptor);
extern bool rsl_preempt_observe(rsl_pool *pool, rsl_priority priority);
extern void rsl_preempt_deposit(uint64 admitted);

#endif							/* RSL_SHEDDING_PREEMPT_H */

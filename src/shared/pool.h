/*-------------------------------------------------------------------------
 *
 * pool.h
 *		Taking, waiting for, and giving back the slots of a pool.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_POOL_H
#define RSL_SHARED_POOL_H

#include "shared/layout.h"

/* The numbers that a refusal tells the client. */
typedef struct rsl_pool_numbers
{
	int32		limit;
	int32		running;
	int32		waiting;
	int64		retry_after_ms;
} rsl_pool_numbers;

typedef struct rsl_wait_options
{
	int64		timeout_us;		/* the longest wait */
	int64		budget_us;		/* refuse at once what would wait longer; 0 =
								 * none */
	int64		target_us;		/* a wait of more than twice this may be too
								 * late; 0 = never */
	bool		preempt;		/* push a lower class out of a full queue */
	void		(*on_sleep) (void *arg);	/* before the first sleep */
	void		(*on_wake) (void *arg); /* after the slot was granted */
	long		(*look) (void *arg);	/* while waiting; returns when to call
										 * it again, in ms */
	void	   *arg;
} rsl_wait_options;

static inline int64
rsl_now_us(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/* Does the pool limit anything?  If not its word is left alone. */
static inline bool
rsl_pool_limited(rsl_pool *pool)
{
	return (int32) pg_atomic_read_u32(&pool->max_running) != RSL_UNLIMITED;
}

static inline void
rsl_pool_read_limits(rsl_pool *pool, rsl_pool_limits *limits)
{
	limits->max_running = (int32) pg_atomic_read_u32(&pool->max_running);
	limits->low_cap = (int32) pg_atomic_read_u32(&pool->low_cap);
	limits->normal_cap = (int32) pg_atomic_read_u32(&pool->normal_cap);
}

extern bool rsl_pool_try_take(rsl_pool *pool, rsl_priority priority);
extern void rsl_pool_force_take(rsl_pool *pool, rsl_priority priority);
extern void rsl_pool_give(rsl_pool *pool, rsl_priority priority);
extern rsl_verdict rsl_pool_wait(rsl_pool *pool, rsl_session *session,
								 rsl_priority priority,
								 const rsl_wait_options *options,
								 rsl_pool_numbers *numbers);
extern void rsl_pool_abandon_wait(rsl_session *session);
extern void rsl_pool_dispatch(rsl_pool *pool);
extern bool rsl_pool_freed_for(rsl_pool *pool, rsl_priority priority,
							   rsl_priority victim);
extern bool rsl_pool_let_through(rsl_session *session, int waiting_for);
extern void rsl_pool_shed_below(rsl_pool *pool, rsl_priority minimum);
extern void rsl_pool_get_numbers(rsl_pool *pool, rsl_priority priority,
								 rsl_pool_numbers *numbers);

#define RSL_LOCKS_STRONG		0x01	/* holds a lock above RowExclusive */
#define RSL_LOCKS_BLOCKING		0x02	/* somebody waits for a lock it holds */

extern int	rsl_lock_state(PGPROC *proc);

#endif							/* RSL_SHARED_POOL_H */

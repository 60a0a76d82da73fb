/*-------------------------------------------------------------------------
 *
 * turns.h
 *		Turns: who has waited may run several transactions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_TURNS_H
#define RSL_SHARED_TURNS_H

#include "shared/layout.h"

/* this session has kept a slot, or wants to know how fast its client is */
extern bool rsl_turn_pending;

/* this session has its place among those in a turn */
extern bool rsl_turn_entered;

/* At the end of a transaction: is there anything to think about? */
static inline bool
rsl_turn_concerned(void)
{
	return rsl_turn_entered ||
		(pg_atomic_read_u64(&rsl_shmem->server.word) & RSL_WAIT_MASK) != 0;
}

extern void rsl_turn_note_patience(rsl_pool *pool, int64 patience_us);
extern void rsl_turn_begin(void);
extern bool rsl_turn_keep(rsl_session *session);
extern bool rsl_turn_resume(rsl_session *session, rsl_priority priority);
extern void rsl_turn_forget(rsl_session *session);
extern void rsl_turn_give_up(rsl_session *session);
extern bool rsl_turn_reclaim(rsl_priority below);

#endif							/* RSL_SHARED_TURNS_H */

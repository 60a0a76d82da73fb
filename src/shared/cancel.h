/*-------------------------------------------------------------------------
 *
 * cancel.h
 *		Cancelling exactly one statement of another session.
 *
 * See cancel.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_CANCEL_H
#define RSL_SHARED_CANCEL_H

#include "access/xact.h"
#include "shared/session.h"

/* Why a statement is cancelled. */
#define RSL_CANCEL_OBSERVED		1	/* it is not: only counted, in observe
									 * mode */
#define RSL_CANCEL_PREEMPTED	2
#define RSL_CANCEL_RUNAWAY		3
#define RSL_CANCEL_REASONS		4

/* the largest "detail" of a request */
#define RSL_CANCEL_DETAIL_MAX	0xFFFFFF

/* Who may want to cancel: bits of rsl_shmem->cancellers. */
#define RSL_CANCEL_BY_PREEMPTION	0x01
#define RSL_CANCEL_BY_RUNAWAY		0x02

/* A request that has been carried out, as its victim sees it. */
typedef struct rsl_cancel
{
	uint32		statement;
	int			reason;
	int			detail;			/* as given to rsl_cancel_statement() */
	TimestampTz started;		/* when the statement began */
} rsl_cancel;

/*
 * Says why in the error that the victim's client gets: "edata" is a copy of
 * the 57014 error, to be changed; strings in the current memory context.
 * Called once for each request that hit.  The transaction has failed and is
 * not aborted yet: no catalogs, no errors.
 */
typedef void (*rsl_cancel_describe) (const rsl_cancel *cancel,
									 ErrorData *edata);

extern void rsl_cancel_register(int reason, rsl_cancel_describe describe);
extern void rsl_cancel_arm(uint32 who, bool on);
extern bool rsl_cancel_statement(rsl_session *session, uint32 statement,
								 int reason, int detail);
extern uint64 rsl_cancel_pending_requests(void);

/* the victim's side: session.c and shedding/hooks.c */
extern void rsl_cancel_attach(rsl_session *session);
extern void rsl_cancel_detach(rsl_session *session);
extern void rsl_cancel_settle(void);
extern void rsl_cancel_failed(MemoryContext caller);
extern void rsl_cancel_insist(void);
extern void rsl_cancel_forget_other(void);
extern bool rsl_cancel_outermost(void);

/* Does anything cancel statements, so that they have to be numbered? */
static inline bool
rsl_cancel_armed(void)
{
	return rsl_admitted &&
		pg_atomic_read_u32(&rsl_shmem->cancellers) != 0;
}

/* A statement begins that may be cancelled; "flags" are RSL_STATEMENT_*. */
static inline void
rsl_cancel_begin(uint8 flags)
{
	rsl_session *me = rsl_me;
	uint32		number = pg_atomic_read_u32(&me->statement);

	/* a request for an earlier one that came too late */
	if (unlikely(pg_atomic_read_u64(&me->doom) != 0))
		rsl_cancel_settle();
	me->statement_flags = flags;
	me->statement_start = GetCurrentStatementStartTimestamp();
	pg_write_barrier();
	/* step: begin */
	pg_atomic_write_u32(&me->statement, (number + 1) | 1);
}

/* It has ended without an error. */
static inline void
rsl_cancel_end(void)
{
	rsl_session *me = rsl_me;

	/* step: end */
	pg_atomic_write_u32(&me->statement,
						pg_atomic_read_u32(&me->statement) + 1);
	/* from here on the signal handler leaves us alone */
	pg_compiler_barrier();
	if (unlikely(pg_atomic_read_u64(&me->doom) != 0))
		rsl_cancel_settle();
}

#endif							/* RSL_SHARED_CANCEL_H */

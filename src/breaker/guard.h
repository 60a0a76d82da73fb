/*-------------------------------------------------------------------------
 *
 * guard.h
 *		A call to something that a circuit breaker guards.
 *
 * A guard is opened before the first contact (which may raise 08R01 or
 * 53R01), every contact is made within a section, and the guard is closed at
 * the end.  A section that fails tells whom the error is to be charged to,
 * enforces call_timeout, and passes the error on.
 *
 *		rsl_guard_open(&guard, breaker, policy, NULL, "call");
 *		RSL_GUARDED(&guard, RSL_SECTION_TIMED, "call", result = f(x));
 *		rsl_guard_close(&guard);
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_BREAKER_GUARD_H
#define RSL_BREAKER_GUARD_H

#include "compat.h"

#include "lib/ilist.h"
#include "shared/breakers.h"

typedef struct rsl_guard
{
	dlist_node	node;			/* in the list of open guards */
	rsl_call	call;
	const rsl_breaker_policy *policy;	/* outlives the guard */
	const void *key;			/* whose call this is: an EState, or NULL */
	int64		timeout_us;		/* call_timeout; 0 = none */
	int64		busy_us;		/* time spent in sections */
	struct rsl_guard *trial;	/* this call is a part of that trial */
	int64		local_since;	/* see rsl_guard_local(); 0 = not so */
	int			pending;		/* asynchronous answers that are awaited */
	int64		pending_since;	/* the last of them was asked or answered */
	bool		answered;		/* a section has returned */
	bool		open;			/* false once the outcome is recorded */
	bool		watching;		/* for the timer only: see rsl_guard_watch() */

	/*
	 * After a timeout: make sure that cleaning up will not wait for the
	 * silent server as well.  May be NULL.
	 */
	void		(*on_timeout) (struct rsl_guard *guard);

	/*
	 * Called by the timer, in a signal handler: end the call by ending its
	 * connection, and return true; or return false, and the statement is
	 * cancelled.  May be NULL.
	 */
	bool		(*break_call) (struct rsl_guard *guard);

	/* a failure was charged; may be NULL */
	void		(*on_failure) (struct rsl_guard *guard);
	void	   *arg;
} rsl_guard;

/* flags of a section */
#define RSL_SECTION_TIMED		1	/* measure it; else it is one of many rows */
#define RSL_SECTION_CONNECTS	2	/* it may have to open a connection */

typedef struct rsl_section
{
	rsl_guard  *guard;
	rsl_guard  *outer;			/* the section that this one interrupts */
	int64		started;		/* 0 = not measured */
	int			flags;
	char	   *saved_connect_timeout;
} rsl_section;

/* The guard in whose section this backend is at the moment, or NULL. */
extern rsl_guard *volatile rsl_current_guard;
extern rsl_call_board *rsl_my_board;

extern void rsl_guard_open(rsl_guard *guard, int breaker,
						   const rsl_breaker_policy *policy, const void *key,
						   const char *phase);
extern rsl_guard *rsl_guard_find(int breaker, const void *key);
extern void rsl_guard_close(rsl_guard *guard);
extern void rsl_guard_watch(rsl_guard *guard, const rsl_breaker_policy *policy,
							void (*on_timeout) (rsl_guard *));
extern void rsl_guard_unwatch(rsl_guard *guard);
extern void rsl_guard_local(rsl_guard *guard);
extern void rsl_guard_remote(rsl_guard *guard);
extern void rsl_guard_await(rsl_guard *guard, bool *was_pending, bool pending);

extern void rsl_section_enter_timed(rsl_section *section);
extern void rsl_section_leave_timed(rsl_section *section);
extern void rsl_section_failed(rsl_section *section, const char *phase);
extern void rsl_guard_blame(rsl_guard *guard, int sqlstate,
							const char *message);
extern bool rsl_guard_rewrite_error(ErrorData *edata);

/* we have cancelled the statement, and it has not ended yet */
extern volatile sig_atomic_t rsl_cancel_is_ours;

static inline void
rsl_section_enter(rsl_section *section, rsl_guard *guard, int flags)
{
	rsl_call_board *board = rsl_my_board;

	section->guard = guard;
	section->outer = rsl_current_guard;
	section->flags = flags;
	section->started = 0;
	if (unlikely(guard->local_since != 0))
		rsl_guard_remote(guard);
	if (flags != 0)
		rsl_section_enter_timed(section);

	/* our own cache line: nobody else writes it */
	pg_atomic_write_u32(&board->breaker, guard->call.breaker + 1);
	pg_atomic_write_u32(&board->generation, guard->call.permit.generation);
	pg_atomic_write_u32(&board->sequence,
						(pg_atomic_read_u32(&board->sequence) + 1) | 1);
	rsl_current_guard = guard;
}

static inline void
rsl_section_leave(rsl_section *section)
{
	uint32		next = pg_atomic_read_u32(&rsl_my_board->sequence) + 1;

	rsl_current_guard = section->outer;
	pg_atomic_write_u32(&rsl_my_board->sequence,
						section->outer ? next | 1 : next & ~UINT32_C(1));
	section->guard->answered = true;
	if (section->flags != 0 || unlikely(rsl_cancel_is_ours))
		rsl_section_leave_timed(section);
}

/* Run a statement that contacts the guarded dependency. */
#define RSL_GUARDED(guard_, flags_, phase_, ...) \
	do { \
		rsl_section section_; \
		rsl_section_enter(&section_, (guard_), (flags_)); \
		PG_TRY(); \
		{ \
			__VA_ARGS__; \
		} \
		PG_CATCH(); \
		{ \
			rsl_section_failed(&section_, (phase_)); \
			PG_RE_THROW(); \
		} \
		PG_END_TRY(); \
		rsl_section_leave(&section_); \
	} while (0)

#endif							/* RSL_BREAKER_GUARD_H */

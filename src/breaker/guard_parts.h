/*-------------------------------------------------------------------------
 *
 * guard_parts.h
 *		Parts of guard.c that have files of their own.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_BREAKER_GUARD_PARTS_H
#define RSL_BREAKER_GUARD_PARTS_H

#include "breaker/guard.h"

/* All open guards of this backend; busy: the timer must not look at them. */
extern dlist_head rsl_open_guards;
extern volatile sig_atomic_t rsl_open_guards_busy;

/* call_timer.c: a breaker's call_timeout */

/* since when the present section has been running; 0 = not known */
extern volatile int64 rsl_section_since;

extern void rsl_timer_start(int64 timeout_us);
extern void rsl_timer_stop(void);
extern bool rsl_timer_struck(const rsl_guard *guard);
extern bool rsl_timer_is_our_error(int sqlstate);
extern bool rsl_timer_forget(void);
extern int64 rsl_timer_seen_since(uint32 sequence);
RSL_NORETURN extern void rsl_raise_timeout(const rsl_guard *guard,
										   const char *phase, int64 elapsed);

/* connect_time.c: the same for connecting, where no timer can interrupt it */
extern void rsl_limit_connect_time(rsl_section *section);
extern void rsl_restore_connect_time(rsl_section *section);

/* fault.c: whose fault is an error that a section let through? */
extern rsl_call_outcome rsl_guard_judge(const rsl_guard *guard,
										const ErrorData *edata, int64 elapsed,
										int *sqlstate);

#endif							/* RSL_BREAKER_GUARD_PARTS_H */

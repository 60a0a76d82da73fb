/*-------------------------------------------------------------------------
 *
 * session.h
 *		A session's entry in shared memory, and the one way to give back
 *		what it holds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_SESSION_H
#define RSL_SHARED_SESSION_H

#include "shared/layout.h"

/*
 * This backend's entry; NULL in every process that is not counted: parallel
 * workers, background workers, walsenders, autovacuum.
 */
extern rsl_session *rsl_me;

/* true while this backend's transaction has been admitted */
extern bool rsl_admitted;

extern void rsl_session_attach(Oid role, Oid database, bool superuser,
							   const rsl_address *address,
							   const char *application_name);
extern void rsl_session_hold(void);
extern void rsl_session_release(void);
extern void rsl_session_end_transaction(void);
extern void rsl_session_take_back(void);
extern void rsl_session_bump(void);
extern bool rsl_session_lend(rsl_session *session);
extern void rsl_session_lend_own(void);
extern void rsl_session_clean(rsl_session *session);

extern bool rsl_connection_take(rsl_session *session, int index, bool force);
extern void rsl_connection_give(rsl_session *session, int index);
extern bool rsl_connection_held(rsl_session *session, int index);

/* The slot was lent while the session was idle: take it back before work. */
static inline void
rsl_session_resume(void)
{
	if (unlikely(RSL_SLOT_STATE(pg_atomic_read_u32(&rsl_me->slot)) ==
				 RSL_SLOT_LENT))
		rsl_session_take_back();
}

#endif							/* RSL_SHARED_SESSION_H */

/*-------------------------------------------------------------------------
 *
 * watch.h
 *		What the launcher sees change, and notes as events.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_WORKER_WATCH_H
#define RSL_WORKER_WATCH_H

/* The launcher has begun its work. */
extern void rsl_watch_begin(void);

/* At each tick. */
extern void rsl_watch_tick(void);

/* The configuration was read, for the first time or anew. */
extern void rsl_watch_settings(void);

/* The server was a standby and is none any more. */
extern void rsl_watch_promoted(void);

#endif							/* RSL_WORKER_WATCH_H */

/*-------------------------------------------------------------------------
 *
 * event_log.h
 *		Events in the server's log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_WORKER_EVENT_LOG_H
#define RSL_WORKER_EVENT_LOG_H

/* The launcher, at each tick: log what has happened since the last one. */
extern void rsl_log_events(void);

#endif							/* RSL_WORKER_EVENT_LOG_H */

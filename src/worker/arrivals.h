/*-------------------------------------------------------------------------
 *
 * arrivals.h
 *		The launcher's part in the history of arrivals.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_WORKER_ARRIVALS_H
#define RSL_WORKER_ARRIVALS_H

extern void rsl_look_at_arrivals(void);

#endif							/* RSL_WORKER_ARRIVALS_H */

/*-------------------------------------------------------------------------
 *
 * auto_revert.h
 *		Bulkheads that refuse more than they are meant to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_WORKER_AUTO_REVERT_H
#define RSL_WORKER_AUTO_REVERT_H

extern void rsl_look_at_refusals(void);

#endif							/* RSL_WORKER_AUTO_REVERT_H */

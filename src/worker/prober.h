/*-------------------------------------------------------------------------
 *
 * prober.h
 *		The background worker that asks guarded servers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_WORKER_PROBER_H
#define RSL_WORKER_PROBER_H

extern void rsl_prober_register(void);
extern PGDLLEXPORT void rsl_prober_main(Datum arg);

#endif							/* RSL_WORKER_PROBER_H */

/*-------------------------------------------------------------------------
 *
 * sites.h
 *		Where statements and connections meet chaos experiments.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CHAOS_SITES_H
#define RSL_CHAOS_SITES_H

extern void rsl_chaos_init(void);

#endif							/* RSL_CHAOS_SITES_H */

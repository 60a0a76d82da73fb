/*-------------------------------------------------------------------------
 *
 * fdw.h
 *		Guarding the functions of foreign data wrappers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_BREAKER_FDW_H
#define RSL_BREAKER_FDW_H

extern void rsl_fdw_init(void);

#endif							/* RSL_BREAKER_FDW_H */

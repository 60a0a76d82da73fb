/*-------------------------------------------------------------------------
 *
 * hooks.h
 *		Where statements pass by.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHEDDING_HOOKS_H
#define RSL_SHEDDING_HOOKS_H

extern void rsl_shedding_init(void);

#endif							/* RSL_SHEDDING_HOOKS_H */

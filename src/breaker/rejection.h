/*-------------------------------------------------------------------------
 *
 * rejection.h
 *		The errors of calls that a circuit breaker does not let through.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_BREAKER_REJECTION_H
#define RSL_BREAKER_REJECTION_H

#include "shared/breakers.h"

RSL_NORETURN extern void rsl_raise_rejection(int breaker,
											 rsl_admittance admittance,
											 const char *phase);

#endif							/* RSL_BREAKER_REJECTION_H */

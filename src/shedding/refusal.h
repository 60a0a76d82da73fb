/*-------------------------------------------------------------------------
 *
 * refusal.h
 *		What is said to a statement that is not admitted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHEDDING_REFUSAL_H
#define RSL_SHEDDING_REFUSAL_H

#include "shared/compartments.h"
#include "shared/pool.h"

typedef struct rsl_refusal
{
	char		bulkhead[NAMEDATALEN];	/* "" = the server-wide limit */
	char		where[RSL_COMPARTMENT_SHOWN_LEN + 20];	/* of its compartments,
														 * for the DETAIL */
	rsl_priority priority;
	const rsl_pool_numbers *numbers;
} rsl_refusal;

RSL_NORETURN extern void rsl_raise_refusal(const rsl_refusal *refusal,
										   rsl_verdict verdict);
extern void rsl_log_refusal(const rsl_refusal *refusal, rsl_verdict verdict);

#endif							/* RSL_SHEDDING_REFUSAL_H */

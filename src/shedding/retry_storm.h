/*-------------------------------------------------------------------------
 *
 * retry_storm.h
 *		Statements that come back soon after they were refused.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHEDDING_RETRY_STORM_H
#define RSL_SHEDDING_RETRY_STORM_H

#include "policy/statement.h"
#include "shared/layout.h"

extern void rsl_note_refusal(const rsl_statement *statement,
							 int64 retry_after_ms);
extern bool rsl_is_retry(const rsl_statement *statement);
extern bool rsl_retry_may_queue(rsl_overload *overload, bool retry);

#endif							/* RSL_SHEDDING_RETRY_STORM_H */

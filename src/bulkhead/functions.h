/*-------------------------------------------------------------------------
 *
 * functions.h
 *		SQL functions that create, alter and drop bulkheads.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_BULKHEAD_FUNCTIONS_H
#define RSL_BULKHEAD_FUNCTIONS_H

#include "fmgr.h"
#include "shared/layout.h"

extern void rsl_bulkhead_from_arguments(FunctionCallInfo fcinfo,
										rsl_bulkhead_policy *policy);

#endif							/* RSL_BULKHEAD_FUNCTIONS_H */

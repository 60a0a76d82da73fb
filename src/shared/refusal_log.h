/*-------------------------------------------------------------------------
 *
 * refusal_log.h
 *		Keeping refusals from flooding the server's log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_REFUSAL_LOG_H
#define RSL_SHARED_REFUSAL_LOG_H

#include "compat.h"

#include "port/atomics.h"

/* the refusal being raised was logged for the same object a moment ago */
extern bool rsl_refusal_unlogged;

extern bool rsl_time_to_log(pg_atomic_uint32 *last_logged);

#endif							/* RSL_SHARED_REFUSAL_LOG_H */

/*-------------------------------------------------------------------------
 *
 * endpoint.h
 *		The worker that answers health requests by HTTP.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_ENDPOINT_ENDPOINT_H
#define RSL_ENDPOINT_ENDPOINT_H

#include "compat.h"

/* The launcher, now and then: the worker is there if and only if it is wanted. */
extern void rsl_keep_endpoint(void);

extern PGDLLEXPORT void rsl_endpoint_main(Datum arg);

#endif							/* RSL_ENDPOINT_ENDPOINT_H */

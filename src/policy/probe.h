/*-------------------------------------------------------------------------
 *
 * probe.h
 *		Asking a foreign server whether it answers, without credentials.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_PROBE_H
#define RSL_POLICY_PROBE_H

#include "foreign/foreign.h"
#include "libpq-fe.h"

extern void rsl_probe_target(ForeignServer *server, char *target);
extern PGconn *rsl_probe_start(const char *target);
extern bool rsl_probe_judge(PGconn *conn, bool connected, char *result,
							size_t size);

#endif							/* RSL_POLICY_PROBE_H */

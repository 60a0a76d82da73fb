/*-------------------------------------------------------------------------
 *
 * health_policy.h
 *		Health checks: from the extension's table to shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_HEALTH_POLICY_H
#define RSL_POLICY_HEALTH_POLICY_H

#include "policy/kinds.h"
#include "shared/health.h"

#define RSL_HEALTH_CHECKS_NAME	"health_check_definitions"

/* Columns of resilience.health_check_definitions. */
enum rsl_health_check_column
{
	RSL_HCOL_NAME = 1,
	RSL_HCOL_KIND,
	RSL_HCOL_QUERY,
	RSL_HCOL_TARGET,
	RSL_HCOL_WARNING_THRESHOLD,
	RSL_HCOL_CRITICAL_THRESHOLD,
	RSL_HCOL_CHECK_INTERVAL,
	RSL_HCOL_TIMEOUT,
	RSL_HCOL_FAILURE_THRESHOLD,
	RSL_HCOL_SUCCESS_THRESHOLD,
	RSL_HCOL_CRITICAL,
	RSL_HCOL_ENABLED,
	RSL_NUM_HEALTH_CHECK_ARGUMENTS = RSL_HCOL_ENABLED,
	RSL_HCOL_OWNER
};

#endif							/* RSL_POLICY_HEALTH_POLICY_H */

/*-------------------------------------------------------------------------
 *
 * feature_policy.h
 *		Features and degradations: from the tables to shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_FEATURE_POLICY_H
#define RSL_POLICY_FEATURE_POLICY_H

#include "policy/kinds.h"
#include "shared/features.h"
#include "utils/jsonb.h"

#define RSL_FEATURES_NAME		"feature_definitions"
#define RSL_DEGRADATIONS_NAME	"degradation_definitions"

/* Columns of resilience.feature_definitions. */
enum rsl_feature_column
{
	RSL_FCOL_NAME = 1,
	RSL_FCOL_ENABLED,
	RSL_FCOL_HEALTH_CHECK,
	RSL_FCOL_BREAKER,
	RSL_FCOL_MINIMUM_PRIORITY,
	RSL_FCOL_DIMMABLE,
	RSL_FCOL_FALLBACK_SQL,
	RSL_FCOL_EXPIRES_AT,
	RSL_FCOL_DESCRIPTION,
	RSL_FCOL_FALLBACK_ON_ERROR,
	RSL_FCOL_FAILURE_THRESHOLD,
	RSL_FCOL_SUCCESS_THRESHOLD,
	RSL_FCOL_MIN_DEGRADED_DURATION,
	RSL_FCOL_DIMMER_TARGET,
	RSL_NUM_FEATURE_ARGUMENTS = RSL_FCOL_DIMMER_TARGET,
	RSL_FCOL_REASON,
	RSL_FCOL_OWNER
};

/* Columns of resilience.degradation_definitions. */
enum rsl_degradation_column
{
	RSL_DCOL_NAME = 1,
	RSL_DCOL_WHEN_STATE,
	RSL_DCOL_PRIORITY,
	RSL_DCOL_SETTINGS,
	RSL_DCOL_ENABLED,
	RSL_NUM_DEGRADATION_ARGUMENTS = RSL_DCOL_ENABLED
};

extern char *rsl_setting_word(const JsonbValue *value);

#endif							/* RSL_POLICY_FEATURE_POLICY_H */

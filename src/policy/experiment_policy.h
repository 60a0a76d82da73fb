/*-------------------------------------------------------------------------
 *
 * experiment_policy.h
 *		Chaos experiments: from the extension's table to shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_EXPERIMENT_POLICY_H
#define RSL_POLICY_EXPERIMENT_POLICY_H

#include "policy/conditions.h"
#include "policy/kinds.h"
#include "shared/experiments.h"

#define RSL_EXPERIMENTS_NAME	"experiment_definitions"

/* Columns of resilience.experiment_definitions, after the conditions. */
enum rsl_experiment_column
{
	RSL_ECOL_IMPACT = RSL_NUM_CONDITION_COLUMNS + 1,
	RSL_ECOL_PROBABILITY,
	RSL_ECOL_DELAY,
	RSL_ECOL_VARIANCE,
	RSL_ECOL_DISTRIBUTION,
	RSL_ECOL_SQLSTATE,
	RSL_ECOL_SERVER,
	RSL_ECOL_RELATION,
	RSL_ECOL_MAX_INJECTIONS,
	RSL_ECOL_MAX_CONCURRENT,
	RSL_ECOL_MAX_DURATION,
	RSL_ECOL_SCHEDULE_START,
	RSL_ECOL_SCHEDULE_END,
	RSL_ECOL_SCHEDULE_INTERVAL,
	RSL_ECOL_STOP_WHEN_UNHEALTHY,
	RSL_ECOL_STOP_CONDITION,
	RSL_NUM_EXPERIMENT_ARGUMENTS = RSL_ECOL_STOP_CONDITION,
	RSL_ECOL_OWNER
};

#endif							/* RSL_POLICY_EXPERIMENT_POLICY_H */

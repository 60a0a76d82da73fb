/*-------------------------------------------------------------------------
 *
 * dependencies.h
 *		Features, health checks and breakers that depend on each other.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_DEPENDENCIES_H
#define RSL_POLICY_DEPENDENCIES_H

#include "policy/feature_policy.h"

extern void rsl_refuse_coupling_cycle(void);
extern void rsl_refuse_drop_while_coupled(const char *kind,
										  enum rsl_feature_column column,
										  const char *name);

#endif							/* RSL_POLICY_DEPENDENCIES_H */

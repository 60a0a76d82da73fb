/*-------------------------------------------------------------------------
 *
 * run_feature.h
 *		The fallback of a feature, as its definition gives it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_DEGRADATION_RUN_FEATURE_H
#define RSL_DEGRADATION_RUN_FEATURE_H

extern void rsl_fallback_prepare(const char *name, const char *sql);

#endif							/* RSL_DEGRADATION_RUN_FEATURE_H */

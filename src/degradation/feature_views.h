/*-------------------------------------------------------------------------
 *
 * feature_views.h
 *		A feature's state, in words.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_DEGRADATION_FEATURE_VIEWS_H
#define RSL_DEGRADATION_FEATURE_VIEWS_H

#include "shared/features.h"

typedef struct rsl_feature_description
{
	rsl_feature_state state;
	double		dimmer;			/* 0 .. 1 */
	TimestampTz since;
	char		reason[RSL_FEATURE_REASON_LEN]; /* "" = none */
} rsl_feature_description;

extern void rsl_feature_describe(rsl_feature *feature,
								 rsl_feature_description *result);

#endif							/* RSL_DEGRADATION_FEATURE_VIEWS_H */

/*-------------------------------------------------------------------------
 *
 * enabled.h
 *		Is a feature enabled?  Asked by every backend, without a lock.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_DEGRADATION_ENABLED_H
#define RSL_DEGRADATION_ENABLED_H

#include "shared/features.h"

/* Why a call is not served in full. */
typedef enum rsl_feature_verdict
{
	RSL_FEATURE_SERVED = 0,
	RSL_FEATURE_BY_STATE,		/* degraded or off */
	RSL_FEATURE_BY_LOAD,		/* the session's priority is too low */
	RSL_FEATURE_BY_DIMMER		/* not in the share that is served */
} rsl_feature_verdict;

/*
 * A feature of this database, as this backend knows it, with counts that have
 * not been added to the totals yet.
 */
typedef struct rsl_known_feature
{
	rsl_feature *feature;		/* in shared memory; NULL = unused place */
	uint32		uid;			/* of the entry, when it was looked up */
	uint32		hash;			/* of the name */
	uint32		evaluations;
	uint32		degraded;
	struct rsl_known_feature *next_counted; /* in the list of those with
											 * counts */
	bool		counted;		/* is in that list */
	uint8		length;
	char		name[NAMEDATALEN];
} rsl_known_feature;

/*
 * NULL when there is no such feature.  Valid until the next call: what
 * happens in between may have changed features.
 */
extern rsl_known_feature *rsl_find_feature(const char *name, int length);

/*
 * Decide about one call, and count it.  "hash" is for the dimmer: of a key, or
 * rsl_feature_random_hash().
 */
extern rsl_feature_verdict rsl_feature_decide(rsl_known_feature *known,
											  uint32 hash);
extern uint32 rsl_feature_random_hash(const rsl_known_feature *known);

#endif							/* RSL_DEGRADATION_ENABLED_H */

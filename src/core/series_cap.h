/*-------------------------------------------------------------------------
 *
 * series_cap.h
 *		Bounded labels: which objects have series of their own in a metric?
 *
 * Those in the first places.  An object keeps its place for as long as it
 * exists, so that whether it has its own series depends on no other object:
 * none comes and goes because another one does.  Part of the cores: plain C,
 * no backend headers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_SERIES_CAP_H
#define RSL_CORE_SERIES_CAP_H

#include <stdbool.h>

/* A family of metrics has at most so many series. */
#define RSL_MAX_SERIES		200

/*
 * Of how many objects does a family show the own series?  There is room for
 * "reserved" series besides, and for those of all others, summed up.
 */
static inline int
rsl_own_objects(int reserved, int per_object)
{
	return (RSL_MAX_SERIES - reserved) / per_object - 1;
}

static inline bool
rsl_has_own_series(int slot, int reserved, int per_object)
{
	return slot < rsl_own_objects(reserved, per_object);
}

#endif							/* RSL_CORE_SERIES_CAP_H */

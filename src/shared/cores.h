/*-------------------------------------------------------------------------
 *
 * cores.h
 *		How many processors the machine has.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_CORES_H
#define RSL_SHARED_CORES_H

#include <unistd.h>

/* those that are online; 1 if that is not known */
static inline int
rsl_count_cores(void)
{
	long		online = sysconf(_SC_NPROCESSORS_ONLN);

	return online < 1 ? 1 : (int) online;
}

#endif							/* RSL_SHARED_CORES_H */

/*-------------------------------------------------------------------------
 *
 * samples.h
 *		What the server has done in the last two minutes, second by second.
 *
 * For curves on the status page.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_HEALTH_SAMPLES_H
#define RSL_HEALTH_SAMPLES_H

#include "shared/health_board.h"	/* rsl_sample, RSL_NUM_SAMPLES */

/*
 * Copy the newest samples, oldest first: at most "max", at most
 * RSL_NUM_SAMPLES.  Returns how many; 0 when there is no shared memory.
 */
extern int	rsl_samples_copy(rsl_sample *samples, int max);

#endif							/* RSL_HEALTH_SAMPLES_H */

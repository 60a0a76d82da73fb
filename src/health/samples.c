/*-------------------------------------------------------------------------
 *
 * samples.c
 *		What the server has done in the last two minutes, second by second.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "health/samples.h"

int
rsl_samples_copy(rsl_sample *samples, int max)
{
	rsl_board  *board = rsl_health_board;
	int			n;

	if (board == NULL)
		return 0;
	SpinLockAcquire(&board->mutex);
	n = (int) Min((uint32) Min(max, RSL_NUM_SAMPLES), board->nsamples);
	for (int i = 0; i < n; i++)
		samples[i] = board->samples[(board->nsamples - n + i) % RSL_NUM_SAMPLES];
	SpinLockRelease(&board->mutex);
	return n;
}

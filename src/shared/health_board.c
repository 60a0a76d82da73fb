/*-------------------------------------------------------------------------
 *
 * health_board.c
 *		What the launcher has seen of each component's health.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "shared/breakers.h"
#include "shared/health_board.h"
#include "shared/settings.h"

StaticAssertDecl(sizeof(rsl_sample) == 32, "samples take 4 kB");

rsl_board  *rsl_health_board = NULL;

static int
count_entries(int *counts)
{
	int			n = 0;

	counts[RSL_COMPONENT_LOAD_SHEDDER] = 1;
	counts[RSL_COMPONENT_WORKER] = RSL_NUM_WORKER_COMPONENTS;
	counts[RSL_COMPONENT_HEALTH_CHECK] = rsl_max_health_checks;
	counts[RSL_COMPONENT_BREAKER] = rsl_max_breakers + RSL_DRAINING_BREAKERS;
	counts[RSL_COMPONENT_BULKHEAD] = rsl_max_bulkheads + RSL_DRAINING_BULKHEADS;
	counts[RSL_COMPONENT_FEATURE] = rsl_max_features;
	counts[RSL_COMPONENT_DEGRADATION] = rsl_max_degradations;
	counts[RSL_COMPONENT_RUNAWAY_RULE] = rsl_max_runaway_rules;
	for (int k = 0; k < RSL_NUM_COMPONENT_KINDS; k++)
		n += counts[k];
	return n;
}

Size
rsl_board_shmem_size(void)
{
	int			counts[RSL_NUM_COMPONENT_KINDS];

	return CACHELINEALIGN(add_size(offsetof(rsl_board, entries),
								   mul_size(sizeof(rsl_board_entry),
											count_entries(counts))));
}

void
rsl_board_shmem_place(void *memory)
{
	rsl_health_board = memory;
}

/* The memory is zero. */
void
rsl_board_shmem_init(void)
{
	rsl_board  *board = rsl_health_board;
	int			n = count_entries(board->counts);

	pg_atomic_init_u64(&board->looked_us, 0);
	pg_atomic_init_u64(&board->looked_at, 0);
	pg_atomic_init_u64(&board->first_look_at, 0);
	pg_atomic_init_u32(&board->mode, RSL_MODE_ENFORCE);
	pg_atomic_init_u64(&board->long_queue_us, 0);
	SpinLockInit(&board->mutex);
	for (int i = 0; i < n; i++)
	{
		pg_atomic_init_u64(&board->entries[i].word, 0);
		pg_atomic_init_u64(&board->entries[i].since, 0);
	}
}

rsl_board_entry *
rsl_board_entry_of(rsl_component_kind kind, int index)
{
	for (int k = 0; k < (int) kind; k++)
		index += rsl_health_board->counts[k];
	return &rsl_health_board->entries[index];
}

void
rsl_sample_put(const rsl_sample *sample)
{
	rsl_board  *board = rsl_health_board;

	SpinLockAcquire(&board->mutex);
	board->samples[board->nsamples++ % RSL_NUM_SAMPLES] = *sample;
	SpinLockRelease(&board->mutex);
}

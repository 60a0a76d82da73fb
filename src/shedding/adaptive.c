/*-------------------------------------------------------------------------
 *
 * adaptive.c
 *		The server-wide limit that finds itself (resilience.adaptive_limit).
 *
 * The launcher shows each look at the server to core/limit_controller and
 * puts the limit that it returns in force.  The limit is in shared memory, so
 * that a launcher that is started again goes on from there; what has been
 * measured is not.
 *
 * Where limits are not enforced the controller could not see what its moves
 * do: in mode "observe" or "off" of the server the limit stays as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "core/limit_controller.h"
#include "shared/settings.h"
#include "shedding/adaptive.h"

/* the limit counts as reached if this share of one session waits on average */
#define REACHED		0.2

static rsl_limit_controller controller;
static bool controlling = false;

/* what the last look has seen, to tell what has happened since */
static int64 last_now;
static uint64 last_admitted;
static int	last_holding;
static uint64 last_wait_us;

static uint64
total_wait_us(void)
{
	uint64		total = 0;

	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
		total += pg_atomic_read_u64(&rsl_shmem->wait_us[c]);
	return total;
}

/* A look at the server as the controller's sample. */
static void
make_sample(const rsl_load_signals *signals, rsl_limit_sample *sample)
{
	uint64		wait_us = total_wait_us();
	double		started = (double) (int64) (signals->admitted - last_admitted);
	double		waited = (double) (int64) (wait_us - last_wait_us);

	sample->now = signals->now;
	sample->running = rsl_pool_running(pg_atomic_read_u64(&rsl_shmem->server.word));
	sample->finished = Max(started - (signals->holding - last_holding), 0);
	sample->reached = signals->waiting > 0 ||
		waited > REACHED * (signals->now - last_now);
	sample->holding = signals->holding;
	sample->on_cpu = signals->on_cpu;
	sample->blocked = signals->on_lock + signals->on_lwlock;
	sample->idle = signals->idle;

	last_now = signals->now;
	last_admitted = signals->admitted;
	last_holding = signals->holding;
	last_wait_us = wait_us;
}

/* Called by the launcher at each tick. */
void
rsl_adaptive_tick(const rsl_load_signals *signals)
{
	rsl_limit_config config;
	rsl_limit_sample sample;
	int			limit;

	if (!rsl_adaptive_limit || rsl_mode_setting != RSL_MODE_ENFORCE)
	{
		controlling = false;
		if (rsl_adaptive_limit)
			pg_atomic_write_u32(&rsl_shmem->limit_reason, RSL_LIMIT_NOT_ENFORCED);
		return;
	}

	rsl_limit_bounds(&config.floor, &config.ceiling);
	config.cores = signals->cores;
	make_sample(signals, &sample);
	if (!controlling)
	{
		rsl_limit_init(&controller, &config,
					   (int) pg_atomic_read_u32(&rsl_shmem->adaptive_limit));
		controlling = true;
	}

	limit = rsl_limit_update(&controller, &config, &sample);
	pg_atomic_write_u32(&rsl_shmem->limit_reason, controller.reason);
	if (limit != (int) pg_atomic_read_u32(&rsl_shmem->adaptive_limit))
	{
		pg_atomic_write_u32(&rsl_shmem->adaptive_limit, (uint32) limit);
		rsl_publish_limit();
	}
}

/*-------------------------------------------------------------------------
 *
 * rivals.h
 *		Other ways to find a limit, to compare core/limit_controller with.
 *
 * They see the same samples.  "aimd" goes by signals alone: one more while
 * the limit is reached, a tenth less when a third of what runs is blocked or
 * three are runnable for each core.  "gradient" goes by latency against its
 * own average (Gradient2 of Netflix's concurrency-limits, once a second).
 * "climb" is the plain search of the old literature: a step once a second,
 * in the other direction when throughput has fallen.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SIM_RIVALS_H
#define RSL_SIM_RIVALS_H

#include "core/limit_controller.h"

typedef struct sim_rival
{
	double		limit;
	double		long_latency;
	double		last_rate;
	int			direction;
	int			ticks;
	double		finished;
	double		running;
} sim_rival;

static double
bounded(double limit, const rsl_limit_config *config)
{
	return fmax(config->floor, fmin(limit, config->ceiling));
}

static int
aimd(sim_rival *r, const rsl_limit_config *config, const rsl_limit_sample *sample)
{
	if (sample->holding > 2 &&
		(sample->blocked > sample->holding * 0.3 ||
		 sample->on_cpu > 3 * config->cores))
		r->limit *= 0.9;
	else if (sample->reached)
		r->limit += 1;
	r->limit = bounded(r->limit, config);
	return (int) r->limit;
}

/* Adds up a second; true when it is over. */
static bool
second_is_over(sim_rival *r, const rsl_limit_sample *sample)
{
	r->finished += sample->finished;
	r->running += sample->running;
	return ++r->ticks == 10;
}

static void
next_second(sim_rival *r)
{
	r->ticks = 0;
	r->finished = r->running = 0;
}

static int
gradient(sim_rival *r, const rsl_limit_config *config, const rsl_limit_sample *sample)
{
	if (second_is_over(r, sample))
	{
		if (r->finished > 0)
		{
			double		latency = r->running * 0.1 / r->finished;
			double		g;

			if (r->long_latency == 0)
				r->long_latency = latency;
			r->long_latency += 2.0 / 601 * (latency - r->long_latency);
			if (r->long_latency / latency > 2)
				r->long_latency *= 0.95;
			g = fmax(0.5, fmin(1, 1.5 * r->long_latency / latency));
			if (sample->reached)
				r->limit = 0.8 * r->limit + 0.2 * (r->limit * g + 4);
		}
		next_second(r);
	}
	r->limit = bounded(r->limit, config);
	return (int) r->limit;
}

static int
climb(sim_rival *r, const rsl_limit_config *config, const rsl_limit_sample *sample)
{
	if (second_is_over(r, sample))
	{
		if (r->direction == 0)
			r->direction = 1;
		if (r->finished < r->last_rate)
			r->direction = -r->direction;
		r->last_rate = r->finished;
		if (sample->reached || r->direction < 0)
			r->limit = r->direction > 0 ? fmax(r->limit * 1.25, r->limit + 1) :
				fmin(r->limit / 1.25, r->limit - 1);
		next_second(r);
	}
	r->limit = bounded(r->limit, config);
	return (int) r->limit;
}

#endif							/* RSL_SIM_RIVALS_H */

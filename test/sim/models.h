/*-------------------------------------------------------------------------
 *
 * models.h
 *		Models of a server under a limit, for the simulation of controllers.
 *
 * A workload is a number of clients without think time whose transactions
 * need a core for a while, wait for something else (a disk, a standby, the
 * client itself) for a while, and hold a lock that only one can have for a
 * while.  How much gets done with n running at once follows from the three
 * bounds (n over the time of one; the cores; the lock), rounded where they
 * meet.  Beyond the number of cores, and with each one more that waits for
 * the lock, it gets less: that is the collapse that a limit is to prevent.
 *
 * What a sample shows is that, with noise: of each interval, of the counting
 * of few transactions, and a slow drift (other work on the machine).
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SIM_MODELS_H
#define RSL_SIM_MODELS_H

#include "core/limit_controller.h"

#define TICK	0.1

/* the deepest collapse: to a fifth, as plain PostgreSQL on two cores */
#define WORST	4

typedef struct sim_workload
{
	const char *name;
	int			clients;
	double		cpu;			/* seconds of a core for each transaction */
	double		wait;			/* seconds of waiting for something else */
	double		lock;			/* seconds of the lock; cpu and wait beside */
	double		thrash;			/* loss for each runnable in excess, by core */
	double		lock_thrash;	/* loss for each one that waits for the lock */
} sim_workload;

typedef struct sim_server
{
	int			cores;
	const sim_workload *load;
	double		running;
	double		finishing;		/* rate at which transactions end now */
	double		drift;
	double		noise;			/* relative, of one tick */
	int64_t		now;
	double		done;			/* without noise, in the last tick */
} sim_server;

static double
gauss(random_source *random)
{
	return sqrt(-2 * log(1 - random_double(random))) * cos(6.283185307 * random_double(random));
}

/* What n at once get done, per second. */
static double
capacity(int cores, const sim_workload *load, double n)
{
	double		once = load->cpu + load->wait + load->lock;
	double		bounds[3];
	double		sum = 0;
	double		free_run = n / once;
	double		runnable;

	/* how many would be runnable, and how many wait for the lock */
	bounds[0] = free_run;
	runnable = n * (load->cpu + load->lock) / once;
	bounds[1] = cores / (load->cpu + load->lock) /
		(1 + fmin(load->thrash * fmax(0, runnable - cores) / cores, WORST));
	bounds[2] = INFINITY;
	if (load->lock > 0)
	{
		double		waiting = fmax(0, n - once / load->lock);

		bounds[2] = 1 / load->lock / (1 + fmin(load->lock_thrash * waiting, WORST));
	}
	for (int i = 0; i < 3; i++)
	{
		if (isfinite(bounds[i]) && bounds[i] > 0)
			sum += pow(bounds[i], -6);
	}
	return pow(sum, -1.0 / 6);
}

/* The best limit's throughput. */
static double
best_capacity(int cores, const sim_workload *load, int floor, int ceiling, int *at)
{
	double		best = 0;

	for (int n = floor; n <= ceiling && n <= load->clients; n++)
	{
		double		x = capacity(cores, load, n);

		if (x > best)
		{
			best = x;
			if (at)
				*at = n;
		}
	}
	return best;
}

/* One tick under a limit. */
static void
serve(sim_server *s, int limit, random_source *random, rsl_limit_sample *sample)
{
	const sim_workload *load = s->load;
	double		allowed = fmin(limit, load->clients);
	double		x;
	double		duration;
	double		counted;
	double		blocked = 0;
	double		waiting;

	/* up at once, down as they end */
	if (s->running > allowed)
		s->running = fmax(allowed, s->running - s->finishing * TICK);
	else
		s->running = allowed;

	x = capacity(s->cores, load, s->running);
	duration = s->running / x;
	s->finishing += (x - s->finishing) * (1 - exp(-2 * TICK / duration));
	s->done = s->finishing * TICK;

	s->drift += -0.02 * s->drift + 0.2 * s->noise * gauss(random);
	counted = s->done * exp(s->drift + s->noise * gauss(random));
	counted += sqrt(counted) * 0.7 * gauss(random);

	waiting = x * load->wait;

	if (load->lock > 0)
		blocked = fmax(0, fmin(s->running - x * (load->cpu + load->wait + load->lock),
							   s->running * 0.98));
	/* what is short of a core is not blocked */
	if (x * (load->cpu + load->lock) > 0.95 * s->cores)
		blocked = 0;

	s->now += (int64_t) (TICK * 1e6);
	sample->now = s->now;
	sample->finished = fmax(0, floor(counted + 0.5));
	sample->running = (int) (s->running + 0.5);
	sample->reached = load->clients > limit;

	sample->holding = sample->running;
	sample->blocked = (int) (blocked + 0.5);
	sample->on_cpu = (int) fmax(0, s->running - waiting - blocked + 0.5);
	sample->idle = fmax(0, 1 - fmax(x * (load->cpu + load->lock), sample->on_cpu) / s->cores);
}

#endif							/* RSL_SIM_MODELS_H */

/*-------------------------------------------------------------------------
 *
 * test_limit_simulation.c
 *		core/limit_controller against models of servers of 8, 64 and 256 cores.
 *
 * Each model is run from a limit far too low and from one far too high: ten
 * seconds later throughput (the model's, without noise, with all that is lost
 * by trying) must be at least 95 % of what the best limit gives.  Then the
 * same for workloads that take each other's place.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "models.h"
#include "rivals.h"

#define CEILING		600
#define SEEDS		7

static const sim_workload workloads[] = {
	/* name, clients, cpu, wait, lock, thrash, lock_thrash */
	{"reads", 512, 0.0005, 0, 0, 0.05, 0},
	{"reads that thrash", 512, 0.0005, 0.0001, 0, 0.3, 0},
	{"writes", 512, 0.0006, 0.002, 0, 0.1, 0},
	{"one hot row", 512, 0.0002, 0.0006, 0.0004, 0.05, 0.05},
	{"sleepers", 512, 0.0001, 0.05, 0, 0.05, 0},
	{"slow sleepers", 512, 0.0001, 0.5, 0, 0.05, 0},
	{"reports", 64, 0.05, 0.005, 0, 0.001, 0},
};

#define NWORKLOADS	((int) (sizeof(workloads) / sizeof(workloads[0])))

typedef enum sim_method
{
	OURS, AIMD, GRADIENT, CLIMB
} sim_method;

typedef struct simulation
{
	rsl_limit_config config;
	sim_server	server;
	rsl_limit_controller ours;
	sim_rival	rival;
	sim_method	method;
	int			limit;
	random_source random;
} simulation;

static bool verbose;
static bool rivals;				/* run the others, too */

static void
start(simulation *s, sim_method m, int cores, const sim_workload *load, int limit,
	  double noise, int seed)
{
	memset(s, 0, sizeof(*s));
	s->config.floor = 1;
	s->config.ceiling = CEILING;
	s->config.cores = cores;
	s->server.cores = cores;
	s->server.load = load;

	s->server.noise = noise;
	s->server.now = 1000000;
	s->random.state = UINT64_C(0x9E3779B97F4A7C15) * (seed + 1);
	s->method = m;
	s->limit = limit;
	s->rival.limit = limit;
	rsl_limit_init(&s->ours, &s->config, limit);
}

static void
step(simulation *s)
{
	rsl_limit_sample sample;

	serve(&s->server, s->limit, &s->random, &sample);
	switch (s->method)
	{
		case OURS:
			s->limit = rsl_limit_update(&s->ours, &s->config, &sample);
			check(s->limit >= s->config.floor && s->limit <= s->config.ceiling,
				  "limit %d", s->limit);
			break;
		case AIMD:
			s->limit = aimd(&s->rival, &s->config, &sample);
			break;
		case GRADIENT:
			s->limit = gradient(&s->rival, &s->config, &sample);
			break;
		case CLIMB:
			s->limit = climb(&s->rival, &s->config, &sample);
			break;
	}
	if (verbose)
		printf("%.1f limit %d center %d running %d finished %.0f blocked %d on_cpu %d idle %.2f: %s\n",
			   sample.now / 1e6, s->limit, s->ours.center, sample.running,
			   sample.finished, sample.blocked, sample.on_cpu, sample.idle,
			   rsl_limit_reason_name(s->ours.reason));
}

/* Throughput of a time span, over the best one. */
static double
run(simulation *s, double seconds)
{
	double		best = best_capacity(s->server.cores, s->server.load, 1, CEILING, NULL);
	double		done = 0;
	int			ticks = (int) (seconds / TICK + 0.5);

	for (int i = 0; i < ticks; i++)
	{
		step(s);
		done += s->server.done;
	}
	return done / seconds / best;
}

static int
compare(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return (x > y) - (x < y);
}

/* The median over the seeds of what is reached after ten seconds. */
static double
reached(sim_method m, int cores, const sim_workload *load, int from, double noise)
{
	double		results[SEEDS];

	for (int seed = 0; seed < SEEDS; seed++)
	{
		simulation	s;

		start(&s, m, cores, load, from, noise, seed);
		run(&s, 10);
		results[seed] = run(&s, 20);
	}
	qsort(results, SEEDS, sizeof(double), compare);
	return results[SEEDS / 2];
}

static void
test_bad_starts(void)
{
	static const int machines[] = {2, 8, 64, 256};
	static const int starts[] = {1, CEILING};

	for (int m = 0; m < 4; m++)
	{
		for (int w = 0; w < NWORKLOADS; w++)
		{
			double		share[4][2];
			int			at = 0;

			best_capacity(machines[m], &workloads[w], 1, CEILING, &at);
			for (int how = OURS; how <= (rivals ? CLIMB : OURS); how++)
			{
				for (int i = 0; i < 2; i++)
					share[how][i] = reached(how, machines[m], &workloads[w],
											starts[i], 0.05);
			}
			/* forty ends a second are too few to tell 5 % in ten seconds */
			ok(fmin(share[OURS][0], share[OURS][1]) >=
			   (workloads[w].cpu * 50 > machines[m] ? 0.90 : 0.95),
			   "%d cores, %s (best limit %d): %.3f from 1, %.3f from %d",
			   machines[m], workloads[w].name, at, share[OURS][0],
			   share[OURS][1], CEILING);
			if (rivals)
				diag("    aimd %.2f %.2f  gradient %.2f %.2f  climb %.2f %.2f",
					 share[AIMD][0], share[AIMD][1], share[GRADIENT][0],
					 share[GRADIENT][1], share[CLIMB][0], share[CLIMB][1]);
		}
	}
}

/* From one workload to another, and how long until that is settled. */
static double
settled_after(simulation *s, const sim_workload *load)
{
	double		shares[200];

	s->server.load = load;

	for (int i = 0; i < 200; i++)
		shares[i] = run(s, TICK);
	for (int from = 0; from <= 180; from++)
	{
		double		sum = 0;

		for (int i = from; i < from + 20; i++)
			sum += shares[i];
		if (sum / 20 >= 0.95)
			return from * TICK;
	}
	return 20;
}

static void
test_switches(void)
{
	static const int machines[] = {2, 8, 64, 256};

	for (int m = 0; m < 4; m++)
	{
		double		worst = 0;
		int			late = 0;
		int			n = 0;
		double		sum = 0;

		for (int a = 0; a < NWORKLOADS; a++)
		{
			for (int b = 0; b < NWORKLOADS; b++)
			{
				double		times[SEEDS];

				if (a == b)
					continue;
				for (int seed = 0; seed < SEEDS; seed++)
				{
					simulation	s;

					start(&s, OURS, machines[m], &workloads[a], 8, 0.05, seed);
					run(&s, 20);
					times[seed] = settled_after(&s, &workloads[b]);
				}
				qsort(times, SEEDS, sizeof(double), compare);
				if (times[SEEDS / 2] > 10)
				{
					late++;
					diag("%d cores, %s to %s: %.1f s", machines[m],
						 workloads[a].name, workloads[b].name, times[SEEDS / 2]);
				}
				worst = fmax(worst, times[SEEDS / 2]);
				sum += times[SEEDS / 2];
				n++;
			}
		}
		ok(late == 0, "%d cores, each workload after each other: settled in %.1f s on average, %.1f s at most",
		   machines[m], sum / n, worst);
	}
}

int
main(int argc, char **argv)
{
	/*
	 * "rivals": compare with other methods.  CORES WORKLOAD START SEED, or
	 * CORES WORKLOAD NEXT SEED x: show what happens.
	 */
	rivals = argc == 2 && strcmp(argv[1], "rivals") == 0;
	if (argc >= 5)
	{
		simulation	s;

		start(&s, OURS, atoi(argv[1]), &workloads[atoi(argv[2])],
			  argc == 6 ? 8 : atoi(argv[3]), 0.05, atoi(argv[4]));
		verbose = argc == 5;
		printf("%.3f in the first 20 s\n", run(&s, 20));
		verbose = true;
		if (argc == 6)
			printf("settled in %.1f s\n",
				   settled_after(&s, &workloads[atoi(argv[3])]));
		return 0;
	}
	test_bad_starts();
	test_switches();
	check_done("the limit stays within its bounds");
	return done_testing();
}

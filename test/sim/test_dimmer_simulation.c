/*-------------------------------------------------------------------------
 *
 * test_dimmer_simulation.c
 *		core/dimmer against models of servers with a queue.
 *
 * Load goes from half of what can be done in full service to three times
 * that, and back.  Five servers with streams and clients, seven seeds each;
 * the worst seed counts, and must keep these promises:
 *
 *	- within 12 periods of the step up the wait (averaged over 2 seconds) is
 *	  below twice the set-point and stays so;
 *	- from 30 s after the step on the mean wait is within 20 % of the
 *	  set-point, and theta's mean within 15 % of what a theta that is known
 *	  beforehand would be; it moves by less than 0.03 a period, and its
 *	  standard deviation is below 0.035;
 *	- 25 periods after the load is gone theta is back at 1, and stays there.
 *
 * Beside it the naive controller, which serves all or nothing according to
 * the last period: it flaps, and that is what the third promise is about.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/dimmer.h"
#include "queue_model.h"

#define TARGET	100.0			/* ms */
#define SEEDS	7
#define PERIOD	(RSL_DIMMER_PERIOD_US / 1e6)

#define UP		30.0			/* when the load comes, seconds */
#define STEADY	60.0
#define DOWN	120.0			/* and goes */
#define END		160.0

static const queue_plant plants[] = {
	/* name, slots, clients, think, base, optional, share, queue, max_wait */
	{"short queue in time", 8, 0, 0, 0.002, 0.008, 1, 1000, 1},
	{"long queue", 8, 0, 0, 0.002, 0.008, 1, 4000, 5},
	{"small queue", 4, 0, 0, 0.01, 0.02, 1, 30, 1},
	{"half have an optional part", 8, 0, 0, 0.002, 0.016, 0.5, 1000, 1},
	{"clients that think", 4, 100, 0.3, 0.002, 0.012, 1, 1000, 5},
};

#define NPLANTS	((int) (sizeof(plants) / sizeof(plants[0])))

/* Where even nothing optional is too much, or nothing optional is asked for. */
static const queue_plant hopeless[] = {
	{"the optional part is small", 8, 0, 0, 0.008, 0.002, 1, 1000, 1},
	{"nobody asks", 8, 0, 0, 0.01, 0, 0, 1000, 1},
};

typedef enum dimmer_method
{
	OURS, ON_OFF
} dimmer_method;

typedef struct dimmer_result
{
	double		bad_until;		/* seconds after the step; the worst seed */
	double		wait;			/* steady, ms */
	double		theta;
	double		deviation;
	double		moves;			/* mean of |change| per period */
	double		back;			/* seconds after the load went; worst seed */
	double		low;			/* theta's lowest after it was back */
	double		idle;			/* and before the load came */
} dimmer_result;

static double
decide(dimmer_method how, rsl_dimmer *dimmer, double now, double wait)
{
	if (how == OURS)
		return rsl_dimmer_update(dimmer, (int64_t) (now * 1e6), wait, TARGET);
	return wait > TARGET ? 0 : 1;
}

static dimmer_result
run(const queue_plant *plant, dimmer_method how)
{
	dimmer_result r = {.low = 1,.idle = 1};
	double		waits = 0;
	double		sum = 0;
	double		squares = 0;
	double		moves = 0;
	int			n = 0;

	for (int seed = 1; seed <= SEEDS; seed++)
	{
		static queue_model model;
		rsl_dimmer	dimmer;
		double		smooth = 0;
		double		back = 0;

		model_start(&model, plant, seed);
		rsl_dimmer_init(&dimmer, 1);
		for (int k = 1; k * PERIOD <= END; k++)
		{
			double		now = k * PERIOD;
			double		load = now <= UP || now > DOWN ? 0.5 : 3;
			double		last = model.theta;
			double		wait;

			if (load != model.load)
				model_load(&model, load);
			model_run(&model, now);
			wait = model_look(&model);
			model.theta = decide(how, &dimmer, now, wait);
			check(model.theta >= 0 && model.theta <= 1, "theta %g", model.theta);

			if (now <= UP)
				r.idle = fmin(r.idle, model.theta);
			else if (now <= DOWN)
			{
				smooth += 0.4 * (wait - smooth);
				if (smooth > 2 * TARGET)
					r.bad_until = fmax(r.bad_until, now - UP);
				if (now > STEADY)
				{
					waits += wait;
					sum += model.theta;
					squares += model.theta * model.theta;
					moves += fabs(model.theta - last);
					n++;
				}
			}
			else if (back > 0)
				r.low = fmin(r.low, model.theta);
			else if (model.theta == 1)
				back = now - DOWN;
		}
		r.back = fmax(r.back, back > 0 ? back : END);
	}
	r.wait = waits / n;
	r.theta = sum / n;
	r.deviation = sqrt(squares / n - r.theta * r.theta);
	r.moves = moves / n;
	diag("%s, %s: bad until %.1f s, wait %.0f ms, theta %.3f +- %.3f, %.3f a period, back after %.1f s, then %.2f",
		 plant->name, how == OURS ? "dimmer" : "on/off", r.bad_until, r.wait,
		 r.theta, r.deviation, r.moves, r.back, r.low);
	return r;
}

/* The theta whose wait is the set-point, by trying. */
static double
best_theta(const queue_plant *plant)
{
	double		low = 0;
	double		high = 1;

	for (int i = 0; i < 10; i++)
	{
		static queue_model model;
		double		theta = (low + high) / 2;

		model_start(&model, plant, 99);
		model_load(&model, 3);
		model.theta = theta;
		model_run(&model, 20);
		(void) model_look(&model);
		model_run(&model, 100);
		if (model_look(&model) > TARGET)
			high = theta;
		else
			low = theta;
	}
	return (low + high) / 2;
}

static void
test_steers(const queue_plant *plant)
{
	dimmer_result ours = run(plant, OURS);
	dimmer_result naive = run(plant, ON_OFF);
	double		best = best_theta(plant);

	check(ours.bad_until <= 12 * PERIOD, "%.1f s", ours.bad_until);
	check(fabs(ours.wait - TARGET) <= 0.2 * TARGET, "%.0f ms", ours.wait);
	check(fabs(ours.theta - best) <= 0.15 * best, "%.3f, best is %.3f", ours.theta, best);
	check(ours.deviation <= 0.035, "%.3f", ours.deviation);
	check(ours.moves <= 0.03, "%.3f", ours.moves);
	check(ours.back <= 25 * PERIOD, "%.1f s", ours.back);
	check(ours.idle >= 0.95, "%.2f", ours.idle);
	check(ours.low >= 0.95, "%.2f", ours.low);
	check(naive.moves >= 10 * ours.moves, "%.3f against %.3f", naive.moves, ours.moves);
	check_done(plant->name);
}

static void
test_hopeless(const queue_plant *plant)
{
	dimmer_result r = run(plant, OURS);

	check(r.theta == 0 && r.moves == 0, "theta %.3f, moves %.3f", r.theta, r.moves);
	check(r.back <= 40 * PERIOD, "%.1f s", r.back);
	check(r.low >= 0.95, "%.2f", r.low);
	check_done(plant->name);
}

/*
 * What the promises do not reach: transactions as long as a period, and a
 * wait that has nothing to do with what is served.
 */
static void
test_limits(void)
{
	static const queue_plant slow = {"slow", 4, 0, 0, 0.1, 0.4, 1, 1000, 10};
	static queue_model model;
	rsl_dimmer	dimmer;
	random_source random = {12345};
	dimmer_result r = run(&slow, OURS);
	dimmer_result naive = run(&slow, ON_OFF);

	check(r.wait < 2 * TARGET, "%.0f ms", r.wait);
	check(r.wait < naive.wait, "%.0f ms against %.0f", r.wait, naive.wait);
	check(r.moves < naive.moves / 5, "%.3f against %.3f", r.moves, naive.moves);
	check(r.back <= 40 * PERIOD, "%.1f s", r.back);
	check_done("transactions as long as a period: worse, but better than on/off");

	/* idle but for one transaction now and then */
	model_start(&model, &plants[0], 3);
	rsl_dimmer_init(&dimmer, 1);
	model_load(&model, 0.001);
	for (int k = 1; k <= 2000; k++)
	{
		model_run(&model, k * PERIOD);
		model.theta = rsl_dimmer_update(&dimmer, (int64_t) (k * RSL_DIMMER_PERIOD_US),
										model_look(&model), TARGET);
		check(model.theta == 1, "theta %g", model.theta);
	}
	check_done("an idle server is never dimmed");

	/* waits at random around the set-point: drifts, but does not jump */
	rsl_dimmer_init(&dimmer, 0.5);
	for (int k = 1; k <= 2000; k++)
	{
		double		before = dimmer.theta;

		rsl_dimmer_update(&dimmer, k * RSL_DIMMER_PERIOD_US,
						  TARGET * (0.5 + random_double(&random)), TARGET);
		check(k < 100 || fabs(dimmer.theta - before) <= 0.3, "from %.3f to %.3f", before, dimmer.theta);
	}
	check_done("noise alone moves it by small steps");
}

int
main(void)
{
	for (int i = 0; i < NPLANTS; i++)
		test_steers(&plants[i]);
	for (int i = 0; i < 2; i++)
		test_hopeless(&hopeless[i]);
	test_limits();
	return done_testing();
}

/*-------------------------------------------------------------------------
 *
 * test_limit_controller.c
 *		Unit tests of core/limit_controller: what it promises whatever the
 *		workload.  How well it does is for test/sim.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/limit_controller.h"

#define TICK_US		100000

static rsl_limit_config config = {.floor = 2,.ceiling = 100,.cores = 4};
static int64_t now;

/* A sample in which "finished" ended with "running" at once, all on a core. */
static rsl_limit_sample
sample_of(double finished, int running, bool reached, double idle)
{
	rsl_limit_sample sample = {0};

	now += TICK_US;
	sample.now = now;
	sample.finished = finished;
	sample.running = sample.holding = running;
	sample.reached = reached;
	sample.idle = idle;
	return sample;
}

static void
begin(rsl_limit_controller *c, int limit)
{
	now = 1000000;
	rsl_limit_init(c, &config, limit);
}

/* Sleepers: throughput grows with the limit, cores are idle. */
static int
sleepers(rsl_limit_controller *c, int clients)
{
	int			running = c->limit < clients ? c->limit : clients;
	rsl_limit_sample sample = sample_of(10.0 * running, running,
										clients > c->limit, 0.9);

	return rsl_limit_update(c, &config, &sample);
}

/* A hot row: from 4 on each one more makes it slower. */
static int
hot_row(rsl_limit_controller *c, int clients)
{
	int			running = c->limit < clients ? c->limit : clients;
	rsl_limit_sample sample = sample_of(running <= 4 ? 100.0 * running :
										1600.0 / running,
										running, clients > c->limit, 0.1);

	sample.blocked = running > 4 ? running - 4 : 0;
	sample.on_cpu = running - sample.blocked;
	return rsl_limit_update(c, &config, &sample);
}

static void
test_start(void)
{
	rsl_limit_config narrow = {.floor = 20,.ceiling = 30,.cores = 2};
	rsl_limit_config wide = {.floor = 1,.ceiling = 1000,.cores = 16};
	rsl_limit_controller c;

	is(rsl_limit_start(&wide), 64, "starts at four for each core");
	is(rsl_limit_start(&narrow), 20, "but not below the floor");
	narrow.cores = 100;
	is(rsl_limit_start(&narrow), 30, "nor above the ceiling");
	rsl_limit_init(&c, &narrow, 7);
	is(c.limit, 20, "a limit to go on from is brought within the bounds");
	ok(strcmp(rsl_limit_reason_name(c.reason), "starting") == 0, "and the reason says so");
	for (int reason = RSL_LIMIT_STARTING; reason <= RSL_LIMIT_NOT_ENFORCED; reason++)
		check(strcmp(rsl_limit_reason_name(reason), "unknown") != 0, "%d", reason);
	check_done("every reason has a name");
}

static void
test_unused(void)
{
	rsl_limit_controller c;

	begin(&c, 16);
	for (int i = 0; i < 600; i++)
	{
		rsl_limit_sample sample = sample_of(i % 50, i % 16, false, 0.5);

		check(rsl_limit_update(&c, &config, &sample) == 16, "%d at %d", c.limit, i);
	}
	check_done("holds still while it is not reached");
	is(c.reason, RSL_LIMIT_UNUSED, "and says why");

	for (int i = 0; i < 300; i++)
	{
		rsl_limit_sample sample = sample_of(0, 0, false, 1);

		check(rsl_limit_update(&c, &config, &sample) == 16, "%d at %d", c.limit, i);
	}
	check_done("and while nothing happens at all");

	/* not even when it would pay: nobody waits */
	begin(&c, 16);
	for (int i = 0; i < 300; i++)
		check(sleepers(&c, 16) == 16, "%d at %d", c.limit, i);
	check_done("never rises while unused");
}

static void
test_up_and_down(void)
{
	rsl_limit_controller c;
	int			ticks;

	begin(&c, 2);
	for (ticks = 0; ticks < 100 && c.center < 80; ticks++)
		sleepers(&c, 80);
	ok(ticks <= 30, "rises from 2 to 80 for sleepers in %.1f s", ticks / 10.0);
	for (int i = 0; i < 100; i++)
		check(sleepers(&c, 80) >= 80, "%d", c.limit);
	check_done("and stays there");

	for (ticks = 0; ticks < 100 && (c.center < 3 || c.center > 6); ticks++)
		hot_row(&c, 80);
	ok(ticks <= 60, "falls for a hot row in %.1f s", ticks / 10.0);

	begin(&c, 100);
	for (ticks = 0; ticks < 100 && (c.center < 3 || c.center > 6); ticks++)
		hot_row(&c, 80);
	ok(ticks <= 60, "also from where it is not reached: %.1f s", ticks / 10.0);
	for (int i = 0; i < 100; i++)
	{
		hot_row(&c, 80);
		check(c.center >= 3 && c.center <= 6, "%d", c.center);
	}
	check_done("and stays there");

	for (ticks = 0; ticks < 100 && c.center < 60; ticks++)
		sleepers(&c, 60);
	ok(ticks <= 50, "and rises again in %.1f s", ticks / 10.0);
}

static void
test_holds(void)
{
	rsl_limit_controller c;
	int			moved = 0;

	/* as good at any limit: nothing to be gained by trying all the time */
	begin(&c, 8);
	for (int i = 0; i < 1200; i++)
	{
		rsl_limit_sample sample = sample_of(100, c.limit, true, 0);

		sample.on_cpu = 6;
		rsl_limit_update(&c, &config, &sample);
		if (i >= 200 && c.limit != c.center)
			moved++;
		check(c.center == 8, "%d at %d", c.center, i);
	}
	check_done("stays where it is when nothing is better");
	ok(moved < 500, "and holds still most of the time: away for %d of 1000 ticks", moved);
}

static void
test_bounds(void)
{
	rsl_limit_controller c;
	random_source random = {.state = 42};
	int			least = 1000;
	int			most = 0;

	/* nonsense of every kind */
	begin(&c, 50);
	for (int i = 0; i < 200000; i++)
	{
		rsl_limit_sample sample = sample_of(random_below(&random, 300),
											random_below(&random, 200),
											random_below(&random, 4) > 0,
											random_double(&random) * 1.2 - 0.1);

		sample.blocked = random_below(&random, sample.running + 1);
		sample.on_cpu = random_below(&random, sample.running + 1);
		if (random_below(&random, 100) == 0)
			sample.finished = 0;
		if (random_below(&random, 1000) == 0)
			now += (int64_t) random_below(&random, 100000000) - 1000000;
		if (random_below(&random, 500) == 0)
		{
			config.floor = 1 + random_below(&random, 50);
			config.ceiling = config.floor + random_below(&random, 200);
		}
		rsl_limit_update(&c, &config, &sample);
		check(c.limit >= config.floor && c.limit <= config.ceiling,
			  "%d at %d", c.limit, i);
		check(c.center >= config.floor && c.center <= config.ceiling,
			  "center %d at %d", c.center, i);
		least = c.limit < least ? c.limit : least;
		most = c.limit > most ? c.limit : most;
	}
	check_done("within its bounds whatever it is told");
	ok(least < 10 && most > 100, "it went from %d to %d", least, most);

	config.floor = 2;
	config.ceiling = 100;
	begin(&c, 50);
	config.ceiling = 10;
	is(sleepers(&c, 80), 10, "a lower ceiling is obeyed at once");
	config.ceiling = 100;
	config.floor = 70;
	is(sleepers(&c, 80), 70, "so is a higher floor");
	config.floor = 2;
	config.floor = config.ceiling = 30;
	for (int i = 0; i < 100; i++)
		check(sleepers(&c, 80) == 30, "%d", c.limit);
	check_done("floor and ceiling may be the same");
	config.floor = 2;
	config.ceiling = 100;
}

/* Reports that last for minutes: nothing ends that could be compared. */
static void
test_too_few(void)
{
	rsl_limit_controller c;
	int			ticks;

	begin(&c, 2);
	for (ticks = 0; ticks < 600 && c.center < 20; ticks++)
	{
		rsl_limit_sample sample = sample_of(0, c.limit, true, 0.9);

		rsl_limit_update(&c, &config, &sample);
	}
	ok(ticks < 300, "rises while cores are idle and nothing ends: %.1f s", ticks / 10.0);
	is(c.reason, RSL_LIMIT_TOO_FEW, "and says why");

	begin(&c, 2);
	for (int i = 0; i < 600; i++)
	{
		rsl_limit_sample sample = sample_of(0, c.limit, true, 0);

		sample.on_cpu = c.limit;
		rsl_limit_update(&c, &config, &sample);
		check(c.limit <= 60, "%d", c.limit);
	}
	check_done("but not without end when they are busy");
	ok(c.limit >= 8, "though what comes behind long reports gets a chance: %d", c.limit);
}

int
main(void)
{
	test_start();
	test_unused();
	test_up_and_down();
	test_holds();
	test_bounds();
	test_too_few();
	return done_testing();
}

/*-------------------------------------------------------------------------
 *
 * test_cpu_budget.c
 *		Unit tests of core/cpu_budget: debt and its draining, what is learnt,
 *		and a simulation of the promise: over any span of time no more CPU
 *		time is used than rate x span + burst + what runs at the moment.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/cpu_budget.h"

#define SECOND	INT64_C(1000000)

static bool
near(double got, double expected, double tolerance)
{
	return fabs(got - expected) <= tolerance;
}

static void
test_debt(void)
{
	uint64_t	word = 0;

	ok(rsl_cpu_debt(word, 0.2, 5 * SECOND) == 0, "nothing is owed at first");
	word = rsl_cpu_debt_add(word, 0.2, 5 * SECOND, 100000);
	ok(near(rsl_cpu_debt(word, 0.2, 5 * SECOND), 100000, 1), "what was used is owed");
	ok(near(rsl_cpu_debt(word, 0.2, 5 * SECOND + 250000), 50000, 1), "it drains at the rate");
	ok(rsl_cpu_debt(word, 0.2, 5 * SECOND + 500000) == 0, "until it is paid");
	ok(rsl_cpu_debt(word, 0.2, 100 * SECOND) == 0, "and not further");
	word = rsl_cpu_debt_add(word, 0.2, 100 * SECOND, 100000);
	ok(near(rsl_cpu_debt(word, 0.2, 100 * SECOND), 100000, 1), "being quiet saves nothing");
	is(rsl_cpu_debt_wait(word, 0.2, 100 * SECOND, 100000), 0, "no wait for what is owed");
	ok(near(rsl_cpu_debt_wait(word, 0.2, 100 * SECOND, 60000), 200000, 2), "the wait until less is owed");
	word = rsl_cpu_debt_add(word, 0.2, 100 * SECOND, -70000);
	ok(near(rsl_cpu_debt(word, 0.2, 100 * SECOND), 30000, 2), "an estimate is corrected");
	word = rsl_cpu_debt_add(word, 0.2, 100 * SECOND, -1e9);
	ok(rsl_cpu_debt(word, 0.2, 100 * SECOND) == 0, "not below nothing");
	word = rsl_cpu_debt_add(word, 0.2, 100 * SECOND, 1e9);
	word = rsl_cpu_debt_add(word, 1e-3, 100 * SECOND, 1e300);
	ok(near(rsl_cpu_debt(word, 1, 100 * SECOND) / SECOND, 30.0 * 86400, 1), "a debt is paid after 30 days at the latest");
	word = rsl_cpu_debt_add_capped(0, 0.2, 100 * SECOND, 90000, 50000);
	ok(near(rsl_cpu_debt(word, 0.2, 100 * SECOND), 50000, 1), "a cap is a cap");
	word = rsl_cpu_debt_add_capped(0, 0.2, 100 * SECOND, 30000, 50000);
	ok(near(rsl_cpu_debt(word, 0.2, 100 * SECOND), 30000, 1), "below it all is added");
	word = rsl_cpu_debt_add(0, 0.2, 100 * SECOND, 70000);
	word = rsl_cpu_debt_add_capped(word, 0.2, 100 * SECOND, 30000, 50000);
	ok(near(rsl_cpu_debt(word, 0.2, 100 * SECOND), 70000, 1), "beyond it nothing is, and nothing taken off");
	word = rsl_cpu_debt_add(0, 0.5, SECOND, 0.0 / 0.0);
	ok(rsl_cpu_debt(word, 0.5, SECOND) == 0, "no number is no debt");
}

static void
test_cost(void)
{
	uint64_t	word = 0;

	ok(rsl_cost_estimate(0, 100) == 0, "nothing learnt: no estimate");
	word = rsl_cost_learn(0, 1000, 20000);
	ok(near(rsl_cost_estimate(word, 1000), 20000, 1), "the first sample is believed");
	ok(near(rsl_cost_estimate(word, 500), 10000, 1), "in proportion to the cost");
	for (int i = 0; i < 100; i++)
		word = rsl_cost_learn(word, 2000, 80000);
	ok(near(rsl_cost_estimate(word, 2000), 80000, 100), "newer samples replace older ones");
	ok(near(rsl_cost_mean_cost(word), 2000, 1) && near(rsl_cost_mean_cpu(word), 80000, 100), "both means");
	word = rsl_cost_learn(0, 0, 5000);
	ok(near(rsl_cost_estimate(word, 0), 5000, 1), "without a cost: the CPU time itself");
	word = rsl_cost_learn(0, -1, -5);
	ok(word != 0 && rsl_cost_estimate(word, 10) > 0, "what cannot be is something small");
	word = rsl_cost_learn(0, INFINITY, 10);
	ok(isfinite(rsl_cost_estimate(word, 1e9)), "no infinite estimates");
}

/*
 * Sessions that want to work all the time; each job's CPU time is estimated
 * with an error, charged at its begin and corrected at its end.  They share
 * processors, so a job takes at least its CPU time.
 */
#define SESSIONS	8
#define SPAN		(60 * SECOND)
#define STEP		1000

static void
test_promise(double rate, double burst_us, double mean_us, double wrong)
{
	random_source source = {42};
	uint64_t	word = 0;
	int64_t		end[SESSIONS] = {0};
	double		real[SESSIONS] = {0};
	double		charged[SESSIONS] = {0};
	bool		runs[SESSIONS] = {false};
	static double used[SPAN / STEP + 1];
	double		total = 0;
	double		longest = 0;
	double		worst = -1e300;
	double		low = 1e300;

	for (int64_t t = 0; t < SPAN; t += STEP)
	{
		for (int s = 0; s < SESSIONS; s++)
		{
			if (runs[s] && t >= end[s])
			{
				word = rsl_cpu_debt_add(word, rate, t, real[s] - charged[s]);
				runs[s] = false;
				total += real[s];
			}
			if (!runs[s])
			{
				double		cpu = mean_us * (0.2 + 1.6 * random_below(&source, 1000) / 1000.0);
				double		estimate = cpu * (1 + wrong * (random_below(&source, 2001) / 1000.0 - 1));

				if (rsl_cpu_debt(word, rate, t) + estimate > burst_us)
					continue;
				word = rsl_cpu_debt_add(word, rate, t, estimate);
				real[s] = cpu;
				charged[s] = estimate;
				end[s] = t + (int64_t) (cpu * 2);
				runs[s] = true;
				if (cpu > longest)
					longest = cpu;
			}
		}
		used[t / STEP] = total;
	}

	/* the worst span: greatest of used(b) - used(a) - rate * (b - a) */
	for (int64_t t = 0; t < SPAN; t += STEP)
	{
		double		above = used[t / STEP] - rate * t;

		if (above < low)
			low = above;
		if (above - low > worst)
			worst = above - low;
	}
	ok(worst <= burst_us + SESSIONS * longest,
	   "rate %.2f, burst %.0f ms, jobs of %.0f ms, estimates %.0f %% wrong: at most %.0f ms over the rate in any span",
	   rate, burst_us / 1000, mean_us / 1000, wrong * 100, worst / 1000);
	ok(total >= 0.9 * rate * SPAN, "and it is used: %.2f of %.2f processors", total / SPAN, rate);
}

int
main(void)
{
	test_debt();
	test_cost();
	test_promise(0.2, 300000, 20000, 0);
	test_promise(0.2, 300000, 20000, 0.9);
	test_promise(2, 1000000, 50000, 0.5);
	test_promise(0.01, 100000, 1000, 0.5);
	return done_testing();
}

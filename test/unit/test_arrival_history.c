/*-------------------------------------------------------------------------
 *
 * test_arrival_history.c
 *		Unit tests of core/arrival_history and core/arrival_estimate: memory,
 *		dictionaries, sums through merges, and simulated loads of which it is
 *		known what a limit would have done to them.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/arrival_estimate.h"
#include "core/arrival_history.h"

#define TICK_US		INT64_C(100000)
/* of resilience.history_size, and a larger one */
#define DEFAULT_SIZE	16384
#define LARGE_SIZE		131072

static random_source source;
static size_t load_size = DEFAULT_SIZE;
static uint64_t block[1024 * 1024 / 8];
static rsl_history *const history = (rsl_history *)
block;

static rsl_history_identity
role(uint32_t number)
{
	rsl_history_identity identity;

	memset(&identity, 0, sizeof(identity));
	identity.role = number;
	return identity;
}

/* Everything that holds of a block at any time. */
static void
check_block(void)
{
	uint32_t	n = 0;
	const rsl_history_snapshot *all = rsl_history_snapshots(history);

	for (uint32_t i = 0; i < history->nsnapshots; i++)
	{
		n += all[i].nrecords;
		check(all[i].nrecords <= RSL_HISTORY_GROUPS, "few groups");
		check(all[i].ticks > 0 && all[i].weight > 0, "it counts");
		if (i > 0)
			check(all[i].begin_us >= all[i - 1].end_us, "in order");
	}
	check(n == history->nrecords, "no gaps between records");
	check(history->nrecords <= history->max_records, "room for records");
	check(history->nsnapshots <= history->max_snapshots, "room for snapshots");
	check(history->records_at + history->max_records * sizeof(rsl_history_record) <=
		  history->size, "within the block");
}

static void
test_dictionary(void)
{
	rsl_history_tick tick;
	rsl_history_identity who;
	int			first;
	int			number;

	rsl_history_init(history, RSL_HISTORY_MIN_SIZE);
	who = role(1);
	first = rsl_history_find_identity(history, &who);
	ok(first != RSL_HISTORY_OTHER, "an identity gets a number");
	is(rsl_history_find_identity(history, &who), first, "the same again");
	is(rsl_history_get_identity(history, first)->role, 1, "and is found by it");
	ok(rsl_history_get_identity(history, first + 1) == NULL, "others are nobody's");
	ok(rsl_history_get_identity(history, RSL_HISTORY_OTHER) == NULL, "nor is this one");

	for (uint32_t i = 2; i <= history->max_identities; i++)
	{
		who = role(i);
		check(rsl_history_find_identity(history, &who) != RSL_HISTORY_OTHER, "room");
	}
	who = role(10000);
	is(rsl_history_find_identity(history, &who), RSL_HISTORY_OTHER, "full");
	is(history->overflowed, 1, "and counted");

	/* what is not in use any more is given to others, and its records too */
	for (int i = 0; i < 200; i++)
	{
		memset(&tick, 0, sizeof(tick));
		for (uint32_t id = 1; id < history->max_identities; id++)
			rsl_history_use_identity(history, id);
		if (i == 0)
			rsl_history_group(&tick, first, 0, 0)->arrivals = 5;
		else
			rsl_history_group(&tick, 1, 0, 0)->arrivals = 1;
		rsl_history_add(history, i * TICK_US, (i + 1) * TICK_US, &tick);
	}
	number = rsl_history_find_identity(history, &who);
	is(number, first, "an entry is reused when it was not in use for long");
	ok(rsl_history_records(history)[0].identity == RSL_HISTORY_OTHER,
	   "what it had done is nobody's then");

	is(rsl_history_find_query(history, 0), RSL_HISTORY_NO_QUERY, "no query");
	number = rsl_history_find_query(history, 77);
	ok(number != RSL_HISTORY_NO_QUERY, "a query gets a number");
	is(rsl_history_find_query(history, 77), number, "the same again");
	is(rsl_history_known_query(history, 77), number, "and is known");
	is(rsl_history_known_query(history, 78), RSL_HISTORY_NO_QUERY, "others are not");
	for (uint64_t q = 100; q < 1000; q++)
		(void) rsl_history_find_query(history, q);
	is(rsl_history_find_query(history, 1000), RSL_HISTORY_NO_QUERY, "queries are full, too");
	is(rsl_history_known_query(history, 77), number, "who was there stays");
}

/* Sums stay exact, whatever is merged. */
static void
test_sums(size_t size, int ngroups, int ticks)
{
	uint64_t	arrivals = 0;
	uint64_t	running = 0;
	double		mass = 0;
	double		kept = 0;
	rsl_history_rule rule;
	rsl_history_answer answer;

	memset(&rule, 0, sizeof(rule));
	for (int i = 0; i < 255; i++)
		rule.statements[i] = true;
	rule.statements[RSL_HISTORY_OTHER] = true;
	rule.query = -1;
	rule.max_running = rule.max_connections = rule.max_waiting = -1;
	rule.max_rate = rule.max_connection_rate = -1;

	rsl_history_init(history, size);
	source.state = size + ngroups;
	for (int t = 0; t < ticks; t++)
	{
		rsl_history_tick tick;
		int			n = random_below(&source, ngroups + 1);

		memset(&tick, 0, sizeof(tick));
		for (int g = 0; g < n; g++)
		{
			rsl_history_identity who = role(random_below(&source, ngroups) % 9 + 1);
			int			identity = rsl_history_find_identity(history, &who);
			rsl_history_record *record;

			record = rsl_history_group(&tick, identity, random_below(&source, 3),
									   random_below(&source, ngroups) % 7);
			record->arrivals++;
			record->running++;

			arrivals++;
			running++;
		}
		rsl_history_add(history, t * TICK_US, (t + 1) * TICK_US, &tick);
		if (t % 97 == 0)
			check_block();
		mass += n;
	}
	check_block();
	rsl_history_estimate(history, &rule, 0, ticks * TICK_US, &answer);
	check(llround(answer.arrivals) == (long long) arrivals, "arrivals are exact");
	check(fabs(answer.mean_running * ticks - (double) running) < 1e-6 * running + 1,
		  "so is the time spent running: %g, not %g",
		  answer.mean_running * ticks, (double) running);
	check(answer.from_us == 0 && answer.until_us == ticks * TICK_US,
		  "nothing is forgotten");

	for (uint32_t i = 0, r = 0; i < history->nsnapshots; i++)
	{
		const rsl_history_snapshot *s = &rsl_history_snapshots(history)[i];

		for (int k = 0; k < s->nrecords; k++)
			kept += s->weight * rsl_history_records(history)[r++].running;
	}
	check(fabs(kept / mass - 1) < 0.05, "weights make up for what was left out: %g of %g",
		  kept, mass);
}

static void
test_memory(void)
{
	for (size_t size = RSL_HISTORY_MIN_SIZE; size <= sizeof(block); size *= 2)
	{
		test_sums(size, 1, 3000);
		test_sums(size, 6, 3000);
		test_sums(size, 40, 3000);
		test_sums(size, 200, 500);
	}
	check_done("sums through merges, in blocks of 8 kB to 1 MB");

	/* resolution: fine when recent, coarse when old */
	{
		const rsl_history_snapshot *all;
		rsl_history_tick tick;

		rsl_history_init(history, DEFAULT_SIZE);
		for (int t = 0; t < 600000; t++)
		{
			memset(&tick, 0, sizeof(tick));
			rsl_history_group(&tick, 0, 0, 0)->arrivals = 1;
			rsl_history_add(history, t * TICK_US, (t + 1) * TICK_US, &tick);
		}
		check_block();
		all = rsl_history_snapshots(history);
		for (uint32_t i = 0; i < history->nsnapshots; i++)
		{
			double		age = 600000.0 * TICK_US - all[i].begin_us;

			check(all[i].ticks == 1 || all[i].ticks * TICK_US < 0.3 * age,
				  "%u ticks at an age of %g s", all[i].ticks, age / 1e6);
		}
		check(history->nsnapshots > history->max_snapshots * 0.95, "all room is used");
		check_done("after 17 hours a snapshot is at most 30 % of its age long");
		diag("%u snapshots of at most %u, %u records", history->nsnapshots,
			 history->max_snapshots, history->max_records);

		/* an idle server needs no room */
		rsl_history_init(history, DEFAULT_SIZE);
		for (int t = 0; t < 10000; t++)
		{
			memset(&tick, 0, sizeof(tick));
			rsl_history_group(&tick, 0, RSL_HISTORY_CONNECTIONS, 0)->running = 7;
			rsl_history_add(history, t * TICK_US, (t + 1) * TICK_US, &tick);
		}
		is(history->nsnapshots, 1, "a quiet time is one snapshot");

		/* old, and back in time */
		memset(&tick, 0, sizeof(tick));
		rsl_history_group(&tick, 0, 0, 0)->arrivals = 1;
		rsl_history_add(history, RSL_HISTORY_MAX_AGE + 20000 * TICK_US,
						RSL_HISTORY_MAX_AGE + 20001 * TICK_US, &tick);
		is(history->nsnapshots, 1, "after a week it is forgotten");
		memset(&tick, 0, sizeof(tick));
		rsl_history_add(history, 5 * TICK_US, 6 * TICK_US, &tick);
		is(rsl_history_snapshots(history)[0].begin_us, 5 * TICK_US,
		   "a clock that went back begins anew");
	}
}

/*
 * Simulated loads.
 */

typedef enum law
{
	EXPONENTIAL,
	CONSTANT,
	HEAVY						/* nine short ones, one that is long */
} law;

typedef struct load
{
	const char *name;
	int			sessions;
	double		think;			/* seconds, mean */
	double		run;
	law			runs;
	double		seconds;
	double		burst;			/* every 60 s, 10 s long: think less */
	int			others;			/* sessions of another role */
} load;

typedef struct outcome
{
	double		arrivals;
	double		queued;
	double		refused;
	double		timed_out;
	double		wait;			/* sum, seconds */
} outcome;

static double
exponential(double mean)
{
	return -mean * log(1 - random_double(&source));
}

static double
duration(law runs, double mean)
{
	switch (runs)
	{
		case CONSTANT:
			return mean;
		case HEAVY:
			return random_below(&source, 10) == 0 ? exponential(mean * 5.5) :
				exponential(mean * 0.5);
		default:
			return exponential(mean);
	}
}

#define MAX_SESSIONS	600

/*
 * Let a load run; with "limit" < 0 or "observe" everybody runs and those over
 * the limit are counted, else they queue and are refused as by a bulkhead.
 * With "record" the history is told.
 */
static outcome
simulate(const load *load, int limit, int max_waiting, double max_wait,
		 bool observe, bool record)
{
	static double at[MAX_SESSIONS]; /* the next event of each */
	static double since[MAX_SESSIONS];
	static char state[MAX_SESSIONS];	/* 't'hinks, 'r'uns, 'w'aits */
	int			n = load->sessions + load->others;
	int			running = 0;
	int			waiting = 0;
	int			others_running = 0;
	uint32_t	arrived = 0;
	uint32_t	others_arrived = 0;
	double		tick = 0.1;
	outcome		out = {0};
	rsl_history_identity mine = role(1);
	rsl_history_identity theirs = role(2);
	int			my_number = 0;
	int			their_number = 0;

	if (record)
	{
		rsl_history_init(history, load_size);
		my_number = rsl_history_find_identity(history, &mine);
		their_number = rsl_history_find_identity(history, &theirs);
	}
	for (int i = 0; i < n; i++)
	{
		state[i] = 't';
		at[i] = exponential(load->think);
	}
	for (;;)
	{
		int			next = 0;
		double		now;
		double		think = load->think;
		bool		is_other;

		for (int i = 1; i < n; i++)
		{
			if (at[i] < at[next])
				next = i;
		}
		now = at[next];
		while (record && tick <= now && tick <= load->seconds)
		{
			rsl_history_tick t;
			rsl_history_record *r;

			memset(&t, 0, sizeof(t));
			rsl_history_use_identity(history, my_number);
			rsl_history_use_identity(history, their_number);
			r = rsl_history_group(&t, my_number, 0, 0);
			r->running = running;
			r->arrivals = arrived;
			r = rsl_history_group(&t, my_number, RSL_HISTORY_CONNECTIONS, 0);
			r->running = load->sessions;

			if (load->others > 0)
			{
				r = rsl_history_group(&t, their_number, 0, 0);
				r->running = others_running;
				r->arrivals = others_arrived;
			}
			rsl_history_add(history, llround((tick - 0.1) * 1e6),
							llround(tick * 1e6), &t);
			arrived = others_arrived = 0;
			tick += 0.1;
		}
		if (now > load->seconds)
			break;
		if (load->burst > 0 && fmod(now, 60) < 10)
			think /= load->burst;
		is_other = next >= load->sessions;

		if (state[next] == 'r')
		{
			state[next] = 't';
			at[next] = now + exponential(think);
			if (is_other)
			{
				others_running--;
				continue;
			}
			running--;
			if (waiting > 0 && running < limit)
			{
				int			first = -1;

				for (int i = 0; i < load->sessions; i++)
				{
					if (state[i] == 'w' && (first < 0 || since[i] < since[first]))
						first = i;
				}
				waiting--;
				running++;
				out.wait += now - since[first];
				state[first] = 'r';
				at[first] = now + duration(load->runs, load->run);
			}
		}
		else if (state[next] == 'w')
		{
			/* in vain */
			waiting--;
			out.timed_out++;
			out.wait += now - since[next];
			state[next] = 't';
			at[next] = now + exponential(think);
		}
		else if (is_other)
		{
			others_arrived++;
			others_running++;
			state[next] = 'r';
			at[next] = now + duration(load->runs, load->run);
		}
		else
		{
			bool		over;

			arrived++;
			out.arrivals++;
			over = limit >= 0 && running >= limit;
			if (over && observe && running - limit >= max_waiting)
				out.refused++;
			else if (over && !observe && waiting >= max_waiting)
			{
				out.refused++;
				at[next] = now + exponential(think);
				continue;
			}
			else if (over)
				out.queued++;
			if (over && !observe)
			{
				waiting++;
				state[next] = 'w';
				since[next] = now;
				at[next] = now + max_wait;
				continue;
			}
			running++;
			state[next] = 'r';
			at[next] = now + duration(load->runs, load->run);
		}
	}
	return out;
}

static double worst_observed;
static double worst_enforced;

static void
compare(const load *load, int limit, int max_waiting, double max_wait,
		double error_observed, double error_enforced)
{
	rsl_history_rule rule;
	rsl_history_answer answer;
	rsl_history_identity mine = role(1);
	outcome		seen;
	outcome		done;
	double		refused;
	double		queued;
	double		observed;
	double		enforced;

	source.state = 7;
	seen = simulate(load, limit, max_waiting, max_wait, true, true);
	done = simulate(load, limit, max_waiting, max_wait, false, false);

	memset(&rule, 0, sizeof(rule));
	{
		int			number = rsl_history_find_identity(history, &mine);

		rule.statements[number] = rule.connections[number] = true;
	}
	rule.query = -1;
	rule.max_running = limit;
	rule.max_waiting = max_waiting;
	rule.max_wait_us = llround(max_wait * 1e6);
	rule.max_rate = rule.max_connection_rate = -1;
	rule.max_connections = -1;
	rsl_history_estimate(history, &rule, 0, INT64_MAX, &answer);

	refused = answer.refused / answer.arrivals;
	queued = answer.queued / answer.arrivals;
	observed = fmax(fabs(refused - seen.refused / seen.arrivals),
					fabs(queued - seen.queued / seen.arrivals));
	enforced = fabs(answer.enforced_refused / answer.arrivals -
					(done.refused + done.timed_out) / done.arrivals);
	diag("%-28s %d+%d: observed refused %.3f (%.3f) queued %.3f (%.3f); enforced refused %.3f (%.3f), wait %.4f (%.4f) s",
		 load->name, limit, max_waiting, refused, seen.refused / seen.arrivals,
		 queued, seen.queued / seen.arrivals,
		 answer.enforced_refused / answer.arrivals,
		 (done.refused + done.timed_out) / done.arrivals,
		 answer.enforced_queued > 0 ?
		 answer.enforced_wait_us / answer.enforced_queued / 1e6 : 0,
		 done.queued > 0 ? done.wait / done.queued : 0);
	ok(observed <= error_observed && enforced <= error_enforced,
	   "%s, limit %d+%d: errors %.3f and %.3f", load->name, limit, max_waiting,
	   observed, enforced);
	worst_observed = fmax(worst_observed, observed);
	worst_enforced = fmax(worst_enforced, enforced);
}

static void
test_loads(void)
{
	static const load open = {"open, 5 ms", 200, 0.2, 0.005, EXPONENTIAL, 120, 0, 0};
	static const load open_busy = {"open, 20 ms", 250, 0.25, 0.02, EXPONENTIAL, 120, 0, 0};
	static const load closed = {"closed, busy", 16, 0.005, 0.02, EXPONENTIAL, 300, 0, 0};
	static const load saturated = {"closed, hardly thinks", 8, 0.0005, 0.01, EXPONENTIAL, 300, 0, 0};
	static const load constant = {"constant durations", 20, 0.03, 0.03, CONSTANT, 300, 0, 0};
	static const load heavy = {"heavy tail", 40, 0.2, 0.02, HEAVY, 300, 0, 0};
	static const load mixed = {"beside another role", 12, 0.05, 0.03, EXPONENTIAL, 300, 0, 30};
	static const load bursts = {"bursts", 40, 0.4, 0.02, EXPONENTIAL, 900, 20, 0};
	static const load seconds = {"5 s each", 30, 30, 5, EXPONENTIAL, 7200, 0, 0};
	static const load hours = {"10 minutes each", 12, 1800, 600, EXPONENTIAL, 100000, 0, 0};

	/* mostly the chance of which pictures are kept; see the README */
	compare(&open, 6, 2, 1, 0.12, 0.05);
	compare(&open, 4, 0, 1, 0.12, 0.05);
	compare(&open, 12, 4, 1, 0.12, 0.05);
	compare(&open_busy, 16, 8, 1, 0.12, 0.05);
	compare(&open_busy, 24, 8, 1, 0.12, 0.05);
	compare(&closed, 8, 4, 1, 0.12, 0.05);
	compare(&closed, 12, 0, 1, 0.12, 0.05);
	compare(&closed, 16, 0, 1, 0.12, 0.05);
	compare(&closed, 4, 12, 0.05, 0.12, 0.05);
	compare(&saturated, 8, 0, 1, 0.12, 0.05);
	compare(&saturated, 7, 0, 1, 0.12, 0.05);
	compare(&saturated, 4, 2, 1, 0.12, 0.05);
	compare(&constant, 10, 2, 1, 0.12, 0.05);
	compare(&heavy, 4, 4, 1, 0.12, 0.05);
	compare(&mixed, 4, 2, 1, 0.12, 0.05);
	/* the model takes the mean of what is too long ago to be told apart */
	compare(&bursts, 4, 4, 1, 0.12, 1);
	compare(&seconds, 4, 2, 10, 0.12, 0.08);
	compare(&hours, 3, 2, 300, 0.12, 0.12);
	diag("worst errors in %d kB: %.3f as observed, %.3f as enforced",
		 DEFAULT_SIZE / 1024, worst_observed, worst_enforced);

	/* more memory, less chance */
	load_size = LARGE_SIZE;
	worst_observed = 0;
	compare(&open, 6, 2, 1, 0.05, 0.05);
	compare(&closed, 8, 4, 1, 0.05, 0.05);
	compare(&constant, 10, 2, 1, 0.05, 0.05);
	compare(&heavy, 4, 4, 1, 0.05, 0.05);
	compare(&mixed, 4, 2, 1, 0.05, 0.05);
	compare(&bursts, 4, 4, 1, 0.05, 1);
	compare(&seconds, 4, 2, 10, 0.05, 0.08);
	diag("worst error in %d kB: %.3f as observed", LARGE_SIZE / 1024,
		 worst_observed);
}

/* Rates, connections, interval: loads that need no chance. */
static void
test_exact(void)
{
	rsl_history_identity who = role(1);
	rsl_history_identity super = role(2);
	rsl_history_rule none;
	rsl_history_rule rule;
	rsl_history_answer answer;
	int			number;
	int			exempt;

	super.exempt = 1;
	rsl_history_init(history, 65536);
	memset(&none, 0, sizeof(none));
	none.query = none.max_running = none.max_waiting = none.max_connections = -1;
	none.max_rate = none.max_connection_rate = -1;

	/* 20 s of 5 transactions and a connection in each tick, of the SELECTs */
	for (int t = 0; t < 200; t++)
	{
		rsl_history_tick tick;

		memset(&tick, 0, sizeof(tick));
		number = rsl_history_find_identity(history, &who);
		exempt = rsl_history_find_identity(history, &super);
		rsl_history_group(&tick, number, 0, 0)->arrivals = 5;
		rsl_history_group(&tick, number, 1, 0)->arrivals = 1;
		rsl_history_group(&tick, exempt, 0, 0)->arrivals = 2;
		rsl_history_group(&tick, number, RSL_HISTORY_CONNECTIONS, 0)->arrivals = 1;
		rsl_history_group(&tick, number, RSL_HISTORY_CONNECTIONS, 0)->running = 10 + t % 2;
		tick.unattributed = 3;
		rsl_history_add(history, t * TICK_US, (t + 1) * TICK_US, &tick);
	}
	none.statements[number] = none.connections[number] = true;

	rsl_history_estimate(history, &none, 0, INT64_MAX, &answer);
	is(llround(answer.arrivals), 1200, "all commands");
	is(llround(answer.refused), 0, "no limit refuses nobody");
	is(llround(answer.unattributed), 600, "what nobody knows");
	is(answer.samples, 200, "all ticks");

	rule = none;
	rule.commands = 1;
	rsl_history_estimate(history, &rule, 0, INT64_MAX, &answer);
	is(llround(answer.arrivals), 1000, "one command");
	rsl_history_estimate(history, &rule, 50 * TICK_US, 75 * TICK_US + TICK_US / 2, &answer);
	is(llround(answer.arrivals * 10), 1275, "a part of the time");
	is(answer.from_us, 50 * TICK_US, "from");
	is(answer.until_us, 75 * TICK_US + TICK_US / 2, "until");

	rule.max_rate = 20;
	rsl_history_estimate(history, &rule, 0, INT64_MAX, &answer);
	is(llround(answer.refused), 1000 - 20 * 20 - 20, "50 per second at a rate of 20, and 20 at once");
	is(llround(answer.enforced_refused), 1000 - 20 * 20 - 20, "enforced, too");
	rule.max_rate = 0;
	rsl_history_estimate(history, &rule, 0, INT64_MAX, &answer);
	is(llround(answer.refused), 999, "a rate of 0 admits one");

	rule = none;
	rule.max_connection_rate = 4;
	rsl_history_estimate(history, &rule, 0, INT64_MAX, &answer);
	is(llround(answer.connects), 200, "connections");
	is(llround(answer.refused_connects), 200 - 4 * 20 - 4, "10 per second at a rate of 4");
	rule.max_connection_wait_us = 500000;
	rsl_history_estimate(history, &rule, 0, INT64_MAX, &answer);
	is(llround(answer.refused_connects), 200 - 4 * 20 - 6, "two more may wait");
	rule.max_connections = 10;
	rule.max_connection_rate = -1;
	rsl_history_estimate(history, &rule, 0, INT64_MAX, &answer);
	is(llround(answer.refused_connects), 100, "every second one found 10");

	rule = none;
	rule.statements[exempt] = true;
	rule.max_running = rule.max_waiting = 0;
	rsl_history_estimate(history, &rule, 0, INT64_MAX, &answer);
	is(llround(answer.arrivals), 1600, "with those that are exempt");
	is(llround(answer.refused), 1200, "who are not refused");

	rule = none;
	rule.query = RSL_HISTORY_NO_QUERY;
	rsl_history_estimate(history, &rule, 0, INT64_MAX, &answer);
	is(llround(answer.arrivals), 0, "a query that is not known matches nothing");
}

int
main(void)
{
	test_dictionary();
	test_memory();
	test_exact();
	test_loads();
	return done_testing();
}

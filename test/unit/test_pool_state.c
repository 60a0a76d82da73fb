/*-------------------------------------------------------------------------
 *
 * test_pool_state.c
 *		Unit tests of core/pool_state.h: counts and flags packed into one
 *		word, and the rule of who may run, against a naive model that keeps
 *		them in separate variables.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/pool_state.h"

#define LARGEST		((int32_t) RSL_LANE_MASK)

/* The same state, not packed. */
typedef struct
{
	int32_t		low;
	int32_t		normal;
	int32_t		high;			/* and critical */
	bool		waits[RSL_NUM_PRIORITIES];
} unpacked;

static uint64_t
pack(const unpacked *m)
{
	uint64_t	word = 0;

	word += (uint64_t) m->low * rsl_pool_unit(RSL_PRIORITY_LOW);
	word += (uint64_t) m->normal * rsl_pool_unit(RSL_PRIORITY_NORMAL);
	word += (uint64_t) m->high * rsl_pool_unit(RSL_PRIORITY_HIGH);
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
	{
		if (m->waits[c])
			word |= rsl_pool_wait_bit(c);
	}
	return word;
}

static bool
same(uint64_t word, const unpacked *m)
{
	if (rsl_pool_lane(word, 0) != m->low ||
		rsl_pool_lane(word, 1) != m->normal ||
		rsl_pool_lane(word, 2) != m->high ||
		rsl_pool_running(word) != m->low + m->normal + m->high)
		return false;
	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
	{
		if (((word & rsl_pool_wait_bit(c)) != 0) != m->waits[c])
			return false;
	}
	return true;
}

/*
 * The rule in words: not beyond the limit; a class with a cap not beyond it,
 * if any higher class runs, waits, or was active a moment ago.
 */
static bool
model_admits(const unpacked *m, int32_t limit, int32_t low_cap,
			 int32_t normal_cap, int priority, const bool *recent)
{
	bool		high_active = m->high > 0 ||
		m->waits[RSL_PRIORITY_HIGH] || m->waits[RSL_PRIORITY_CRITICAL] ||
		recent[RSL_PRIORITY_HIGH] || recent[RSL_PRIORITY_CRITICAL];
	bool		normal_active = m->normal > 0 ||
		m->waits[RSL_PRIORITY_NORMAL] || recent[RSL_PRIORITY_NORMAL];

	if (limit != RSL_UNLIMITED && m->low + m->normal + m->high >= limit)
		return false;
	if (priority == RSL_PRIORITY_LOW && low_cap != RSL_UNLIMITED &&
		(normal_active || high_active))
		return m->low < low_cap;
	if (priority == RSL_PRIORITY_NORMAL && normal_cap != RSL_UNLIMITED &&
		high_active)
		return m->normal < normal_cap;
	return true;
}

/* Small numbers and the largest ones, where packing would go wrong. */
static int32_t
random_count(random_source *source)
{
	switch (random_below(source, 8))
	{
		case 0:
			return 0;
		case 1:
			return LARGEST;
		case 2:
			return LARGEST - 1;
		case 3:
			return (int32_t) random_below(source, LARGEST + 1);
		default:
			return (int32_t) random_below(source, 10);
	}
}

static int32_t
random_limit(random_source *source)
{
	return random_below(source, 5) == 0 ? RSL_UNLIMITED : random_count(source);
}

static void
test_packing(void)
{
	random_source source = {2026};
	unpacked	full = {LARGEST, LARGEST, LARGEST, {true, true, true, true}};

	is(RSL_LANE_MASK, 262143, "a lane holds PostgreSQL's largest number of backends");
	ok(rsl_pool_unit(RSL_PRIORITY_HIGH) == rsl_pool_unit(RSL_PRIORITY_CRITICAL),
	   "high and critical share a lane");
	ok(rsl_pool_unit(RSL_PRIORITY_LOW) != rsl_pool_unit(RSL_PRIORITY_NORMAL) &&
	   rsl_pool_unit(RSL_PRIORITY_NORMAL) != rsl_pool_unit(RSL_PRIORITY_HIGH),
	   "the other classes do not");
	ok(same(pack(&full), &full), "all lanes full, all flags set");
	ok((RSL_WAIT_MASK & (RSL_LANE_MASK | RSL_LANE_MASK << RSL_LANE_BITS |
						 RSL_LANE_MASK << (2 * RSL_LANE_BITS))) == 0,
	   "flags and lanes have no bit in common");

	for (int i = 0; i < 200000; i++)
	{
		unpacked	m;

		m.low = random_count(&source);
		m.normal = random_count(&source);
		m.high = random_count(&source);
		for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
			m.waits[c] = random_below(&source, 2);
		check(same(pack(&m), &m), "%d %d %d", m.low, m.normal, m.high);
	}
	check_done("random counts and flags come out as they went in");

	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
	{
		for (int other = 0; other < RSL_NUM_PRIORITIES; other++)
			check(((rsl_pool_wait_bits_from(c) & rsl_pool_wait_bit(other)) != 0) ==
				  (other >= c), "from %d: %d", c, other);
		check((rsl_pool_wait_bits_from(c) & ~RSL_WAIT_MASK) == 0, "from %d", c);
	}
	check_done("flags of a class and those above");
}

/*
 * A long life of one word by additions and subtractions only, as the atomic
 * operations do it: no lane may leak into its neighbour.
 */
static void
test_life(void)
{
	random_source source = {7};
	unpacked	m = {0, 0, 0, {false, false, false, false}};
	uint64_t	word = 0;
	int32_t		high_water[3] = {0};

	for (int i = 0; i < 3000000; i++)
	{
		/* drifts up to the largest counts, then down again */
		bool		up = i < 1500000;
		int			priority = (int) random_below(&source, RSL_NUM_PRIORITIES);
		int32_t    *lane = priority == RSL_PRIORITY_LOW ? &m.low :
			priority == RSL_PRIORITY_NORMAL ? &m.normal : &m.high;

		if (random_below(&source, 10) == 0)
			up = !up;
		if (up && *lane < LARGEST)
		{
			(*lane)++;
			word += rsl_pool_unit(priority);
		}
		else if (!up && *lane > 0)
		{
			(*lane)--;
			word -= rsl_pool_unit(priority);
		}
		if (random_below(&source, 16) == 0)
		{
			m.waits[priority] = !m.waits[priority];
			if (m.waits[priority])
				word |= rsl_pool_wait_bit(priority);
			else
				word &= ~rsl_pool_wait_bit(priority);
		}
		for (int l = 0; l < 3; l++)
		{
			int32_t		count = rsl_pool_lane(word, l);

			high_water[l] = count > high_water[l] ? count : high_water[l];
		}
		check(same(word, &m), "step %d", i);
	}
	check_done("three million changes, word and model alike");
	diag("highest counts: low %d, normal %d, high %d",
		 high_water[0], high_water[1], high_water[2]);
	ok(high_water[2] == LARGEST, "a lane was full on the way");
}

static void
test_admits(void)
{
	random_source source = {99};
	long		admitted = 0;
	long		refused_by_limit = 0;
	long		refused_by_cap = 0;

	for (int i = 0; i < 2000000; i++)
	{
		unpacked	m;
		rsl_pool_limits limits;
		bool		recent[RSL_NUM_PRIORITIES];
		uint32_t	recent_mask = 0;
		bool		sparse = random_below(&source, 2);

		m.low = random_count(&source);
		/* quiet higher classes are the interesting case */
		m.normal = sparse && random_below(&source, 2) ? 0 : random_count(&source);
		m.high = sparse && random_below(&source, 2) ? 0 : random_count(&source);
		for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
		{
			m.waits[c] = random_below(&source, sparse ? 8 : 2) == 0;
			recent[c] = random_below(&source, sparse ? 8 : 2) == 0;
			if (recent[c])
				recent_mask |= 1u << c;
		}
		limits.max_running = random_limit(&source);
		limits.low_cap = random_limit(&source);
		limits.normal_cap = random_limit(&source);

		for (int priority = 0; priority < RSL_NUM_PRIORITIES; priority++)
		{
			bool		expected = model_admits(&m, limits.max_running,
												limits.low_cap, limits.normal_cap,
												priority, recent);
			bool		got = rsl_pool_admits(pack(&m), &limits, priority,
											  recent_mask);

			check(got == expected,
				  "priority %d running %d %d %d limits %d %d %d recent %x: %d",
				  priority, m.low, m.normal, m.high, limits.max_running,
				  limits.low_cap, limits.normal_cap, recent_mask, got);
			if (got)
				admitted++;
			else if (limits.max_running >= 0 &&
					 m.low + m.normal + m.high >= limits.max_running)
				refused_by_limit++;
			else
				refused_by_cap++;
		}
	}
	check_done("who may run: word and model agree in random states");
	diag("%ld admitted, %ld refused by the limit, %ld by a cap",
		 admitted, refused_by_limit, refused_by_cap);
	ok(admitted > 100000 && refused_by_limit > 100000 && refused_by_cap > 100000,
	   "each answer was met often");
}

static void
test_rules(void)
{
	rsl_pool_limits none = {RSL_UNLIMITED, RSL_UNLIMITED, RSL_UNLIMITED};
	rsl_pool_limits closed = {0, RSL_UNLIMITED, RSL_UNLIMITED};
	rsl_pool_limits eight = {8, 2, 6};
	uint64_t	low = rsl_pool_unit(RSL_PRIORITY_LOW);
	uint64_t	normal = rsl_pool_unit(RSL_PRIORITY_NORMAL);
	uint64_t	high = rsl_pool_unit(RSL_PRIORITY_HIGH);
	unpacked	full = {LARGEST, LARGEST, LARGEST, {false}};

	for (int c = 0; c < RSL_NUM_PRIORITIES; c++)
	{
		check(rsl_pool_admits(pack(&full), &none, c, 0xF), "class %d", c);
		check(!rsl_pool_admits(0, &closed, c, 0), "class %d", c);
	}
	check_done("-1 admits all, 0 admits none");

	ok(rsl_pool_admits(7 * low, &eight, RSL_PRIORITY_LOW, 0) &&
	   !rsl_pool_admits(8 * low, &eight, RSL_PRIORITY_LOW, 0),
	   "while higher classes are quiet, low may fill the limit");
	ok(rsl_pool_admits(low + high, &eight, RSL_PRIORITY_LOW, 0) &&
	   !rsl_pool_admits(2 * low + high, &eight, RSL_PRIORITY_LOW, 0),
	   "beside a running high one, low stops at its cap");
	ok(!rsl_pool_admits(2 * low, &eight, RSL_PRIORITY_LOW, 1 << RSL_PRIORITY_NORMAL) &&
	   rsl_pool_admits(2 * low, &eight, RSL_PRIORITY_LOW, 1 << RSL_PRIORITY_LOW),
	   "recent work of a higher class keeps the cap closed, that of its own does not");
	ok(!rsl_pool_admits(2 * low | rsl_pool_wait_bit(RSL_PRIORITY_CRITICAL), &eight, RSL_PRIORITY_LOW, 0) &&
	   rsl_pool_admits(2 * low | rsl_pool_wait_bit(RSL_PRIORITY_LOW), &eight, RSL_PRIORITY_LOW, 0),
	   "a higher waiter keeps the cap closed, one of its own class does not");
	ok(rsl_pool_admits(6 * normal + low, &eight, RSL_PRIORITY_NORMAL, 1 << RSL_PRIORITY_LOW) &&
	   !rsl_pool_admits(6 * normal + high, &eight, RSL_PRIORITY_NORMAL, 0),
	   "normal is capped by high, not by low");
	ok(rsl_pool_admits(7 * high, &eight, RSL_PRIORITY_HIGH, 0xF) &&
	   rsl_pool_admits(7 * high, &eight, RSL_PRIORITY_CRITICAL, 0xF),
	   "high and critical have the limit only");

	/* high traffic beyond the limit, as lent slots that were taken back */
	ok(!rsl_pool_admits(20 * high, &eight, RSL_PRIORITY_CRITICAL, 0),
	   "over the limit nobody enters");
}

static void
test_caps(void)
{
	is(rsl_pool_effective_cap(-1, 8, 1), 2, "a quarter of 8");
	is(rsl_pool_effective_cap(-1, 8, 3), 6, "three quarters of 8");
	is(rsl_pool_effective_cap(-1, 1, 1), 1, "a quarter of 1 is at least 1");
	is(rsl_pool_effective_cap(-1, 3, 1), 1, "a quarter of 3 is at least 1");
	is(rsl_pool_effective_cap(-1, 7, 3), 5, "three quarters of 7, rounded down");
	is(rsl_pool_effective_cap(-1, LARGEST, 3), 196607, "three quarters of the largest limit");
	is(rsl_pool_effective_cap(-1, RSL_UNLIMITED, 1), RSL_UNLIMITED, "no limit, no cap");
	is(rsl_pool_effective_cap(5, RSL_UNLIMITED, 1), 5, "an explicit cap without a limit");
	is(rsl_pool_effective_cap(0, 8, 1), 0, "an explicit cap of 0 stays 0");
	is(rsl_pool_effective_cap(100, 8, 3), 100, "an explicit cap above the limit stays, and does nothing");

	for (int32_t limit = 1; limit <= LARGEST; limit++)
	{
		int32_t		low = rsl_pool_effective_cap(-1, limit, 1);
		int32_t		normal = rsl_pool_effective_cap(-1, limit, 3);

		check(low >= 1 && low <= normal && normal <= limit, "limit %d", limit);
		check(low == (limit / 4 > 1 ? limit / 4 : 1), "limit %d: %d", limit, low);
	}
	check_done("the caps of every possible limit");
}

int
main(void)
{
	test_packing();
	test_life();
	test_rules();
	test_admits();
	test_caps();
	return done_testing();
}

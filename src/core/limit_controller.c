/*-------------------------------------------------------------------------
 *
 * limit_controller.c
 *		Finds how many transactions should run at once.
 *
 * Throughput decides, signals propose.  The controller measures throughput
 * at the present limit (the center) and, for some tenths of a second, at a
 * higher or lower one, in turn: drift that is slower than that cancels out
 * of the comparison.  What is better becomes the center, and the next step in
 * that direction is wider; if neither direction is better the steps narrow,
 * and then it holds still for a while before it looks again.
 *
 * Signals choose the direction that is tried first, how far, and how much
 * proof it takes: idle cores and a queue speak for more; many sessions that
 * wait for locks, or for a core, speak for less.  They cannot overrule
 * throughput: what a share of blocked sessions means differs from workload to
 * workload.
 *
 * It does nothing while the limit is not reached, unless the signals say that
 * the server is overloaded below it.
 *
 * Why this: test/sim/test_limit_simulation ("rivals") runs four methods on
 * seven workloads and servers of 2 to 256 cores, from limits of 1 and 600.
 * Throughput after ten seconds over that of the best limit, least of all
 * cases: this 0.93 (0.98 without one case of forty transactions a second); by
 * signals alone (AIMD: a third blocked, three runnable a core) 0.39, as one
 * more at a time is too slow for sleepers, and 0.69 where the collapse begins
 * below three a core; by the gradient of latency 0.03, since it rises by less
 * than one a second, and 0.21 from above, since its baseline is the collapse;
 * by a climb of fixed steps a second 0.03, or 0.21 where noise hides which
 * way is up.  AIMD is better only for long reports.
 *
 *-------------------------------------------------------------------------
 */
#include "core/limit_controller.h"

#include <math.h>
#include <string.h>

#define LESS		1
#define MORE		2

/* factors from one limit to the one that is tried */
#define MIN_STEP			1.3
#define FIRST_STEP			1.5
#define BOLD_STEP			2.0
#define MAX_STEP			4.0

/* a segment has so many samples at least, and lasts so long at most */
#define MIN_SAMPLES			2
#define MAX_SEGMENT			2.0

/* ... and is over when so many transactions have ended, or with 3 samples */
#define MANY				80
#define ENOUGH				40
#define ENOUGH_BOLD			12	/* while steps are wide */

/* fewer than these cannot be compared */
#define TOO_FEW				6

/* wait for the effect of a change, in seconds: at least, at most */
#define MIN_SETTLE			0.1
#define MAX_SETTLE			1.0
#define MAX_DRAIN			5.0

/* so many pairs of segments before a trial is given up */
#define MAX_PAIRS			4

/* holding still, in seconds */
#define MIN_PATIENCE		1.0
#define MAX_PATIENCE		4.0

/* the least gain that counts */
#define LEAST_GAIN			0.02

/* the rate at the center has changed: another workload */
#define CHANGED				0.3

static double
clamp(double value, double low, double high)
{
	return value < low ? low : value > high ? high : value;
}

/* The limit to start with when nothing is known. */
int
rsl_limit_start(const rsl_limit_config *config)
{
	return (int) clamp(4.0 * config->cores, config->floor, config->ceiling);
}

const char *
rsl_limit_reason_name(rsl_limit_reason reason)
{
	switch (reason)
	{
		case RSL_LIMIT_STARTING:
			return "starting";
		case RSL_LIMIT_UNUSED:
			return "unused";
		case RSL_LIMIT_MEASURING:
			return "measuring";
		case RSL_LIMIT_TRYING_MORE:
			return "trying more";
		case RSL_LIMIT_TRYING_LESS:
			return "trying less";
		case RSL_LIMIT_HOLDING:
			return "holding";
		case RSL_LIMIT_TOO_FEW:
			return "too few";
		case RSL_LIMIT_NOT_ENFORCED:
			return "not enforced";
	}
	return "unknown";
}

/* Start to measure at a limit. */
static void
begin_segment(rsl_limit_controller *c, int limit)
{
	if (limit != c->limit)
	{
		c->settle = clamp(c->duration, MIN_SETTLE, MAX_SETTLE);
		c->drain = limit < c->limit ? MAX_DRAIN : 0;
	}
	c->limit = limit;
	c->probing = limit != c->center;
	c->seconds = 0;
	c->finished = 0;
	c->samples = 0;
	c->reached = 0;
}

static void
begin_search(rsl_limit_controller *c)
{
	c->step = FIRST_STEP;
	c->rejected = 0;
	c->gains = 0;
	c->bold = true;
	c->refuted = 0;
	c->hold = 0;
	c->patience = MIN_PATIENCE;
	c->comparing = false;
}

void
rsl_limit_init(rsl_limit_controller *c, const rsl_limit_config *config,
			   int limit)
{
	memset(c, 0, sizeof(*c));
	c->limit = c->center = (int) clamp(limit, config->floor, config->ceiling);
	c->reason = RSL_LIMIT_STARTING;
	c->direction = +1;
	c->variance = 0.05 * 0.05;
	begin_search(c);
	begin_segment(c, c->center);
}

static void
average(double *avg, double value, bool known)
{
	*avg = known ? *avg + 0.3 * (value - *avg) : value;
}

static void
update_signals(rsl_limit_controller *c, const rsl_limit_config *config,
			   const rsl_limit_sample *sample)
{
	rsl_limit_signals *signals = &c->signals;
	double		idle = sample->idle;

	/* without a kernel that tells, sessions on a core do */
	if (idle < 0)
		idle = clamp(1.0 - (double) sample->on_cpu / config->cores, 0, 1);
	average(&signals->holding, sample->holding, signals->known);
	average(&signals->on_cpu, sample->on_cpu, signals->known);
	average(&signals->blocked, sample->blocked, signals->known);
	average(&signals->running, sample->running, signals->known);
	average(&signals->idle, idle, signals->known);
	signals->known = true;
}

/*
 * What do the signals speak for: more (+1), less (-1), or neither?
 */
static int
opinion(const rsl_limit_controller *c, const rsl_limit_config *config)
{
	const rsl_limit_signals *signals = &c->signals;
	double		blocked = signals->blocked / fmax(signals->holding, 1);
	double		queue = signals->on_cpu / config->cores;

	if (signals->holding > 2 && (queue > 3 || blocked > 0.7))
		return -1;
	if (signals->idle > 0.25 && blocked < 0.4 && queue < 1.5)
		return +1;
	return 0;
}

/*
 * Is the server overloaded though the limit is not reached?  Without a queue
 * before the limit, one before the cores tells.
 */
static bool
is_overloaded(const rsl_limit_controller *c, const rsl_limit_config *config)
{
	return opinion(c, config) < 0 ||
		(c->signals.idle < 0.05 && c->signals.holding > 2 &&
		 c->signals.on_cpu > 1.5 * config->cores);
}

/* The opinion, unless throughput has refuted it since the search began. */
static int
credible_opinion(const rsl_limit_controller *c, const rsl_limit_config *config)
{
	int			says = opinion(c, config);

	return says == c->refuted ? 0 : says;
}

/*
 * Is a limit so low that each one more or less counts?  Not where nearly all
 * of what runs is blocked, or short of a core.
 */
static bool
is_small(const rsl_limit_controller *c, const rsl_limit_config *config,
		 double limit)
{
	const rsl_limit_signals *signals = &c->signals;

	return limit <= 8 ||
		(limit <= 4 * config->cores &&
		 signals->blocked < 0.9 * signals->holding &&
		 signals->on_cpu < 8 * config->cores);
}

/* The limit that a step in a direction leads to; the center if none. */
static int
target(const rsl_limit_controller *c, const rsl_limit_config *config)
{
	double		from = c->center;
	double		step = c->step;
	double		to;

	/* below a limit that is not reached, what runs is where we are */
	if (c->direction < 0)
	{
		from = fmin(from, fmax(c->signals.running, 1));
		/* where every one counts, not too far down */
		step = is_small(c, config, from) ? fmin(step, BOLD_STEP) : step;
		to = fmin(floor(from / step + 0.5), ceil(from) - 1);
	}
	else
		to = fmax(floor(from * step + 0.5), from + 1);
	to = clamp(to, config->floor, config->ceiling);
	if ((to - c->center) * c->direction <= 0)
		return c->center;
	return (int) to;
}

static void
hold_still(rsl_limit_controller *c, const rsl_limit_config *config)
{
	c->hold = c->patience;
	c->patience = fmin(2 * c->patience, MAX_PATIENCE);
	c->held_opinion = opinion(c, config);
	if (!is_small(c, config, c->center))
		c->refuted = 0;
	c->other_opinion = 0;
	c->rejected = 0;
	c->gains = 0;
	c->step = FIRST_STEP;
	c->reason = RSL_LIMIT_HOLDING;
	begin_segment(c, c->center);
}

/* Choose what to try next, from a segment at the center; or hold still. */
static void
begin_trial(rsl_limit_controller *c, const rsl_limit_config *config,
			bool may_rise)
{
	int			says = credible_opinion(c, config);

	c->pairs = 0;
	c->sum = 0;
	c->comparing = false;

	/* the signals' direction first */
	if (says != 0 && c->rejected == 0)
	{
		c->direction = says;
		if (c->bold)
			c->step = fmax(c->step, BOLD_STEP);
	}
	c->bold = false;

	for (int tries = 0; tries < 2; tries++)
	{
		int			bit = c->direction > 0 ? MORE : LESS;
		int			to = target(c, config);
		bool		out = (c->rejected & bit) != 0 || to == c->center ||
			(c->direction > 0 && !may_rise);

		/* against the signals only now and then */
		if (!out && says == -c->direction && ++c->skipped % 3 != 0)
			out = true;
		if (!out)
		{
			c->reason = c->direction > 0 ? RSL_LIMIT_TRYING_MORE :
				RSL_LIMIT_TRYING_LESS;
			c->tried = to;
			c->comparing = true;
			begin_segment(c, to);
			return;
		}
		c->rejected |= bit;
		c->direction = -c->direction;
	}

	if (c->step > FIRST_STEP && c->gains == 0)
	{
		/* neither far up nor far down: nearer, then */
		c->step = fmax(sqrt(c->step), MIN_STEP);
		c->rejected = 0;
		begin_segment(c, c->center);
		return;
	}
	hold_still(c, config);
}

/* The probe is better: go on from there. */
static void
accept(rsl_limit_controller *c, const rsl_limit_config *config)
{
	c->center = c->tried;
	c->rejected = c->direction > 0 ? LESS : MORE;
	c->gains++;
	c->step = fmin(c->step * c->step, MAX_STEP);
	c->patience = MIN_PATIENCE;
	c->base = c->probe;
	begin_trial(c, config, true);
}

static void
reject(rsl_limit_controller *c, const rsl_limit_config *config)
{
	if (opinion(c, config) == c->direction)
		c->refuted = c->direction;
	c->rejected |= c->direction > 0 ? MORE : LESS;
	c->direction = -c->direction;
	if (c->gains > 0)
	{
		/* stepped over it, perhaps: look on both sides, not as far */
		c->gains = 0;
		c->rejected = 0;
		c->step = fmax(sqrt(c->step), MIN_STEP);
	}
	c->comparing = false;
	c->reason = RSL_LIMIT_MEASURING;
	begin_segment(c, c->center);
}

/*
 * A difference between probe and center, from so many pairs: accept (+1),
 * reject (-1), or go on (0)?
 */
static int
judge(const rsl_limit_controller *c, const rsl_limit_config *config,
	  double difference, double error, bool last)
{
	bool		agreed = credible_opinion(c, config) == c->direction;
	double		stretch = fabs(log((double) c->tried / c->center));
	double		tie = LEAST_GAIN;

	/*
	 * As the signals would have it: a rough confirmation is enough.  Far down
	 * in a collapse throughput is as bad at half the limit.
	 */
	if (agreed && c->direction > 0 && difference > 0.25 * stretch)
		return +1;
	if (agreed && c->direction < 0)
	{
		if (difference > (is_small(c, config, c->center) ? -0.01 :
						  -fmax(0.05, 1.5 * error)))
			return +1;
		if (!last && difference > -0.2)
			return 0;
	}
	if (difference > LEAST_GAIN && difference > 2.5 * error)
		return +1;
	if (difference < 0 && difference < -1.5 * error)
		return -1;
	/* cores are left over, and it may be a little better */
	if (c->direction > 0 && c->signals.idle > 0.05 &&
		c->signals.blocked < 0.2 * c->signals.holding)
		tie = 0;

	/* not likely to come to anything */
	if (!agreed && tie > 0 && c->pairs >= 2 && difference < LEAST_GAIN / 2)
		return -1;
	if (!last)
		return 0;
	if (difference > tie && tie == 0)
		return +1;
	return difference > LEAST_GAIN && difference > 1.3 * error ? +1 : -1;
}

/* A segment beside the center is over. */
static void
probe_measured(rsl_limit_controller *c, const rsl_limit_config *config,
			   double rate, double count)
{
	double		poisson = 1 / fmax(count, 1) + 1 / fmax(c->base_count, 1);
	double		error = sqrt(fmax(2 * c->variance, poisson));
	int			verdict;

	c->probe = rate;
	c->base_count = fmin(c->base_count, count);
	verdict = judge(c, config, (c->sum + rate - c->base) / (c->pairs + 1),
					error / sqrt(c->pairs + 1), false);
	if (verdict > 0)
	{
		c->base_count = count;
		accept(c, config);
	}
	else if (verdict < 0)
		reject(c, config);
	else
		begin_segment(c, c->center);	/* compare again */
}

/* A segment at the center that completes a pair with the probe before it. */
static void
pair_measured(rsl_limit_controller *c, const rsl_limit_config *config,
			  double rate, double count)
{
	double		poisson = 1.5 / fmax(fmin(count, c->base_count), 1);
	double		error = sqrt(fmax(1.5 * c->variance, poisson));
	int			verdict;

	c->sum += c->probe - (c->base + rate) / 2;
	c->pairs++;
	c->base = rate;
	c->base_count = count;

	verdict = judge(c, config, c->sum / c->pairs, error / sqrt(c->pairs),
					c->pairs >= MAX_PAIRS);
	if (verdict > 0)
		accept(c, config);
	else if (verdict < 0)
		reject(c, config);
	else
		begin_segment(c, c->tried);
}

/* Is the rate at the center another than before? */
static bool
has_changed(rsl_limit_controller *c, double rate)
{
	double		difference = rate - c->base;

	if (fabs(difference) > fmax(CHANGED, 4 * sqrt(c->variance)))
		return true;
	c->variance += 0.1 * (difference * difference / 2 - c->variance);
	return false;
}

/* Too few transactions end for a comparison: the signals decide alone. */
static void
go_by_signals(rsl_limit_controller *c, const rsl_limit_config *config,
			  bool reached)
{
	double		to = c->center;

	c->reason = RSL_LIMIT_TOO_FEW;
	c->have_base = false;
	c->comparing = false;
	if (reached && (opinion(c, config) > 0 ||
					(c->stalled > 1 && c->center < 8 * config->cores)))
		to = fmax(floor(to * FIRST_STEP), to + 1);
	else if (c->signals.on_cpu > 8 * config->cores)
		to = floor(fmin(to, c->signals.running) / MIN_STEP);
	c->center = (int) clamp(to, config->floor, config->ceiling);
	begin_segment(c, c->center);
}

static void
center_measured(rsl_limit_controller *c, const rsl_limit_config *config,
				double rate, double count, bool reached)
{
	bool		changed = c->have_base && has_changed(c, rate);

	if (!reached && !is_overloaded(c, config))
	{
		begin_search(c);
		c->have_base = false;
		c->reason = RSL_LIMIT_UNUSED;
		begin_segment(c, c->center);
		return;
	}

	if (changed || !c->have_base)
		begin_search(c);
	else if (c->comparing)
	{
		pair_measured(c, config, rate, count);
		return;
	}

	c->base = c->hold > 0 && c->have_base ?
		c->base + 0.3 * (rate - c->base) : rate;
	c->base_count = count;
	c->have_base = true;
	if (c->hold > 0)
		begin_segment(c, c->center);
	else
		begin_trial(c, config, reached);
}

/* While it holds still: is there a reason not to? */
static void
pass_time(rsl_limit_controller *c, const rsl_limit_config *config, double dt)
{
	if (c->hold <= 0)
		return;
	c->hold -= dt;
	if (opinion(c, config) == c->held_opinion)
		c->other_opinion = 0;
	else if (++c->other_opinion >= 3)
	{
		c->hold = 0;
		c->bold = true;
		c->refuted = 0;
	}
}

static bool
segment_is_over(const rsl_limit_controller *c)
{
	int			enough = c->step >= BOLD_STEP || !c->have_base ? ENOUGH_BOLD : ENOUGH;

	if (c->seconds >= MAX_SEGMENT)
		return true;
	if (c->samples >= MIN_SAMPLES && c->finished >= MANY)
		return true;
	return c->samples > MIN_SAMPLES && c->finished >= enough &&
		c->seconds >= c->duration;
}

static bool
within(const rsl_limit_config *config, int limit)
{
	return limit >= config->floor && limit <= config->ceiling;
}

/*
 * Take in a sample, and return the limit that is to be in force until the
 * next one.
 */
int
rsl_limit_update(rsl_limit_controller *c, const rsl_limit_config *config,
				 const rsl_limit_sample *sample)
{
	double		dt = (sample->now - c->last_now) / 1e6;
	double		rate;
	bool		reached;

	/* the bounds may have changed */
	if (!within(config, c->center) || !within(config, c->limit) ||
		(c->comparing && !within(config, c->tried)))
		rsl_limit_init(c, config, c->center);

	if (c->last_now == 0 || dt <= 0 || dt > 2)
	{
		c->last_now = sample->now;
		begin_segment(c, c->limit);
		return c->limit;
	}
	c->last_now = sample->now;
	update_signals(c, config, sample);
	pass_time(c, config, dt);
	c->stalled = sample->finished > 0 ? 0 : c->stalled + dt;

	/* the effect of the last change has to be there first */
	if (c->settle > 0)
	{
		c->settle -= dt;
		if (c->settle > dt / 2)
			return c->limit;
		c->settle = 0;
		return c->limit;
	}
	if (c->drain > 0)
	{
		c->drain = sample->running > c->limit ? c->drain - dt : 0;
		if (c->drain > 0)
			return c->limit;
	}

	c->seconds += dt;
	c->finished += sample->finished;
	c->samples++;
	c->reached += sample->reached;
	if (!segment_is_over(c))
		return c->limit;

	reached = 2 * c->reached >= c->samples;
	if (c->finished > 0)
		c->duration = c->signals.running * c->seconds / c->finished;
	if (c->finished < TOO_FEW)
	{
		if (reached || is_overloaded(c, config))
			go_by_signals(c, config, reached);
		else
			center_measured(c, config, 0, 0, false);
		return c->limit;
	}

	rate = log(c->finished / c->seconds);
	if (c->probing)
		probe_measured(c, config, rate, c->finished);
	else
		center_measured(c, config, rate, c->finished, reached);
	return c->limit;
}

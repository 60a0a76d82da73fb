/*-------------------------------------------------------------------------
 *
 * limit_controller.h
 *		Finds how many transactions should run at once.
 *
 * Part of the cores: plain C, no backend headers, time passed in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_LIMIT_CONTROLLER_H
#define RSL_CORE_LIMIT_CONTROLLER_H

#include <stdbool.h>
#include <stdint.h>

/* Why the limit is what it is. */
typedef enum rsl_limit_reason
{
	RSL_LIMIT_STARTING,			/* nothing measured yet */
	RSL_LIMIT_UNUSED,			/* it is not reached: nothing to find out */
	RSL_LIMIT_MEASURING,		/* throughput at the limit */
	RSL_LIMIT_TRYING_MORE,		/* throughput at a higher one, for a moment */
	RSL_LIMIT_TRYING_LESS,		/* ... at a lower one */
	RSL_LIMIT_HOLDING,			/* neither more nor less was better */
	RSL_LIMIT_TOO_FEW,			/* too few end to compare: signals decide */
	RSL_LIMIT_NOT_ENFORCED		/* for the caller's use */
} rsl_limit_reason;

typedef struct rsl_limit_config
{
	int			floor;			/* 1 .. ceiling */
	int			ceiling;
	int			cores;
} rsl_limit_config;

/* What was seen since the last sample, and now.  Shares: 0 .. 1. */
typedef struct rsl_limit_sample
{
	int64_t		now;			/* microseconds, monotonic */
	double		finished;		/* transactions that ended */
	int			running;		/* slots that are taken */
	bool		reached;		/* somebody waits, or has waited */
	int			holding;		/* sessions whose transaction runs ... */
	int			on_cpu;			/* ... and waits for nothing */
	int			blocked;		/* ... and waits for a lock of any kind */
	double		idle;			/* of the cores' time; -1 = not known */
} rsl_limit_sample;

/* moving averages of the signals */
typedef struct rsl_limit_signals
{
	bool		known;
	double		holding;
	double		on_cpu;
	double		blocked;
	double		idle;
	double		running;
} rsl_limit_signals;

typedef struct rsl_limit_controller
{
	int			limit;			/* in force */
	int			center;			/* the best known; limit differs in a trial */
	rsl_limit_reason reason;
	rsl_limit_signals signals;
	int64_t		last_now;

	/* the segment that is being measured */
	bool		probing;		/* at another limit than the center */
	double		settle;			/* seconds left until it counts */
	double		drain;			/* ... while more run than the limit allows */
	double		seconds;
	double		finished;
	int			samples;
	int			reached;		/* samples in which the limit was reached */

	/* the trial: segments at the center and beside it, in turn */
	int			direction;		/* +1 = more, -1 = less */
	int			tried;			/* the limit that is compared with the center */
	bool		comparing;		/* ... now */
	double		step;			/* factor, > 1 */
	bool		have_base;
	double		base;			/* log of the rate at the center, latest */
	double		base_count;
	double		probe;			/* log of the rate at the probe, latest */
	double		sum;			/* of differences, logarithmic */
	int			pairs;

	/* the search */
	int			rejected;		/* bit 0 = less, bit 1 = more is no better */
	int			gains;			/* accepted in a row */
	bool		bold;			/* nothing found yet: take wide steps */
	int			refuted;		/* what the signals said, and was wrong */
	int			skipped;		/* directions not tried, against the signals */
	double		hold;			/* seconds to hold still yet */
	double		patience;		/* the next time to hold still, seconds */
	int			held_opinion;	/* what the signals said when it began */
	int			other_opinion;	/* samples in a row that say otherwise */
	double		variance;		/* of the log of a segment's rate */
	double		duration;		/* of a transaction, seconds, by Little's law */
	double		stalled;		/* seconds in which nothing ended */
} rsl_limit_controller;

extern int	rsl_limit_start(const rsl_limit_config *config);
extern void rsl_limit_init(rsl_limit_controller *c,
						   const rsl_limit_config *config, int limit);
extern int	rsl_limit_update(rsl_limit_controller *c,
							 const rsl_limit_config *config,
							 const rsl_limit_sample *sample);
extern const char *rsl_limit_reason_name(rsl_limit_reason reason);

#endif							/* RSL_CORE_LIMIT_CONTROLLER_H */

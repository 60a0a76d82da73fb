/*-------------------------------------------------------------------------
 *
 * arrival_estimate.h
 *		What a limit would have done to the arrivals of a history.
 *
 * Two answers to two questions:
 *
 * "As observed" is what observe mode counts: everybody runs; who finds as
 * many running as the limit allows would have queued, and who finds the
 * queue's length more than that would have been refused.
 *
 * "As enforced" lets what is refused or queued make room for others, as it
 * does when the limit is enforced.  It is computed from a model, since nothing
 * of that has happened: sessions that come back after the time that they took
 * between two transactions, durations of a transaction that vary like an
 * exponential distribution's (Engset's loss system with a queue).
 *
 * Part of the cores: plain C, no backend headers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_ARRIVAL_ESTIMATE_H
#define RSL_CORE_ARRIVAL_ESTIMATE_H

#include "core/arrival_history.h"

/* Which arrivals does the limit concern, and what is it?  -1 = none. */
typedef struct rsl_history_rule
{
	bool		statements[256];	/* identities, by number */
	bool		connections[256];
	uint32_t	commands;		/* bits; 0 = any */
	int			query;			/* number; -1 = any */
	int32_t		max_running;
	int32_t		max_waiting;
	int64_t		max_wait_us;
	double		max_rate;		/* per second */
	int32_t		max_connections;
	double		max_connection_rate;	/* per second */
	int64_t		max_connection_wait_us;
} rsl_history_rule;

typedef struct rsl_history_answer
{
	int64_t		from_us;		/* what the history covers of the interval */
	int64_t		until_us;
	int			samples;		/* snapshots */

	/* transactions, as observed */
	double		arrivals;
	double		queued;
	double		refused;		/* by the rate too */
	double		mean_running;
	uint32_t	max_running;	/* at least; seen at once */

	/* transactions, as enforced: of all arrivals */
	double		enforced_refused;	/* queue full, timed out, rate */
	double		enforced_queued;
	double		enforced_wait_us;	/* sum over those that queued */

	/* connections */
	double		connects;
	double		refused_connects;
	double		mean_sessions;
	uint32_t	max_sessions;

	/* arrivals that nobody knows anything about */
	double		unattributed;
} rsl_history_answer;

extern void rsl_history_estimate(const rsl_history *history,
								 const rsl_history_rule *rule,
								 int64_t from_us, int64_t until_us,
								 rsl_history_answer *answer);

#endif							/* RSL_CORE_ARRIVAL_ESTIMATE_H */

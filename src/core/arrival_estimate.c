/*-------------------------------------------------------------------------
 *
 * arrival_estimate.c
 *		What a limit would have done to the arrivals of a history.
 *
 * What did an arrival find running?  Nobody has asked it.  But whoever is
 * seen running in a picture of n is one that runs beside n - 1 others, and
 * seen over all pictures that is also what arrivals find: exactly so for
 * arrivals at random (Poisson) as well as for a fixed number of sessions that
 * think and come back (Sevcik and Mitrani's arrival theorem, 1981), and for
 * any mixture of durations.  So each picture counts for n arrivals that found
 * n - 1.  The history is taken in blocks of some dozens of these witnesses,
 * and each block's arrivals divided as its witnesses are.
 *
 * That presumes that a block is longer than its transactions.  Where these
 * take seconds it is the other way round: who came is still there at the end
 * of the tick.  There each arrival counts with the tick in which it came: of
 * c that came, when n run afterwards, one found n - c, the next n - c + 1 ...
 * So it is with connections, too.
 *
 *-------------------------------------------------------------------------
 */
#include "core/arrival_estimate.h"

#include <math.h>
#include <string.h>

/* a block has at least so many witnesses, and so many pictures, */
#define FEW_WITNESSES		50
#define FEW_PICTURES		40

/* ... but not more of these */
#define BLOCK_PICTURES		200

/* transactions that last so long are looked at one by one */
#define LONG_US				1000000.0

/* Some snapshots in a row. */
typedef struct block
{
	double		span_us;
	double		ticks;
	double		arrivals;
	double		exempt;			/* other arrivals, that are never refused */
	double		refused_by_rate;
	double		running_ticks;	/* sum of those that ran */
	double		running_us;		/* the same, in time */
	double		sessions_us;
	uint32_t	max_running;

	/* what became of the arrivals, if each is looked at in its tick */
	double		long_queued;
	double		long_refused;

	/* the pictures */
	long		witnesses;
	int			npictures;
	struct
	{
		double		weight;		/* in ticks */
		uint32_t	running;
		uint32_t	refusable;
	}			pictures[BLOCK_PICTURES];
} block;

/* All groups of one snapshot that the rule concerns, added up. */
typedef struct picture
{
	double		arrivals;
	double		exempt;
	double		nobodys;		/* arrivals of the whole snapshot, of others */
	double		running_ticks;
	uint32_t	running;
	uint32_t	refusable;		/* of these */
	uint32_t	then;
	uint32_t	arrived;
	uint32_t	most;
} picture;

static bool
concerns(const rsl_history_rule *rule, const rsl_history_record *record)
{
	if (!rule->statements[record->identity] ||
		record->kind == RSL_HISTORY_CONNECTIONS)
		return false;
	if (rule->query >= 0 && (record->query != rule->query ||
							 record->query == RSL_HISTORY_NO_QUERY))
		return false;
	return rule->commands == 0 ||
		(record->kind < 32 && (rule->commands & (1u << record->kind)) != 0);
}

static void
look_at(const rsl_history *history, const rsl_history_rule *rule,
		const rsl_history_record *records, int n,
		picture *statements, picture *connections)
{
	memset(statements, 0, sizeof(*statements));
	memset(connections, 0, sizeof(*connections));
	for (int i = 0; i < n; i++)
	{
		const rsl_history_record *record = &records[i];
		const rsl_history_identity *identity;
		picture    *to = NULL;
		bool		exempt;

		if (record->identity == RSL_HISTORY_OTHER &&
			record->kind != RSL_HISTORY_CONNECTIONS)
			statements->nobodys += record->arrivals;

		if (record->kind == RSL_HISTORY_CONNECTIONS)
		{
			if (rule->connections[record->identity])
				to = connections;
		}
		else if (concerns(rule, record))
			to = statements;
		if (to == NULL)
			continue;

		identity = rsl_history_get_identity(history, record->identity);
		exempt = identity != NULL && identity->exempt;
		*(exempt ? &to->exempt : &to->arrivals) += record->arrivals;
		to->running_ticks += record->running_ticks;
		to->running += record->running;
		to->refusable += exempt ? 0 : record->running;
		to->then += record->then;
		to->arrived += record->arrived;

		if (record->most > to->most)
			to->most = record->most;
	}
	if (statements->running > statements->most)
		statements->most = statements->running;
	if (connections->running > connections->most)
		connections->most = connections->running;
}

/* The numbers of others at which one queues, and at which it is refused. */
static double
queue_from(const rsl_history_rule *rule)
{
	return rule->max_running < 0 ? HUGE_VAL : rule->max_running;
}

static double
refuse_from(const rsl_history_rule *rule)
{
	return rule->max_waiting < 0 ? HUGE_VAL :
		queue_from(rule) + rule->max_waiting;
}

/*
 * Of "arrived" that came one after the other, with "then" running after the
 * last: which share found at least "limit" others?
 */
static double
share_above(uint32_t then, uint32_t arrived, double limit)
{
	double		above;

	if (arrived > then)
		arrived = then;
	if (arrived == 0)
		return then >= limit ? 1 : 0;
	above = then - limit;
	return above <= 0 ? 0 : above >= arrived ? 1 : above / arrived;
}

/*
 * The model of a limit that is enforced.
 */

/* How a block would be served, as shares of its arrivals. */
typedef struct service
{
	double		refused;		/* or left the queue unserved */
	double		queued;
	double		left;			/* of these: unserved */
	double		wait;			/* sum, in seconds */
} service;

/*
 * The probability of less than k events where x are expected (Poisson), for a
 * k that need not be whole.
 */
static double
fewer_than(double k, double x)
{
	int			whole = (int) k;
	double		sum = 0;

	if (x <= 0)
		return k > 0 ? 1 : 0;
	/* far off, by the normal distribution */
	if (whole > 100)
		return 0.5 * erfc((x - k + 0.5) / sqrt(2 * x));
	for (int i = 0; i < whole; i++)
		sum += exp(-x + i * log(x) - lgamma(i + 1.0));
	return sum + (k - whole) * exp(-x + whole * log(x) - lgamma(whole + 1.0));
}

/*
 * A system of "sessions" that each come "nu" times per second while they do
 * not run or wait, and run for "duration" seconds.  Of those who queue the
 * share "leaving" is assumed to leave unserved, "waiting" seconds after they
 * came in the mean.
 */
static void
serve(const rsl_history_rule *rule, double sessions, double nu,
	  double duration, double leaving, double waiting, service *result)
{
	double		limit = queue_from(rule);
	double		room = refuse_from(rule);
	double		max_wait = rule->max_wait_us / 1e6;
	double		ends = max_wait * limit / duration; /* runs, in this time */
	double		p = 1;			/* of the state n, not normalized */
	double		sum = 0;		/* of arrivals in the states */
	service		sums = {0};

	for (int n = 0; n < sessions; n++)
	{
		double		arrivals = p * (sessions - n);
		double		leave = fmin(n + 1, limit) / duration;

		sum += arrivals;
		if (n >= room)
		{
			sums.refused += arrivals;
			break;
		}
		if (n >= limit)
		{
			/* of those ahead some will leave, too: they came earlier */
			double		ahead = 1 + (n - limit) * (1 - leaving);
			double		late = fewer_than(ahead, ends);

			sums.queued += arrivals;
			sums.left += arrivals * late;
			sums.wait += arrivals * max_wait * late;
			if (limit > 0)
				sums.wait += arrivals * ahead * duration / limit *
					(1 - fewer_than(ahead + 1, ends));
			leave += leaving * (n + 1 - limit) / fmax(waiting, 1e-6);
		}
		p *= (sessions - n) * nu / leave;
		if (p > 1e200 || sum > 1e200)
		{
			p /= 1e200;
			sum /= 1e200;
			sums.refused /= 1e200;
			sums.queued /= 1e200;
			sums.left /= 1e200;
			sums.wait /= 1e200;
		}
	}
	result->refused = (sums.refused + sums.left) / sum;
	result->queued = sums.queued / sum;
	result->left = sums.left / sum;
	result->wait = sums.wait / sum;
}

/* The same, with the share that really leaves: each depends on the other. */
static void
enforce(const rsl_history_rule *rule, double sessions, double nu,
		double duration, service *result)
{
	double		leaving = 0;
	double		waiting = rule->max_wait_us / 1e6;

	for (int i = 0; i < 20; i++)
	{
		double		next;

		serve(rule, sessions, nu, duration, leaving, waiting, result);
		if (result->queued <= 0)
			break;
		next = result->left / result->queued;
		waiting = result->wait / result->queued;
		if (fabs(next - leaving) < 0.002)
			break;
		leaving += 0.5 * (next - leaving);
	}
}

/*
 * Which shares of those that came found the limit reached, the queue full?
 *
 * How many ran in the mean is known exactly, while a few pictures may show
 * more, or less, by chance.  So each picture's number is corrected by the
 * same factor, but not beyond what was seen.
 */
static void
ask_witnesses(const rsl_history_rule *rule, const block *b,
			  double *queued, double *refused)
{
	double		weights = 0;
	double		running = 0;
	double		witnesses = 0;
	double		factor;

	*queued = *refused = 0;
	for (int i = 0; i < b->npictures; i++)
	{
		weights += b->pictures[i].weight;
		running += b->pictures[i].weight * b->pictures[i].running;
		witnesses += b->pictures[i].weight * b->pictures[i].refusable;
	}
	if (witnesses <= 0)
	{
		/* too short to be seen: they found nobody */
		*refused = refuse_from(rule) <= 0 ? 1 : 0;
		*queued = *refused == 0 && queue_from(rule) <= 0 ? 1 : 0;
		return;
	}

	factor = b->running_ticks / b->ticks / (running / weights);
	factor = fmax(0.5, fmin(factor, 2));
	for (int i = 0; i < b->npictures; i++)
	{
		double		others = fmin(factor * b->pictures[i].running,
								  b->max_running) - 1;
		double		share = b->pictures[i].weight *
			b->pictures[i].refusable / witnesses;
		double		above = fmax(0, fmin(others - queue_from(rule) + 1, 1));
		double		over = fmax(0, fmin(others - refuse_from(rule) + 1, 1));

		*refused += share * over;
		*queued += share * (above - over);
	}
}

/* What the arrivals of a block found, as observed. */
static void
observe_block(const rsl_history_rule *rule, block *b,
			  rsl_history_answer *answer)
{
	double		all = b->arrivals + b->exempt;
	double		queued;
	double		refused;

	if (b->arrivals > 0)
	{
		if (b->running_us >= LONG_US * all)
		{
			queued = b->long_queued / b->arrivals;
			refused = b->long_refused / b->arrivals;
		}
		else
			ask_witnesses(rule, b, &queued, &refused);
		answer->queued += (b->arrivals - b->refused_by_rate) * queued;
		answer->refused += (b->arrivals - b->refused_by_rate) * refused +
			b->refused_by_rate;
	}
	memset(b, 0, sizeof(*b));
}

/* What would have become of them, as enforced. */
static void
enforce_block(const rsl_history_rule *rule, block *b,
			  rsl_history_answer *answer)
{
	double		all = b->arrivals + b->exempt;
	double		passed = b->arrivals - b->refused_by_rate;

	answer->enforced_refused += b->refused_by_rate;
	if (rule->max_running >= 0 && passed > 0)
	{
		double		running = b->running_us / b->span_us;
		double		sessions = fmax(b->sessions_us / b->span_us, b->max_running);
		double		idle;
		service		model;

		/* who is never idle comes back at once, but not in no time */
		sessions = fmax(ceil(sessions), 1);
		idle = fmax(sessions - running, 0.01 * sessions);
		enforce(rule, sessions, all / (b->span_us / 1e6) / idle,
				fmax(b->running_us / all, 1) / 1e6, &model);
		answer->enforced_refused += passed * model.refused;
		answer->enforced_queued += passed * model.queued;
		answer->enforced_wait_us += passed * model.wait * 1e6;
	}
	memset(b, 0, sizeof(*b));
}

/* Add a snapshot, or the part of it that lies in the interval. */
static void
add_to_block(const rsl_history_rule *rule, block *b,
			 const rsl_history_snapshot *snapshot, double part,
			 const picture *statements, const picture *connections,
			 double refused_by_rate)
{
	double		span_us = part * (snapshot->end_us - snapshot->begin_us);
	double		tick_us = span_us / (part * snapshot->ticks);
	double		arrivals = part * statements->arrivals;
	double		above = share_above(statements->then, statements->arrived,
									queue_from(rule));
	double		over = share_above(statements->then, statements->arrived,
								   refuse_from(rule));

	b->span_us += span_us;
	b->ticks += part * snapshot->ticks;
	b->arrivals += arrivals;
	b->exempt += part * statements->exempt;
	b->refused_by_rate += refused_by_rate;
	b->running_ticks += part * statements->running_ticks;
	b->running_us += part * statements->running_ticks * tick_us;
	b->sessions_us += part * connections->running_ticks * tick_us;
	if (statements->most > b->max_running)
		b->max_running = statements->most;

	b->long_refused += arrivals * over;
	b->long_queued += arrivals * (above - over);

	b->witnesses += statements->refusable;
	b->pictures[b->npictures].weight = part * snapshot->weight;
	b->pictures[b->npictures].running = statements->running;
	b->pictures[b->npictures++].refusable = statements->refusable;
}

/* How many may come at once under a rate: a second's worth, at least one. */
static double
burst_of(double rate)
{
	return fmax(rate, 1);
}

/* How many arrivals exceed a rate?  A bucket that holds "burst". */
static double
above_rate(double rate, double burst, double *tokens, double arrivals,
		   double seconds)
{
	double		taken;

	if (rate < 0)
		return 0;
	*tokens = fmin(*tokens, burst) + rate * seconds;
	taken = fmin(floor(*tokens), arrivals);
	*tokens -= taken;
	return arrivals - taken;
}

/*
 * Look at the interval, of which the history may cover only a part.
 */
void
rsl_history_estimate(const rsl_history *history, const rsl_history_rule *rule,
					 int64_t from_us, int64_t until_us,
					 rsl_history_answer *answer)
{
	const rsl_history_record *records = rsl_history_records(history);
	double		span_us = 0;
	double		running_us = 0;
	double		sessions_us = 0;
	double		tokens = burst_of(rule->max_rate);
	double		connection_burst = burst_of(rule->max_connection_rate) +
		fmax(rule->max_connection_rate, 0) * rule->max_connection_wait_us / 1e6;
	double		connection_tokens = connection_burst;
	block		observed;
	block		enforced;

	memset(answer, 0, sizeof(*answer));
	memset(&observed, 0, sizeof(observed));
	memset(&enforced, 0, sizeof(enforced));
	for (uint32_t i = 0; i < history->nsnapshots; i++)
	{
		const rsl_history_snapshot *snapshot = &rsl_history_snapshots(history)[i];
		int64_t		begin = snapshot->begin_us > from_us ? snapshot->begin_us : from_us;
		int64_t		end = snapshot->end_us < until_us ? snapshot->end_us : until_us;
		double		length = (double) (snapshot->end_us - snapshot->begin_us);
		double		part;		/* of the snapshot that lies within */
		double		by_rate;
		double		refused;
		picture		statements;
		picture		connections;

		look_at(history, rule, records, snapshot->nrecords, &statements,
				&connections);
		records += snapshot->nrecords;
		if (end <= begin || snapshot->ticks == 0)
			continue;
		part = (end - begin) / length;

		if (answer->samples++ == 0)
			answer->from_us = begin;
		answer->until_us = end;
		answer->unattributed += part * (snapshot->unattributed + statements.nobodys);
		answer->arrivals += part * (statements.arrivals + statements.exempt);
		answer->connects += part * (connections.arrivals + connections.exempt);
		refused = rule->max_connections < 0 ? 0 :
			part * connections.arrivals *
			share_above(connections.then, connections.arrived,
						rule->max_connections);
		/* who is refused by a full bulkhead uses up no rate */
		refused += above_rate(rule->max_connection_rate, connection_burst,
							  &connection_tokens,
							  part * connections.arrivals - refused,
							  (end - begin) / 1e6);
		answer->refused_connects += refused;

		span_us += end - begin;
		running_us += statements.running_ticks / snapshot->ticks * (end - begin);
		sessions_us += connections.running_ticks / snapshot->ticks * (end - begin);
		if (statements.most > answer->max_running)
			answer->max_running = statements.most;
		if (connections.most > answer->max_sessions)
			answer->max_sessions = connections.most;

		by_rate = above_rate(rule->max_rate, burst_of(rule->max_rate), &tokens,
							 part * statements.arrivals, (end - begin) / 1e6);
		add_to_block(rule, &observed, snapshot, part, &statements, &connections,
					 by_rate);
		add_to_block(rule, &enforced, snapshot, part, &statements, &connections,
					 by_rate);
		if (observed.npictures == BLOCK_PICTURES ||
			(observed.npictures >= FEW_PICTURES &&
			 observed.witnesses >= FEW_WITNESSES))
			observe_block(rule, &observed, answer);
		if (enforced.npictures == BLOCK_PICTURES ||
			enforced.witnesses >= FEW_WITNESSES)
			enforce_block(rule, &enforced, answer);
	}
	observe_block(rule, &observed, answer);
	enforce_block(rule, &enforced, answer);
	if (span_us > 0)
	{
		answer->mean_running = running_us / span_us;
		answer->mean_sessions = sessions_us / span_us;
	}
}

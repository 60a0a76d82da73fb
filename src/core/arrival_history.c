/*-------------------------------------------------------------------------
 *
 * arrival_history.c
 *		What has run lately, and how much of it arrived, in a block of memory
 *		of a fixed size.
 *
 * Snapshots lie in the order of time, and so do their records, without gaps:
 * a merge moves up what is behind it.  That is some kilobytes ten times a
 * second, and makes everything else simple.
 *
 *-------------------------------------------------------------------------
 */
#include "core/arrival_history.h"

#include <string.h>

/* an entry of a dictionary is not given to another for so many ticks */
#define KEEP_LOOKS		100

/* what a moment counts in which nothing ran, against one transaction */
#define WEIGHT_OF_NOTHING	0.01

typedef struct identity_entry
{
	rsl_history_identity identity;
	uint32_t	used;			/* when it was last asked for; 0 = free */
} identity_entry;

typedef struct query_entry
{
	uint64_t	query_id;		/* 0 = free */
	uint32_t	used;
	uint32_t	pad;
} query_entry;

static identity_entry *
identities(const rsl_history *history)
{
	return (identity_entry *) ((char *) history + history->identities_at);
}

static query_entry *
queries(const rsl_history *history)
{
	return (query_entry *) ((char *) history + history->queries_at);
}

static rsl_history_snapshot *
snapshots(rsl_history *history)
{
	return (rsl_history_snapshot *) ((char *) history + history->snapshots_at);
}

static rsl_history_record *
records(rsl_history *history)
{
	return (rsl_history_record *) ((char *) history + history->records_at);
}

static uint32_t
clamp(size_t value, uint32_t low, uint32_t high)
{
	return value < low ? low : value > high ? high : (uint32_t) value;
}

static uint32_t
align(size_t offset)
{
	return (uint32_t) ((offset + 7) & ~(size_t) 7);
}

/*
 * Lay out a block of at least RSL_HISTORY_MIN_SIZE bytes: a sixth for
 * identities, some queries, and snapshots with three records each, which may
 * as well be fewer snapshots with more.
 */
void
rsl_history_init(rsl_history *history, size_t size)
{
	size_t		rest;

	memset(history, 0, size);
	history->size = (uint32_t) size;
	history->random = 2463534242u;
	history->max_identities = clamp(size / 6 / sizeof(identity_entry), 12,
									RSL_HISTORY_OTHER);
	history->max_queries = clamp(size / 40 / sizeof(query_entry), 8, 255);
	history->identities_at = align(sizeof(rsl_history));
	history->queries_at = align(history->identities_at +
								history->max_identities * sizeof(identity_entry));
	history->snapshots_at = align(history->queries_at +
								  history->max_queries * sizeof(query_entry));
	rest = size - history->snapshots_at - 8;
	history->max_snapshots = (uint32_t)
		(rest / (sizeof(rsl_history_snapshot) + 3 * sizeof(rsl_history_record)));
	history->records_at = align(history->snapshots_at +
								history->max_snapshots * sizeof(rsl_history_snapshot));
	history->max_records = (uint32_t)
		((size - history->records_at) / sizeof(rsl_history_record));
}

/* 0 <= result < 1 */
static double
random_share(rsl_history *history)
{
	/* Marsaglia's xorshift */
	history->random ^= history->random << 13;
	history->random ^= history->random >> 17;
	history->random ^= history->random << 5;
	return history->random / 4294967296.0;
}

static void
add_saturated(uint32_t *sum, uint32_t n)
{
	*sum = *sum > UINT32_MAX - n ? UINT32_MAX : *sum + n;
}

static uint16_t
min_u16(uint32_t n)
{
	return n > UINT16_MAX ? UINT16_MAX : (uint16_t) n;
}

static bool
same_group(const rsl_history_record *a, const rsl_history_record *b)
{
	return a->identity == b->identity && a->kind == b->kind &&
		a->query == b->query;
}

/*
 * Dictionaries.  An entry that has not been asked for lately is given to a
 * newcomer; what the records say about the old one is then about others.
 */

static bool
may_be_reused(const rsl_history *history, uint32_t used)
{
	return history->looks + 1 - used > KEEP_LOOKS;
}

/*
 * The number of an identity, which it keeps for as long as it is asked for in
 * each tick, and somewhat longer; RSL_HISTORY_OTHER if there is no room.
 */
int
rsl_history_find_identity(rsl_history *history,
						  const rsl_history_identity *identity)
{
	identity_entry *entries = identities(history);
	int			oldest = -1;

	for (uint32_t i = 0; i < history->max_identities; i++)
	{
		if (entries[i].used != 0 &&
			memcmp(&entries[i].identity, identity, sizeof(*identity)) == 0)
		{
			entries[i].used = history->looks + 1;
			return (int) i;
		}
		if (oldest < 0 || entries[i].used < entries[oldest].used)
			oldest = (int) i;
	}

	if (entries[oldest].used != 0)
	{
		rsl_history_record *all = records(history);

		if (!may_be_reused(history, entries[oldest].used))
		{
			add_saturated(&history->overflowed, 1);
			return RSL_HISTORY_OTHER;
		}
		for (uint32_t r = 0; r < history->nrecords; r++)
		{
			if (all[r].identity == oldest)
				all[r].identity = RSL_HISTORY_OTHER;
		}
	}
	entries[oldest].identity = *identity;
	entries[oldest].used = history->looks + 1;
	return oldest;
}

/* A number that was found in an earlier tick is still in use. */
void
rsl_history_use_identity(rsl_history *history, int number)
{
	if (number != RSL_HISTORY_OTHER)
		identities(history)[number].used = history->looks + 1;
}

/* NULL if nobody has this number. */
const rsl_history_identity *
rsl_history_get_identity(const rsl_history *history, int number)
{
	const identity_entry *entries = identities(history);

	if (number < 0 || (uint32_t) number >= history->max_identities ||
		entries[number].used == 0)
		return NULL;
	return &entries[number].identity;
}

/* The number of a query; RSL_HISTORY_NO_QUERY if it has none. */
int
rsl_history_known_query(const rsl_history *history, uint64_t query_id)
{
	const query_entry *entries = queries(history);

	for (uint32_t i = 1; i < history->max_queries && query_id != 0; i++)
	{
		if (entries[i].query_id == query_id)
			return (int) i;
	}
	return RSL_HISTORY_NO_QUERY;
}

/* The same, giving it one if there is room. */
int
rsl_history_find_query(rsl_history *history, uint64_t query_id)
{
	query_entry *entries = queries(history);
	int			number = rsl_history_known_query(history, query_id);
	rsl_history_record *all = records(history);

	if (query_id == 0)
		return RSL_HISTORY_NO_QUERY;
	if (number == RSL_HISTORY_NO_QUERY)
	{
		int			oldest = 1;

		for (uint32_t i = 2; i < history->max_queries; i++)
		{
			if (entries[i].used < entries[oldest].used)
				oldest = (int) i;
		}
		if (entries[oldest].used != 0 &&
			!may_be_reused(history, entries[oldest].used))
			return RSL_HISTORY_NO_QUERY;
		for (uint32_t r = 0; r < history->nrecords; r++)
		{
			if (all[r].query == oldest)
				all[r].query = RSL_HISTORY_NO_QUERY;
		}
		entries[oldest].query_id = query_id;
		number = oldest;
	}
	entries[number].used = history->looks + 1;
	return number;
}

/*
 * Groups.
 */

/*
 * Add up two groups of the same snapshot.  How many there were at most, of
 * both together, is not known: at least this many.
 */
static void
add_group(rsl_history_record *to, const rsl_history_record *from)
{
	uint16_t	most = to->most > from->most ? to->most : from->most;

	to->running = min_u16((uint32_t) to->running + from->running);
	to->then = min_u16((uint32_t) to->then + from->then);
	to->most = most > to->running ? most : to->running;
	to->arrived = (uint8_t) clamp((size_t) to->arrived + from->arrived, 0, 255);
	add_saturated(&to->arrivals, from->arrivals);
	add_saturated(&to->running_ticks, from->running_ticks);
}

/* The next wider group: first the query is forgotten, then the command. */
static void
widen(rsl_history_record *record)
{
	if (record->query != RSL_HISTORY_NO_QUERY)
		record->query = RSL_HISTORY_NO_QUERY;

	else if (record->kind < RSL_HISTORY_ANY_COMMAND)
		record->kind = RSL_HISTORY_ANY_COMMAND;

	else
		record->identity = RSL_HISTORY_OTHER;
}

static bool
is_widest(const rsl_history_record *record)
{
	return record->identity == RSL_HISTORY_OTHER &&
		record->kind >= RSL_HISTORY_ANY_COMMAND &&
		record->query == RSL_HISTORY_NO_QUERY;
}

/* Add up the smallest groups until there are at most so many.  At least 2. */
static int
fold(rsl_history_record *list, int n, int most)
{
	while (n > most)
	{
		int			smallest = -1;
		int			into = -1;

		for (int i = 0; i < n; i++)
		{
			uint64_t	size = (uint64_t) list[i].arrivals + list[i].running_ticks;

			if (!is_widest(&list[i]) &&
				(smallest < 0 ||
				 size < (uint64_t) list[smallest].arrivals +
				 list[smallest].running_ticks))
				smallest = i;
		}
		widen(&list[smallest]);
		for (int i = 0; i < n && into < 0; i++)
		{
			if (i != smallest && same_group(&list[i], &list[smallest]))
				into = i;
		}
		if (into >= 0)
		{
			add_group(&list[into], &list[smallest]);
			list[smallest] = list[--n];
		}
	}
	return n;
}

/* The record of a group in a tick, made if there is none. */
rsl_history_record *
rsl_history_group(rsl_history_tick *tick, int identity, int kind, int query)
{
	rsl_history_record wanted = {.identity = (uint8_t) identity,
	.kind = (uint8_t) kind,.query = (uint8_t) query};

	/* leave room for the widest groups */
	if (tick->nrecords > 0 && same_group(&tick->records[tick->last], &wanted))
		return &tick->records[tick->last];
	for (;;)
	{
		for (int i = 0; i < tick->nrecords; i++)
		{
			if (same_group(&tick->records[i], &wanted))
			{
				tick->last = i;
				return &tick->records[i];
			}
		}
		if (tick->nrecords < RSL_HISTORY_TICK_GROUPS - 2 ||
			(is_widest(&wanted) && tick->nrecords < RSL_HISTORY_TICK_GROUPS))
			break;
		widen(&wanted);
	}
	tick->last = tick->nrecords;
	tick->records[tick->nrecords] = wanted;
	return &tick->records[tick->nrecords++];
}

/*
 * Snapshots.
 */

static uint32_t
running_in(const rsl_history_record *list, int n)
{
	uint32_t	running = 0;

	for (int i = 0; i < n; i++)
	{
		if (list[i].kind != RSL_HISTORY_CONNECTIONS)
			running += list[i].running;
	}
	return running;
}

/*
 * Copy records, the same group only once: two may have become the same when
 * a dictionary's entry was reused.
 */
static int
copy_groups(rsl_history_record *to, const rsl_history_record *from, int n)
{
	int			copied = 0;

	for (int i = 0; i < n; i++)
	{
		int			m = 0;

		while (m < copied && !same_group(&to[m], &from[i]))
			m++;
		if (m < copied)
			add_group(&to[m], &from[i]);
		else
			to[copied++] = from[i];
	}
	return copied;
}

/*
 * Take a later record of the same group, or of an absent one, into an earlier
 * one.  The pictures have been dealt with.
 */
static void
merge_group(rsl_history *history, rsl_history_record *to,
			const rsl_history_record *from)
{
	if (from->arrivals > 0 &&
		random_share(history) * ((double) to->arrivals + from->arrivals) <
		from->arrivals)
	{
		to->then = from->then;
		to->arrived = from->arrived;
	}
	if (from->most > to->most)
		to->most = from->most;
	add_saturated(&to->arrivals, from->arrivals);
	add_saturated(&to->running_ticks, from->running_ticks);
	to->running = min_u16((uint32_t) to->running + from->running);
}

/* Merge snapshot "index" and the one after it. */
static void
merge(rsl_history *history, uint32_t index)
{
	rsl_history_snapshot *a = &snapshots(history)[index];
	rsl_history_snapshot *b = a + 1;
	rsl_history_record *list = records(history);
	rsl_history_record merged[2 * RSL_HISTORY_GROUPS];
	rsl_history_record later[RSL_HISTORY_GROUPS];
	uint32_t	first = 0;
	int			before = a->nrecords + b->nrecords;
	int			n;
	int			nlater;
	double		share_a;
	double		share_b;
	bool		keep_a;

	for (uint32_t i = 0; i < index; i++)
		first += snapshots(history)[i].nrecords;
	list += first;
	n = copy_groups(merged, list, a->nrecords);
	nlater = copy_groups(later, list + a->nrecords, b->nrecords);

	/* whose picture stays? */
	share_a = a->weight * (running_in(merged, n) + WEIGHT_OF_NOTHING);
	share_b = b->weight * (running_in(later, nlater) + WEIGHT_OF_NOTHING);
	share_a = share_a / (share_a + share_b);
	keep_a = random_share(history) < share_a;
	for (int i = 0; !keep_a && i < n; i++)
		merged[i].running = 0;
	for (int i = 0; keep_a && i < nlater; i++)
		later[i].running = 0;

	for (int i = 0; i < nlater; i++)
	{
		int			m = 0;

		while (m < n && !same_group(&merged[m], &later[i]))
			m++;
		if (m < n)
			merge_group(history, &merged[m], &later[i]);
		else
			merged[n++] = later[i];
	}
	n = fold(merged, n, RSL_HISTORY_GROUPS);

	a->weight = (float) (keep_a ? a->weight / share_a :
						 b->weight / (1 - share_a));
	a->end_us = b->end_us;
	a->ticks += b->ticks;
	add_saturated(&a->unattributed, b->unattributed);
	a->nrecords = (uint16_t) n;

	memcpy(list, merged, n * sizeof(merged[0]));
	memmove(list + n, list + before,
			(history->nrecords - first - before) * sizeof(list[0]));
	history->nrecords -= before - n;
	memmove(b, b + 1, (history->nsnapshots - index - 2) * sizeof(*b));
	history->nsnapshots--;
}

static void
drop_oldest(rsl_history *history)
{
	rsl_history_snapshot *first = snapshots(history);
	rsl_history_record *all = records(history);
	int			n = first->nrecords;

	memmove(all, all + n, (history->nrecords - n) * sizeof(all[0]));
	history->nrecords -= n;
	memmove(first, first + 1, (history->nsnapshots - 1) * sizeof(*first));
	history->nsnapshots--;
}

/* Merge the neighbours that are shortest in relation to their age. */
static void
merge_some(rsl_history *history, int64_t now_us)
{
	rsl_history_snapshot *all = snapshots(history);
	uint32_t	best = 0;
	double		least = 0;

	for (uint32_t i = 0; i + 1 < history->nsnapshots; i++)
	{
		double		length = (double) (all[i + 1].end_us - all[i].begin_us);
		double		age = (double) (now_us - all[i].begin_us);
		double		ratio = age > 0 ? length / age : 0;

		if (i == 0 || ratio < least)
		{
			least = ratio;
			best = i;
		}
	}
	merge(history, best);
}

/*
 * Does nothing happen in a tick that did not in the last one either?  Then
 * they can be told in one, without loss.
 */
static bool
goes_on_quietly(rsl_history *history, const rsl_history_tick *tick)
{
	rsl_history_snapshot *last;
	rsl_history_record *list;

	if (history->nsnapshots == 0)
		return false;
	last = &snapshots(history)[history->nsnapshots - 1];
	list = records(history) + history->nrecords - last->nrecords;
	if (last->nrecords != tick->nrecords ||
		(last->unattributed | tick->unattributed) != 0 ||
		last->ticks > UINT32_MAX / 2)
		return false;
	for (int i = 0; i < tick->nrecords; i++)
	{
		const rsl_history_record *record = &tick->records[i];

		if (record->kind != RSL_HISTORY_CONNECTIONS ||
			!same_group(&list[i], record) ||
			list[i].running != record->running ||
			list[i].most != record->most ||
			(list[i].arrivals | record->arrivals) != 0 ||
			list[i].running_ticks > UINT32_MAX / 2)
			return false;
	}
	for (int i = 0; i < tick->nrecords; i++)
		list[i].running_ticks += list[i].running;
	last->ticks++;
	last->weight += 1;
	return true;
}

/*
 * Add a tick.  Of its records "running" and "arrivals" count.  A clock that
 * went back makes what lies in the future worthless.
 */
void
rsl_history_add(rsl_history *history, int64_t begin_us, int64_t end_us,
				rsl_history_tick *tick)
{
	rsl_history_snapshot *snapshot;
	int			n;

	/* numbers in the dictionaries never return to 0 */
	if (++history->looks >= UINT32_MAX - 1)
		rsl_history_init(history, history->size);

	for (int i = 0; i < tick->nrecords; i++)
	{
		rsl_history_record *record = &tick->records[i];

		record->then = record->most = record->running;
		record->running_ticks = record->running;
		record->arrived = (uint8_t) clamp(record->arrivals, 0, 255);
	}
	n = tick->nrecords = fold(tick->records, tick->nrecords, RSL_HISTORY_GROUPS);

	while (history->nsnapshots > 0 &&
		   (snapshots(history)[0].end_us < end_us - RSL_HISTORY_MAX_AGE ||
			snapshots(history)[0].begin_us > begin_us))
		drop_oldest(history);
	if (goes_on_quietly(history, tick))
	{
		snapshots(history)[history->nsnapshots - 1].end_us = end_us;
		return;
	}
	while (history->nsnapshots > 1 &&
		   (history->nsnapshots >= history->max_snapshots ||
			history->nrecords + n > history->max_records))
		merge_some(history, end_us);

	snapshot = &snapshots(history)[history->nsnapshots++];
	memset(snapshot, 0, sizeof(*snapshot));
	snapshot->begin_us = begin_us;
	snapshot->end_us = end_us;
	snapshot->weight = 1;
	snapshot->ticks = 1;
	snapshot->unattributed = tick->unattributed;
	snapshot->nrecords = (uint16_t) n;
	memcpy(records(history) + history->nrecords, tick->records,
		   n * sizeof(tick->records[0]));
	history->nrecords += n;
}

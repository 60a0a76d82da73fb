/*-------------------------------------------------------------------------
 *
 * arrival_history.h
 *		What has run lately, and how much of it arrived, in a block of memory
 *		of a fixed size.
 *
 * Ten times a second somebody looks who runs: so many transactions of each
 * group (who, which command, which query) at this moment, so many that have
 * arrived since the last look.  That is a snapshot.  The block holds a few
 * hundred of them.  When it is full, two neighbours are merged: the pair
 * that is shortest in relation to its age, so that the last seconds are known
 * tick by tick, and what is long ago in steps of a few per cent of its age.
 * Thus it covers any length of time.
 *
 * Sums (arrivals, time spent running) are exact through every merge.  Of who
 * ran at the same moment, which cannot be summed without knowing what will be
 * asked, one of the two pictures stays whole: chosen at random, in proportion
 * to how much ran, with a weight that makes up for the other one.  So any sum
 * of "weight * running * f(picture)" keeps its expected value, whatever groups
 * are looked at later (Horvitz and Thompson, 1952).  For work that takes long
 * compared with a tick, each group also keeps the tick of one of its arrivals.
 *
 * Part of the cores: plain C, no backend headers, time is passed in.  No
 * locks: the caller serializes.  The block has no pointers: a copy of it is
 * as good.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_ARRIVAL_HISTORY_H
#define RSL_CORE_ARRIVAL_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RSL_HISTORY_NAME_LEN	64

/* the groups of a snapshot; what is more is added up */
#define RSL_HISTORY_GROUPS		24

/* the smallest block that is of any use, in bytes */
#define RSL_HISTORY_MIN_SIZE	8192

/* nothing older is kept, in microseconds: a week */
#define RSL_HISTORY_MAX_AGE		(INT64_C(7) * 86400 * 1000000)

/* an identity or a query: not known, because there was no room */
#define RSL_HISTORY_OTHER		255
#define RSL_HISTORY_NO_QUERY	0

/* rsl_history_record.kind: a number of a command, or one of these */
#define RSL_HISTORY_ANY_COMMAND	254 /* not known which */
#define RSL_HISTORY_CONNECTIONS	255 /* sessions, not transactions */

/* Who: all zero where nothing is said, compared as memory. */
typedef struct rsl_history_identity
{
	uint32_t	role;
	uint32_t	database;
	uint8_t		address[18];	/* the caller's representation */
	uint8_t		exempt;			/* never refused, though counted */
	uint8_t		pad;
	char		application_name[RSL_HISTORY_NAME_LEN];
} rsl_history_identity;

typedef struct rsl_history_record
{
	uint8_t		identity;		/* number, or RSL_HISTORY_OTHER */
	uint8_t		kind;
	uint8_t		query;			/* number; RSL_HISTORY_NO_QUERY = other */
	uint8_t		arrived;		/* in the tick of "then"; 255 = or more */
	uint16_t	running;		/* in the picture that was kept */
	uint16_t	then;			/* at the end of a tick with arrivals */
	uint16_t	most;			/* that were seen */
	uint16_t	pad;
	uint32_t	arrivals;
	uint32_t	running_ticks;	/* sum over the ticks */
} rsl_history_record;

typedef struct rsl_history_snapshot
{
	int64_t		begin_us;
	int64_t		end_us;
	float		weight;			/* of the picture, in ticks */
	uint32_t	ticks;
	uint32_t	unattributed;	/* arrivals of nobody knows whom */
	uint16_t	nrecords;
	uint16_t	pad;
} rsl_history_snapshot;

typedef struct rsl_history
{
	uint32_t	size;			/* of the block, in bytes */
	uint32_t	max_identities;
	uint32_t	max_queries;	/* numbers 1 .. max_queries - 1 */
	uint32_t	max_snapshots;
	uint32_t	max_records;
	uint32_t	identities_at;	/* offsets */
	uint32_t	queries_at;
	uint32_t	snapshots_at;
	uint32_t	records_at;
	uint32_t	nsnapshots;
	uint32_t	nrecords;
	uint32_t	random;
	uint32_t	looks;			/* how many ticks have been added */
	uint32_t	overflowed;		/* identities for which there was no room */
} rsl_history;

/* One tick, while it is collected.  Starts as zeroes. */
#define RSL_HISTORY_TICK_GROUPS	128

typedef struct rsl_history_tick
{
	int			nrecords;
	int			last;			/* that was asked for */
	uint32_t	unattributed;
	rsl_history_record records[RSL_HISTORY_TICK_GROUPS];
} rsl_history_tick;

extern void rsl_history_init(rsl_history *history, size_t size);
extern int	rsl_history_find_identity(rsl_history *history,
									  const rsl_history_identity *identity);
extern void rsl_history_use_identity(rsl_history *history, int number);
extern int	rsl_history_find_query(rsl_history *history, uint64_t query_id);
extern int	rsl_history_known_query(const rsl_history *history,
									uint64_t query_id);
extern const rsl_history_identity *rsl_history_get_identity(const rsl_history *history,
															int number);
extern rsl_history_record *rsl_history_group(rsl_history_tick *tick,
											 int identity, int kind, int query);
extern void rsl_history_add(rsl_history *history, int64_t begin_us,
							int64_t end_us, rsl_history_tick *tick);

static inline const rsl_history_snapshot *
rsl_history_snapshots(const rsl_history *history)
{
	return (const rsl_history_snapshot *)
		((const char *) history + history->snapshots_at);
}

/* The records of all snapshots, one after the other. */
static inline const rsl_history_record *
rsl_history_records(const rsl_history *history)
{
	return (const rsl_history_record *)
		((const char *) history + history->records_at);
}

#endif							/* RSL_CORE_ARRIVAL_HISTORY_H */

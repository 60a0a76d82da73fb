/*-------------------------------------------------------------------------
 *
 * xid_clock.h
 *		When was a transaction id the next one?
 *
 * Replication slots, and standbys that send feedback, hold back the horizon of
 * vacuum by a transaction id that nobody knows the time of.  A clock that is
 * told the next id now and then says since when, at least, an id is in the
 * past.  What it remembers gets sparser with age: each level keeps
 * RSL_XID_CLOCK_ENTRIES entries that are RSL_XID_CLOCK_RATIO times as far
 * apart as those of the level below, so that an answer is at most by half too
 * small, over weeks.
 *
 * Ids are 64 bits wide, times are in microseconds.  1 456 bytes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_XID_CLOCK_H
#define RSL_CORE_XID_CLOCK_H

#include <stdint.h>

#define RSL_XID_CLOCK_LEVELS	10
#define RSL_XID_CLOCK_ENTRIES	9
#define RSL_XID_CLOCK_RATIO		4

/* entries of the lowest level are at least so far apart */
#define RSL_XID_CLOCK_SPACING_US	INT64_C(1000000)

typedef struct rsl_xid_clock_entry
{
	int64_t		at;				/* 0 = not used */
	uint64_t	next_xid;		/* at that time */
} rsl_xid_clock_entry;

/* All zero at first. */
typedef struct rsl_xid_clock
{
	rsl_xid_clock_entry entries[RSL_XID_CLOCK_LEVELS][RSL_XID_CLOCK_ENTRIES];
	uint8_t		newest[RSL_XID_CLOCK_LEVELS];
} rsl_xid_clock;

/* This is the next id now. */
extern void rsl_xid_clock_note(rsl_xid_clock *clock, int64_t now,
							   uint64_t next_xid);

/* For how long, at least, has this id been given out?  0 = not known. */
extern int64_t rsl_xid_clock_age(const rsl_xid_clock *clock, int64_t now,
								 uint64_t xid);

#endif							/* RSL_CORE_XID_CLOCK_H */

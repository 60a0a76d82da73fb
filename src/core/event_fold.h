/*-------------------------------------------------------------------------
 *
 * event_fold.h
 *		At most one of an object's events in each period.
 *
 * The first event of an object is told at once.  Those that follow within the
 * period are held back; when it is over the newest of them is told, with the
 * number of the others, and another period begins.
 *
 * Plain C, no backend headers.  Times are microseconds of any clock that does
 * not go back.  24 kB.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CORE_EVENT_FOLD_H
#define RSL_CORE_EVENT_FOLD_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Objects that are known at once.  An object's place is free when its period
 * is over and nothing is held back.
 */
#define RSL_FOLD_OBJECTS	768

typedef struct rsl_fold_entry
{
	uint64_t	object;			/* names it: a hash of what it is */
	int64_t		told_at;
	uint64_t	newest;			/* event that is held back */
	uint32_t	held;			/* how many are */
} rsl_fold_entry;

typedef struct rsl_fold
{
	int64_t		period;
	int			nentries;
	rsl_fold_entry entries[RSL_FOLD_OBJECTS];
} rsl_fold;

extern void rsl_fold_init(rsl_fold *fold, int64_t period);

/*
 * An event of an object.  True: tell it now.  False: it is held back.  When
 * there is no room for another object its events are told as they come.
 */
extern bool rsl_fold_add(rsl_fold *fold, uint64_t object, uint64_t event,
						 int64_t now);

/*
 * An event that was held back and is due now, and how many others it stands
 * for.  Call it until it returns false.
 */
extern bool rsl_fold_due(rsl_fold *fold, int64_t now, uint64_t *event,
						 uint32_t *others);

#endif							/* RSL_CORE_EVENT_FOLD_H */

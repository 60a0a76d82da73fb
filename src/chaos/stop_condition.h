/*-------------------------------------------------------------------------
 *
 * stop_condition.h
 *		The queries that stop a chaos experiment.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CHAOS_STOP_CONDITION_H
#define RSL_CHAOS_STOP_CONDITION_H

#include "compat.h"

/*
 * Has this owner any in this database, of experiments that run?  *due_us is
 * when the next one has been due for "patience_us"; microseconds, monotonic.
 */
extern bool rsl_stop_conditions_due(Oid database, Oid owner, int64 patience_us,
									int64 *due_us);

/* Call this for each owner who has some, and since when one is due. */
extern void rsl_each_stop_condition(void (*each) (Oid database, Oid owner, int64 due_us));

/*
 * A worker of the database: evaluate those of this owner that have been due
 * for so long.
 */
extern void rsl_evaluate_stop_conditions(Oid owner, int64 patience_us);

#endif							/* RSL_CHAOS_STOP_CONDITION_H */

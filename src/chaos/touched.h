/*-------------------------------------------------------------------------
 *
 * touched.h
 *		Which relations does a statement touch?
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_CHAOS_TOUCHED_H
#define RSL_CHAOS_TOUCHED_H

#include "policy/statement.h"

/*
 * OIDs, some of them perhaps more than once.  Those that the statement names,
 * also through views, and the partitions that its plan may read; not those
 * that a function touches, or a trigger.
 */
extern List *rsl_touched_relations(const rsl_statement *statement);

/* May it hold locks on relations, or on rows, when it has done its work? */
extern bool rsl_statement_locks(const PlannedStmt *stmt);

#endif							/* RSL_CHAOS_TOUCHED_H */

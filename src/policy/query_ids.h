/*-------------------------------------------------------------------------
 *
 * query_ids.h
 *		Query identifiers, computed while somebody wants them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_QUERY_IDS_H
#define RSL_POLICY_QUERY_IDS_H

#include "executor/execdesc.h"
#include "nodes/plannodes.h"
#include "shared/layout.h"

/* Who wants them: bits of rsl_shmem->query_ids_wanted. */
#define RSL_QUERY_IDS_BULKHEADS		0x01	/* a condition on query_id */
#define RSL_QUERY_IDS_RULES			0x02	/* runaway rules, quarantine */
#define RSL_QUERY_IDS_BUDGETS		0x04	/* what queries have cost so far */

static inline bool
rsl_query_ids_wanted(void)
{
	return rsl_shmem != NULL &&
		pg_atomic_read_u32(&rsl_shmem->query_ids_wanted) != 0;
}

extern void rsl_want_query_ids(uint32 who, bool wanted);
extern uint64 rsl_query_id_of(const PlannedStmt *stmt, const char *text,
							  QueryDesc *queryDesc);
extern void rsl_warn_without_query_ids(const char *kind, const char *name);
extern void rsl_query_ids_init(void);

#endif							/* RSL_POLICY_QUERY_IDS_H */

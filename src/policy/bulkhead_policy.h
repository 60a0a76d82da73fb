/*-------------------------------------------------------------------------
 *
 * bulkhead_policy.h
 *		Bulkheads: from the extension's table to shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_BULKHEAD_POLICY_H
#define RSL_POLICY_BULKHEAD_POLICY_H

#include "policy/conditions.h"
#include "policy/rows.h"
#include "shared/layout.h"

#define RSL_DEFINITIONS_NAME	"bulkhead_definitions"

/* Columns of resilience.bulkhead_definitions, after the conditions. */
enum rsl_definition_column
{
	RSL_COL_MAX_CONNECTIONS = RSL_NUM_CONDITION_COLUMNS + 1,
	RSL_COL_MAX_RUNNING,
	RSL_COL_MAX_WAITING,
	RSL_COL_MAX_WAIT,
	RSL_COL_PRIORITY,
	RSL_COL_MODE,
	RSL_COL_EXPIRES_AT,
	RSL_COL_MAX_CONNECTION_RATE,
	RSL_COL_CPU_SHARE,
	RSL_COL_CPU_BURST,
	RSL_COL_MAX_STATEMENT_COST,
	RSL_COL_MAX_RATE,
	RSL_COL_ONLY_UNDER_LOAD,
	RSL_COL_AUTO_REVERT_REFUSAL_RATE,
	RSL_NUM_DEFINITION_COLUMNS = RSL_COL_AUTO_REVERT_REFUSAL_RATE
};

/* The bulkheads of one database, ready to be published without failing. */
typedef struct rsl_bulkhead_set
{
	Oid			home_database;
	int			npolicies;
	rsl_bulkhead_policy *policies;
	bool	   *written;		/* by the present transaction */
	rsl_left_out left_out;
	int			nsessions;
	pid_t	   *pids;			/* the sessions that were looked at ... */
	bool	   *connects;		/* ... and which policies each one matches */
} rsl_bulkhead_set;

extern bool rsl_bulkhead_from_tuple(HeapTuple tuple, TupleDesc desc, void *result);
extern rsl_room rsl_bulkhead_room(void);
extern void rsl_read_bulkheads(rsl_bulkhead_set *set);
extern void rsl_fit_bulkheads(rsl_bulkhead_set *set);
extern void rsl_match_bulkhead_connections(rsl_bulkhead_set *set);
extern bool rsl_bulkheads_differ(const rsl_bulkhead_set *set);
extern void rsl_publish_bulkheads(const rsl_bulkhead_set *set);
extern bool rsl_publish_bulkhead_at_start(const rsl_bulkhead_policy *policy,
										  TimestampTz reverted_at);
extern void rsl_expire_bulkheads(TimestampTz now);
extern void rsl_revert_bulkhead(int index, uint32 uid, const char *what,
								uint32 refused, uint32 decisions);

extern void rsl_announce_policies(void);
extern void rsl_dispatch_waiters(void);

#endif							/* RSL_POLICY_BULKHEAD_POLICY_H */

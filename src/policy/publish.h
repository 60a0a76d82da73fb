/*-------------------------------------------------------------------------
 *
 * publish.h
 *		From the extension's table to shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_PUBLISH_H
#define RSL_POLICY_PUBLISH_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "policy/breaker_policy.h"
#include "policy/conditions.h"
#include "policy/kinds.h"
#include "policy/runaway_policy.h"
#include "shared/layout.h"
#include "utils/timestamp.h"

#define RSL_EXTENSION_NAME		"resilience"
#define RSL_SCHEMA_NAME			"resilience"
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

/* The definitions of one database, ready to be published without failing. */
typedef struct rsl_publication
{
	Oid			home_database;
	bool		has_extension;
	int			npolicies;
	rsl_bulkhead_policy *policies;
	bool	   *rewritten;		/* by the present transaction */
	int			nsessions;
	pid_t	   *pids;			/* the sessions that were looked at ... */
	bool	   *connects;		/* ... and which policies each one matches */
	rsl_breaker_set breakers;
	rsl_runaway_set runaway;
	rsl_definition_set sets[RSL_NUM_KINDS];
} rsl_publication;

extern void rsl_publish_init(void);
extern void rsl_at_commit(void (*action) (bool committed));

/* Will this transaction publish definitions when it commits? */
extern bool rsl_will_publish(void);

/* Called for each relation that is dropped: breaker/fallback_functions.c. */
extern void (*rsl_relation_dropped) (Oid relation);

extern void rsl_lock_definitions(void);
extern Oid	rsl_definitions_relation(void);
extern void rsl_read_definitions(rsl_publication *publication, Oid relid);
extern double rsl_interval_ms(const Interval *interval);
extern bool rsl_policy_from_tuple(HeapTuple tuple, TupleDesc desc,
								  rsl_bulkhead_policy *policy);
extern rsl_publication *rsl_prepare_publication(Oid home_database);
extern rsl_publication *rsl_empty_publication(Oid home_database);
extern bool rsl_publication_differs(const rsl_publication *publication);
extern void rsl_publish(const rsl_publication *publication);
extern bool rsl_publish_at_start(const rsl_bulkhead_policy *policy,
								 TimestampTz reverted_at);
extern void rsl_revert_bulkhead(int index, uint32 uid, const char *what,
								uint32 refused, uint32 decisions);
extern void rsl_publish_expiries(void);
extern void rsl_forget_database(Oid home_database);

#endif							/* RSL_POLICY_PUBLISH_H */

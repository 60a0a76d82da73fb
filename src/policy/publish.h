/*-------------------------------------------------------------------------
 *
 * publish.h
 *		From the extension's tables to shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_PUBLISH_H
#define RSL_POLICY_PUBLISH_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "policy/breaker_policy.h"
#include "policy/bulkhead_policy.h"
#include "policy/kinds.h"
#include "policy/runaway_policy.h"
#include "shared/layout.h"
#include "utils/timestamp.h"

/* The definitions of one database, ready to be published without failing. */
typedef struct rsl_publication
{
	Oid			home_database;
	bool		has_extension;
	rsl_bulkhead_set bulkheads;
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

extern Oid	rsl_definitions_relation(void);
extern rsl_publication *rsl_prepare_publication(Oid home_database);
extern rsl_publication *rsl_empty_publication(Oid home_database);
extern bool rsl_publication_differs(const rsl_publication *publication);
extern void rsl_publish(const rsl_publication *publication);
extern void rsl_publish_expiries(void);
extern void rsl_forget_database(Oid home_database);

#endif							/* RSL_POLICY_PUBLISH_H */

/*-------------------------------------------------------------------------
 *
 * conditions.h
 *		Which sessions and statements is a definition about?
 *
 * The same conditions, in the same columns, for bulkheads and runaway rules.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_CONDITIONS_H
#define RSL_POLICY_CONDITIONS_H

#include "policy/definitions.h"
#include "shared/layout.h"

/* The first columns of each table of definitions that has conditions. */
enum rsl_condition_column
{
	RSL_COL_NAME = 1,
	RSL_COL_ROLE,
	RSL_COL_DATABASE,
	RSL_COL_APPLICATION_NAME,
	RSL_COL_CLIENT_ADDRESS,
	RSL_COL_TAG,
	RSL_COL_QUERY_ID,
	RSL_COL_COMMAND,
	RSL_NUM_CONDITION_COLUMNS = RSL_COL_COMMAND
};

/* judging */
extern bool rsl_conditions_is_member(const rsl_conditions *conditions, Oid role);
extern bool rsl_conditions_match_session(const rsl_conditions *conditions,
										 Oid role, bool is_member, Oid database,
										 const rsl_address *address,
										 const char *application_name);

/* from rows and arguments */
extern bool rsl_conditions_from_tuple(HeapTuple tuple, TupleDesc desc,
									  rsl_conditions *conditions);
extern void rsl_check_conditions(const char *kind, HeapTuple tuple,
								 TupleDesc desc);
extern void rsl_lock_condition_role(const char *kind, HeapTuple tuple,
									TupleDesc desc);
extern void rsl_check_row_database(const char *kind, HeapTuple tuple,
								   TupleDesc desc);
extern void rsl_collect_conditions(const char *kind, Datum *values,
								   const bool *nulls);
extern void rsl_check_other_databases(const rsl_definition_table *table,
									  Datum name);

#endif							/* RSL_POLICY_CONDITIONS_H */

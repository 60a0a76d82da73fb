/*-------------------------------------------------------------------------
 *
 * statement.h
 *		What a statement tells about itself: command, query id, tags.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_STATEMENT_H
#define RSL_POLICY_STATEMENT_H

#include "executor/execdesc.h"
#include "nodes/plannodes.h"
#include "shared/layout.h"

/* A top-level statement that begins to run. */
typedef struct rsl_statement
{
	const PlannedStmt *stmt;
	const char *source_text;	/* the string that it came in, or NULL */
	QueryDesc  *queryDesc;		/* NULL for a utility statement */
} rsl_statement;

/*
 * Most statements have no comment.  (Behind others in the same string looking
 * at all of it each time would take quadratic time.)
 */
static inline bool
rsl_statement_may_have_tags(const rsl_statement *statement)
{
	return statement->source_text != NULL &&
		(statement->stmt->stmt_location > 0 ||
		 strchr(statement->source_text, '/') != NULL);
}

extern int	rsl_statement_tags(const rsl_statement *statement, rsl_tag *tags,
							   int ntags);
extern uint64 rsl_statement_query_id(const rsl_statement *statement);
extern bool rsl_conditions_match_statement(const rsl_conditions *conditions,
										   const rsl_statement *statement);

#endif							/* RSL_POLICY_STATEMENT_H */

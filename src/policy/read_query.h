/*-------------------------------------------------------------------------
 *
 * read_query.h
 *		Queries that are kept in a definition, and run by others later.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_READ_QUERY_H
#define RSL_POLICY_READ_QUERY_H

#include "compat.h"

#include "nodes/parsenodes.h"

/*
 * What such a query sees: names of anything else have to be qualified, so that
 * nobody can put something else in their place.
 */
#define RSL_CHECK_SEARCH_PATH	"pg_catalog, pg_temp"

/* A query, and what messages say of it. */
typedef struct rsl_read_query
{
	const char *text;
	const char *what;			/* "query of a health check" */
	const char *select_hint;	/* what to write, a sentence */
	const char *columns_hint;	/* what it should return, a sentence */
	bool		may_be_number;	/* else a boolean only */
} rsl_read_query;

typedef enum rsl_query_result
{
	RSL_QUERY_BOOLEAN,
	RSL_QUERY_NUMBER
} rsl_query_result;

extern void rsl_parse_read_query(const rsl_read_query *query);
extern rsl_query_result rsl_analyze_read_query(const rsl_read_query *query);
extern void rsl_refuse_temporary(Query *query, const char *what);
extern bool rsl_is_number_type(Oid type);

/* Another user, without what this session could have set in its way. */
typedef struct rsl_identity
{
	Oid			user;
	int			context;
	int			guc_level;
} rsl_identity;

extern void rsl_become(Oid role, rsl_identity *before);
extern void rsl_become_again(const rsl_identity *before);

#endif							/* RSL_POLICY_READ_QUERY_H */

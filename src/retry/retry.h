/*-------------------------------------------------------------------------
 *
 * retry.h
 *		What the files of this folder share: the arguments of a retry.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_RETRY_RETRY_H
#define RSL_RETRY_RETRY_H

#include "compat.h"

#include "core/backoff.h"
#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/elog.h"

/* An element of retryable_sqlstates. */
typedef struct rsl_retryable
{
	int			sqlstate;
	bool		is_class;		/* only its first two characters count */
} rsl_retryable;

typedef struct rsl_retry_options
{
	const char *sql;
	List	   *statements;		/* of char *: sql, statement by statement */
	int			max_retries;
	rsl_backoff backoff;
	rsl_retryable *retryable;	/* NULL: the default list */
	int			nretryable;
	int64		total_timeout_us;	/* 0 = none */
	char	   *budget;			/* NULL = none */
	int			isolation;		/* retry_transaction(); -1 = leave */
} rsl_retry_options;

extern void rsl_retry_get_options(FunctionCallInfo fcinfo, bool transaction,
								  rsl_retry_options *options);
extern bool rsl_retry_is_retryable(const rsl_retry_options *options,
								   int sqlstate);
extern bool rsl_retry_is_never(int sqlstate);
extern double rsl_retry_random(void);

#endif							/* RSL_RETRY_RETRY_H */

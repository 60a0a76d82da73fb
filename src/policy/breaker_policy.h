/*-------------------------------------------------------------------------
 *
 * breaker_policy.h
 *		Circuit breakers: from the extension's table to shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_BREAKER_POLICY_H
#define RSL_POLICY_BREAKER_POLICY_H

#include "policy/rows.h"
#include "shared/breakers.h"

#define RSL_BREAKERS_NAME	"breaker_definitions"

/* Columns of resilience.breaker_definitions. */
enum rsl_breaker_column
{
	RSL_BCOL_NAME = 1,
	RSL_BCOL_SERVER,
	RSL_BCOL_MAX_FAILURES,
	RSL_BCOL_FAILURE_RATE,
	RSL_BCOL_SLOW_CALL_DURATION,
	RSL_BCOL_SLOW_CALL_RATE,
	RSL_BCOL_MINIMUM_CALLS,
	RSL_BCOL_WINDOW_DURATION,
	RSL_BCOL_RESET_TIMEOUT,
	RSL_BCOL_BACKOFF_FACTOR,
	RSL_BCOL_MAX_RESET_TIMEOUT,
	RSL_BCOL_JITTER,
	RSL_BCOL_HALF_OPEN_CALLS,
	RSL_BCOL_SUCCESS_THRESHOLD,
	RSL_BCOL_CALL_TIMEOUT,
	RSL_BCOL_PROBE,
	RSL_BCOL_MAX_CONCURRENT_CALLS,
	RSL_BCOL_ON_OPEN,
	RSL_BCOL_IGNORED_SQLSTATES,
	RSL_BCOL_RECORDED_SQLSTATES,
	RSL_BCOL_MODE,
	RSL_NUM_BREAKER_ARGUMENTS = RSL_BCOL_MODE,
	RSL_BCOL_FORCED,
	RSL_NUM_BREAKER_COLUMNS = RSL_BCOL_FORCED
};

/* The breakers of one database, ready to be published without failing. */
typedef struct rsl_breaker_set
{
	Oid			home_database;
	int			npolicies;
	rsl_breaker_policy *policies;
	bool	   *written;		/* by the present transaction */
	rsl_left_out left_out;
} rsl_breaker_set;

extern bool rsl_is_postgres_fdw(Oid handler);
extern int	rsl_parse_on_open(const char *word);
extern int	rsl_parse_force(const char *word);
extern const char *rsl_force_name(int force);

/*
 * Fill a list from a text[] column.  Returns NULL, or the element that is no
 * SQLSTATE and no class of them.
 */
extern const char *rsl_sqlstate_list_column(HeapTuple tuple, TupleDesc desc,
											int column,
											rsl_sqlstate_list *list);

extern rsl_room rsl_breaker_room(void);
extern void rsl_read_breakers(rsl_breaker_set *set);
extern void rsl_fit_breakers(rsl_breaker_set *set);
extern bool rsl_breakers_differ(const rsl_breaker_set *set);
extern void rsl_publish_breakers(const rsl_breaker_set *set);
extern bool rsl_publish_breaker_at_start(const rsl_breaker_policy *policy);

#endif							/* RSL_POLICY_BREAKER_POLICY_H */

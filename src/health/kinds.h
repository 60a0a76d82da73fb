/*-------------------------------------------------------------------------
 *
 * kinds.h
 *		What each kind of health check looks at.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_HEALTH_KINDS_H
#define RSL_HEALTH_KINDS_H

#include "policy/read_query.h"
#include "shared/health.h"

/*
 * Look once.  In a transaction; "query" is that of a check of the kind "sql",
 * NULL for the others.  The caller has become the check's owner, and sees to
 * the timeout.  The transaction, or subtransaction, is read-only from here on.
 * Raises whatever goes wrong: the message of that error is the check's.
 */
extern void rsl_run_check(const rsl_check_policy *policy, const char *query,
						  rsl_check_result *result);

/* A message as it is kept: one line, cut at a character if it is too long. */
extern void rsl_check_message(char *message, const char *text);

/* The thresholds in force: NaN = none. */
extern void rsl_check_thresholds(const rsl_check_policy *policy,
								 double *warning, double *critical);
extern bool rsl_check_less_is_worse(rsl_check_kind kind);
extern const char *rsl_check_unit(rsl_check_kind kind);

/* For the kinds: what they have found. */
extern void rsl_check_judge(const rsl_check_policy *policy, double value,
							rsl_check_result *result);
extern void rsl_check_say(rsl_check_result *result, const char *format,...)
			pg_attribute_printf(2, 3);
extern uint64 rsl_check_look(const char *sql, int nargs, Oid *types,
							 Datum *values);
extern char *rsl_check_duration(double seconds);
extern char *rsl_check_size(double bytes);

/* The kinds. */
typedef void (*rsl_check_function) (const rsl_check_policy *policy,
									rsl_check_result *result);

extern void rsl_check_foreign_server(const rsl_check_policy *policy, rsl_check_result *result);
extern void rsl_check_connections(const rsl_check_policy *policy, rsl_check_result *result);
extern void rsl_check_replication_lag(const rsl_check_policy *policy, rsl_check_result *result);
extern void rsl_check_replication_slots(const rsl_check_policy *policy, rsl_check_result *result);
extern void rsl_check_xid_age(const rsl_check_policy *policy, rsl_check_result *result);
extern void rsl_check_long_transactions(const rsl_check_policy *policy, rsl_check_result *result);
extern void rsl_check_lock_waits(const rsl_check_policy *policy, rsl_check_result *result);
extern void rsl_check_archiver(const rsl_check_policy *policy, rsl_check_result *result);
extern void rsl_check_disk_free(const rsl_check_policy *policy, rsl_check_result *result);
extern void rsl_check_load(const rsl_check_policy *policy, rsl_check_result *result);

/* sql_kind.c */
extern void rsl_check_sql(const rsl_check_policy *policy, const char *query,
						  rsl_check_result *result);
extern void rsl_parse_check_query(const char *text);
extern rsl_query_result rsl_analyze_check_query(const char *text);

/* run.c */
extern char *rsl_read_check(const char *name, rsl_check_policy *policy);

#endif							/* RSL_HEALTH_KINDS_H */

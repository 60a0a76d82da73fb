/*-------------------------------------------------------------------------
 *
 * runaway_policy.h
 *		Runaway rules: from the extension's table to shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_RUNAWAY_POLICY_H
#define RSL_POLICY_RUNAWAY_POLICY_H

#include "policy/conditions.h"
#include "policy/rows.h"
#include "shared/runaway.h"

#define RSL_RUNAWAY_RULES_NAME	"runaway_rule_definitions"

/* Columns of resilience.runaway_rule_definitions, after the conditions. */
enum rsl_runaway_column
{
	RSL_RCOL_MAX_DURATION = RSL_NUM_CONDITION_COLUMNS + 1,
	RSL_RCOL_MAX_CPU,
	RSL_RCOL_MAX_TEMP_BYTES,
	RSL_RCOL_MAX_ROWS_ESTIMATE,
	RSL_RCOL_ACTION,
	RSL_RCOL_QUARANTINE_DURATION,
	RSL_RCOL_QUARANTINE_MAX_RUNNING,
	RSL_RCOL_MODE,
	RSL_RCOL_EXPIRES_AT,
	RSL_NUM_RUNAWAY_COLUMNS = RSL_RCOL_EXPIRES_AT
};

/* The rules of one database, ready to be published without failing. */
typedef struct rsl_runaway_set
{
	Oid			home_database;
	int			npolicies;
	rsl_runaway_policy *policies;
	bool	   *written;		/* by the present transaction */
	rsl_left_out left_out;
	int			nsessions;
	pid_t	   *pids;			/* the sessions that were looked at ... */
	uint32	   *matches;		/* ... bit p: policy p is about it */
} rsl_runaway_set;

extern const char *rsl_runaway_action_name(int action);
extern int	rsl_parse_runaway_action(const char *word);

extern rsl_room rsl_runaway_room(void);
extern void rsl_read_runaway_rules(rsl_runaway_set *set);
extern void rsl_fit_runaway_rules(rsl_runaway_set *set);
extern void rsl_match_runaway_sessions(rsl_runaway_set *set);
extern bool rsl_runaway_rules_differ(const rsl_runaway_set *set);
extern void rsl_publish_runaway_rules(const rsl_runaway_set *set);
extern bool rsl_publish_runaway_rule_at_start(const rsl_runaway_policy *policy);
extern void rsl_expire_runaway_rules(TimestampTz now);
extern bool rsl_match_runaway_session(void);

#endif							/* RSL_POLICY_RUNAWAY_POLICY_H */

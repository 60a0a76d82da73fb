/*-------------------------------------------------------------------------
 *
 * preview.c
 *		Whom would a chaos experiment concern, and can it start?
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "chaos/control.h"
#include "core/arrival_estimate.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "policy/conditions.h"
#include "policy/definitions.h"
#include "shared/arrivals.h"
#include "shared/session.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(preview_experiment);

#define PREVIEW_COLUMNS		6

/* the history of arrivals is asked for so long */
#define RECENT_US			INT64CONST(60000000)

/*
 * How many transactions, for connection_refused connections, of those that
 * can be hit have arrived lately, per second?  Returns false when that is not
 * known.
 */
static bool
recent_rate(const rsl_experiment_policy *policy, double *rate)
{
	const rsl_conditions *conditions = &policy->conditions;
	rsl_history *history = rsl_arrivals_copy();
	TimestampTz now = GetCurrentTimestamp();
	rsl_history_rule rule;
	rsl_history_answer answer;

	if (history == NULL)
		return false;
	memset(&rule, 0, sizeof(rule));
	rule.commands = conditions->commands;
	rule.query = conditions->query_id == 0 ? -1 :
		rsl_history_known_query(history, (uint64) conditions->query_id);
	if (rule.query == RSL_HISTORY_NO_QUERY)
		return false;
	rule.max_running = rule.max_waiting = rule.max_connections = -1;
	rule.max_rate = rule.max_connection_rate = -1;
	for (int i = 0; i < RSL_HISTORY_OTHER; i++)
	{
		const rsl_history_identity *identity = rsl_history_get_identity(history, i);
		rsl_address address;

		if (identity == NULL || identity->exempt)
			continue;
		memcpy(&address, identity->address, sizeof(address));
		rule.statements[i] = rule.connections[i] =
			rsl_conditions_match_session(conditions, identity->role,
										 rsl_conditions_is_member(conditions, identity->role),
										 identity->database, &address,
										 identity->application_name);
	}
	rsl_history_estimate(history, &rule, now - RECENT_US, now, &answer);
	if (answer.until_us <= answer.from_us)
		return false;
	*rate = (policy->impact == RSL_IMPACT_CONNECTION_REFUSED ?
			 answer.connects : answer.arrivals) * 1e6 /
		(double) (answer.until_us - answer.from_us);
	return true;
}

/* The conditions that statements have to meet as well, as a sentence. */
static void
append_statement_conditions(StringInfo message, const rsl_experiment_policy *policy)
{
	const rsl_conditions *conditions = &policy->conditions;
	const char *separator = "; of their statements those that meet";

	if (OidIsValid(policy->relation))
	{
		appendStringInfo(message, "%s relation", separator);
		separator = ",";
	}
	if (conditions->commands != 0)
	{
		appendStringInfo(message, "%s command", separator);
		separator = ",";
	}
	if (conditions->query_id != 0)
	{
		appendStringInfo(message, "%s query_id", separator);
		separator = ",";
	}
	if (conditions->tag_key[0] != '\0')
	{
		appendStringInfo(message, "%s tag", separator);
		separator = ",";
	}
	if (policy->impact == RSL_IMPACT_FOREIGN_ERROR ||
		policy->impact == RSL_IMPACT_FOREIGN_LATENCY)
		appendStringInfo(message, "%s server", separator);
}

/*
 * preview_experiment(name text, OUT sessions int, OUT spared_sessions int,
 *		OUT all_sessions int, OUT can_start boolean, OUT message text,
 *		OUT recent_rate float8)
 *
 * Of the sessions that are connected now: those whose role, database,
 * application_name and address match, and that are no superusers'; superusers'
 * that match; all.  recent_rate: transactions per second, by the history of
 * arrivals of the last minute, that meet these conditions and those on
 * command and query_id; connections for connection_refused; NULL = not known.
 * Nothing is started.  Errors: 42704, 55000 when the
 * experiment is not in force.
 */
Datum
preview_experiment(PG_FUNCTION_ARGS)
{
	char	   *name = rsl_name_argument(fcinfo, "chaos experiment");
	rsl_experiment_policy policy;
	TupleDesc	desc;
	Datum		values[PREVIEW_COLUMNS];
	bool		nulls[PREVIEW_COLUMNS] = {0};
	double		rate = 0;
	int32		sessions = 0;
	int32		spared = 0;
	int32		all = 0;
	bool		runs = false;
	const char *obstacle;
	const char *hint;
	StringInfoData message;
	int			index;

	rsl_require_shmem();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	LWLockAcquire(rsl_config_lock, LW_SHARED);
	index = rsl_experiment_by_name(name);
	if (index >= 0)
	{
		policy = rsl_experiments->experiments[index].policy;
		runs = rsl_experiments->experiments[index].state == RSL_EXPERIMENT_RUNNING;
	}
	LWLockRelease(rsl_config_lock);
	if (index < 0 && !rsl_experiment_is_defined(name))
		rsl_raise_unknown_experiment(name);
	if (index < 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("experiment \"%s\" is not in force", name),
				 errdetail("Definitions take effect at COMMIT, if what they name exists and shared memory has room."),
				 errhint("Commit, or give it other conditions with resilience.alter_experiment().")));

	for (int i = 0; i < rsl_shmem->nsessions; i++)
	{
		rsl_session *session = &rsl_sessions[i];

		CHECK_FOR_INTERRUPTS();
		if (session->pid == 0)
			continue;
		all++;
		if (!rsl_conditions_match_session(&policy.conditions, session->role,
										  rsl_conditions_is_member(&policy.conditions, session->role),
										  session->database, &session->address,
										  session->application_name))
			continue;
		if (session->superuser)
			spared++;
		else
			sessions++;
	}

	initStringInfo(&message);
	obstacle = runs ? "it is running" : rsl_experiment_obstacle(&policy, &hint);
	appendStringInfo(&message, "%s: %s, probability %g, at most %d times", obstacle ? obstacle : "can start",
					 rsl_impact_name(policy.impact), policy.probability,
					 policy.max_injections);
	if (policy.impact == RSL_IMPACT_CONNECTION_REFUSED)
		appendStringInfoString(&message, "; new connections only");
	else
		append_statement_conditions(&message, &policy);
	values[0] = Int32GetDatum(sessions);
	values[1] = Int32GetDatum(spared);
	values[2] = Int32GetDatum(all);
	values[3] = BoolGetDatum(obstacle == NULL);
	values[4] = CStringGetTextDatum(message.data);
	nulls[5] = !recent_rate(&policy, &rate);
	values[5] = Float8GetDatum(rate);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

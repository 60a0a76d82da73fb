/*-------------------------------------------------------------------------
 *
 * preview.c
 *		Whom would a chaos experiment concern, and can it start?
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "chaos/control.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "policy/conditions.h"
#include "policy/definitions.h"
#include "shared/session.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(preview_experiment);

#define PREVIEW_COLUMNS		5

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
 *		OUT all_sessions int, OUT can_start boolean, OUT message text)
 *
 * Of the sessions that are connected now: those whose role, database,
 * application_name and address match, and that are no superusers'; superusers'
 * that match; all.  Nothing is started.  Errors: 42704, 55000 when the
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
	if (index < 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("experiment \"%s\" does not exist, or is not in force", name),
				 errdetail("Definitions take effect at COMMIT, if what they name exists and shared memory has room."),
				 errhint("SELECT name FROM resilience.experiments lists the experiments of this database.")));

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
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

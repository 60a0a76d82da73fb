/*-------------------------------------------------------------------------
 *
 * preview.c
 *		What would a bulkhead have done, had it been there?
 *
 * The history of arrivals in shared memory knows who came, when, and beside
 * how many others (see core/arrival_history.h).  Conditions on sessions are
 * judged here, by the same code as a bulkhead's, once for each identity that
 * the history names; core/arrival_estimate.c does the rest.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "bulkhead/functions.h"
#include "catalog/pg_type.h"
#include "core/arrival_estimate.h"
#include "fmgr.h"
#include "funcapi.h"
#include "policy/conditions.h"
#include "policy/publish.h"
#include "shared/arrivals.h"
#include "shared/session.h"
#include "shared/settings.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(preview_bulkhead);

/* the argument after those of create_bulkhead() */
#define OVER_ARGUMENT		RSL_NUM_DEFINITION_COLUMNS

#define PREVIEW_COLUMNS		19
#define MAX_NOT_JUDGED		8

/* Conditions and limits that the history says nothing about. */
typedef struct not_judged
{
	int			n;
	Datum		names[MAX_NOT_JUDGED];
} not_judged;

static TimestampTz
begin_of_interval(FunctionCallInfo fcinfo, TimestampTz now)
{
	Interval   *over;

	if (PG_ARGISNULL(OVER_ARGUMENT))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("over must not be null"),
				 errhint("Choose an interval such as '1 hour'.")));
	over = PG_GETARG_INTERVAL_P(OVER_ARGUMENT);
	if (rsl_interval_ms(over) <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("over must be longer than 0"),
				 errdetail("over_ms=%.0f", rsl_interval_ms(over)),
				 errhint("Choose an interval such as '1 hour'; the history goes back a week at most.")));
	/* beyond what the history can have, any time will do */
	return now - (int64) (Min(rsl_interval_ms(over),
							  (double) RSL_HISTORY_MAX_AGE) * 1000);
}

static void
add_not_judged(not_judged *list, const char *name)
{
	Assert(list->n < MAX_NOT_JUDGED);
	list->names[list->n++] = CStringGetTextDatum(name);
}

/* Tell what is left out. */
static void
look_for_not_judged(const rsl_bulkhead_policy *policy, not_judged *list)
{
	list->n = 0;
	if (policy->conditions.tag_key[0] != '\0')
	{
		add_not_judged(list, "tag");
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("the preview takes the condition on the tag as met"),
				 errdetail("The history of arrivals does not know tags.%s",
						   policy->conditions.tag_any_value ?
						   " The limits are judged as if all values shared one compartment." : ""),
				 errhint("Create the bulkhead with mode => 'observe' to see what it counts.")));
	}
	if (policy->cpu_share >= 0)
		add_not_judged(list, "cpu_share");
	if (policy->max_statement_cost >= 0)
		add_not_judged(list, "max_statement_cost");
	if (policy->only_under_load)
		add_not_judged(list, "only_under_load");
	if (list->n > (policy->conditions.tag_key[0] != '\0' ? 1 : 0))
		ereport(NOTICE,
				(errmsg("the preview does not judge budgets"),
				 errdetail("Left out are cpu_share, max_statement_cost and only_under_load."),
				 errhint("Create the bulkhead with mode => 'observe' to see what it counts.")));
}

static bool
matches(const rsl_bulkhead_policy *policy, Oid role, Oid database,
		const rsl_address *address, const char *application_name)
{
	return rsl_conditions_match_session(&policy->conditions, role,
										rsl_conditions_is_member(&policy->conditions, role),
										database, address, application_name);
}

/* Which identities of the history does the bulkhead concern? */
static void
match_identities(const rsl_bulkhead_policy *policy, const rsl_history *history,
				 rsl_history_rule *rule)
{
	for (int i = 0; i < RSL_HISTORY_OTHER; i++)
	{
		const rsl_history_identity *identity;
		rsl_address address;
		bool		match;

		identity = rsl_history_get_identity(history, i);
		if (identity == NULL)
			continue;
		memcpy(&address, identity->address, sizeof(address));
		match = matches(policy, identity->role, identity->database, &address,
						identity->application_name);
		rule->statements[i] = match;
		rule->connections[i] = match;
	}
}

/* How many sessions that are here now would it concern? */
static int
count_sessions(const rsl_bulkhead_policy *policy)
{
	int			n = 0;

	for (int i = 0; i < rsl_shmem->nsessions; i++)
	{
		rsl_session *session = &rsl_sessions[i];

		CHECK_FOR_INTERRUPTS();
		if (session->pid != 0 &&
			matches(policy, session->role, session->database,
					&session->address, session->application_name))
			n++;
	}
	return n;
}

static void
set_limits(const rsl_bulkhead_policy *policy, const rsl_history *history,
		   rsl_history_rule *rule, not_judged *list)
{
	rule->commands = policy->conditions.commands;
	rule->query = -1;
	if (policy->conditions.query_id != 0)
	{
		rule->query = rsl_history_known_query(history,
											  (uint64) policy->conditions.query_id);
		if (rule->query == RSL_HISTORY_NO_QUERY)
		{
			add_not_judged(list, "query_id");
			ereport(WARNING,
					(errcode(ERRCODE_WARNING),
					 errmsg("query_id " INT64_FORMAT " does not occur in the history",
							policy->conditions.query_id),
					 errdetail("It knows those queries that have been seen most lately, if \"compute_query_id\" is on.")));
		}
	}
	rule->max_running = policy->max_running;
	rule->max_waiting = policy->max_waiting;
	rule->max_wait_us = policy->max_wait_ms * INT64CONST(1000);
	rule->max_rate = policy->max_rate;
	rule->max_connections = policy->max_connections;
	rule->max_connection_rate = policy->max_connection_rate;
	rule->max_connection_wait_us = rsl_max_connection_wait * INT64CONST(1000);
}

static double
share(double part, double whole)
{
	return whole > 0 ? part / whole : 0;
}

/* Whole numbers that add up, though the estimate has fractions. */
static void
put_transactions(const rsl_history_answer *answer, Datum *values)
{
	int64		arrivals = llround(answer->arrivals);
	int64		refused = Min(llround(answer->refused), arrivals);
	int64		queued = Min(llround(answer->queued), arrivals - refused);

	values[0] = Int64GetDatum(arrivals);
	values[1] = Int64GetDatum(arrivals - refused - queued);
	values[2] = Int64GetDatum(queued);
	values[3] = Int64GetDatum(refused);
}

/*
 * preview_bulkhead(...the arguments of create_bulkhead()..., over interval)
 *		returns record
 *
 * What the bulkhead would have admitted, queued and refused during the last
 * "over" (more than 0; the history goes back a week), if it had been there.
 * Changes nothing.
 *
 * Errors: as create_bulkhead(), but a name in use is none; 22023 for a bad
 * "over"; 55000 when there is no history.
 */
Datum
preview_bulkhead(PG_FUNCTION_ARGS)
{
	rsl_bulkhead_policy policy;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz from;
	rsl_history *history;
	rsl_history_rule rule;
	rsl_history_answer answer;
	not_judged	left_out;
	TupleDesc	desc;
	Datum		values[PREVIEW_COLUMNS];
	bool		nulls[PREVIEW_COLUMNS] = {0};
	int			i = 4;

	rsl_require_shmem();
	rsl_bulkhead_from_arguments(fcinfo, &policy);
	from = begin_of_interval(fcinfo, now);
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
		desc->natts != PREVIEW_COLUMNS)
		elog(ERROR, "return type must be a row type of %d columns",
			 PREVIEW_COLUMNS);

	history = rsl_arrivals_copy();
	if (history == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no history of arrivals"),
				 errhint("Set \"resilience.history_size\" to 16kB or more and restart the server.")));

	look_for_not_judged(&policy, &left_out);
	memset(&rule, 0, sizeof(rule));
	match_identities(&policy, history, &rule);
	set_limits(&policy, history, &rule, &left_out);
	rsl_history_estimate(history, &rule, from, now, &answer);

	put_transactions(&answer, values);
	values[i++] = Float8GetDatum(Max(share(answer.refused, answer.arrivals),
									 share(answer.refused_connects,
										   answer.connects)));
	values[i++] = Float8GetDatum(Max(share(answer.enforced_refused,
										   answer.arrivals),
									 share(answer.refused_connects,
										   answer.connects)));
	{
		Interval   *wait = palloc0(sizeof(Interval));

		wait->time = llround(share(answer.enforced_wait_us,
								   answer.enforced_queued));
		values[i++] = IntervalPGetDatum(wait);
	}
	values[i++] = Float8GetDatum(answer.mean_running);
	values[i++] = Int32GetDatum((int32) answer.max_running);
	values[i++] = Int64GetDatum(llround(answer.connects));
	values[i++] = Int64GetDatum(llround(answer.refused_connects));
	values[i++] = Float8GetDatum(answer.mean_sessions);
	values[i++] = Int32GetDatum((int32) answer.max_sessions);
	values[i++] = Int32GetDatum(count_sessions(&policy));
	values[i++] = Int64GetDatum(llround(answer.unattributed));
	values[i++] = Int32GetDatum(answer.samples);
	nulls[i] = nulls[i + 1] = answer.samples == 0;
	values[i++] = TimestampTzGetDatum(answer.from_us);
	values[i++] = TimestampTzGetDatum(answer.until_us);
	values[i] = PointerGetDatum(construct_array(left_out.names, left_out.n,
												TEXTOID, -1, false,
												TYPALIGN_INT));
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

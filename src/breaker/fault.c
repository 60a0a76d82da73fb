/*-------------------------------------------------------------------------
 *
 * fault.c
 *		Whose fault is an error that came out of a call?
 *
 * A breaker opens for what its dependency is to blame for, and for nothing
 * else.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "breaker/guard_parts.h"
#include "shared/errcodes.h"

/*
 * libpq reports whatever goes wrong while it connects as one condition, 08001.
 * What the server said is in the text only; it may be in the server's
 * language, so this is a hint.  Whether the server is really down, the prober
 * finds out.
 */
static int
connection_sqlstate(const ErrorData *edata)
{
	static const struct
	{
		const char *words;
		int			sqlstate;
	}			reasons[] =

	{
		{"password authentication failed", ERRCODE_INVALID_PASSWORD},
		{"no password supplied", ERRCODE_INVALID_PASSWORD},
		{"authentication failed", ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION},
		{"no pg_hba.conf entry", ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION},
		{"is not permitted to log in", ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION},
		{"FATAL:  role \"", ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION},
		{"too many c", ERRCODE_TOO_MANY_CONNECTIONS},
		{"remaining connection slots", ERRCODE_TOO_MANY_CONNECTIONS},
		{"the database system is", ERRCODE_CANNOT_CONNECT_NOW},
	};

	for (int i = 0; edata->detail && i < lengthof(reasons); i++)
	{
		if (strstr(edata->detail, reasons[i].words))
			return reasons[i].sqlstate;
	}
	return edata->sqlerrcode;
}

static bool
in_list(const rsl_sqlstate_list *list, int sqlstate)
{
	for (int i = 0; i < list->count; i++)
	{
		int			wanted = list->elements[i];

		if ((wanted & RSL_SQLSTATE_CLASS) != 0 ?
			ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_TO_CATEGORY(wanted) :
			sqlstate == wanted)
			return true;
	}
	return false;
}

/*
 * Is the dependency to blame for an error?  The administrator's lists come
 * first, the errors that the administrator wants ignored before those that
 * are to be recorded.  Else it is for the classes that speak of connections,
 * resources and the system; of a foreign server also HV, of any other
 * dependency also what procedural code and external routines raise.
 */
static bool
counts_sqlstate(const rsl_breaker_policy *policy, int sqlstate, bool generic)
{
	int			class = ERRCODE_TO_CATEGORY(sqlstate);

	if (in_list(&policy->ignored, sqlstate))
		return false;
	if (in_list(&policy->recorded, sqlstate))
		return true;
	if (policy->recorded.count >= 0)
		return false;

	/* another guard's refusal is not the dependency's failure */
	if (sqlstate == ERRCODE_BREAKER_OPEN)
		return false;

	if (class == MAKE_SQLSTATE('0', '8', '0', '0', '0') ||
		class == MAKE_SQLSTATE('5', '3', '0', '0', '0') ||
		class == MAKE_SQLSTATE('5', '8', '0', '0', '0') ||
		class == MAKE_SQLSTATE('2', '8', '0', '0', '0') ||
		class == MAKE_SQLSTATE('H', 'V', '0', '0', '0'))
		return true;
	if (sqlstate == MAKE_SQLSTATE('5', '7', 'P', '0', '1') ||
		sqlstate == MAKE_SQLSTATE('5', '7', 'P', '0', '2') ||
		sqlstate == MAKE_SQLSTATE('5', '7', 'P', '0', '3') ||
		sqlstate == MAKE_SQLSTATE('5', '7', 'P', '0', '4') ||
		sqlstate == MAKE_SQLSTATE('5', '7', 'P', '0', '5'))
		return true;
	return generic &&
		(class == MAKE_SQLSTATE('X', 'X', '0', '0', '0') ||
		 class == MAKE_SQLSTATE('P', '0', '0', '0', '0') ||
		 class == MAKE_SQLSTATE('3', '8', '0', '0', '0') ||
		 class == MAKE_SQLSTATE('3', '9', '0', '0', '0'));
}

/*
 * The outcome of a call that took so long and ended by this error; *sqlstate
 * is what is to be recorded.
 */
rsl_call_outcome
rsl_guard_judge(const rsl_guard *guard, const ErrorData *edata,
				int64 elapsed, int *sqlstate)
{
	bool		local = edata->funcname &&
		strcmp(edata->funcname, "ProcessInterrupts") == 0;

	*sqlstate = edata->sqlerrcode;
	if (*sqlstate == ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION)
		*sqlstate = connection_sqlstate(edata);

	/* another breaker's, or another bulkhead's here, on the way out */
	if (*sqlstate == ERRCODE_BREAKER_OPEN)
		return RSL_CALL_NEITHER;

	/*
	 * A user may set statement_timeout to a millisecond, and must not open
	 * the breaker for everybody by that: it counts only if the server had
	 * taken longer than the administrator thinks is right.
	 */
	if (local && *sqlstate == ERRCODE_QUERY_CANCELED &&
		strcmp(edata->message, _("canceling statement due to statement timeout")) == 0 &&
		elapsed >= guard->policy->config.slow_call_us)
		return RSL_CALL_FAILURE;
	if (local)
		return RSL_CALL_NEITHER;

	/* what comes of an earlier failure in this transaction is not another one */
	if (edata->funcname &&
		strcmp(edata->funcname, "pgfdw_reject_incomplete_xact_state_change") == 0)
		return RSL_CALL_NEITHER;

	/* memory that this server could not give */
	if (*sqlstate == ERRCODE_OUT_OF_MEMORY && edata->filename &&
		strstr(edata->filename, "mcxt.c"))
		return RSL_CALL_NEITHER;

	return counts_sqlstate(guard->policy, *sqlstate,
						   !OidIsValid(guard->policy->server)) ?
		RSL_CALL_FAILURE : RSL_CALL_SUCCESS;
}

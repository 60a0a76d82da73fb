/*-------------------------------------------------------------------------
 *
 * rejection.c
 *		The errors of calls that a circuit breaker does not let through.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "breaker/rejection.h"
#include "lib/stringinfo.h"
#include "shared/errcodes.h"
#include "shared/experiments.h"
#include "shared/refusal_log.h"
#include "utils/builtins.h"

/* when to come back to a server that is only busy, or is being tried */
#define BUSY_RETRY_AFTER_MS		100

/*
 * Count a rejection, and raise it.  "phase" says what was to be done.
 */
void
rsl_raise_rejection(int index, rsl_admittance admittance, const char *phase)
{
	static const char *const positions[] = {"closed", "half_open", "open"};
	rsl_breaker *breaker = &rsl_breakers[index];
	rsl_breaker_numbers numbers;
	StringInfoData detail;

	pg_atomic_fetch_add_u64(admittance == RSL_REJECTED_FULL ?
							&breaker->rejected_full : &breaker->rejected, 1);
	rsl_call_rejected(index, &numbers);
	if (unlikely(rsl_chaos_armed()))
		rsl_chaos.call_refused(breaker->policy.server);
	rsl_refusal_unlogged = !rsl_time_to_log(&breaker->last_logged);

	initStringInfo(&detail);
	if (numbers.server_name[0])
		appendStringInfo(&detail, "server=%s ", numbers.server_name);

	if (admittance == RSL_REJECTED_FULL)
		ereport(ERROR,
				(errcode(ERRCODE_BULKHEAD_FULL),
				 errmsg("too many concurrent calls through circuit breaker \"%s\"",
						numbers.name),
				 errdetail("%slimit=%d running=%d waiting=0 phase=%s started=false retry_after_ms=%d",
						   detail.data, numbers.max_concurrent_calls,
						   numbers.in_flight, phase, BUSY_RETRY_AFTER_MS),
				 errhint("Retry later, or raise the circuit breaker's max_concurrent_calls.")));

	appendStringInfo(&detail, "state=%s consecutive_failures=%u ",
					 positions[numbers.position], numbers.consecutive_failures);
	if (numbers.last_sqlstate != 0)
		appendStringInfo(&detail, "last_sqlstate=%s ",
						 unpack_sql_state(numbers.last_sqlstate));
	appendStringInfo(&detail, "phase=%s started=false", phase);
	if (numbers.force == RSL_FORCE_OPEN)
		appendStringInfoString(&detail, " forced=open");
	else
		appendStringInfo(&detail, " retry_after_ms=" INT64_FORMAT,
						 numbers.retry_after_ms > 0 ? numbers.retry_after_ms :
						 BUSY_RETRY_AFTER_MS);

	ereport(ERROR,
			(errcode(ERRCODE_BREAKER_OPEN),
			 errmsg("circuit breaker \"%s\" is open", numbers.name),
			 errdetail_internal("%s", detail.data),
			 numbers.force == RSL_FORCE_OPEN ?
			 errhint("An administrator has opened it: SELECT resilience.force_breaker(%s, 'auto') leaves it to itself again.",
					 quote_literal_cstr(numbers.name)) :
			 errhint("The call was not made. Retry later; SELECT * FROM resilience.breakers says why it is open.")));
	pg_unreachable();
}

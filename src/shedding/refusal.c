/*-------------------------------------------------------------------------
 *
 * refusal.c
 *		What is said to a statement that is not admitted.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "shared/errcodes.h"
#include "shared/settings.h"
#include "shedding/refusal.h"

#define SERVER_LIMIT	"resilience.max_running"

static const char *
verdict_word(rsl_verdict verdict)
{
	switch (verdict)
	{
		case RSL_PREEMPTED:
			return "preempted";
		case RSL_TIMED_OUT:
			return "timed out";
		default:
			return "refused";
	}
}

/* Called within ereport(). */
static int
detail(const rsl_refusal *refusal)
{
	const rsl_pool_numbers *numbers = refusal->numbers;

	return errdetail("limit=%d running=%d waiting=%d priority=%s started=false retry_after_ms=" INT64_FORMAT "%s",
					 numbers->limit, numbers->running, numbers->waiting,
					 rsl_priority_name(refusal->priority),
					 Max(numbers->retry_after_ms, 1), refusal->where);
}

void
rsl_raise_refusal(const rsl_refusal *refusal, rsl_verdict verdict)
{
	const char *bulkhead = refusal->bulkhead[0] != '\0' ? refusal->bulkhead : NULL;

	switch (verdict)
	{
		case RSL_TIMED_OUT:
			ereport(ERROR,
					(errcode(ERRCODE_WAIT_TIMED_OUT),
					 bulkhead ?
					 errmsg("timed out waiting for bulkhead \"%s\"", bulkhead) :
					 errmsg("timed out waiting for the server-wide limit \"%s\"",
							SERVER_LIMIT),
					 detail(refusal),
					 bulkhead ?
					 errhint("Retry later, or raise the bulkhead's max_wait or max_running.") :
					 errhint("Retry later, or raise \"resilience.max_wait\" or \"resilience.deadline\".")));
			break;
		case RSL_DROPPED:
			ereport(ERROR,
					(errcode(ERRCODE_WAIT_TIMED_OUT),
					 bulkhead ?
					 errmsg("waited too long for bulkhead \"%s\"", bulkhead) :
					 errmsg("waited too long for the server-wide limit \"%s\"",
							SERVER_LIMIT),
					 detail(refusal),
					 errhint("More work comes than can be done, so it makes place for younger ones, see \"%s\". Retry later.",
							 "resilience.queue_target")));
			break;
		case RSL_TOO_SOON:
			ereport(ERROR,
					(errcode(bulkhead ? ERRCODE_BULKHEAD_FULL :
							 ERRCODE_STATEMENT_SHED),
					 bulkhead ?
					 errmsg("bulkhead \"%s\" is full, and the statement came back too soon",
							bulkhead) :
					 errmsg("statement shed: it came back too soon to the server-wide limit \"%s\"",
							SERVER_LIMIT),
					 detail(refusal),
					 errhint("Too many statements are retried soon after a refusal. Wait for retry_after_ms, and longer after each refusal.")));
			break;
		case RSL_PREEMPTED:
			ereport(ERROR,
					(errcode(ERRCODE_PREEMPTED),
					 bulkhead ?
					 errmsg("preempted while waiting for bulkhead \"%s\"", bulkhead) :
					 errmsg("preempted while waiting for the server-wide limit \"%s\"",
							SERVER_LIMIT),
					 detail(refusal),
					 errhint("The queue was full and a statement of higher priority came. Retry later.")));
			break;
		case RSL_SHED:
			ereport(ERROR,
					(errcode(ERRCODE_STATEMENT_SHED),
					 errmsg("statement shed: its priority is below \"%s\"",
							"resilience.minimum_priority"),
					 errdetail("priority=%s minimum_priority=%s started=false retry_after_ms=" INT64_FORMAT "%s",
							   rsl_priority_name(refusal->priority),
							   rsl_priority_name(pg_atomic_read_u32(&rsl_shmem->minimum_priority)),
							   Max(refusal->numbers->retry_after_ms, 1),
							   refusal->where),
					 errhint("The administrator has stopped less important work. Retry later.")));
			break;
		default:
			if (bulkhead)
				ereport(ERROR,
						(errcode(ERRCODE_BULKHEAD_FULL),
						 errmsg("bulkhead \"%s\" is full", bulkhead),
						 detail(refusal),
						 errhint("Retry later, or raise the bulkhead's max_running or max_waiting.")));
			ereport(ERROR,
					(errcode(ERRCODE_STATEMENT_SHED),
					 errmsg("statement shed: the queue of the server-wide limit \"%s\" is full",
							SERVER_LIMIT),
					 detail(refusal),
					 errhint("Retry later, or raise \"resilience.max_waiting\".")));
	}
	pg_unreachable();
}

/* In observe mode. */
void
rsl_log_refusal(const rsl_refusal *refusal, rsl_verdict verdict)
{
	const rsl_pool_numbers *numbers = refusal->numbers;

	ereport(LOG,
			(refusal->bulkhead[0] != '\0' ?
			 errmsg("bulkhead \"%s\" would have %s a statement",
					refusal->bulkhead, verdict_word(verdict)) :
			 errmsg("the server-wide limit would have %s a statement",
					verdict_word(verdict)),
			 errdetail("limit=%d running=%d waiting=%d priority=%s mode=observe%s",
					   numbers->limit, numbers->running, numbers->waiting,
					   rsl_priority_name(refusal->priority), refusal->where)));
}

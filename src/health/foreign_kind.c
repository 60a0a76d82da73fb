/*-------------------------------------------------------------------------
 *
 * foreign_kind.c
 *		Health checks of foreign servers.
 *
 * The server is asked as the prober of circuit breakers asks: a connection is
 * begun, without credentials, and any answer will do.  Nothing is blocked
 * while it takes its time but the process that asks.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "foreign/foreign.h"
#include "health/kinds.h"
#include "policy/breaker_policy.h"
#include "policy/probe.h"
#include "shared/pool.h"
#include "storage/fd.h"
#include "storage/latch.h"

/* Connect, for so long.  Returns what came of it: PGRES_POLLING_ACTIVE if
 * nothing did. */
static PostgresPollingStatusType
connect_until(PGconn *conn, int64 deadline)
{
	PostgresPollingStatusType wants = PQstatus(conn) == CONNECTION_BAD ?
		PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;

	while (wants == PGRES_POLLING_READING || wants == PGRES_POLLING_WRITING)
	{
		int64		left = deadline - rsl_now_us();
		int			events;

		if (left <= 0)
			return PGRES_POLLING_ACTIVE;
		events = WaitLatchOrSocket(MyLatch,
								   WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH |
								   (wants == PGRES_POLLING_READING ?
									WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE),
								   PQsocket(conn), (left + 999) / 1000,
								   PG_WAIT_EXTENSION);
		if (events & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
		if (events & WL_SOCKET_MASK)
		{
			wants = PQconnectPoll(conn);
			if (PQsocket(conn) == PGINVALID_SOCKET && wants != PGRES_POLLING_OK)
				wants = PGRES_POLLING_FAILED;
		}
	}
	return wants;
}

/*
 * foreign_server: value in milliseconds, until the server of the target has
 * answered.  One that has not by the check's timeout is unhealthy.
 */
void
rsl_check_foreign_server(const rsl_check_policy *policy,
						 rsl_check_result *result)
{
	ForeignServer *server = GetForeignServerByName(policy->target, false);
	int64		start = rsl_now_us();
	char		target[RSL_PROBE_TARGET_LEN];
	char		answer[32];
	bool		alive = false;
	double		milliseconds;
	PGconn	   *volatile conn = NULL;

	rsl_probe_target(server, target);
	if (target[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("foreign server \"%s\" cannot be asked without credentials",
						policy->target),
				 errdetail("It is not one of postgres_fdw, or its options name a service, or are too long."),
				 errhint("Use a check of the kind \"sql\" that reads one of its foreign tables.")));
	if (!AcquireExternalFD())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no file descriptor is left for a connection to foreign server \"%s\"",
						policy->target)));
	PG_TRY();
	{
		PostgresPollingStatusType end;

		conn = rsl_probe_start(target);
		if (conn == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory")));
		end = connect_until(conn, start + policy->timeout_ms * INT64CONST(1000));
		if (end == PGRES_POLLING_ACTIVE)
			result->timed_out = true;
		else
			alive = rsl_probe_judge(conn, end == PGRES_POLLING_OK, answer,
									sizeof(answer));
	}
	PG_FINALLY();
	{
		PQfinish(conn);
		ReleaseExternalFD();
	}
	PG_END_TRY();

	milliseconds = (rsl_now_us() - start) / 1000.0;
	rsl_check_judge(policy, milliseconds, result);
	if (alive)
		rsl_check_say(result, "%s after %.1f ms", answer, milliseconds);
	else
	{
		result->status = RSL_UNHEALTHY;
		result->has_value = false;
		if (result->timed_out)
			rsl_check_say(result, "timed out after %d ms", policy->timeout_ms);
		else
			rsl_check_say(result, "foreign server \"%s\": %s", policy->target, answer);
	}
}

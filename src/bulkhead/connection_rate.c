/*-------------------------------------------------------------------------
 *
 * connection_rate.c
 *		How many connections per second are let in.
 *
 * When a server comes back all its clients connect at once, and each of them
 * costs a process, an authentication and cold caches.  So a connection that
 * comes too early waits for a moment, and one that would have to wait for
 * longer than resilience.max_connection_wait is told when to come again.
 * Places are reserved in shared memory without a lock, and a refusal reserves
 * none: however many come, at most rate x wait backends sleep here.
 *
 * A reservation whose owner ends while it sleeps is not given back: its
 * moment passes unused.
 *
 *-------------------------------------------------------------------------
 */
#include "client_port.h"
#include "compat.h"

#include "bulkhead/connection_rate.h"
#include "core/arrival_rate.h"
#include "libpq/libpq.h"
#include "shared/pool.h"
#include "shared/refusal_log.h"
#include "shared/settings.h"
#include "storage/latch.h"

/* what a client is told that a rate of 0 keeps out */
#define NEVER_US		(60 * INT64CONST(1000000))

static bool
reserve(const rsl_connection_rate *rate, int64 now, int64 *wait_us)
{
	uint64		word = pg_atomic_read_u64(rate->word);
	uint64		next;

	*wait_us = NEVER_US;
	if (rate->per_second <= 0)
		return false;
	do
	{
		if (!rsl_arrival_reserve(rate->per_second,
								 rsl_max_connection_wait * INT64CONST(1000),
								 word, now, &next, wait_us))
			return false;
	} while (!pg_atomic_compare_exchange_u64(rate->word, &word, next));
	return true;
}

static void
give_back(const rsl_connection_rate *rate)
{
	uint64		word = pg_atomic_read_u64(rate->word);

	while (!pg_atomic_compare_exchange_u64(rate->word, &word,
										   rsl_arrival_give_back(rate->per_second, word)))
		 /* word is now what somebody else made of it */ ;
}

static int
waiting(const rsl_connection_rate *rate, int64 now)
{
	if (rate->per_second <= 0)
		return 0;
	return (int) rsl_arrivals_waiting(rate->per_second,
									  pg_atomic_read_u64(rate->word), now);
}

static void
refuse(const rsl_connection_rate *rate, int64 now, int64 wait_us)
{
	bool		server = rate->bulkhead[0] == '\0';

	if (!rate->enforce)
	{
		if (rsl_time_to_log(rate->last_logged))
			ereport(LOG,
					(server ?
					 errmsg("\"%s\" would have refused a connection",
							"resilience.max_connection_rate") :
					 errmsg("bulkhead \"%s\" would have refused a connection",
							rate->bulkhead),
					 errdetail("rate=%g waiting=%d mode=observe",
							   rate->per_second, waiting(rate, now))));
		return;
	}

	rsl_refusal_unlogged = !rsl_time_to_log(rate->last_logged);
	ereport(FATAL,
			(errcode(ERRCODE_TOO_MANY_CONNECTIONS),
			 server ?
			 errmsg("too many new connections for \"%s\"",
					"resilience.max_connection_rate") :
			 errmsg("too many new connections for bulkhead \"%s\"",
					rate->bulkhead),
			 errdetail("rate=%g waiting=%d started=false retry_after_ms=" INT64_FORMAT,
					   rate->per_second, waiting(rate, now),
					   Max(wait_us / 1000, 1)),
			 errhint("Connect again later, and keep connections: a pool does.")));
}

/*
 * Sleep in the middle of authentication.  SIGTERM, and with it
 * authentication_timeout, ends this.
 */
static void
sleep_until(int64 end)
{
	int64		left;

	while ((left = end - rsl_now_us()) > 0)
	{
		int			rc = WaitLatch(MyLatch,
								   WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								   (long) (left / 1000 + 1),
								   rsl_connection_wait_event());

		if (rc & WL_LATCH_SET)
			ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}

	/* no need to start a session for a client that has gone meanwhile */
	if (WaitEventSetCanReportClosed() && !pq_check_connection())
	{
		ClientConnectionLost = true;
		InterruptPending = true;
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Let a new connection in at the rates given, the narrow ones first, or
 * refuse it.  Holds no lock.
 */
void
rsl_keep_connection_rates(const rsl_connection_rate *rates, int n)
{
	int64		now = rsl_now_us();
	int64		longest = 0;

	for (int i = 0; i < n; i++)
	{
		int64		wait_us;

		if (!reserve(&rates[i], now, &wait_us))
		{
			pg_atomic_fetch_add_u64(rates[i].refused, 1);
			if (rates[i].enforce)
			{
				for (int j = 0; j < i; j++)
				{
					/* who was only observed may have reserved nothing */
					if (rates[j].enforce)
						give_back(&rates[j]);
				}
			}
			refuse(&rates[i], now, wait_us);
		}
		else if (wait_us > 0)
		{
			if (rates[i].delayed)
				pg_atomic_fetch_add_u64(rates[i].delayed, 1);
			if (rates[i].enforce)
				longest = Max(longest, wait_us);
		}
	}
	if (longest > 0)
		sleep_until(now + longest);
}

/*-------------------------------------------------------------------------
 *
 * transaction_kinds.c
 *		Health checks of sessions, transactions, and what they hold.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "health/kinds.h"
#include "shared/pool.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/*
 * connections: value 0 .. 1, of what is there for those that are no superusers
 * (and have none of the reserved connections).  Counted are the places that
 * are taken, those of sessions that are still being authenticated, too: it is
 * by them that the server refuses.
 */
void
rsl_check_connections(const rsl_check_policy *policy, rsl_check_result *result)
{
	int			available = MaxConnections - rsl_reserved_connections();
	int			used = 0;

	/* the first ones of all are those of client backends */
	for (int i = 0; i < MaxConnections; i++)
		used += ((volatile PGPROC *) GetPGProcByNumber(i))->procLatch.owner_pid != 0 ? 1 : 0;

	rsl_check_judge(policy, available < 1 ? 1 : Min((double) used / available, 1),
					result);
	rsl_check_say(result, "%d of %d connections are in use", used, available);
}

/*
 * xid_age: value 0 .. 1, a share of the 2^31 transaction ids (or multixact
 * ids) after which data would be lost, and shortly before which the server
 * refuses to give out more.  Not of autovacuum_freeze_max_age: reaching that
 * is nothing unusual.  Of all databases, those that allow no connections, too.
 */
void
rsl_check_xid_age(const rsl_check_policy *policy, rsl_check_result *result)
{
	static const char query[] =
		"SELECT d.datname::text, pg_catalog.age(d.datfrozenxid), pg_catalog.mxid_age(d.datminmxid) "
		"FROM pg_catalog.pg_database d "
		"ORDER BY greatest(pg_catalog.age(d.datfrozenxid), pg_catalog.mxid_age(d.datminmxid)) DESC LIMIT 1";
	bool		isnull;
	char	   *database;
	int32		xid_age;
	int32		mxid_age;
	bool		multi;

	rsl_check_look(query, 0, NULL, NULL);
	database = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	xid_age = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	mxid_age = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, &isnull));
	multi = mxid_age > xid_age;
	rsl_check_judge(policy, Max(xid_age, mxid_age) / 2147483648.0, result);
	rsl_check_say(result, "the oldest %s is %d ids old, in database \"%s\"",
				  multi ? "multixact" : "transaction id",
				  multi ? mxid_age : xid_age, database);
	SPI_finish();
}

/* An xid of the last two billion, in 64 bits. */
static uint64
widen(TransactionId xid, FullTransactionId next)
{
	uint64		wide = U64FromFullTransactionId(next);
	uint32		behind = XidFromFullTransactionId(next) - xid;

	return wide > behind ? wide - behind : 0;
}

/*
 * long_transactions: value in seconds, of the oldest transaction, prepared
 * transaction, or horizon that keeps vacuum from removing what is dead: that
 * of a replication slot, or of a standby that sends feedback.  Since when a
 * horizon is held is not known to the server: it is at least since the
 * next transaction id was a later one, as these checks have seen it.
 *
 * Autovacuum takes as long as it takes, and holds back nothing; what this
 * extension runs by itself has time limits of its own.
 */
void
rsl_check_long_transactions(const rsl_check_policy *policy,
							rsl_check_result *result)
{
	static const char query[] =
		"(SELECT pg_catalog.format('pid %s (%s)', a.pid, coalesce(a.state, a.backend_type)), "
		"EXTRACT(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8, NULL::xid "
		"FROM pg_catalog.pg_stat_activity a "
		"WHERE a.pid <> pg_catalog.pg_backend_pid() AND a.leader_pid IS NULL "
		"AND a.backend_type <> 'autovacuum worker' AND a.backend_type NOT LIKE 'resilience %' "
		"ORDER BY a.xact_start LIMIT 1) UNION ALL "
		"(SELECT pg_catalog.format('prepared transaction \"%s\"', p.gid), "
		"EXTRACT(epoch FROM pg_catalog.clock_timestamp() - p.prepared)::float8, NULL "
		"FROM pg_catalog.pg_prepared_xacts p ORDER BY p.prepared LIMIT 1) UNION ALL "
		"SELECT pg_catalog.format('the horizon of replication slot \"%s\"', s.slot_name), NULL, x "
		"FROM pg_catalog.pg_replication_slots s, LATERAL (VALUES (s.xmin), (s.catalog_xmin)) v(x) "
		"WHERE x IS NOT NULL UNION ALL "
		"SELECT pg_catalog.format('the horizon of standby \"%s\" (pid %s)', r.application_name, r.pid), NULL, r.backend_xmin "
		"FROM pg_catalog.pg_stat_replication r WHERE r.backend_xmin IS NOT NULL";
	FullTransactionId next = ReadNextFullTransactionId();
	int64		now = rsl_now_us();
	rsl_xid_clock clock;
	double		longest = -1;
	char	   *what = NULL;

	SpinLockAcquire(&rsl_health->xid_clock_mutex);
	rsl_xid_clock_note(&rsl_health->xid_clock, now, U64FromFullTransactionId(next));
	clock = rsl_health->xid_clock;
	SpinLockRelease(&rsl_health->xid_clock_mutex);

	rsl_check_look(query, 0, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		datum = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull);
		double		seconds;

		if (!isnull)
			seconds = DatumGetFloat8(datum);
		else
		{
			datum = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &isnull);
			if (isnull)
				continue;		/* no transaction is open */
			seconds = rsl_xid_clock_age(&clock, now,
										widen(DatumGetTransactionId(datum), next)) / 1e6;
		}
		if (seconds > longest)
		{
			longest = seconds;
			what = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		}
	}

	rsl_check_judge(policy, Max(longest, 0), result);
	if (what == NULL)
		rsl_check_say(result, "no transaction is open");
	else
		rsl_check_say(result, "the oldest is %s, %s", rsl_check_duration(longest), what);
	SPI_finish();
}

/* The processes that one waits for, as text; "" if it does not any more. */
static char *
blockers(int pid)
{
	ArrayType  *array = DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids,
															   Int32GetDatum(pid)));
	int		   *pids = (int *) ARR_DATA_PTR(array);
	int			n = ARR_NDIM(array) == 0 ? 0 : ARR_DIMS(array)[0];

	if (n == 0)
		return "";
	if (pids[0] == 0)
		return psprintf(", behind a prepared transaction");
	return psprintf(", behind pid %d%s", pids[0],
					n > 1 ? psprintf(" and %d others", n - 1) : "");
}

/*
 * lock_waits: value in seconds, of the longest wait for a lock.  Not how many
 * wait: what is many depends on the server, and a queue behind a lock that
 * moves on does no harm.
 *
 * The start of a wait is in the waiter's own entry: unlike pg_locks this takes
 * no lock of the lock manager.  pg_blocking_pids() takes them all, and is
 * asked only about a wait that is too long.
 */
void
rsl_check_lock_waits(const rsl_check_policy *policy, rsl_check_result *result)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz oldest = now;
	int			pid = 0;
	int			waiting = 0;

	for (int i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];
		TimestampTz since;

		/* who waits no more may have left the time there */
		if ((*(volatile uint32 *) &proc->wait_event_info & 0xFF000000) != PG_WAIT_LOCK)
			continue;
		since = (TimestampTz) pg_atomic_read_u64(&proc->waitStart);
		if (since == 0)
			continue;
		waiting++;
		if (since < oldest)
		{
			oldest = since;
			pid = proc->pid;
		}
	}

	rsl_check_judge(policy, Max((now - oldest) / 1e6, 0), result);
	if (pid == 0)
		rsl_check_say(result, "nobody waits for a lock");
	else
		rsl_check_say(result, "pid %d has waited for a lock for %s%s; %d wait%s",
					  pid, rsl_check_duration(result->value),
					  result->status == RSL_HEALTHY ? "" : blockers(pid),
					  waiting, waiting == 1 ? "s" : "");
}

/*-------------------------------------------------------------------------
 *
 * replication_kinds.c
 *		Health checks of replication and archiving.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "health/kinds.h"
#include "health/standby_lag.h"
#include "utils/builtins.h"

/* A column of a row of SPI_tuptable. */
static Datum
column(int row, int number, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 number, isnull);
}

static double
float_column(int row, int number, double if_null)
{
	bool		isnull;
	Datum		datum = column(row, number, &isnull);

	return isnull ? if_null : DatumGetFloat8(datum);
}

static bool
bool_column(int row, int number)
{
	bool		isnull;
	Datum		datum = column(row, number, &isnull);

	return !isnull && DatumGetBool(datum);
}

static int64
int_column(int row, int number)
{
	bool		isnull;
	Datum		datum = column(row, number, &isnull);

	return isnull ? 0 : DatumGetInt64(datum);
}

/* NULL if it is null */
static char *
text_column(int row, int number)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number);
}

/* How far is this standby behind?  See standby_lag.c. */
static void
check_standby(const rsl_check_policy *policy, rsl_check_result *result)
{
	rsl_standby_lag lag;
	double		seconds;

	rsl_standby_lag_get(&lag);
	seconds = lag.us / 1e6;
	if (lag.us < 0)
	{
		result->status = RSL_UNHEALTHY;
		rsl_check_say(result, lag.streams ? "nothing was replayed yet" :
					  "nothing is received, and nothing was replayed yet");
		return;
	}
	rsl_check_judge(policy, seconds, result);
	if (!lag.streams)
		rsl_check_say(result, "nothing is received; the last transaction that was replayed is %s old",
					  rsl_check_duration(seconds));
	else if (lag.is_silent)
		rsl_check_say(result, "nothing was heard from the primary for %s",
					  rsl_check_duration(seconds));
	else
		rsl_check_say(result, "%s behind%s", rsl_check_duration(seconds),
					  GetRecoveryPauseState() != RECOVERY_NOT_PAUSED ?
					  ", replay is paused" : "");
}

/*
 * How far are the standbys behind?  Their replay lag as the server measures
 * it, which is NULL for those that have nothing to replay; of one that has not
 * answered for longer than it should (wal_receiver_status_interval is 10 s)
 * the time since.  Without a target logical subscribers do not count, nor does
 * what only receives WAL (pg_receivewal, base backups).
 */
static void
check_primary(const rsl_check_policy *policy, rsl_check_result *result)
{
	static const char query[] =
		"SELECT s.application_name, s.lag, pg_catalog.count(*) OVER (), s.state "
		"FROM (SELECT r.application_name, r.state, "
		"CASE WHEN r.replay_lsn >= pg_catalog.pg_current_wal_flush_lsn() THEN 0 "
		"WHEN r.replay_lsn IS NOT NULL THEN greatest(EXTRACT(epoch FROM r.replay_lag), "
		"CASE WHEN pg_catalog.clock_timestamp() - r.reply_time > '15 s' "
		"THEN EXTRACT(epoch FROM pg_catalog.clock_timestamp() - r.reply_time) END, 0) END::float8 AS lag "
		"FROM pg_catalog.pg_stat_replication r "
		"WHERE CASE WHEN $1 = '' THEN r.replay_lsn IS NOT NULL AND NOT EXISTS "
		"(SELECT FROM pg_catalog.pg_replication_slots l "
		"WHERE l.active_pid = r.pid AND l.slot_type = 'logical') "
		"ELSE r.application_name = $1 END) s "
		"ORDER BY s.lag DESC NULLS FIRST LIMIT 1";
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(policy->target)};
	double		lag;

	if (rsl_check_look(query, 1, types, values) == 0)
	{
		if (policy->target[0] != '\0')
		{
			result->status = RSL_UNHEALTHY;
			rsl_check_say(result, "standby \"%s\" is not connected", policy->target);
		}
		else
			rsl_check_say(result, "no standby is connected");
		SPI_finish();
		return;
	}

	lag = float_column(0, 2, -1);
	if (lag < 0)
	{
		result->status = RSL_UNHEALTHY;
		rsl_check_say(result, "standby \"%s\" does not say what it has replayed (state %s)",
					  policy->target, text_column(0, 4));
	}
	else
	{
		int64		others = int_column(0, 3) - 1;

		rsl_check_judge(policy, lag, result);
		rsl_check_say(result, "standby \"%s\" is %s behind%s%s", text_column(0, 1),
					  rsl_check_duration(lag),
					  strcmp(text_column(0, 4), "catchup") == 0 ?
					  ", catching up" : "",
					  others == 0 ? "" :
					  psprintf(", the worst of " INT64_FORMAT, others + 1));
	}
	SPI_finish();
}

/*
 * replication_lag: value in seconds.  The same definition is in force on a
 * primary and, since it is replicated, on its standbys: each looks at its own
 * side.  A target names a standby, and means nothing on a standby itself.
 */
void
rsl_check_replication_lag(const rsl_check_policy *policy,
						  rsl_check_result *result)
{
	if (RecoveryInProgress())
		check_standby(policy, result);
	else
		check_primary(policy, result);
}

/*
 * replication_slots: value in bytes, of WAL that the worst slot holds back.
 * One that has lost some, or is about to, is unhealthy whatever it holds back.
 * Slots are not replicated: on a standby one that is missing is no fault.
 */
void
rsl_check_replication_slots(const rsl_check_policy *policy,
							rsl_check_result *result)
{
	static const char query[] =
		"SELECT s.slot_name::text, s.active, s.wal_status, "
		"coalesce(pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() "
		"THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, "
		"s.restart_lsn), 0)::float8 AS retained, "
		"pg_catalog.count(*) FILTER (WHERE NOT s.active) OVER (), "
		"s.wal_status IN ('lost', 'unreserved') AS broken "
		"FROM pg_catalog.pg_replication_slots s "
		"WHERE $1 = '' OR s.slot_name::text = $1 "
		"ORDER BY broken DESC NULLS LAST, retained DESC LIMIT 1";
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(policy->target)};
	const char *name;
	const char *inactive;
	double		retained;

	if (rsl_check_look(query, 1, types, values) == 0)
	{
		if (policy->target[0] == '\0')
			rsl_check_say(result, "there are no replication slots");
		else
		{
			bool		standby = RecoveryInProgress();

			result->status = standby ? RSL_HEALTHY : RSL_UNHEALTHY;
			rsl_check_say(result, "replication slot \"%s\" does not exist%s",
						  policy->target, standby ? " on this standby" : "");
		}
		SPI_finish();
		return;
	}

	name = text_column(0, 1);
	inactive = bool_column(0, 2) ? "" : " (inactive)";
	retained = Max(float_column(0, 4, 0), 0);
	rsl_check_judge(policy, retained, result);
	if (bool_column(0, 6))
	{
		bool		lost = strcmp(text_column(0, 3), "lost") == 0;

		result->status = RSL_UNHEALTHY;
		rsl_check_say(result, lost ? "replication slot \"%s\"%s has lost WAL that it needs" :
					  "replication slot \"%s\"%s is about to lose WAL that it needs",
					  name, inactive);
	}
	else
	{
		int64		others = int_column(0, 5) - (inactive[0] ? 1 : 0);

		rsl_check_say(result, "replication slot \"%s\"%s holds back %s%s", name,
					  inactive, rsl_check_size(retained),
					  others > 0 ? psprintf(", " INT64_FORMAT " other inactive", others) : "");
	}
	SPI_finish();
}

/*
 * archiver: value in seconds, since the oldest segment waits that is complete
 * and not archived.  Better than the time since the last success: that is long
 * on a server that writes nothing, and tells of no command that hangs.
 */
void
rsl_check_archiver(const rsl_check_policy *policy, rsl_check_result *result)
{
	static const char query[] =
		"SELECT pg_catalog.count(*), "
		"greatest(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.min(f.modification)), 0)::float8, "
		"(SELECT a.last_failed_time > coalesce(a.last_archived_time, '-infinity') "
		"FROM pg_catalog.pg_stat_archiver a) "
		"FROM pg_catalog.pg_ls_archive_statusdir() f WHERE f.name LIKE '%.ready'";
	int64		waiting;
	double		seconds;
	bool		fails;

	if (!XLogArchivingActive())
	{
		rsl_check_say(result, "archiving is off");
		return;
	}
	if (RecoveryInProgress() && !XLogArchivingAlways())
	{
		rsl_check_say(result, "nothing is archived on a standby (archive_mode is not \"always\")");
		return;
	}
	rsl_check_look(query, 0, NULL, NULL);
	waiting = int_column(0, 1);
	seconds = float_column(0, 2, 0);
	fails = bool_column(0, 3);
	SPI_finish();

	rsl_check_judge(policy, seconds, result);
	if (waiting == 0)
		rsl_check_say(result, "nothing waits to be archived");
	else
		rsl_check_say(result, INT64_FORMAT " segment%s to be archived, for %s%s",
					  waiting, waiting == 1 ? " waits" : "s wait",
					  rsl_check_duration(seconds),
					  fails ? "; the last attempt failed" : "");
}

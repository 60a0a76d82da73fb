/*-------------------------------------------------------------------------
 *
 * kinds.c
 *		What the kinds of health checks have in common.
 *
 * A check of the kind "sql" runs its owner's query with the owner's rights.
 * The other kinds look with the rights of the extension's owner, so that they
 * see everything whoever has made the check; their messages name processes,
 * databases, slots, but no text of anybody's statements.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <math.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "health/kinds.h"
#include "mb/pg_wchar.h"
#include "policy/definitions.h"
#include "policy/health_policy.h"
#include "policy/read_query.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

#define NONE	NAN

typedef struct kind_description
{
	rsl_check_function run;
	const char *unit;
	bool		less_is_worse;
	double		warning;
	double		critical;
} kind_description;

/*
 * The defaults, and why.
 *
 * foreign_server: a connection takes some round trips, over any distance on
 * earth less than half a second.  How long is too long is said by the timeout.
 *
 * connections: four fifths leaves the time to look for who leaks; of the last
 * twentieth a burst makes nothing.
 *
 * replication_lag: 10 s are more than a large transaction or a checkpoint
 * takes; a minute is twice the conflicts that max_standby_streaming_delay
 * allows, and what wal_sender_timeout takes for a dead peer.
 *
 * replication_slots: see rsl_check_thresholds().
 *
 * xid_age: shares of the 2^31 that there are.  Vacuum to prevent wraparound
 * begins at autovacuum_freeze_max_age, a tenth, or nearly half where that was
 * raised to a billion: by half it should have got through.  At three quarters
 * vacuum itself leaves all else aside (vacuum_failsafe_age).
 *
 * long_transactions: after five minutes bloat begins to be felt in tables that
 * are updated much; an hour is more than a report that somebody waits for.
 *
 * lock_waits: deadlocks are found after a second; who waits for five waits for
 * work that is not usual, and half a minute is what clients give up at.
 *
 * archiver: a command that fails is tried three times in a row and then once
 * a minute: two such rounds; and a quarter of an hour of work that only this
 * machine has.
 *
 * disk_free: file systems get slow when they are nearly full, and a bulk load
 * or a replication slot fills a twentieth overnight.
 *
 * load: runnable processes and threads for each core.  With two, work takes
 * twice the time; with eight the server does less than it could.
 */
static const kind_description kinds[RSL_NUM_CHECK_KINDS] = {
	[RSL_CHECK_SQL] = {NULL, NULL, false, NONE, NONE},
	[RSL_CHECK_FOREIGN_SERVER] = {rsl_check_foreign_server, "milliseconds", false, 500, NONE},
	[RSL_CHECK_CONNECTIONS] = {rsl_check_connections, "share", false, 0.8, 0.95},
	[RSL_CHECK_REPLICATION_LAG] = {rsl_check_replication_lag, "seconds", false, 10, 60},
	[RSL_CHECK_REPLICATION_SLOTS] = {rsl_check_replication_slots, "bytes", false, NONE, NONE},
	[RSL_CHECK_XID_AGE] = {rsl_check_xid_age, "share", false, 0.5, 0.75},
	[RSL_CHECK_LONG_TRANSACTIONS] = {rsl_check_long_transactions, "seconds", false, 300, 3600},
	[RSL_CHECK_LOCK_WAITS] = {rsl_check_lock_waits, "seconds", false, 5, 30},
	[RSL_CHECK_ARCHIVER] = {rsl_check_archiver, "seconds", false, 120, 900},
	[RSL_CHECK_DISK_FREE] = {rsl_check_disk_free, "share", true, 0.15, 0.05},
	[RSL_CHECK_LOAD] = {rsl_check_load, "runnable per core", false, 2, 8},
};

bool
rsl_check_less_is_worse(rsl_check_kind kind)
{
	return kinds[kind].less_is_worse;
}

/* NULL for the kind "sql": whatever the query returns. */
const char *
rsl_check_unit(rsl_check_kind kind)
{
	return kinds[kind].unit;
}

/*
 * The thresholds in force.  Those of slots follow the server's settings: what
 * it holds back beyond max_wal_size no checkpoint would need, and ten times
 * that, or what is left of max_slot_wal_keep_size, is not far from the end.
 */
void
rsl_check_thresholds(const rsl_check_policy *policy, double *warning,
					 double *critical)
{
	const kind_description *kind = &kinds[policy->kind];

	*warning = kind->warning;
	*critical = kind->critical;
	if (policy->kind == RSL_CHECK_REPLICATION_SLOTS)
	{
		*warning = max_wal_size_mb * 1048576.0;
		*critical = 10 * *warning;
		if (max_slot_wal_keep_size_mb >= 0)
			*critical = Min(*critical, 0.9 * max_slot_wal_keep_size_mb * 1048576.0);
		*warning = Min(*warning, *critical / 2);
	}
	if (!isnan(policy->warning_threshold))
		*warning = policy->warning_threshold;
	if (!isnan(policy->critical_threshold))
		*critical = policy->critical_threshold;
}

/* The owner of the extension's table. */
static Oid
extension_owner(void)
{
	Oid			relid = rsl_extension_relation(RSL_HEALTH_CHECKS_NAME);
	Relation	relation = OidIsValid(relid) ? RelationIdGetRelation(relid) : NULL;
	Oid			owner = BOOTSTRAP_SUPERUSERID;

	if (RelationIsValid(relation))
	{
		owner = relation->rd_rel->relowner;
		RelationClose(relation);
	}
	return owner;
}

void
rsl_run_check(const rsl_check_policy *policy, const char *query,
			  rsl_check_result *result)
{
	memset(result, 0, sizeof(*result));
	result->status = RSL_HEALTHY;
	XactReadOnly = true;

	if (policy->kind == RSL_CHECK_SQL)
		rsl_check_sql(policy, query, result);
	else
	{
		rsl_identity before;

		/* what the views show is remembered for the whole transaction */
		pgstat_clear_snapshot();
		rsl_become(extension_owner(), &before);
		kinds[policy->kind].run(policy, result);
		rsl_become_again(&before);
	}
}

void
rsl_check_message(char *message, const char *text)
{
	static const char ellipsis[] = "...";
	int			length = strlen(text);

	if (length < RSL_CHECK_MESSAGE_LEN)
		memcpy(message, text, length + 1);
	else
	{
		length = pg_mbcliplen(text, length,
							  RSL_CHECK_MESSAGE_LEN - (int) sizeof(ellipsis));
		memcpy(message, text, length);
		memcpy(message + length, ellipsis, sizeof(ellipsis));
	}
	for (char *c = message; *c; c++)
	{
		if ((unsigned char) *c < ' ')
			*c = ' ';
	}
}

void
rsl_check_say(rsl_check_result *result, const char *format,...)
{
	StringInfoData text;

	initStringInfo(&text);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, format);
		needed = appendStringInfoVA(&text, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&text, needed);
	}
	rsl_check_message(result->message, text.data);
	pfree(text.data);
}

/*
 * The direction of the built-in kinds is known; that of a query is told by its
 * thresholds.
 */
void
rsl_check_judge(const rsl_check_policy *policy, double value,
				rsl_check_result *result)
{
	double		warning;
	double		critical;

	rsl_check_thresholds(policy, &warning, &critical);
	result->has_value = true;
	result->value = value;
	result->status = policy->kind == RSL_CHECK_SQL ?
		rsl_judge_value(value, warning, critical) :
		rsl_judge_value_towards(value, warning, critical,
								rsl_check_less_is_worse(policy->kind));
}

/*
 * Run a query of ours.  Its rows are in SPI_tuptable until SPI_finish(), which
 * the caller calls.
 */
uint64
rsl_check_look(const char *sql, int nargs, Oid *types, Datum *values)
{
	int			rc;

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	rc = SPI_execute_with_args(sql, nargs, types, values, NULL, true, 0);
	PopActiveSnapshot();
	if (rc != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_with_args failed: %s",
			 SPI_result_code_string(rc));
	return SPI_processed;
}

/* As short as it is still exact enough. */
char *
rsl_check_duration(double seconds)
{
	if (seconds < 10)
		return psprintf("%.1f s", seconds);
	if (seconds < 600)
		return psprintf("%.0f s", seconds);
	if (seconds < 2 * 3600)
		return psprintf("%.0f min", seconds / 60);
	if (seconds < 48 * 3600)
		return psprintf("%.1f h", seconds / 3600);
	return psprintf("%.1f days", seconds / 86400);
}

char *
rsl_check_size(double bytes)
{
	if (bytes < 10240)
		return psprintf("%.0f bytes", bytes);
	if (bytes < 10 * 1048576.0)
		return psprintf("%.0f kB", bytes / 1024);
	if (bytes < 10 * 1073741824.0)
		return psprintf("%.0f MB", bytes / 1048576);
	return psprintf("%.0f GB", bytes / 1073741824);
}

/*-------------------------------------------------------------------------
 *
 * rows.c
 *		Rows of a table of definitions as policies, and which of them there is
 *		room for.
 *
 * A transaction that writes a definition which shared memory has no room for
 * fails.  Other definitions may be there that have none, too: those of a server
 * that was started with a smaller setting than before, or of a standby with a
 * smaller one than its primary.  They are left out, and reported, so that they
 * are not in the way of what can be in force, nor of whoever drops some.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "policy/definitions.h"
#include "policy/rows.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/*
 * Read this database's definitions from the table of the extension with that
 * name.  The result is palloc'd.
 */
void
rsl_read_rows(const char *relname, Size policy_size, rsl_policy_maker make,
			  rsl_policy_rows *rows)
{
	Oid			relid = rsl_extension_relation(relname);
	Relation	relation;
	Snapshot	snapshot;
	TableScanDesc scan;
	HeapTuple	tuple;
	int			allocated = 16;

	rows->n = 0;
	rows->policies = palloc(allocated * policy_size);
	rows->written = palloc(allocated * sizeof(bool));
	if (!OidIsValid(relid))
		return;

	relation = table_open(relid, AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = rsl_table_beginscan(relation, snapshot);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		rsl_policy_head *policy;

		if (rows->n == allocated)
		{
			allocated *= 2;
			rows->policies = repalloc(rows->policies, allocated * policy_size);
			rows->written = repalloc(rows->written, allocated * sizeof(bool));
		}
		policy = (rsl_policy_head *) ((char *) rows->policies + rows->n * policy_size);
		/* all of it: padding too is compared, and part of a checksum */
		memset(policy, 0, policy_size);
		policy->home_database = MyDatabaseId;
		rows->written[rows->n] =
			TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
		if (make(tuple, RelationGetDescr(relation), policy))
			rows->n++;
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(relation, NoLock);
}

RSL_NORETURN static void
raise_no_room(const rsl_room *room, int n)
{
	if (room->others + n <= room->limit)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no room for %s at the moment", room->plural),
				 errdetail("Dropped %s keep their room until the transactions that they admitted have ended.",
						   room->plural),
				 errhint("Wait for these transactions, or raise \"%s\" and restart the server.",
						 room->setting)));
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("too many %s", room->plural),
			 errdetail("limit=%d this_database=%d other_databases=%d",
					   room->limit, n, room->others),
			 room->setting ?
			 errhint("Drop some, or raise \"%s\" and restart the server.",
					 room->setting) :
			 errhint("Drop some; a server has at most %d.", room->limit)));
}

/*
 * Keep the policies that there is room for: those in force already, and then as
 * many others as possible.  Returns how many.  Error if one of those that the
 * transaction itself has written has none.  The publishers' lock is held, so
 * what was counted stays that way.
 */
int
rsl_fit_rows(const rsl_room *room, int npolicies, void *policies,
			 Size policy_size, const bool *in_force, bool *written,
			 rsl_left_out *left_out)
{
	int			room_left = room->limit - room->others;
	int			n = 0;

	for (int p = 0; p < npolicies; p++)
		room_left -= in_force[p] ? 1 : 0;
	if (room->free >= 0)
		room_left = Min(room_left, room->free);

	left_out->n = 0;
	left_out->room = *room;
	for (int p = 0; p < npolicies; p++)
	{
		char	   *policy = (char *) policies + p * policy_size;

		if (!in_force[p] && room_left-- <= 0)
		{
			if (written[p])
				raise_no_room(room, npolicies);
			if (left_out->n++ == 0)
				strlcpy(left_out->name, ((rsl_policy_head *) policy)->name, NAMEDATALEN);
			continue;
		}
		if (n < p)
			memcpy((char *) policies + n * policy_size, policy, policy_size);
		written[n++] = written[p];
	}
	return n;
}

/* Say what is not in force, and what would help. */
void
rsl_report_left_out(int elevel, const rsl_left_out *left_out)
{
	const rsl_room *room = &left_out->room;

	if (left_out->n == 0)
		return;
	ereport(elevel,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("%s \"%s\" is not in force: no room in shared memory",
					room->singular, left_out->name),
			 errdetail("limit=%d left_out=%d", room->limit, left_out->n),
			 room->setting ?
			 errhint("Drop some, or raise \"%s\" and restart the server.",
					 room->setting) :
			 errhint("Drop some; a server has at most %d.", room->limit)));
}

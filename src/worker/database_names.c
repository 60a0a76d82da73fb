/*-------------------------------------------------------------------------
 *
 * database_names.c
 *		Names of databases, for processes that cannot look them up.
 *
 * The launcher, who can read pg_database, writes the names of those that have
 * the extension into shared memory: when one is new there, and once a minute,
 * since databases are renamed.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "shared/layout.h"
#include "shared/pool.h"
#include "shared/workers.h"
#include "utils/snapmgr.h"
#include "worker/database_names.h"

#define LOOK_EVERY_US	INT64CONST(60000000)

/* after a look that found no name for one, say because it was dropped */
#define PAUSE_US		INT64CONST(1000000)

static bool
one_is_new(void)
{
	for (int i = 0; i < RSL_MAX_DATABASES; i++)
	{
		if (rsl_workers->databases[i].oid != InvalidOid &&
			rsl_workers->databases[i].name[0] == '\0')
			return true;
	}
	return false;
}

static void
put_name(Oid database, const char *name)
{
	rsl_database *entry = rsl_database_find(database);

	/* nobody else writes names: looking needs no lock */
	if (entry == NULL || strcmp(entry->name, name) == 0)
		return;
	LWLockAcquire(rsl_config_lock, LW_EXCLUSIVE);
	entry = rsl_database_find(database);
	if (entry != NULL)
		strlcpy(entry->name, name, NAMEDATALEN);
	LWLockRelease(rsl_config_lock);
}

void
rsl_name_databases(void)
{
	static int64 next_look = 0;
	static int64 pause_until = 0;
	MemoryContext caller = CurrentMemoryContext;
	int64		now = rsl_now_us();
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;

	if (now < next_look && (now < pause_until || !one_is_new()))
		return;
	next_look = now + LOOK_EVERY_US;
	pause_until = now + PAUSE_US;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		put_name(database->oid, NameStr(database->datname));
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
}

/*-------------------------------------------------------------------------
 *
 * reader.c
 *		A short visit to one database: are its bulkheads in force?
 *
 * The launcher sends a reader to each database in turn.  It compares the
 * table of definitions with what is published, corrects that, and leaves, so
 * that it is never in the way of DROP DATABASE for long.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_extension.h"
#include "policy/publish.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/snapmgr.h"
#include "worker/launcher.h"

/*
 * The publishers' lock, without waiting: who holds it will publish anyway.
 * On a standby nobody else publishes, and such a lock cannot be had.
 */
static bool
lock_definitions_now(void)
{
	LOCKTAG		tag;

	if (RecoveryInProgress())
		return true;
	SET_LOCKTAG_OBJECT(tag, InvalidOid, ExtensionRelationId, InvalidOid, 0);
	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

void
rsl_reader_main(Datum arg)
{
	Oid			database = DatumGetObjectId(arg);

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (lock_definitions_now())
	{
		rsl_publication *publication = rsl_prepare_publication(database);

		if (rsl_publication_differs(publication))
			rsl_publish(publication);
	}
	else
		pg_atomic_fetch_add_u32(&rsl_shmem->visit_requests, 1);
	PopActiveSnapshot();
	CommitTransactionCommand();
	proc_exit(0);
}

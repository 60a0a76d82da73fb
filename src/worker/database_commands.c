/*-------------------------------------------------------------------------
 *
 * database_commands.c
 *		Commands that need a database for themselves.
 *
 * DROP DATABASE, ALTER DATABASE ... RENAME and SET TABLESPACE, and CREATE
 * DATABASE, of its template, fail while somebody is connected to the
 * database.  Our workers are nobody's business: they go when such a command
 * begins, and stay away until its transaction has ended, or its session has.
 *
 * Only for whom the command would not be refused anyway: others cannot send
 * the workers away.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "shared/layout.h"
#include "shared/workers.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "worker/database.h"

/* how long a command waits for workers to go */
#define WAIT_MS				5000
#define LOOK_EVERY_MS		5

static ProcessUtility_hook_type prev_process_utility = NULL;

/* this transaction's */
static bool have_bars = false;
static bool callback_registered = false;

/* An option's value, NULL if it is not given. */
static DefElem *
option_of_command(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst(lc);

		if (strcmp(option->defname, name) == 0 && option->arg != NULL)
			return option;
	}
	return NULL;
}

/* The database that a command needs for itself; NULL if it needs none. */
static const char *
concerned_database(Node *parsetree, bool *as_template)
{
	*as_template = false;
	switch (nodeTag(parsetree))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) parsetree)->dbname;

		case T_RenameStmt:
			return ((RenameStmt *) parsetree)->renameType == OBJECT_DATABASE ?
				((RenameStmt *) parsetree)->subname : NULL;

		case T_AlterDatabaseStmt:
			return option_of_command(((AlterDatabaseStmt *) parsetree)->options,
									 "tablespace") ?
				((AlterDatabaseStmt *) parsetree)->dbname : NULL;

		case T_CreatedbStmt:
			{
				DefElem    *option = option_of_command(((CreatedbStmt *) parsetree)->options,
													   "template");

				*as_template = true;
				return option ? defGetString(option) : "template1";
			}

		default:
			return NULL;
	}
}

/* have_createdb_privilege() is exported by the newest minor releases only. */
static bool
may_create_databases(void)
{
	HeapTuple	tuple;
	bool		may;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (!HeapTupleIsValid(tuple))
		return false;
	may = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
	ReleaseSysCache(tuple);
	return may;
}

/* May the current user do it at all?  Not quite, if in doubt. */
static bool
may_do(Oid database, bool as_template)
{
	HeapTuple	tuple;
	bool		may;

	if (rsl_owns_database(database, GetUserId()))
		return true;
	if (!as_template)
		return false;
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (!HeapTupleIsValid(tuple))
		return false;
	may = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
	ReleaseSysCache(tuple);
	return may && may_create_databases();
}

static void
transaction_ended(XactEvent event, void *arg)
{
	if (have_bars &&
		(event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		 event == XACT_EVENT_PREPARE))
	{
		have_bars = false;
		rsl_lift_bars();
	}
}

static void
send_workers_away(Node *parsetree)
{
	bool		as_template;
	const char *name = concerned_database(parsetree, &as_template);
	Oid			database;

	if (name == NULL || !IsTransactionState() || RecoveryInProgress())
		return;
	database = get_database_oid(name, true);
	if (!OidIsValid(database) || !may_do(database, as_template))
		return;

	if (!callback_registered)
	{
		RegisterXactCallback(transaction_ended, NULL);
		callback_registered = true;
	}
	have_bars = true;
	if (rsl_bar_database(database) == 0)
		return;
	for (int waited = 0; waited < WAIT_MS; waited += LOOK_EVERY_MS)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOOK_EVERY_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (rsl_count_workers(database) == 0)
			break;
	}
}

static void
process_utility(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *queryEnv, DestReceiver *dest,
				QueryCompletion *qc)
{
	if (rsl_shmem != NULL)
		send_workers_away(pstmt->utilityStmt);

	if (prev_process_utility)
		prev_process_utility(pstmt, queryString, readOnlyTree, context, params,
							 queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context, params,
								queryEnv, dest, qc);
}

/* Called by _PG_init() when the library is being preloaded. */
void
rsl_database_commands_init(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}

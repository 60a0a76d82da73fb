/*-------------------------------------------------------------------------
 *
 * fdw_commands.c
 *		ANALYZE, IMPORT FOREIGN SCHEMA and TRUNCATE.
 *
 * Each is a call of its own: there is no node to remember anything in.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "breaker/fdw_node.h"
#include "breaker/remote.h"
#include "foreign/foreign.h"
#include "shared/errcodes.h"
#include "utils/hsearch.h"
#include "utils/rel.h"

/* The functions that sample tables, by table; ANALYZE calls them later. */
typedef struct sampler
{
	Oid			relid;			/* hash key */
	AcquireSampleRowsFunc function;
} sampler;

static HTAB *samplers = NULL;

static int
guarded_sample(Relation relation, int elevel, HeapTuple *rows, int targrows,
			   double *totalrows, double *totaldeadrows)
{
	Oid			relid = RelationGetRelid(relation);
	rsl_server *server = rsl_server_lookup(GetForeignServerIdByRelId(relid));
	sampler    *entry = hash_search(samplers, &relid, HASH_FIND, NULL);
	int			result;

	if (entry == NULL)
		elog(ERROR, "no sampling function for relation %u", relid);
	if (!rsl_fdw_is_guarded(server))
	{
		rsl_fdw_call_begins(server);
		return entry->function(relation, elevel, rows, targrows, totalrows,
							   totaldeadrows);
	}
	RSL_FDW_CALL(server, "analyze",
				 result = entry->function(relation, elevel, rows, targrows,
										  totalrows, totaldeadrows));
	return result;
}

/*
 * An ANALYZE of many tables goes on without those that cannot be reached:
 * "false" makes the server skip one with a warning.
 */
static bool
guarded_analyze(Relation relation, AcquireSampleRowsFunc *function,
				BlockNumber *totalpages)
{
	Oid			relid = RelationGetRelid(relation);
	rsl_server *server = rsl_server_lookup(GetForeignServerIdByRelId(relid));
	sampler    *entry;
	bool		result;

	if (!rsl_fdw_is_guarded(server))
	{
		rsl_fdw_call_begins(server);
		return server->fdw->AnalyzeForeignTable(relation, function, totalpages);
	}

	if (rsl_breaker_blocks(server->breaker))
	{
		pg_atomic_fetch_add_u64(&rsl_breakers[server->breaker].rejected, 1);
		ereport(WARNING,
				(errcode(ERRCODE_BREAKER_OPEN),
				 errmsg("circuit breaker \"%s\" is open: foreign server \"%s\" is not asked for a sample",
						server->policy.name, server->policy.server_name)));
		return false;
	}

	RSL_FDW_CALL(server, "analyze",
				 result = server->fdw->AnalyzeForeignTable(relation, function,
														   totalpages));
	if (!result)
		return false;

	if (samplers == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(sampler);
		samplers = hash_create("resilience sampled tables", 16, &ctl,
							   HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(samplers, &relid, HASH_ENTER, NULL);
	entry->function = *function;
	*function = guarded_sample;
	return true;
}

static List *
guarded_import(ImportForeignSchemaStmt *stmt, Oid serverid)
{
	rsl_server *server = rsl_server_lookup(serverid);
	List	   *result;

	if (!rsl_fdw_is_guarded(server))
	{
		rsl_fdw_call_begins(server);
		return server->fdw->ImportForeignSchema(stmt, serverid);
	}
	RSL_FDW_CALL(server, "import",
				 result = server->fdw->ImportForeignSchema(stmt, serverid));
	if (server->is_postgres_fdw)
		rsl_remote_used(server, NULL, GetUserId());
	return result;
}

/* All tables of one call are of one server. */
static void
guarded_truncate(List *rels, DropBehavior behavior, bool restart_seqs)
{
	Oid			relid = RelationGetRelid((Relation) linitial(rels));
	rsl_server *server = rsl_server_lookup(GetForeignServerIdByRelId(relid));

	if (!rsl_fdw_is_guarded(server))
	{
		rsl_fdw_call_begins(server);
		server->fdw->ExecForeignTruncate(rels, behavior, restart_seqs);
		return;
	}
	RSL_FDW_CALL(server, "truncate",
				 server->fdw->ExecForeignTruncate(rels, behavior, restart_seqs));
	if (server->is_postgres_fdw)
		rsl_remote_used(server, NULL, GetUserId());
}

void
rsl_wrap_commands(FdwRoutine *routine)
{
	if (routine->AnalyzeForeignTable)
		routine->AnalyzeForeignTable = guarded_analyze;
	if (routine->ImportForeignSchema)
		routine->ImportForeignSchema = guarded_import;
	if (routine->ExecForeignTruncate)
		routine->ExecForeignTruncate = guarded_truncate;
}

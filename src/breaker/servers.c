/*-------------------------------------------------------------------------
 *
 * servers.c
 *		What this backend knows about foreign servers and their wrappers.
 *
 * A cache in front of the catalogs and of shared memory: while nothing has
 * changed, finding a server's breaker is one look into a hash table and one
 * read of a generation number.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "breaker/servers.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "policy/breaker_policy.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/syscache.h"

typedef struct table_entry
{
	Oid			relid;			/* hash key */
	bool		remote_estimate;
} table_entry;

static HTAB *servers = NULL;
static HTAB *tables = NULL;
static bool tables_valid = false;

static void
forget_servers(Datum arg, int cacheid, uint32 hashvalue)
{
	HASH_SEQ_STATUS scan;
	rsl_server *server;

	hash_seq_init(&scan, servers);
	while ((server = hash_seq_search(&scan)) != NULL)
		server->described = false;
	tables_valid = false;
}

static void
forget_tables(Datum arg, int cacheid, uint32 hashvalue)
{
	tables_valid = false;
}

static void
first_use(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(rsl_server);
	servers = hash_create("resilience foreign servers", 8, &ctl,
						  HASH_ELEM | HASH_BLOBS);
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, forget_servers, (Datum) 0);
	CacheRegisterSyscacheCallback(FOREIGNDATAWRAPPEROID, forget_servers,
								  (Datum) 0);
	CacheRegisterSyscacheCallback(FOREIGNTABLEREL, forget_tables, (Datum) 0);
}

/* Does a list of options say that planning asks the server? */
static bool
estimates_remotely(List *options, bool otherwise)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, "use_remote_estimate") == 0)
			return defGetBoolean(option);
	}
	return otherwise;
}

/* Where the server is, to tell its connections from others. */
static void
note_address(rsl_server *server, List *options)
{
	ListCell   *cell;

	server->host[0] = server->hostaddr[0] = '\0';
	strlcpy(server->port, "5432", sizeof(server->port));
	foreach(cell, options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, "host") == 0)
			strlcpy(server->host, defGetString(option), sizeof(server->host));
		else if (strcmp(option->defname, "hostaddr") == 0)
			strlcpy(server->hostaddr, defGetString(option), sizeof(server->hostaddr));
		else if (strcmp(option->defname, "port") == 0)
			strlcpy(server->port, defGetString(option), sizeof(server->port));
	}
}

static void
describe(rsl_server *server)
{
	ForeignServer *catalog = GetForeignServer(server->serverid);
	ForeignDataWrapper *wrapper = GetForeignDataWrapper(catalog->fdwid);

	server->fdw = rsl_original_routine(wrapper->fdwhandler);
	server->is_postgres_fdw = rsl_is_postgres_fdw(wrapper->fdwhandler);
	server->remote_estimate = server->is_postgres_fdw &&
		estimates_remotely(catalog->options, false);
	if (server->is_postgres_fdw)
		note_address(server, catalog->options);
	server->described = true;
}

static void
find_breaker(rsl_server *server, uint64 generation)
{
	server->breaker = rsl_breaker_of_server(server->serverid);
	if (server->breaker >= 0)
	{
		LWLockAcquire(rsl_config_lock, LW_SHARED);
		server->policy = rsl_breakers[server->breaker].policy;
		LWLockRelease(rsl_config_lock);
	}
	server->generation = generation;
}

rsl_server *
rsl_server_lookup(Oid serverid)
{
	rsl_server *server;
	uint64		generation;
	bool		found;

	if (servers == NULL)
		first_use();
	server = hash_search(servers, &serverid, HASH_ENTER, &found);
	if (!found)
	{
		memset(server, 0, sizeof(*server));
		server->serverid = serverid;
		server->breaker = -1;
	}
	if (unlikely(!server->described))
		describe(server);
	generation = pg_atomic_read_u64(&rsl_breakers_shmem->generation);
	if (unlikely(server->generation != generation))
		find_breaker(server, generation);
	return server;
}

/*
 * Does planning a query on this table ask its server?  Only postgres_fdw is
 * known to: the table's option use_remote_estimate wins over the server's.
 */
bool
rsl_table_estimates_remotely(rsl_server *server, Oid relid)
{
	table_entry *entry;
	bool		found;

	if (!server->is_postgres_fdw)
		return false;
	if (!tables_valid)
	{
		HASHCTL		ctl = {0};

		if (tables)
			hash_destroy(tables);
		tables = NULL;
		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(table_entry);
		tables = hash_create("resilience foreign tables", 32, &ctl,
							 HASH_ELEM | HASH_BLOBS);
		tables_valid = true;
	}
	entry = hash_search(tables, &relid, HASH_FIND, &found);
	if (!found)
	{
		bool		result = estimates_remotely(GetForeignTable(relid)->options,
												server->remote_estimate);

		/* reading the catalog may have emptied the cache */
		if (!tables_valid)
			return result;
		entry = hash_search(tables, &relid, HASH_ENTER, &found);
		entry->remote_estimate = result;
	}
	return entry->remote_estimate;
}

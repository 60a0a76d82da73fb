/*-------------------------------------------------------------------------
 *
 * connection.c
 *		Connection bulkheads: at authentication.
 *
 * The hook runs when the client has proved who it is, so a stranger cannot
 * fill a compartment by failing to log in, and before the session costs
 * anything more.  A slot once taken is given back by the exit callback that
 * rsl_session_attach() has registered, also when the rest of the start-up
 * fails (no such database, CONNECTION LIMIT, no CONNECT privilege).  Rates,
 * the server's and the bulkheads', are kept here as well.
 *
 * A transaction is open here and shared catalogs can be read, but the role
 * and the database that the client names need not exist.
 *
 *-------------------------------------------------------------------------
 */
#include "client_port.h"
#include "compat.h"

#include <netinet/in.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "bulkhead/connection.h"
#include "bulkhead/connection_rate.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "policy/conditions.h"
#include "policy/match.h"
#include "replication/walsender.h"
#include "shared/experiments.h"
#include "shared/session.h"
#include "shared/settings.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/inet.h"
#include "utils/rel.h"
#include "utils/relcache.h"

static ClientAuthentication_hook_type prev_client_auth_hook = NULL;

/*
 * The database that the client names.  get_database_oid() will not do: it
 * scans an index, and whenever the relation cache's file for shared
 * relations has been invalidated the indexes are not known yet at this point.
 */
static Oid
database_by_name(const char *name)
{
	Relation	relation = table_open(DatabaseRelationId, AccessShareLock);
	ScanKeyData key[1];
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			oid = InvalidOid;

	ScanKeyInit(&key[0], Anum_pg_database_datname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum(name));
	scan = systable_beginscan(relation, DatabaseNameIndexId,
							  criticalSharedRelcachesBuilt, NULL, 1, key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		oid = ((Form_pg_database) GETSTRUCT(tuple))->oid;
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return oid;
}

static void
address_of(const Port *port, rsl_address *address)
{
	const struct sockaddr *sockaddr = (const struct sockaddr *) &port->raddr.addr;

	memset(address, 0, sizeof(*address));
	if (sockaddr->sa_family == AF_INET)
	{
		address->family = PGSQL_AF_INET;
		address->bits = 32;
		memcpy(address->bytes,
			   &((const struct sockaddr_in *) sockaddr)->sin_addr, 4);
	}
	else if (sockaddr->sa_family == AF_INET6)
	{
		address->family = PGSQL_AF_INET6;
		address->bits = 128;
		memcpy(address->bytes,
			   &((const struct sockaddr_in6 *) sockaddr)->sin6_addr, 16);
	}
	/* a unix socket has no address and matches no condition on it */
}

static void
refuse(const rsl_bulkhead_policy *policy, uint32 connections)
{
	ereport(FATAL,
			(errcode(ERRCODE_TOO_MANY_CONNECTIONS),
			 errmsg("too many connections for bulkhead \"%s\"", policy->name),
			 errdetail("limit=%d connections=%u started=false",
					   policy->max_connections, connections),
			 errhint("Close connections of this group, or connect again later.")));
}

static void
add_rate(rsl_connection_rate *rates, int *n, const char *bulkhead,
		 double per_second, bool enforce, pg_atomic_uint64 *word,
		 pg_atomic_uint64 *refused, pg_atomic_uint64 *delayed,
		 pg_atomic_uint32 *last_logged)
{
	rsl_connection_rate *rate = &rates[(*n)++];

	strlcpy(rate->bulkhead, bulkhead, sizeof(rate->bulkhead));
	rate->per_second = per_second;
	rate->enforce = enforce;
	rate->word = word;
	rate->refused = refused;
	rate->delayed = delayed;
	rate->last_logged = last_logged;
}

/*
 * Take the connection slots of all bulkheads that match, or refuse.  What is
 * refused here does not use up any rate: those are looked at last.
 */
static void
take_connection_slots(bool exempt)
{
	rsl_session *me = rsl_me;
	rsl_candidate *candidates;
	int			n = rsl_match_candidates(me->database, &candidates);
	rsl_connection_rate *rates = palloc((n + 1) * sizeof(rsl_connection_rate));
	int			nrates = 0;

	for (int i = 0; i < n; i++)
	{
		rsl_bulkhead_policy *policy = &candidates[i].policy;
		rsl_bulkhead *bulkhead = &rsl_bulkheads[candidates[i].index];
		bool		enforce;
		bool		taken;

		if (rsl_conditions_judge_statements(&policy->conditions) ||
			!rsl_conditions_match_session(&policy->conditions, me->role,
										  rsl_conditions_is_member(&policy->conditions, me->role),
										  me->database, &me->address,
										  me->application_name))
			continue;

		enforce = policy->mode == RSL_MODE_ENFORCE &&
			rsl_mode_setting == RSL_MODE_ENFORCE && !exempt;

		/*
		 * The lock keeps the entry from being given to another bulkhead, and
		 * max_connections from changing, between the look and the taking.
		 */
		LWLockAcquire(rsl_config_lock, LW_SHARED);
		if (!bulkhead->published || bulkhead->uid != candidates[i].uid)
		{
			LWLockRelease(rsl_config_lock);
			continue;
		}
		taken = rsl_connection_take(me, candidates[i].index, false);
		if (!taken && !exempt && policy->mode != RSL_MODE_OFF)
			pg_atomic_fetch_add_u64(&bulkhead->refused_connections, 1);
		if (!taken && !enforce)
			rsl_connection_take(me, candidates[i].index, true);
		LWLockRelease(rsl_config_lock);

		/* an entry that is given to another bulkhead meanwhile does no harm */
		if (policy->max_connection_rate >= 0 && !exempt &&
			policy->mode != RSL_MODE_OFF)
			add_rate(rates, &nrates, policy->name, policy->max_connection_rate,
					 enforce, &bulkhead->connection_word,
					 &bulkhead->refused_connections, NULL,
					 &bulkhead->last_logged);

		if (taken)
			continue;
		if (enforce)
			refuse(policy, pg_atomic_read_u32(&bulkhead->connections));
		if (!exempt && policy->mode != RSL_MODE_OFF)
			ereport(LOG,
					(errmsg("bulkhead \"%s\" would have refused a connection",
							policy->name),
					 errdetail("limit=%d connections=%u mode=observe",
							   policy->max_connections,
							   pg_atomic_read_u32(&bulkhead->connections))));
	}
	if (candidates)
		pfree(candidates);

	if (rsl_max_connection_rate >= 0 && !exempt)
		add_rate(rates, &nrates, "", rsl_max_connection_rate,
				 rsl_mode_setting == RSL_MODE_ENFORCE,
				 &rsl_shmem->connection_word, &rsl_shmem->refused_connections,
				 &rsl_shmem->delayed_connections,
				 &rsl_shmem->connection_last_logged);
	if (nrates > 0)
		rsl_keep_connection_rates(rates, nrates);
	pfree(rates);
}

static void
client_authentication(Port *port, int status)
{
	rsl_address address;
	Oid			role;
	Oid			database;
	bool		superuser;
	bool		exempt;

	if (prev_client_auth_hook)
		prev_client_auth_hook(port, status);

	/* walsenders are neither counted nor refused */
	if (status != STATUS_OK || rsl_shmem == NULL || am_walsender)
		return;

	/* start-up will refuse a role or database that does not exist */
	role = get_role_oid(port->user_name, true);
	database = database_by_name(port->database_name);
	if (!OidIsValid(role) || !OidIsValid(database))
		return;

	superuser = superuser_arg(role);
	exempt = superuser || rsl_may_use_reserved_connections(role);
	address_of(port, &address);
	rsl_session_attach(role, database, superuser, &address,
					   port->application_name ? port->application_name : "");
	rsl_match_init();
	if (unlikely(rsl_chaos_armed()))
		rsl_chaos.connection_starts();
	if (rsl_mode_setting != RSL_MODE_OFF)
		take_connection_slots(exempt);
}

/* Called by _PG_init() when the library is being preloaded. */
void
rsl_connection_init(void)
{
	prev_client_auth_hook = ClientAuthentication_hook;
	ClientAuthentication_hook = client_authentication;
}

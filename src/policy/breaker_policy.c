/*-------------------------------------------------------------------------
 *
 * breaker_policy.c
 *		Circuit breakers: from the extension's table to shared memory.
 *
 * The same way as bulkheads: see publish.c.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "policy/breaker_policy.h"
#include "policy/definitions.h"
#include "policy/probe.h"
#include "shared/settings.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

int
rsl_parse_on_open(const char *word)
{
	return pg_strcasecmp(word, "error") == 0 ? RSL_ON_OPEN_ERROR :
		pg_strcasecmp(word, "fallback") == 0 ? RSL_ON_OPEN_FALLBACK :
		pg_strcasecmp(word, "empty") == 0 ? RSL_ON_OPEN_EMPTY : -1;
}

int
rsl_parse_force(const char *word)
{
	return pg_strcasecmp(word, "auto") == 0 ? RSL_FORCE_AUTO :
		pg_strcasecmp(word, "open") == 0 ? RSL_FORCE_OPEN :
		pg_strcasecmp(word, "closed") == 0 ? RSL_FORCE_CLOSED : -1;
}

const char *
rsl_force_name(int force)
{
	return force == RSL_FORCE_OPEN ? "open" :
		force == RSL_FORCE_CLOSED ? "closed" : "auto";
}

static bool
parse_sqlstate(const char *word, int32 *element)
{
	size_t		length = strlen(word);
	char		code[5] = {'0', '0', '0', '0', '0'};

	if (length != 2 && length != 5)
		return false;
	for (size_t i = 0; i < length; i++)
	{
		if (!(word[i] >= '0' && word[i] <= '9') &&
			!(word[i] >= 'A' && word[i] <= 'Z'))
			return false;
		code[i] = word[i];
	}
	/* success, warning, no data */
	if (code[0] == '0' && code[1] >= '0' && code[1] <= '2')
		return false;
	*element = MAKE_SQLSTATE(code[0], code[1], code[2], code[3], code[4]);
	if (length == 2)
		*element |= RSL_SQLSTATE_CLASS;
	return true;
}

const char *
rsl_sqlstate_list_column(HeapTuple tuple, TupleDesc desc, int column,
						 rsl_sqlstate_list *list)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, column, desc, &isnull);
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	memset(list, 0, sizeof(*list));
	if (isnull)
	{
		list->count = -1;
		return NULL;
	}
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false,
					  TYPALIGN_INT, &elements, &nulls, &n);
	if (n > RSL_MAX_SQLSTATES)
		return psprintf("(%d elements, maximum %d)", n, RSL_MAX_SQLSTATES);
	for (int i = 0; i < n; i++)
	{
		char	   *word = nulls[i] ? "NULL" : TextDatumGetCString(elements[i]);

		if (nulls[i] || !parse_sqlstate(word, &list->elements[i]))
			return word;
		list->count = i + 1;
	}
	return NULL;
}

static int64
interval_us(HeapTuple tuple, TupleDesc desc, int column)
{
	return (int64) (rsl_interval_column_ms(tuple, desc, column, 0) * 1000);
}

/*
 * Is this the handler function of postgres_fdw?  By its library: a wrapper
 * that was made from it may have a function of the same name.
 */
bool
rsl_is_postgres_fdw(Oid handler)
{
	HeapTuple	tuple;
	Datum		source;
	Datum		library;
	bool		no_source;
	bool		no_library;
	bool		result;

	if (!OidIsValid(handler))
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(handler));
	if (!HeapTupleIsValid(tuple))
		return false;
	source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &no_source);
	library = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_probin, &no_library);
	result = !no_source && !no_library &&
		strcmp(TextDatumGetCString(source), "postgres_fdw_handler") == 0 &&
		strcmp(TextDatumGetCString(library), "$libdir/postgres_fdw") == 0;
	ReleaseSysCache(tuple);
	return result;
}

/* A row is not in force if its server does not exist. */
static bool
from_tuple(HeapTuple tuple, TupleDesc desc, void *result)
{
	rsl_breaker_policy *policy = result;
	rsl_breaker_config *config = &policy->config;
	char	   *word;
	bool		isnull;

	strlcpy(policy->name, rsl_text_column(tuple, desc, RSL_BCOL_NAME),
			NAMEDATALEN);

	config->max_failures = rsl_int_column(tuple, desc, RSL_BCOL_MAX_FAILURES, 5);
	config->minimum_calls = rsl_int_column(tuple, desc, RSL_BCOL_MINIMUM_CALLS, 20);
	config->failure_rate = rsl_float_column(tuple, desc, RSL_BCOL_FAILURE_RATE, 0.5);
	config->slow_call_rate = rsl_float_column(tuple, desc, RSL_BCOL_SLOW_CALL_RATE, 0.8);
	config->slow_call_us = interval_us(tuple, desc, RSL_BCOL_SLOW_CALL_DURATION);
	config->window_us = interval_us(tuple, desc, RSL_BCOL_WINDOW_DURATION);
	config->reset_us = interval_us(tuple, desc, RSL_BCOL_RESET_TIMEOUT);
	config->max_reset_us = interval_us(tuple, desc, RSL_BCOL_MAX_RESET_TIMEOUT);
	config->backoff_factor = rsl_float_column(tuple, desc, RSL_BCOL_BACKOFF_FACTOR, 2);
	config->jitter = rsl_float_column(tuple, desc, RSL_BCOL_JITTER, 0.2);
	config->half_open_calls = rsl_int_column(tuple, desc, RSL_BCOL_HALF_OPEN_CALLS, 3);
	config->success_threshold = rsl_int_column(tuple, desc, RSL_BCOL_SUCCESS_THRESHOLD, 3);
	policy->call_timeout_ms = (int32) rsl_interval_column_ms(tuple, desc, RSL_BCOL_CALL_TIMEOUT, 0);
	policy->max_concurrent_calls = rsl_int_column(tuple, desc, RSL_BCOL_MAX_CONCURRENT_CALLS, -1);
	policy->probe_wanted = DatumGetBool(heap_getattr(tuple, RSL_BCOL_PROBE, desc, &isnull)) && !isnull;
	policy->on_open = rsl_parse_on_open(rsl_text_column(tuple, desc, RSL_BCOL_ON_OPEN));
	policy->mode = rsl_parse_mode(rsl_text_column(tuple, desc, RSL_BCOL_MODE));
	policy->force = rsl_parse_force(rsl_text_column(tuple, desc, RSL_BCOL_FORCED));
	(void) rsl_sqlstate_list_column(tuple, desc, RSL_BCOL_IGNORED_SQLSTATES, &policy->ignored);
	(void) rsl_sqlstate_list_column(tuple, desc, RSL_BCOL_RECORDED_SQLSTATES, &policy->recorded);

	word = rsl_text_column(tuple, desc, RSL_BCOL_SERVER);
	if (word)
	{
		ForeignServer *server = GetForeignServerByName(word, true);

		if (server == NULL)
			return false;
		policy->server = server->serverid;
		strlcpy(policy->server_name, word, NAMEDATALEN);
		policy->server_hash = GetSysCacheHashValue1(FOREIGNSERVEROID,
													ObjectIdGetDatum(server->serverid));
		if (policy->probe_wanted)
			rsl_probe_target(server, policy->probe_target);
		config->probe = policy->probe_target[0] != '\0';
	}
	return true;
}

static int
find_entry(Oid home_database, const char *name)
{
	for (int i = 0; i < rsl_breakers_shmem->nbreakers; i++)
	{
		if (rsl_breakers[i].published &&
			rsl_breakers[i].policy.home_database == home_database &&
			strcmp(rsl_breakers[i].policy.name, name) == 0)
			return i;
	}
	return -1;
}

/* Without what other databases have in force. */
rsl_room
rsl_breaker_room(void)
{
	rsl_room	room = {.singular = "circuit breaker",.plural = "circuit breakers",
		.setting = "resilience.max_breakers",
	.limit = rsl_breakers_shmem->max_breakers,.free = -1};

	return room;
}

/*
 * Read this database's definitions.  The servers are not locked here: whoever
 * wrote a row has done so, and waiting for somebody who is about to rename one
 * could end in a deadlock, since that needs the publishers' lock.
 */
void
rsl_read_breakers(rsl_breaker_set *set)
{
	rsl_policy_rows rows;

	rsl_read_rows(RSL_BREAKERS_NAME, sizeof(rsl_breaker_policy), from_tuple, &rows);
	set->npolicies = rows.n;
	set->policies = rows.policies;
	set->written = rows.written;
}

/* Leave out those that there is no room for. */
void
rsl_fit_breakers(rsl_breaker_set *set)
{
	rsl_room	room = rsl_breaker_room();
	bool	   *in_force = palloc(set->npolicies * sizeof(bool) + 1);

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_breakers_shmem->nbreakers; i++)
	{
		if (rsl_breakers[i].published &&
			rsl_breakers[i].policy.home_database != set->home_database)
			room.others++;
	}
	for (int p = 0; p < set->npolicies; p++)
		in_force[p] = find_entry(set->home_database, set->policies[p].name) >= 0;
	LWLockRelease(rsl_config_lock);
	set->npolicies = rsl_fit_rows(&room, set->npolicies, set->policies,
								  sizeof(rsl_breaker_policy), in_force,
								  set->written, &set->left_out);
}

/* Config lock held exclusively: tell all sessions to look anew. */
static void
announce(void)
{
	uint32		n = 0;

	for (int i = 0; i < rsl_breakers_shmem->nbreakers; i++)
		n += rsl_breakers[i].published ? 1 : 0;
	pg_atomic_write_u32(&rsl_breakers_shmem->npublished, n);
	pg_write_barrier();
	pg_atomic_fetch_add_u64(&rsl_breakers_shmem->generation, 1);
}

/* Not the entry that was freed last: calls may be on their way out of it. */
static bool
put_new(const rsl_breaker_policy *policy)
{
	int			n = rsl_breakers_shmem->nbreakers;

	for (int i = 0; i < n; i++)
	{
		rsl_breaker *breaker = &rsl_breakers[(rsl_breakers_shmem->last_uid + i) % n];

		if (breaker->published)
			continue;
		rsl_breaker_put(breaker, policy, true);
		return true;
	}
	return false;
}

static void
note_definition(const rsl_breaker_policy *policy, const char *what)
{
	char		numbers[128];

	snprintf(numbers, sizeof(numbers),
			 policy->server_name[0] ? "mode=%s server=\"%s\"" : "mode=%s",
			 rsl_mode_name(policy->mode), policy->server_name);
	rsl_definition_event(RSL_EVENT_BREAKER, policy->home_database, policy->name,
						 what, numbers);
}

/*
 * Replace the breakers of one database.  Config lock held exclusively; must
 * not fail.
 */
void
rsl_publish_breakers(const rsl_breaker_set *set)
{
	for (int i = 0; i < rsl_breakers_shmem->nbreakers; i++)
	{
		rsl_breaker *breaker = &rsl_breakers[i];
		bool		kept = false;

		if (!breaker->published ||
			breaker->policy.home_database != set->home_database)
			continue;
		for (int p = 0; p < set->npolicies && !kept; p++)
			kept = strcmp(set->policies[p].name, breaker->policy.name) == 0 &&
				set->policies[p].server == breaker->policy.server;
		if (kept)
			continue;
		rsl_definition_event(RSL_EVENT_BREAKER, set->home_database,
							 breaker->policy.name, "dropped", "");
		rsl_breaker_retire(breaker);
	}
	for (int p = 0; p < set->npolicies; p++)
	{
		const rsl_breaker_policy *policy = &set->policies[p];
		int			index = find_entry(set->home_database, policy->name);

		if (index < 0)
		{
			note_definition(policy, "created");
			/* cannot fail: rsl_fit_breakers() saw to it */
			if (!put_new(policy))
				ereport(WARNING,
						(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						 errmsg("circuit breaker \"%s\" is not in force: no room in shared memory",
								policy->name)));
		}
		else if (memcmp(&rsl_breakers[index].policy, policy,
						sizeof(rsl_breaker_policy)) != 0)
		{
			rsl_breaker_policy forced = rsl_breakers[index].policy;

			/* force_breaker() alone is told as a change of state */
			forced.force = policy->force;
			if (memcmp(&forced, policy, sizeof(forced)) != 0)
				note_definition(policy, "changed");
			rsl_breaker_put(&rsl_breakers[index], policy, false);
		}
	}
	announce();
}

/* While the server starts: put one policy of the snapshot file into force. */
bool
rsl_publish_breaker_at_start(const rsl_breaker_policy *policy)
{
	if (rsl_breakers_shmem->max_breakers <=
		(int) pg_atomic_read_u32(&rsl_breakers_shmem->npublished))
		return false;
	put_new(policy);
	announce();
	return true;
}

/* Does what is in force differ from this?  Config lock held. */
bool
rsl_breakers_differ(const rsl_breaker_set *set)
{
	int			in_force = 0;

	for (int i = 0; i < rsl_breakers_shmem->nbreakers; i++)
	{
		if (rsl_breakers[i].published &&
			rsl_breakers[i].policy.home_database == set->home_database)
			in_force++;
	}
	if (in_force != set->npolicies)
		return true;
	for (int p = 0; p < set->npolicies; p++)
	{
		int			index = find_entry(set->home_database,
									   set->policies[p].name);

		if (index < 0 ||
			memcmp(&rsl_breakers[index].policy, &set->policies[p],
				   sizeof(rsl_breaker_policy)) != 0)
			return true;
	}
	return false;
}

/*-------------------------------------------------------------------------
 *
 * conditions.c
 *		Which sessions and statements is a definition about?
 *
 * The same conditions, in the same columns, for bulkheads and runaway rules:
 * how they are checked when they are written, brought to shared memory, and
 * how a session is judged by them.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_database.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "policy/conditions.h"
#include "policy/match.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/syscache.h"

/*
 * Judging.
 */

static bool
address_matches(const rsl_address *condition, const rsl_address *address)
{
	if (condition->family == 0)
		return true;
	return condition->family == address->family &&
		bitncmp(condition->bytes, address->bytes, condition->bits) == 0;
}

static bool
like(const char *string, const char *pattern)
{
	Datum		result;

	result = DirectFunctionCall2Coll(textlike, C_COLLATION_OID,
									 CStringGetTextDatum(string),
									 CStringGetTextDatum(pattern));
	return DatumGetBool(result);
}

/*
 * Is a role the one of the condition, or a member of it?  Membership that
 * only comes from being superuser does not count.  Reads catalogs.
 */
bool
rsl_conditions_is_member(const rsl_conditions *conditions, Oid role)
{
	return !OidIsValid(conditions->role) ||
		is_member_of_role_nosuper(role, conditions->role);
}

/* All conditions on the session: those on statements are left. */
bool
rsl_conditions_match_session(const rsl_conditions *conditions, Oid role,
							 bool is_member, Oid database,
							 const rsl_address *address,
							 const char *application_name)
{
	if (OidIsValid(conditions->database) && conditions->database != database)
		return false;
	if (!is_member)
		return false;
	if (!address_matches(&conditions->client_address, address))
		return false;
	return conditions->application_name[0] == '\0' ||
		like(application_name, conditions->application_name);
}

/*
 * From rows and arguments.
 */

/*
 * Resolve the conditions of a row.  Returns false if it cannot match anything,
 * because its role or database does not exist any more.  "conditions" has been
 * set to zero.
 */
bool
rsl_conditions_from_tuple(HeapTuple tuple, TupleDesc desc,
						  rsl_conditions *conditions)
{
	char	   *value;
	bool		isnull;
	Datum		datum;
	bool		alive = true;

	datum = heap_getattr(tuple, RSL_COL_ROLE, desc, &isnull);
	if (!isnull)
	{
		conditions->role = DatumGetObjectId(datum);
		if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(conditions->role)))
			alive = false;
	}

	value = rsl_text_column(tuple, desc, RSL_COL_DATABASE);
	if (value == NULL)
		conditions->database = MyDatabaseId;
	else if (strcmp(value, "*") != 0)
	{
		conditions->database = get_database_oid(value, true);
		if (!OidIsValid(conditions->database))
			alive = false;
	}

	value = rsl_text_column(tuple, desc, RSL_COL_APPLICATION_NAME);
	if (value)
		strlcpy(conditions->application_name, value,
				sizeof(conditions->application_name));

	datum = heap_getattr(tuple, RSL_COL_CLIENT_ADDRESS, desc, &isnull);
	if (!isnull)
	{
		inet	   *address = DatumGetInetPP(datum);

		conditions->client_address.family = ip_family(address);
		conditions->client_address.bits = ip_bits(address);
		memcpy(conditions->client_address.bytes, ip_addr(address),
			   ip_addrsize(address));
	}

	value = rsl_text_column(tuple, desc, RSL_COL_TAG);
	if (value)
	{
		char	   *equals = strchr(value, '=');

		conditions->tag_any_value = equals == NULL;
		if (equals)
		{
			*equals = '\0';
			strlcpy(conditions->tag_value, equals + 1, sizeof(conditions->tag_value));
		}
		strlcpy(conditions->tag_key, value, sizeof(conditions->tag_key));
	}
	datum = heap_getattr(tuple, RSL_COL_QUERY_ID, desc, &isnull);
	conditions->query_id = isnull ? 0 : DatumGetInt64(datum);
	value = rsl_text_column(tuple, desc, RSL_COL_COMMAND);
	if (value && rsl_parse_command(value) >= 0)
		conditions->commands = UINT32_C(1) << rsl_parse_command(value);
	return alive;
}

/* A condition on a tag: "key" or "key=value", as they are after decoding. */
static void
check_tag(const char *kind, const char *tag)
{
	const char *equals = strchr(tag, '=');
	size_t		key = equals ? (size_t) (equals - tag) : strlen(tag);
	size_t		value = equals ? strlen(equals + 1) : 0;

	if (key == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("tag of a %s must have a key", kind),
				 errdetail("tag=%s", tag),
				 errhint("Write key=value for one value, or key for a compartment for each value.")));
	if (key >= RSL_TAG_LEN || value >= RSL_TAG_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("tag of a %s is too long", kind),
				 errdetail("key_bytes=%zu value_bytes=%zu maximum=%d", key, value,
						   RSL_TAG_LEN - 1),
				 errhint("Key and value have at most %d bytes each.",
						 RSL_TAG_LEN - 1)));
}

/* Does a LIKE pattern end with an escape that escapes nothing? */
static bool
ends_with_escape(const char *pattern)
{
	int			backslashes = 0;

	for (const char *c = pattern + strlen(pattern);
		 c > pattern && c[-1] == '\\'; c--)
		backslashes++;
	return backslashes % 2 == 1;
}

/*
 * The rules for conditions, of a row that is about to be written.  "kind" is
 * the kind of definition, for messages.
 */
void
rsl_check_conditions(const char *kind, HeapTuple tuple, TupleDesc desc)
{
	char	   *word;
	Datum		value;
	bool		isnull;

	word = rsl_text_column(tuple, desc, RSL_COL_APPLICATION_NAME);

	if (word && word[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("application_name of a %s must not be empty", kind),
				 errhint("It is a LIKE pattern; leave it out (NULL) to match every application.")));
	if (word && strlen(word) >= RSL_PATTERN_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("application_name of a %s is too long", kind),
				 errdetail("bytes=%zu maximum=%d", strlen(word),
						   RSL_PATTERN_LEN - 1)));
	if (word && ends_with_escape(word))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("application_name of a %s must not end with an escape character", kind),
				 errdetail("application_name=%s", word),
				 errhint("It is a LIKE pattern; write \\\\ for a backslash.")));

	word = rsl_text_column(tuple, desc, RSL_COL_COMMAND);

	if (word && rsl_parse_command(word) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown command \"%s\" in the conditions of a %s", word, kind),
				 errhint("Available commands are SELECT, INSERT, UPDATE, DELETE, MERGE, COPY, CALL, DDL, MAINTENANCE.")));

	word = rsl_text_column(tuple, desc, RSL_COL_TAG);
	if (word)
		check_tag(kind, word);
	value = heap_getattr(tuple, RSL_COL_QUERY_ID, desc, &isnull);
	if (!isnull && DatumGetInt64(value) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query_id of a %s must not be 0", kind),
				 errdetail("Statements without a query identifier have 0."),
				 errhint("Take it from resilience.activity, pg_stat_activity or pg_stat_statements; leave it out (NULL) to match every query.")));
}

/*
 * Keep the role of a definition from being dropped until the definition is
 * published, and can be seen by whoever wants to drop it.
 */
void
rsl_lock_condition_role(const char *kind, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Oid			role;

	role = DatumGetObjectId(heap_getattr(tuple, RSL_COL_ROLE, desc, &isnull));
	if (isnull)
		return;
	LockSharedObject(AuthIdRelationId, role, 0, AccessShareLock);
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role with OID %u does not exist", role),
				 errhint("The role_name of a %s must be an existing role.", kind)));
}

static void
require_superuser_for_other_databases(const char *kind)
{
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for a %s that concerns other databases", kind),
				 errdetail("Only a superuser may set database_name to '*' or to another database."),
				 errhint("Leave database_name out to mean the current database.")));
}

/*
 * The same of a row that is about to be written, whoever writes it: privileges
 * on a table of one database are none on the others.
 */
void
rsl_check_row_database(const char *kind, HeapTuple tuple, TupleDesc desc)
{
	char	   *database = rsl_text_column(tuple, desc, RSL_COL_DATABASE);

	if (database && (strcmp(database, "*") == 0 ||
					 get_database_oid(database, true) != MyDatabaseId))
		require_superuser_for_other_databases(kind);
}

/*
 * Whoever changes a definition that concerns other databases must be a
 * superuser.
 */
void
rsl_check_other_databases(const rsl_definition_table *table, Datum name)
{
	Oid			types[1] = {TEXTOID};

	if (rsl_execute_as_owner(table->relname,
							 psprintf("SELECT FROM %s "
									  "WHERE name OPERATOR(pg_catalog.=) $1 "
									  "AND database_name IS NOT NULL "
									  "AND database_name OPERATOR(pg_catalog.<>) pg_catalog.current_database()::pg_catalog.text",
									  table->table),
							 1, types, &name, NULL, NULL) > 0)
		require_superuser_for_other_databases(table->kind);
}

/*
 * Arguments as column values: role and database are looked up, the command is
 * brought to the spelling that the views show.
 */
void
rsl_collect_conditions(const char *kind, Datum *values, const bool *nulls)
{
	if (!nulls[RSL_COL_ROLE - 1])
	{
		char	   *role = NameStr(*DatumGetName(values[RSL_COL_ROLE - 1]));
		Oid			oid = get_role_oid(role, true);

		if (!OidIsValid(oid))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("role \"%s\" does not exist", role),
					 errhint("The role_name of a %s must be an existing role; the %s applies to it and to its members.",
							 kind, kind)));
		values[RSL_COL_ROLE - 1] = ObjectIdGetDatum(oid);
	}

	if (!nulls[RSL_COL_DATABASE - 1])
	{
		char	   *database = NameStr(*DatumGetName(values[RSL_COL_DATABASE - 1]));

		if (strcmp(database, "*") == 0)
			require_superuser_for_other_databases(kind);
		else
		{
			Oid			oid = get_database_oid(database, true);

			if (!OidIsValid(oid))
				ereport(ERROR,
						(errcode(ERRCODE_UNDEFINED_DATABASE),
						 errmsg("database \"%s\" does not exist", database),
						 errhint("Leave database_name out to mean the current database, or use '*' for every database.")));
			if (oid != MyDatabaseId)
				require_superuser_for_other_databases(kind);
		}
		values[RSL_COL_DATABASE - 1] = CStringGetTextDatum(database);
	}

	if (!nulls[RSL_COL_COMMAND - 1])
	{
		int			command;

		command = rsl_parse_command(TextDatumGetCString(values[RSL_COL_COMMAND - 1]));
		if (command >= 0)
			values[RSL_COL_COMMAND - 1] =
				CStringGetTextDatum(rsl_command_name(command));
	}
}

/*-------------------------------------------------------------------------
 *
 * functions.c
 *		SQL functions that create, alter and drop bulkheads.
 *
 * They write the table resilience.bulkhead_definitions, with the rights of
 * its owner, so that whoever is granted EXECUTE on them needs no other
 * privilege.  The rules that a definition must obey are in the table's row
 * trigger: direct DML and a restore are held to the same ones.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "policy/match.h"
#include "policy/publish.h"
#include "policy/settings.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#define MAX_WAIT_LIMIT_MS		(3600 * 1000)

PG_FUNCTION_INFO_V1(create_bulkhead);
PG_FUNCTION_INFO_V1(alter_bulkhead);
PG_FUNCTION_INFO_V1(drop_bulkhead);
PG_FUNCTION_INFO_V1(bulkhead_definitions_check);

/* The arguments of create_bulkhead() and alter_bulkhead() are the columns. */
static const struct
{
	const char *name;
	Oid			type;
}			columns[RSL_NUM_DEFINITION_COLUMNS] =

{
	{"name", TEXTOID},
	{"role_name", REGROLEOID},
	{"database_name", TEXTOID},
	{"application_name", TEXTOID},
	{"client_address", CIDROID},
	{"command", TEXTOID},
	{"max_connections", INT4OID},
	{"max_running", INT4OID},
	{"max_waiting", INT4OID},
	{"max_wait", INTERVALOID},
	{"priority", TEXTOID},
	{"mode", TEXTOID},
	{"expires_at", TIMESTAMPTZOID},
};

/*
 * Rules for one definition.
 */

static void
check_limit(const char *column, int32 value)
{
	if (value < -1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a bulkhead must not be negative", column),
				 errdetail("%s=%d", column, value),
				 errhint("Use -1 for no limit, 0 to admit none.")));
	if (value > (int32) RSL_LANE_MASK)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a bulkhead is too large", column),
				 errdetail("%s=%d maximum=%d", column, value,
						   (int32) RSL_LANE_MASK),
				 errhint("Use -1 for no limit.")));
}

static char *
get_text(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, column, desc, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static int32
get_int(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, column, desc, &isnull);

	return isnull ? -1 : DatumGetInt32(value);
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

static void
check_definition(HeapTuple tuple, TupleDesc desc)
{
	char	   *name = get_text(tuple, desc, RSL_COL_NAME);
	char	   *word;
	Datum		value;
	bool		isnull;

	if (name == NULL || name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a bulkhead must not be empty"),
				 errhint("Give it a name of 1 to %d bytes.", NAMEDATALEN - 1)));
	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a bulkhead is too long"),
				 errdetail("bytes=%zu maximum=%d", strlen(name),
						   NAMEDATALEN - 1),
				 errhint("Give it a shorter name.")));

	word = get_text(tuple, desc, RSL_COL_APPLICATION_NAME);

	if (word && word[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("application_name of a bulkhead must not be empty"),
				 errhint("It is a LIKE pattern; leave it out (NULL) to match every application.")));
	if (word && strlen(word) >= RSL_PATTERN_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("application_name of a bulkhead is too long"),
				 errdetail("bytes=%zu maximum=%d", strlen(word),
						   RSL_PATTERN_LEN - 1)));
	if (word && ends_with_escape(word))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("application_name of a bulkhead must not end with an escape character"),
				 errdetail("application_name=%s", word),
				 errhint("It is a LIKE pattern; write \\\\ for a backslash.")));

	check_limit("max_connections",
				get_int(tuple, desc, RSL_COL_MAX_CONNECTIONS));
	check_limit("max_running", get_int(tuple, desc, RSL_COL_MAX_RUNNING));
	check_limit("max_waiting", get_int(tuple, desc, RSL_COL_MAX_WAITING));

	value = heap_getattr(tuple, RSL_COL_MAX_WAIT, desc, &isnull);
	if (!isnull)
	{
		double		ms = rsl_interval_ms(DatumGetIntervalP(value));

		if (ms < 0 || ms > MAX_WAIT_LIMIT_MS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("max_wait of a bulkhead is out of range"),
					 errdetail("max_wait_ms=%.0f minimum=0 maximum=%d", ms,
							   MAX_WAIT_LIMIT_MS),
					 errhint("Every wait has an end: choose an interval from 0 to 1 hour.")));
	}

	word = get_text(tuple, desc, RSL_COL_COMMAND);

	if (word && rsl_parse_command(word) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown command \"%s\" in the conditions of a bulkhead", word),
				 errhint("Available commands are SELECT, INSERT, UPDATE, DELETE, MERGE, COPY, CALL, DDL, MAINTENANCE.")));
	if (word && get_int(tuple, desc, RSL_COL_MAX_CONNECTIONS) != -1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_connections cannot be combined with a condition on the command"),
				 errdetail("A connection is judged at authentication, when no command is known."),
				 errhint("Make two bulkheads: one with max_connections, one with command and max_running.")));

	word = get_text(tuple, desc, RSL_COL_PRIORITY);

	if (word && rsl_parse_priority(word) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown priority \"%s\" of a bulkhead", word),
				 errhint("Available priorities are low, normal, high, critical.")));
	word = get_text(tuple, desc, RSL_COL_MODE);

	if (word && rsl_parse_mode(word) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown mode \"%s\" of a bulkhead", word),
				 errhint("Available modes are enforce, observe, off.")));
}

/*
 * Keep the role of a definition from being dropped until the definition is
 * published, and can be seen by whoever wants to drop it.
 */
static void
lock_role(HeapTuple tuple, TupleDesc desc)
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
				 errhint("A bulkhead's role_name must be an existing role.")));
}

/*
 * bulkhead_definitions_check() returns trigger
 *
 * BEFORE each row: the rules.
 */
Datum
bulkhead_definitions_check(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple	tuple;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called as a BEFORE trigger for each row",
						"bulkhead_definitions_check")));

	tuple = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
		trigger->tg_newtuple : trigger->tg_trigtuple;
	check_definition(tuple, RelationGetDescr(trigger->tg_relation));
	lock_role(tuple, RelationGetDescr(trigger->tg_relation));
	return PointerGetDatum(tuple);
}

/*
 * The rest is about writing the table.
 */

/*
 * Run a statement with the rights of the table's owner.  Returns how many
 * rows it concerned, and, if wanted, a copy of the first one.
 */
static uint64
execute_as_owner(const char *sql, int nargs, Oid *types, Datum *values,
				 const bool *nulls, HeapTuple *first)
{
	Oid			relid = rsl_definitions_relation();
	Relation	relation;
	Oid			owner;
	Oid			save_user;
	int			save_context;
	char		null_flags[RSL_NUM_DEFINITION_COLUMNS + 1];
	int			rc;
	uint64		processed;

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s.%s\" does not belong to the extension",
						RSL_SCHEMA_NAME, RSL_DEFINITIONS_NAME),
				 errhint("Reinstall with DROP EXTENSION and CREATE EXTENSION.")));
	relation = RelationIdGetRelation(relid);
	owner = relation->rd_rel->relowner;
	RelationClose(relation);

	for (int i = 0; i < nargs; i++)
		null_flags[i] = nulls && nulls[i] ? 'n' : ' ';
	null_flags[nargs] = '\0';

	GetUserIdAndSecContext(&save_user, &save_context);
	SetUserIdAndSecContext(owner, save_context |
						   SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_NOFORCE_RLS);
	SPI_connect();
	rc = SPI_execute_with_args(sql, nargs, types, values, null_flags, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_with_args failed: %s",
			 SPI_result_code_string(rc));
	processed = SPI_processed;
	if (first)
		*first = processed > 0 ? SPI_copytuple(SPI_tuptable->vals[0]) : NULL;
	SPI_finish();
	SetUserIdAndSecContext(save_user, save_context);
	return processed;
}

static void
begin_change(const char *function)
{
	rsl_require_shmem();
	PreventCommandDuringRecovery(function);
	PreventCommandIfReadOnly(function);
	rsl_lock_definitions();
	/* what the lock's last holder committed */
	CommandCounterIncrement();
}

/* Does a bulkhead exist; does it concern other databases? */
static bool
lookup_bulkhead(Datum name, bool *other_databases)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {name};

	*other_databases =
		execute_as_owner("SELECT FROM resilience.bulkhead_definitions "
						 "WHERE name OPERATOR(pg_catalog.=) $1 "
						 "AND database_name IS NOT NULL "
						 "AND database_name OPERATOR(pg_catalog.<>) pg_catalog.current_database()::pg_catalog.text",
						 1, types, values, NULL, NULL) > 0;
	return execute_as_owner("SELECT FROM resilience.bulkhead_definitions "
							"WHERE name OPERATOR(pg_catalog.=) $1",
							1, types, values, NULL, NULL) > 0;
}

/*
 * Hold arguments to the rules before they go to the table: its trigger would
 * say the same, but with the internal statement as context.  "old" is the
 * row to be changed, or NULL.
 */
static void
check_arguments(HeapTuple old, Datum *values, bool *nulls)
{
	Relation	relation = table_open(rsl_definitions_relation(), AccessShareLock);
	TupleDesc	desc = RelationGetDescr(relation);
	HeapTuple	tuple;

	if (old)
	{
		bool		replaces[RSL_NUM_DEFINITION_COLUMNS];

		for (int i = 0; i < RSL_NUM_DEFINITION_COLUMNS; i++)
			replaces[i] = !nulls[i];
		tuple = heap_modify_tuple(old, desc, values, nulls, replaces);
	}
	else
		tuple = heap_form_tuple(desc, values, nulls);
	check_definition(tuple, desc);
	table_close(relation, NoLock);
}

/* A rule that admits nobody at all is allowed, but hardly what one means. */
static void
warn_of_lockout(Datum name)
{
	static const char *const limits[] = {"max_connections", "max_running"};
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {name};

	for (int i = 0; i < lengthof(limits); i++)
	{
		char	   *sql;

		sql = psprintf("SELECT FROM resilience.bulkhead_definitions "
					   "WHERE name OPERATOR(pg_catalog.=) $1 AND role_name IS NULL "
					   "AND application_name IS NULL AND client_address IS NULL "
					   "AND command IS NULL AND mode OPERATOR(pg_catalog.=) 'enforce' "
					   "AND %s OPERATOR(pg_catalog.=) 0", limits[i]);
		if (execute_as_owner(sql, 1, types, values, NULL, NULL) == 0)
			continue;
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("bulkhead \"%s\" locks out everybody but superusers",
						TextDatumGetCString(name)),
				 errdetail("%s=0 and no condition narrows it to some sessions.",
						   limits[i]),
				 errhint("Add a condition such as role_name, or drop it: SELECT resilience.drop_bulkhead(%s);",
						 quote_literal_cstr(TextDatumGetCString(name)))));
		break;
	}
}

static void
require_superuser_for_other_databases(void)
{
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for a bulkhead that concerns other databases"),
				 errdetail("Only a superuser may set database_name to '*' or to another database."),
				 errhint("Leave database_name out to mean the current database.")));
}

/*
 * The arguments as column values: role and database are looked up, words
 * are brought to the spelling that the views show.
 */
static void
collect_arguments(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a bulkhead must not be null"),
				 errhint("Give it a name of 1 to %d bytes.", NAMEDATALEN - 1)));

	for (int i = 0; i < RSL_NUM_DEFINITION_COLUMNS; i++)
	{
		nulls[i] = PG_ARGISNULL(i);
		values[i] = PG_GETARG_DATUM(i);
	}

	if (!nulls[RSL_COL_ROLE - 1])
	{
		char	   *role = NameStr(*DatumGetName(values[RSL_COL_ROLE - 1]));
		Oid			oid = get_role_oid(role, true);

		if (!OidIsValid(oid))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("role \"%s\" does not exist", role),
					 errhint("A bulkhead's role_name must be an existing role; the bulkhead applies to it and to its members.")));
		values[RSL_COL_ROLE - 1] = ObjectIdGetDatum(oid);
	}

	if (!nulls[RSL_COL_DATABASE - 1])
	{
		char	   *database = NameStr(*DatumGetName(values[RSL_COL_DATABASE - 1]));

		if (strcmp(database, "*") == 0)
			require_superuser_for_other_databases();
		else
		{
			Oid			oid = get_database_oid(database, true);

			if (!OidIsValid(oid))
				ereport(ERROR,
						(errcode(ERRCODE_UNDEFINED_DATABASE),
						 errmsg("database \"%s\" does not exist", database),
						 errhint("Leave database_name out to mean the current database, or use '*' for every database.")));
			if (oid != MyDatabaseId)
				require_superuser_for_other_databases();
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
	if (!nulls[RSL_COL_PRIORITY - 1])
	{
		int			priority;

		priority = rsl_parse_priority(TextDatumGetCString(values[RSL_COL_PRIORITY - 1]));
		if (priority >= 0)
			values[RSL_COL_PRIORITY - 1] =
				CStringGetTextDatum(rsl_priority_name(priority));
	}
	if (!nulls[RSL_COL_MODE - 1])
	{
		int			mode;

		mode = rsl_parse_mode(TextDatumGetCString(values[RSL_COL_MODE - 1]));
		if (mode >= 0)
			values[RSL_COL_MODE - 1] = CStringGetTextDatum(rsl_mode_name(mode));
	}
	if (!nulls[RSL_COL_EXPIRES_AT - 1] &&
		DatumGetTimestampTz(values[RSL_COL_EXPIRES_AT - 1]) <= GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("expires_at of a bulkhead lies in the past"),
				 errdetail("expires_at=%s",
						   timestamptz_to_str(DatumGetTimestampTz(values[RSL_COL_EXPIRES_AT - 1]))),
				 errhint("Choose a time to come, or leave it out for a bulkhead that stays.")));
}

static void
set_default(Datum *values, bool *nulls, int column, Datum value)
{
	if (nulls[column - 1])
	{
		values[column - 1] = value;
		nulls[column - 1] = false;
	}
}

/*
 * create_bulkhead(name text, role_name name, database_name name,
 *		application_name text, client_address cidr, command text,
 *		max_connections int, max_running int, max_waiting int,
 *		max_wait interval, priority text, mode text, expires_at timestamptz)
 *		returns void
 *
 * Errors: 22023 for a bad argument, 42710 for a name in use, 42704 for an
 * unknown role, 3D000 for an unknown database, 42501, 53400 (at COMMIT) when
 * shared memory has no more room.
 */
Datum
create_bulkhead(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_NUM_DEFINITION_COLUMNS];
	bool		nulls[RSL_NUM_DEFINITION_COLUMNS];
	Oid			types[RSL_NUM_DEFINITION_COLUMNS];
	Interval	one_second = {.time = USECS_PER_SEC};
	bool		other_databases;
	char	   *name;

	begin_change("create_bulkhead()");
	collect_arguments(fcinfo, values, nulls);
	name = TextDatumGetCString(values[0]);
	for (int i = 0; i < RSL_NUM_DEFINITION_COLUMNS; i++)
		types[i] = columns[i].type;

	if (lookup_bulkhead(values[0], &other_databases))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("bulkhead \"%s\" already exists", name),
				 errhint("Use resilience.alter_bulkhead() to change it.")));

	/* a limit given as NULL means its default */
	set_default(values, nulls, RSL_COL_MAX_CONNECTIONS, Int32GetDatum(-1));
	set_default(values, nulls, RSL_COL_MAX_RUNNING, Int32GetDatum(-1));
	set_default(values, nulls, RSL_COL_MAX_WAITING, Int32GetDatum(0));
	set_default(values, nulls, RSL_COL_MAX_WAIT, IntervalPGetDatum(&one_second));
	set_default(values, nulls, RSL_COL_MODE, CStringGetTextDatum("enforce"));
	check_arguments(NULL, values, nulls);

	execute_as_owner("INSERT INTO resilience.bulkhead_definitions VALUES "
					 "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
					 RSL_NUM_DEFINITION_COLUMNS, types, values, nulls, NULL);
	warn_of_lockout(values[0]);
	PG_RETURN_VOID();
}

/*
 * alter_bulkhead(name text, ...the same arguments, NULL = leave)
 *		returns void
 *
 * Errors: 42704 when there is no such bulkhead; else as create_bulkhead().
 */
Datum
alter_bulkhead(PG_FUNCTION_ARGS)
{
	Datum		values[RSL_NUM_DEFINITION_COLUMNS];
	bool		nulls[RSL_NUM_DEFINITION_COLUMNS];
	Oid			types[RSL_NUM_DEFINITION_COLUMNS];
	StringInfoData sql;
	HeapTuple	old;
	bool		other_databases;
	char	   *name;

	begin_change("alter_bulkhead()");
	collect_arguments(fcinfo, values, nulls);
	name = TextDatumGetCString(values[0]);

	if (!lookup_bulkhead(values[0], &other_databases))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("bulkhead \"%s\" does not exist", name),
				 errhint("SELECT name FROM resilience.bulkheads lists the bulkheads of this database.")));
	if (other_databases)
		require_superuser_for_other_databases();
	types[0] = TEXTOID;
	execute_as_owner("SELECT * FROM resilience.bulkhead_definitions "
					 "WHERE name OPERATOR(pg_catalog.=) $1",
					 1, types, values, NULL, &old);
	check_arguments(old, values, nulls);

	initStringInfo(&sql);
	appendStringInfoString(&sql, "UPDATE resilience.bulkhead_definitions SET ");
	for (int i = 0; i < RSL_NUM_DEFINITION_COLUMNS; i++)
	{
		types[i] = columns[i].type;
		if (i > 0)
			appendStringInfo(&sql, "%s%s = coalesce($%d, %s)",
							 i > 1 ? ", " : "", columns[i].name, i + 1,
							 columns[i].name);
	}
	appendStringInfoString(&sql, " WHERE name OPERATOR(pg_catalog.=) $1");
	execute_as_owner(sql.data, RSL_NUM_DEFINITION_COLUMNS, types, values, nulls, NULL);

	warn_of_lockout(values[0]);
	PG_RETURN_VOID();
}

/*
 * drop_bulkhead(name text, if_exists boolean = false) returns void
 *
 * Errors: 42704 when there is no such bulkhead, unless if_exists (NOTICE).
 */
Datum
drop_bulkhead(PG_FUNCTION_ARGS)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1];
	bool		other_databases;
	char	   *name;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a bulkhead must not be null")));
	begin_change("drop_bulkhead()");
	values[0] = PG_GETARG_DATUM(0);
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (!lookup_bulkhead(values[0], &other_databases))
	{
		bool		if_exists = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);

		ereport(if_exists ? NOTICE : ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 if_exists ?
				 errmsg("bulkhead \"%s\" does not exist, skipping", name) :
				 errmsg("bulkhead \"%s\" does not exist", name),
				 if_exists ? 0 :
				 errhint("SELECT name FROM resilience.bulkheads lists the bulkheads of this database.")));
		PG_RETURN_VOID();
	}
	if (other_databases)
		require_superuser_for_other_databases();
	execute_as_owner("DELETE FROM resilience.bulkhead_definitions "
					 "WHERE name OPERATOR(pg_catalog.=) $1",
					 1, types, values, NULL, NULL);
	PG_RETURN_VOID();
}

/*-------------------------------------------------------------------------
 *
 * definitions.c
 *		The tables in which definitions are kept, and how they are written.
 *
 * create_...(), alter_...() and drop_...() write a table with the rights of
 * its owner, so that whoever is granted EXECUTE on them needs no other
 * privilege.  The rules that a definition must obey are in the table's row
 * trigger: direct DML and a restore are held to the same ones.
 *
 *-------------------------------------------------------------------------
 */
#include "client_port.h"
#include "compat.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "policy/definitions.h"
#include "shared/layout.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

/*
 * Serialize everybody who changes definitions, in any database, until the end
 * of the transaction.  No object has this identity: only we take this lock.
 */
void
rsl_lock_definitions(void)
{
	LockSharedObject(ExtensionRelationId, InvalidOid, 0, ExclusiveLock);
}

/* The length of an interval in milliseconds; a month has 30 days. */
double
rsl_interval_ms(const Interval *interval)
{
	return (interval->month * 30.0 + interval->day) * SECS_PER_DAY * 1000.0 +
		interval->time / 1000.0;
}

char *
rsl_text_column(HeapTuple tuple, TupleDesc desc, int column)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, column, desc, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

int32
rsl_int_column(HeapTuple tuple, TupleDesc desc, int column, int32 if_null)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, column, desc, &isnull);

	return isnull ? if_null : DatumGetInt32(value);
}

double
rsl_interval_column_ms(HeapTuple tuple, TupleDesc desc, int column,
					   double if_null)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, column, desc, &isnull);

	return isnull ? if_null : rsl_interval_ms(DatumGetIntervalP(value));
}

double
rsl_float_column(HeapTuple tuple, TupleDesc desc, int column, double if_null)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, column, desc, &isnull);

	return isnull ? if_null : DatumGetFloat8(value);
}

bool
rsl_bool_column(HeapTuple tuple, TupleDesc desc, int column, bool if_null)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, column, desc, &isnull);

	return isnull ? if_null : DatumGetBool(value);
}

/*
 * A table of the extension in this database; InvalidOid if there is none.  A
 * table of the same name that is not the extension's does not count: its
 * owner need not be a superuser.
 */
Oid
rsl_extension_relation(const char *relname)
{
	Oid			extension = get_extension_oid(RSL_EXTENSION_NAME, true);
	Oid			schema = get_namespace_oid(RSL_SCHEMA_NAME, true);
	Oid			relation;

	if (!OidIsValid(extension) || !OidIsValid(schema))
		return InvalidOid;
	relation = get_relname_relid(relname, schema);
	if (!OidIsValid(relation) ||
		getExtensionOfObject(RelationRelationId, relation) != extension)
		return InvalidOid;
	return relation;
}

static void
require_relation(Oid relid, const char *relname)
{
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s.%s\" of the extension does not exist",
						RSL_SCHEMA_NAME, relname),
				 errhint("Reinstall with DROP EXTENSION and CREATE EXTENSION.")));
}

/*
 * Run a statement with the rights of a table's owner.  Returns how many rows
 * it concerned, and, if wanted, a copy of the first one.  It sees what is
 * committed by now, whatever the transaction's isolation level; a row that the
 * transaction may not have seen it does not change (40001).
 */
uint64
rsl_execute_as_owner(const char *relname, const char *sql, int nargs,
					 Oid *types, Datum *values, const bool *nulls,
					 HeapTuple *first)
{
	Oid			relid = rsl_extension_relation(relname);
	Relation	relation;
	Oid			owner;
	Oid			save_user;
	int			save_context;
	char		null_flags[RSL_MAX_DEFINITION_COLUMNS + 1];
	SPIPlanPtr	plan;
	int			rc;
	uint64		processed;

	Assert(nargs <= RSL_MAX_DEFINITION_COLUMNS);
	require_relation(relid, relname);
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
	plan = SPI_prepare(sql, nargs, types);
	if (plan == NULL)
		elog(ERROR, "SPI_prepare failed: %s",
			 SPI_result_code_string(SPI_result));
	rc = SPI_execute_snapshot(plan, values, null_flags, GetLatestSnapshot(),
							  IsolationUsesXactSnapshot() ?
							  GetTransactionSnapshot() : InvalidSnapshot,
							  false, true, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_snapshot failed: %s",
			 SPI_result_code_string(rc));
	processed = SPI_processed;
	if (first)
		*first = processed > 0 ? SPI_copytuple(SPI_tuptable->vals[0]) : NULL;
	SPI_finish();
	SetUserIdAndSecContext(save_user, save_context);
	return processed;
}

/* What each function that changes definitions does first. */
void
rsl_begin_change(const char *function)
{
	rsl_require_shmem();
	PreventCommandDuringRecovery(function);
	PreventCommandIfReadOnly(function);
	rsl_lock_definitions();
	/* what the lock's last holder committed */
	CommandCounterIncrement();
}

/* The rules for names; NULL is one that is missing. */
void
rsl_check_name(const char *kind, const char *name)
{
	if (name == NULL || name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a %s must not be empty", kind),
				 errhint("Give it a name of 1 to %d bytes.", NAMEDATALEN - 1)));
	if (strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a %s is too long", kind),
				 errdetail("bytes=%zu maximum=%d", strlen(name),
						   NAMEDATALEN - 1),
				 errhint("Give it a shorter name.")));
}

/* The first argument of a function, which is an object's name. */
char *
rsl_name_argument(FunctionCallInfo fcinfo, const char *kind)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a %s must not be null", kind),
				 errhint("Give it a name of 1 to %d bytes.", NAMEDATALEN - 1)));
	return text_to_cstring(PG_GETARG_TEXT_PP(0));
}

static void
raise_unknown(const rsl_definition_table *table, Datum name, int elevel)
{
	ereport(elevel,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 elevel < ERROR ?
			 errmsg("%s \"%s\" does not exist, skipping", table->kind,
					TextDatumGetCString(name)) :
			 errmsg("%s \"%s\" does not exist", table->kind,
					TextDatumGetCString(name)),
			 elevel < ERROR ? 0 :
			 errhint("SELECT name FROM resilience.%s lists the %ss of this database.",
					 table->view, table->kind)));
}

static HeapTuple
find_row(const rsl_definition_table *table, Datum name)
{
	Oid			types[1] = {TEXTOID};
	HeapTuple	row;

	(void) rsl_execute_as_owner(table->relname,
								psprintf("SELECT * FROM %s WHERE name OPERATOR(pg_catalog.=) $1",
										 table->table),
								1, types, &name, NULL, &row);
	return row;
}

bool
rsl_definition_exists(const rsl_definition_table *table, Datum name)
{
	return find_row(table, name) != NULL;
}

/*
 * Hold arguments to the rules before they go to the table: its trigger would
 * say the same, but with the internal statement as context.  "old" is the row
 * to be changed, or NULL.
 */
static HeapTuple
check_arguments(const rsl_definition_table *table, HeapTuple old,
				Datum *values, bool *nulls)
{
	Relation	relation = table_open(rsl_extension_relation(table->relname),
									  AccessShareLock);
	TupleDesc	desc = RelationGetDescr(relation);
	Datum		all_values[RSL_MAX_DEFINITION_COLUMNS] = {0};
	bool		all_nulls[RSL_MAX_DEFINITION_COLUMNS];
	bool		replaces[RSL_MAX_DEFINITION_COLUMNS];
	HeapTuple	tuple;

	/* columns that are not arguments keep what they have */
	for (int i = 0; i < desc->natts; i++)
	{
		all_nulls[i] = i >= table->ncolumns || nulls[i];
		replaces[i] = !all_nulls[i];
		if (!all_nulls[i])
			all_values[i] = values[i];
	}
	if (old)
		tuple = heap_modify_tuple(old, desc, all_values, all_nulls, replaces);
	else
		tuple = heap_form_tuple(desc, all_values, all_nulls);
	table->check(tuple, old, desc);
	table_close(relation, NoLock);
	return tuple;
}

/* What a NULL means in a new row. */
static void
fill_defaults(const rsl_definition_table *table, Datum *values, bool *nulls)
{
	for (int i = 0; i < table->ncolumns; i++)
	{
		const rsl_definition_column_type *column = &table->columns[i];
		Oid			input;
		Oid			io_param;

		if (!nulls[i] || column->if_null == NULL)
			continue;
		getTypeInputInfo(column->type, &input, &io_param);
		values[i] = OidInputFunctionCall(input, pstrdup(column->if_null),
										 io_param, -1);
		nulls[i] = false;
	}
}

/*
 * The row that rsl_definition_insert() would write, held to the same rules,
 * without writing it.
 */
HeapTuple
rsl_definition_form(const rsl_definition_table *table, Datum *values,
					bool *nulls, TupleDesc *desc)
{
	Oid			relid = rsl_extension_relation(table->relname);
	Relation	relation;

	require_relation(relid, table->relname);
	relation = table_open(relid, AccessShareLock);
	*desc = CreateTupleDescCopy(RelationGetDescr(relation));
	table_close(relation, NoLock);
	fill_defaults(table, values, nulls);
	return check_arguments(table, NULL, values, nulls);
}

/* Write a new row.  A NULL means the column's default. */
void
rsl_definition_insert(const rsl_definition_table *table, Datum *values,
					  bool *nulls)
{
	Oid			types[RSL_MAX_DEFINITION_COLUMNS];
	StringInfoData sql;
	StringInfoData parameters;

	if (rsl_definition_exists(table, values[0]))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("%s \"%s\" already exists", table->kind,
						TextDatumGetCString(values[0])),
				 errhint("Use resilience.alter_%.*s() to change it.",
						 (int) strlen(table->view) - 1, table->view)));

	fill_defaults(table, values, nulls);
	initStringInfo(&sql);
	initStringInfo(&parameters);
	appendStringInfo(&sql, "INSERT INTO %s (", table->table);
	for (int i = 0; i < table->ncolumns; i++)
	{
		types[i] = table->columns[i].type;
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "",
						 table->columns[i].name);
		appendStringInfo(&parameters, "%s$%d", i > 0 ? ", " : "", i + 1);
	}
	appendStringInfo(&sql, ") VALUES (%s)", parameters.data);
	(void) check_arguments(table, NULL, values, nulls);
	rsl_execute_as_owner(table->relname, sql.data, table->ncolumns, types,
						 values, nulls, NULL);
}

/* Change a row.  A NULL leaves the column as it is. */
void
rsl_definition_update(const rsl_definition_table *table, Datum *values,
					  bool *nulls)
{
	Oid			types[RSL_MAX_DEFINITION_COLUMNS];
	StringInfoData sql;
	HeapTuple	old = find_row(table, values[0]);

	if (old == NULL)
		raise_unknown(table, values[0], ERROR);
	(void) check_arguments(table, old, values, nulls);

	initStringInfo(&sql);
	appendStringInfo(&sql, "UPDATE %s SET ", table->table);
	for (int i = 0; i < table->ncolumns; i++)
	{
		const char *name = table->columns[i].name;

		types[i] = table->columns[i].type;
		if (i > 0)
			appendStringInfo(&sql, "%s%s = coalesce($%d, %s)",
							 i > 1 ? ", " : "", name, i + 1, name);
	}
	appendStringInfoString(&sql, " WHERE name OPERATOR(pg_catalog.=) $1");
	rsl_execute_as_owner(table->relname, sql.data, table->ncolumns, types,
						 values, nulls, NULL);
}

/* Remove a row.  Returns false, after a NOTICE, when there is none. */
bool
rsl_definition_delete(const rsl_definition_table *table, Datum name,
					  bool if_exists)
{
	Oid			types[1] = {TEXTOID};

	if (rsl_execute_as_owner(table->relname,
							 psprintf("DELETE FROM %s WHERE name OPERATOR(pg_catalog.=) $1",
									  table->table),
							 1, types, &name, NULL, NULL) > 0)
		return true;
	raise_unknown(table, name, if_exists ? NOTICE : ERROR);
	return false;
}

/* The row that a BEFORE ROW trigger is about to see written. */
HeapTuple
rsl_definition_trigger_row(FunctionCallInfo fcinfo, const char *function)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called as a BEFORE trigger for each row",
						function)));
	return TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
		trigger->tg_newtuple : trigger->tg_trigtuple;
}

static bool
same_column(HeapTuple tuple, HeapTuple old, TupleDesc desc, int column)
{
	Form_pg_attribute attribute = TupleDescAttr(desc, column - 1);
	bool		isnull;
	bool		old_isnull;
	Datum		value = heap_getattr(tuple, column, desc, &isnull);
	Datum		old_value = heap_getattr(old, column, desc, &old_isnull);

	if (isnull || old_isnull)
		return isnull == old_isnull;
	return datum_image_eq(value, old_value, attribute->attbyval,
						  attribute->attlen);
}

/*
 * For the triggers of tables whose rows have SQL that runs as the row's owner.
 *
 * Whoever may write the table, but is no superuser, must not have SQL run as
 * somebody else; the functions write it as the table's owner.  And the owner
 * is kept from being dropped until the definition is published, and can be
 * seen by whoever wants to drop the role.
 */
void
rsl_check_owner(const char *kind, HeapTuple tuple, HeapTuple old,
				TupleDesc desc, int owner_column, int sql_column)
{
	bool		isnull;
	Oid			owner = DatumGetObjectId(heap_getattr(tuple, owner_column, desc, &isnull));

	if (isnull)
		return;					/* the column's constraint will say so */
	LockSharedObject(AuthIdRelationId, owner, 0, AccessShareLock);
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(owner)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role with OID %u does not exist", owner),
				 errhint("The owner of a %s must be an existing role.", kind)));
	if (old && same_column(tuple, old, desc, owner_column) &&
		same_column(tuple, old, desc, sql_column))
		return;
	if (!superuser() && !has_privs_of_role(GetUserId(), owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to have SQL of a %s run as role \"%s\"",
						kind, GetUserNameFromId(owner, false)),
				 errhint("Use a role that you are a member of.")));
}

/*
 * Who has published it is the role that its session came as; what a reader has
 * found in the table was changed by others.
 */
void
rsl_definition_event(rsl_event_kind kind, Oid home_database, const char *name,
					 const char *what, const char *numbers)
{
	char		role[NAMEDATALEN];

	strlcpy(role, MyProcPort ? MyProcPort->user_name : "", sizeof(role));
	if (role[0])
		rsl_event(kind, home_database, name, NULL, what, "role=\"%s\" %s",
				  rsl_without_quotes(role), numbers);
	else
		rsl_event(kind, home_database, name, NULL, what, "%s", numbers);
}

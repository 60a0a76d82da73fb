/*-------------------------------------------------------------------------
 *
 * definitions.h
 *		The tables in which definitions are kept, and how they are written.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_DEFINITIONS_H
#define RSL_POLICY_DEFINITIONS_H

#include "compat.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "shared/events.h"
#include "utils/timestamp.h"

#define RSL_EXTENSION_NAME		"resilience"
#define RSL_SCHEMA_NAME			"resilience"

/* more columns than any table of definitions has */
#define RSL_MAX_DEFINITION_COLUMNS	32

/*
 * A column of such a table.  The arguments of create_...() and alter_...()
 * are the first columns, in this order.
 */
typedef struct rsl_definition_column_type
{
	const char *name;
	Oid			type;
	const char *if_null;		/* what a NULL means to create_...(), or NULL */
} rsl_definition_column_type;

typedef struct rsl_definition_table
{
	const char *table;			/* its name, qualified */
	const char *relname;
	const char *kind;			/* "bulkhead", for messages */
	const char *view;			/* where to look what there is */
	int			ncolumns;		/* those that are arguments */
	const rsl_definition_column_type *columns;
	/* raises what is wrong with a row; "old" is the one it replaces, or NULL */
	void		(*check) (HeapTuple tuple, HeapTuple old, TupleDesc desc);
} rsl_definition_table;

extern void rsl_lock_definitions(void);
extern double rsl_interval_ms(const Interval *interval);

/* Reading a row. */
extern char *rsl_text_column(HeapTuple tuple, TupleDesc desc, int column);
extern int32 rsl_int_column(HeapTuple tuple, TupleDesc desc, int column,
							int32 if_null);
extern double rsl_interval_column_ms(HeapTuple tuple, TupleDesc desc,
									 int column, double if_null);
extern bool rsl_bool_column(HeapTuple tuple, TupleDesc desc, int column,
							bool if_null);
extern double rsl_float_column(HeapTuple tuple, TupleDesc desc, int column,
							   double if_null);

/* Finding and writing a table. */
extern Oid	rsl_extension_relation(const char *relname);
extern uint64 rsl_execute_as_owner(const char *relname, const char *sql,
								   int nargs, Oid *types, Datum *values,
								   const bool *nulls, HeapTuple *first);
extern void rsl_begin_change(const char *function);
extern void rsl_check_name(const char *kind, const char *name);
extern char *rsl_name_argument(FunctionCallInfo fcinfo, const char *kind);
extern bool rsl_definition_exists(const rsl_definition_table *table, Datum name);
extern HeapTuple rsl_definition_form(const rsl_definition_table *table,
									 Datum *values, bool *nulls,
									 TupleDesc *desc);
extern void rsl_definition_insert(const rsl_definition_table *table,
								  Datum *values, bool *nulls);
extern void rsl_definition_update(const rsl_definition_table *table,
								  Datum *values, bool *nulls);
extern bool rsl_definition_delete(const rsl_definition_table *table,
								  Datum name, bool if_exists);
extern HeapTuple rsl_definition_trigger_row(FunctionCallInfo fcinfo,
											const char *function);
extern void rsl_check_owner(const char *kind, HeapTuple tuple, HeapTuple old,
							TupleDesc desc, int owner_column, int sql_column);

/*
 * Note that a definition was created, changed or dropped, while it is being
 * published.  "numbers" are pairs, or "".
 */
extern void rsl_definition_event(rsl_event_kind kind, Oid home_database,
								 const char *name, const char *what,
								 const char *numbers);

#endif							/* RSL_POLICY_DEFINITIONS_H */

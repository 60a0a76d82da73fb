/*-------------------------------------------------------------------------
 *
 * rows.h
 *		Rows of a table of definitions as policies, and which of them there is
 *		room for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_ROWS_H
#define RSL_POLICY_ROWS_H

#include "compat.h"

#include "access/htup.h"
#include "access/tupdesc.h"

/* What every policy begins with. */
typedef struct rsl_policy_head
{
	char		name[NAMEDATALEN];
	Oid			home_database;	/* where the table with the row lives */
} rsl_policy_head;

/*
 * Make a policy from a row, whose bytes are zero but for the head's database.
 * Values are taken as they are: the table's trigger has checked them.  Returns
 * false for a row that can't be in force.
 */
typedef bool (*rsl_policy_maker) (HeapTuple tuple, TupleDesc desc, void *policy);

typedef struct rsl_policy_rows
{
	int			n;
	void	   *policies;
	bool	   *written;		/* by the present transaction */
} rsl_policy_rows;

/* The room for one sort of definitions. */
typedef struct rsl_room
{
	const char *singular;		/* "health check", for messages */
	const char *plural;
	const char *setting;		/* that gives the room; NULL = none can */
	int			limit;			/* its value */
	int			others;			/* in force, of other databases */
	int			free;			/* entries that nobody uses, where dropped
								 * ones may be in use; -1 = any number */
} rsl_room;

/* What there was no room for. */
typedef struct rsl_left_out
{
	int			n;
	char		name[NAMEDATALEN];	/* of the first */
	rsl_room	room;
} rsl_left_out;

extern void rsl_read_rows(const char *relname, Size policy_size,
						  rsl_policy_maker make, rsl_policy_rows *rows);
extern int	rsl_fit_rows(const rsl_room *room, int npolicies, void *policies,
						 Size policy_size, const bool *in_force, bool *written,
						 rsl_left_out *left_out);
extern void rsl_report_left_out(int elevel, const rsl_left_out *left_out);

#endif							/* RSL_POLICY_ROWS_H */

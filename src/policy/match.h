/*-------------------------------------------------------------------------
 *
 * match.h
 *		Which bulkheads must a session or a statement pass?
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_MATCH_H
#define RSL_POLICY_MATCH_H

#include "nodes/plannodes.h"
#include "policy/statement.h"
#include "shared/layout.h"

typedef enum rsl_command
{
	RSL_COMMAND_SELECT = 0,
	RSL_COMMAND_INSERT,
	RSL_COMMAND_UPDATE,
	RSL_COMMAND_DELETE,
	RSL_COMMAND_MERGE,
	RSL_COMMAND_COPY,
	RSL_COMMAND_CALL,
	RSL_COMMAND_DDL,
	RSL_COMMAND_MAINTENANCE,
	RSL_NUM_COMMANDS
} rsl_command;

/* What this backend has to pass; the indexes are in rsl_me->matches. */
typedef struct rsl_match_list
{
	uint64		generation;		/* of the bulkheads it was made from; 0 = none */
	bool		complete;		/* false if an error ended the making */
	Oid			role;			/* session user it was made for */
	bool		superuser;
	bool		uses_application_name;	/* some condition reads it */
	bool		uses_statement; /* some entry depends on the statement */
	char		application_name[NAMEDATALEN];
	int			default_priority;	/* from bulkheads that match any
									 * statement, or -1 */
	uint32		budgets;		/* bit i: match i has a budget */
	uint32		unconditional;	/* bit i: match i whatever the statement */
	uint32		commands[RSL_MAX_MATCHES];	/* 0 = any */
	int64		query_ids[RSL_MAX_MATCHES]; /* 0 = any */

	/* conditions on tags: each key once in "tags", which tells its value */
	int			ntags;
	int			tag_of[RSL_MAX_MATCHES];	/* in tags, or -1 */
	uint32		by_value;		/* bit i: match i has compartments */
	int			compartment[RSL_MAX_MATCHES];	/* used last, or -1 */
	char		tag_values[RSL_MAX_MATCHES][RSL_TAG_LEN];
	char		tag_keys[RSL_MAX_MATCHES][RSL_TAG_LEN];
	rsl_tag		tags[RSL_MAX_MATCHES + 1];	/* one more: the priority */
	int			priorities[RSL_MAX_MATCHES];	/* or -1 */
} rsl_match_list;

extern rsl_match_list rsl_matches;

/* A bulkhead as it was published at some moment. */
typedef struct rsl_candidate
{
	int			index;
	uint32		uid;
	rsl_bulkhead_policy policy;
} rsl_candidate;

extern void rsl_match_init(void);
extern void rsl_match_session(void);
extern bool rsl_match_stale(void);
extern void rsl_match_no_tags(void);
extern void rsl_match_read_tags(const rsl_statement *statement, bool priority);
extern uint32 rsl_match_statement(const rsl_statement *statement);
extern rsl_priority rsl_match_tag_priority(void);
extern int	rsl_match_candidates(Oid database, rsl_candidate **candidates);
extern rsl_priority rsl_session_priority(uint32 matched);
extern int	rsl_command_of(const PlannedStmt *stmt);
extern const char *rsl_command_name(int command);
extern int	rsl_parse_command(const char *name);

#endif							/* RSL_POLICY_MATCH_H */

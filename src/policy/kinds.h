/*-------------------------------------------------------------------------
 *
 * kinds.h
 *		Kinds of definitions that go from a table to shared memory alike.
 *
 * A kind says where its rows and its entries are; reading, room, publishing,
 * comparing and the snapshot file are the same for all (kinds.c).  Bulkheads,
 * breakers and runaway rules are older: they share reading and room (rows.c),
 * and have their own ways for the rest.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_KINDS_H
#define RSL_POLICY_KINDS_H

#include "policy/definitions.h"
#include "policy/rows.h"

typedef struct rsl_kind
{
	const char *relname;		/* of the table, in the extension's schema */
	const char *singular;		/* "health check", for messages */
	const char *plural;
	const char *setting;		/* that gives the room */
	rsl_event_kind event_kind;
	Size		policy_size;
	Size		owner_offset;	/* of the owner's Oid in a policy; 0 = none */
	Size		role_offset;	/* of the role that its conditions name; 0 =
								 * none */

	/* how many entries there are */
	int			(*capacity) (void);

	/* the policy of an entry, or NULL while it is not published */
	const void *(*published) (int index);

	rsl_policy_maker from_tuple;

	/*
	 * Config lock held exclusively, or nobody else is there yet; must not
	 * fail.  "put" is called for a new or changed policy, "announce" after
	 * any change.
	 */
	void		(*put) (int index, const void *policy);
	void		(*retire) (int index);
	void		(*announce) (void);
} rsl_kind;

#define RSL_NUM_KINDS	4

extern const rsl_kind *const rsl_kinds[RSL_NUM_KINDS];

extern const rsl_kind rsl_health_check_kind;
extern const rsl_kind rsl_feature_kind;
extern const rsl_kind rsl_degradation_kind;
extern const rsl_kind rsl_experiment_kind;

/* The definitions of one kind in one database. */
typedef struct rsl_definition_set
{
	int			npolicies;
	char	   *policies;
	bool	   *written;		/* by the present transaction */
	rsl_left_out left_out;
} rsl_definition_set;

extern rsl_room rsl_kind_room(const rsl_kind *kind);
extern void rsl_read_set(const rsl_kind *kind, rsl_definition_set *set);
extern void rsl_fit_set(const rsl_kind *kind, Oid home_database,
						rsl_definition_set *set);
extern bool rsl_set_differs(const rsl_kind *kind, Oid home_database,
							const rsl_definition_set *set);
extern void rsl_publish_set(const rsl_kind *kind, Oid home_database,
							const rsl_definition_set *set);
extern bool rsl_publish_kind_at_start(const rsl_kind *kind, const void *policy);

#endif							/* RSL_POLICY_KINDS_H */

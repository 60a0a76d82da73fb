/*-------------------------------------------------------------------------
 *
 * degrade.c
 *		Settings for a transaction, while the server is in a bad state.
 *
 * While a degradation holds its settings are set in transactions at or below
 * its priority, as SET LOCAL would: the server's own machinery takes them
 * back at the transaction's end, and a savepoint's, and parallel workers get
 * them from their leader.  Whatever the session sets itself after that, by
 * SET, SET LOCAL, RESET or a function's SET clause, has the effect and the
 * life that it would have had without us.  And what it had set before, at its
 * start or since, is not touched: only values from the configuration files,
 * the command line of the server, the role and the database are.
 *
 * A transaction is judged when it begins to work, and keeps what it got; one
 * that was running when the state came is left alone, since a shorter
 * statement_timeout in its middle would throw away what it has done.  Two
 * moments count:
 *
 * - before its first query is planned, for settings of the planner.  The
 *	 statement has not been looked at by then, so this is by the priority of
 *	 the session;
 * - when it is admitted, before it takes or waits for a slot, for a query
 *	 that was planned before, a utility statement, and a priority that a tag
 *	 or a bulkhead for such statements has made lower.
 *
 * A transaction that goes on from one (in a procedure that commits), or whose
 * savepoint took our settings away, is judged at its next statement.
 *
 * Cached plans were made for other settings.  The first transaction of a
 * session that is degraded otherwise than the one before throws them away,
 * where the settings matter to plans: then each statement is planned once
 * more.  (The plan that this very statement has in its hand it still uses.)
 *
 * Nothing here raises an error.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "degradation/degrade.h"
#include "optimizer/planner.h"
#include "policy/degradable.h"
#include "policy/match.h"
#include "shared/features.h"
#include "shared/session.h"
#include "shared/settings.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/timeout.h"

/* A copy of what is published, as this backend needs it. */
typedef struct known_setting
{
	struct config_generic *record;	/* NULL: there is no such setting here */
	const char *name;
	const char *value;
} known_setting;

typedef struct known_degradation
{
	int			index;
	uint32		uid;
	bool		affects_plans;
	rsl_degradation_policy policy;
	known_setting settings[RSL_MAX_DEGRADATION_SETTINGS];
} known_degradation;

/* of this database, strongest first */
static known_degradation *known = NULL;
static int	nknown = 0;
static uint64 known_generation = 0; /* as 0 = none published */

/* what this transaction has got */
static uint32 applied;			/* bits */
static SubTransactionId applied_in;
static struct config_generic *ours[4 * RSL_MAX_DEGRADATION_SETTINGS];
static int	nours;

static planner_hook_type prev_planner_hook = NULL;

/*
 * Which of two that set the same setting counts?  That of the worse state,
 * and of two for the same state the one whose name comes last.
 */
static int
compare_strength(const void *a, const void *b)
{
	const rsl_degradation_policy *left = &((const known_degradation *) a)->policy;
	const rsl_degradation_policy *right = &((const known_degradation *) b)->policy;

	if (left->when_state != right->when_state)
		return right->when_state - left->when_state;
	return strcmp(right->name, left->name);
}

/* Find the settings of one. */
static void
resolve(known_degradation *d)
{
	const char *next = d->policy.settings;

	d->affects_plans = false;
	for (int i = 0; i < d->policy.nsettings; i++)
	{
		known_setting *setting = &d->settings[i];

		setting->name = next;
		next += strlen(next) + 1;
		setting->value = next;
		next += strlen(next) + 1;
		setting->record = rsl_find_setting(setting->name);
		if (setting->record && !rsl_setting_is_degradable(setting->record))
			setting->record = NULL;
		if (setting->record && rsl_setting_affects_plans(setting->record))
			d->affects_plans = true;
	}
}

/* Degradations have changed.  Without memory there are none. */
static void
refresh(void)
{
	known_degradation *copies;
	int			n = 0;

	copies = MemoryContextAllocExtended(TopMemoryContext,
										rsl_degradations->max_degradations *
										sizeof(known_degradation),
										MCXT_ALLOC_NO_OOM);
	if (known)
		pfree(known);
	known = NULL;
	nknown = 0;
	if (copies == NULL)
		return;

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	for (int i = 0; i < rsl_degradations->max_degradations; i++)
	{
		rsl_degradation *degradation = &rsl_degradations->degradations[i];

		if (!degradation->published || !degradation->policy.enabled ||
			degradation->policy.home_database != MyDatabaseId)
			continue;
		copies[n].index = i;
		copies[n].uid = pg_atomic_read_u32(&degradation->uid);
		copies[n].policy = degradation->policy;
		n++;
	}
	known_generation = pg_atomic_read_u64(&rsl_degradations->generation);
	LWLockRelease(rsl_config_lock);

	if (n == 0)
	{
		pfree(copies);
		return;
	}
	qsort(copies, n, sizeof(known_degradation), compare_strength);
	for (int i = 0; i < n; i++)
		resolve(&copies[i]);
	known = copies;
	nknown = n;
}

static bool
is_ours(const struct config_generic *record)
{
	for (int i = 0; i < nours; i++)
	{
		if (ours[i] == record)
			return true;
	}
	return false;
}

/* The value is not one: tell that once, in the server's log. */
static void
complain(const known_degradation *d, int i)
{
	rsl_degradation *degradation = &rsl_degradations->degradations[d->index];
	uint32		bit = UINT32_C(1) << i;

	if ((pg_atomic_fetch_or_u32(&degradation->logged, bit) & bit) == 0)
		ereport(LOG,
				(errmsg("degradation \"%s\" could not set \"%s\"",
						d->policy.name, d->settings[i].name),
				 errdetail("value=\"%s\"", d->settings[i].value),
				 errhint("The transaction runs with its own value. This is logged once; see skipped_total in resilience.degradations.")));
}

static void
apply(const known_degradation *d)
{
	uint64		skipped = 0;

	for (int i = 0; i < d->policy.nsettings; i++)
	{
		const known_setting *setting = &d->settings[i];

		/* a stronger one was here before */
		if (setting->record && is_ours(setting->record))
			continue;
		/* the session's own value */
		if (setting->record && setting->record->source > PGC_S_DATABASE_USER)
			skipped++;
		else if (setting->record == NULL || nours == lengthof(ours) ||
				 set_config_option(setting->name, setting->value, PGC_SUSET,
								   PGC_S_SESSION, GUC_ACTION_LOCAL, true,
								   DEBUG5, false) <= 0)
		{
			skipped++;
			complain(d, i);
		}
		else
			ours[nours++] = setting->record;
	}
	if (skipped > 0)
		pg_atomic_fetch_add_u64(&rsl_degradations->degradations[d->index].skipped,
								skipped);
}

/* The statement that begins is under the new statement_timeout, too. */
static void
rearm_statement_timeout(void)
{
	if (StatementTimeout > 0)
		enable_timeout_at(STATEMENT_TIMEOUT,
						  TimestampTzPlusMilliseconds(GetCurrentStatementStartTimestamp(),
													  StatementTimeout));
	else
		disable_timeout(STATEMENT_TIMEOUT, false);
}

/*
 * A transaction of this priority begins to work.  Called at both moments:
 * what it has got it does not get again.
 */
static void
degrade_transaction(int priority)
{
	uint32		active = pg_atomic_read_u32(&rsl_degradations->active);
	int			statement_timeout = StatementTimeout;
	bool		enforce = rsl_mode_setting == RSL_MODE_ENFORCE;
	int			session_priority;
	uint32		plans = 0;

	if (IsInParallelMode() || !IsTransactionState())
		return;
	if (rsl_me->superuser || rsl_matches.superuser)
		active = 0;
	if (rsl_degraded_by == 0)
		applied = nours = 0;
	if (unlikely(pg_atomic_read_u64(&rsl_degradations->generation) != known_generation))
		refresh();

	session_priority = rsl_session_priority(0);
	for (int i = 0; i < nknown; i++)
	{
		const known_degradation *d = &known[i];
		rsl_degradation *degradation = &rsl_degradations->degradations[d->index];
		uint32		bit = UINT32_C(1) << d->index;

		if ((active & bit) == 0 ||
			pg_atomic_read_u32(&degradation->uid) != d->uid)
			continue;
		/* what plans are for does not change from statement to statement */
		if (d->affects_plans && enforce && session_priority <= d->policy.priority)
			plans = hash_combine(plans, d->uid) | 1;
		if (priority > d->policy.priority || (applied & bit) != 0)
			continue;
		if (enforce)
			apply(d);
		if ((rsl_degraded_by & bit) == 0)
			pg_atomic_fetch_add_u64(&degradation->transactions, 1);
		rsl_degraded_by |= bit;
		applied |= bit;
		applied_in = GetCurrentSubTransactionId();
	}

	if (unlikely(plans != rsl_plans_degraded))
	{
		ResetPlanCache();
		rsl_plans_degraded = plans;
	}
	if (StatementTimeout != statement_timeout && !rsl_admitted)
		rearm_statement_timeout();
}

/* Might a bulkhead for some statements raise the session's priority? */
static bool
statement_may_raise_priority(void)
{
	return (rsl_matches.uses_statement || rsl_matches.ntags > 0) &&
		!rsl_priority_is_explicit && rsl_matches.default_priority < 0;
}

/* A query is about to be planned in a transaction that is not judged yet. */
static void
before_planning(void)
{
	if (rsl_admitted)
	{
		rsl_degradation_going_on(rsl_me->priority);
		return;
	}
	if (rsl_mode_setting == RSL_MODE_OFF)
		return;
	if (rsl_match_stale())
		rsl_match_session();
	if (!statement_may_raise_priority())
		degrade_transaction(rsl_session_priority(0));
}

static PlannedStmt *
plan_degraded(RSL_PLANNER_PARAMS)
{
	if (unlikely(rsl_degradation_matters()) && !rsl_degradation_decided &&
		rsl_me != NULL)
		before_planning();

	if (prev_planner_hook)
		return prev_planner_hook(RSL_PLANNER_ARGS);
	return standard_planner(RSL_PLANNER_ARGS);
}

/* Back to before our settings: judge what comes after the savepoint anew. */
static void
end_of_subtransaction(SubXactEvent event, SubTransactionId mySubid,
					  SubTransactionId parentSubid, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && applied != 0 &&
		rsl_degraded_by != 0 && applied_in >= mySubid)
	{
		applied = nours = 0;
		rsl_degradation_decided = false;
	}
}

/* Called by _PG_init() when the library is being preloaded. */
void
rsl_degradation_init(void)
{
	rsl_degrade_transaction = degrade_transaction;
	prev_planner_hook = planner_hook;
	planner_hook = plan_degraded;
	RegisterSubXactCallback(end_of_subtransaction, NULL);
}

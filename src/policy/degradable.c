/*-------------------------------------------------------------------------
 *
 * degradable.c
 *		Which settings of PostgreSQL a degradation may change.
 *
 * Those about how much work a transaction may take and how a plan is chosen:
 * they change how long an answer takes, or that there is none, and never what
 * the answer is.  Also they must have an effect for one transaction: not
 * temp_buffers (fixed once it was used), the cost limits of vacuum (which
 * leaves the transaction before it begins) or idle_session_timeout.  And none
 * that lasts: not default_statistics_target.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "policy/degradable.h"

/* Beside those of the planner's groups. */
typedef struct degradable_setting
{
	const char *name;
	bool		affects_plans;
} degradable_setting;

static const degradable_setting others[] = {
	{"work_mem", true},
	{"hash_mem_multiplier", true},
	{"maintenance_work_mem", false},
	{"max_parallel_workers", false},
	{"max_parallel_workers_per_gather", true},
	{"max_parallel_maintenance_workers", false},
	{"parallel_leader_participation", true},
	{"effective_io_concurrency", false},
	{"maintenance_io_concurrency", false},
	{"io_combine_limit", false},
	{"backend_flush_after", false},
	{"temp_file_limit", false},
	{"statement_timeout", false},
	{"lock_timeout", false},
	{"idle_in_transaction_session_timeout", false},
	{"transaction_timeout", false},
};

static const degradable_setting *
find_other(const struct config_generic *setting)
{
	for (int i = 0; i < lengthof(others); i++)
	{
		if (strcmp(others[i].name, setting->name) == 0)
			return &others[i];
	}
	return NULL;
}

static bool
is_of_planner(const struct config_generic *setting)
{
	return setting->group == QUERY_TUNING_METHOD ||
		setting->group == QUERY_TUNING_COST ||
		setting->group == QUERY_TUNING_GEQO ||
		setting->group == QUERY_TUNING_OTHER;
}

bool
rsl_setting_is_degradable(const struct config_generic *setting)
{
	if (setting->context != PGC_USERSET && setting->context != PGC_SUSET)
		return false;
	if (strcmp(setting->name, "default_statistics_target") == 0)
		return false;
	return is_of_planner(setting) || find_other(setting) != NULL;
}

/* Would a plan that was made under another value be another one? */
bool
rsl_setting_affects_plans(const struct config_generic *setting)
{
	const degradable_setting *other = find_other(setting);

	return other ? other->affects_plans : is_of_planner(setting);
}

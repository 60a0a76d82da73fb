/*-------------------------------------------------------------------------
 *
 * degradable.h
 *		Which settings of PostgreSQL a degradation may change.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_POLICY_DEGRADABLE_H
#define RSL_POLICY_DEGRADABLE_H

#include "compat.h"

/* what to write after "such as" and the like */
#define RSL_DEGRADABLE_HINT \
	"Settings of the planner (among them jit), and work_mem, hash_mem_multiplier, maintenance_work_mem, " \
	"max_parallel_workers, max_parallel_workers_per_gather, max_parallel_maintenance_workers, " \
	"parallel_leader_participation, effective_io_concurrency, maintenance_io_concurrency, " \
	"backend_flush_after, temp_file_limit, statement_timeout, lock_timeout, " \
	"idle_in_transaction_session_timeout may be set."

extern bool rsl_setting_is_degradable(const struct config_generic *setting);
extern bool rsl_setting_affects_plans(const struct config_generic *setting);

#endif							/* RSL_POLICY_DEGRADABLE_H */

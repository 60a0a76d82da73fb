/*-------------------------------------------------------------------------
 *
 * resilience.c
 *		Resilience inside the server: what to admit, to avoid, to try again, to
 *		do without, and how well it is.
 *
 * Only the module's entry is here: settings, hooks, the background worker.
 * Where things are:
 *
 *	core/		algorithms in plain C, without the backend
 *	shared/		settings; shared memory: layout, pools of slots, sessions
 *	policy/		from tables to shared memory; what matches whom
 *	bulkhead/	connection bulkheads; SQL functions and views of bulkheads
 *	shedding/	admission of transactions; hooks; views of the load
 *	breaker/	circuit breakers: guarded calls, foreign data wrappers
 *	retry/		retries with a budget
 *	degradation/	features, the dimmer, degradations
 *	health/		kinds of checks, components of the server's health
 *	chaos/		experiments: faults, their control, their report
 *	metrics/	figures for monitoring systems
 *	endpoint/	the HTTP endpoint: health, metrics, status page
 *	worker/		background workers
 *
 * Hooks and SQL call patterns, patterns call policy, policy calls shared,
 * shared calls core; never the other way.  See docs/architecture.md.
 *
 * Copyright (c) 2026, resilience contributors
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "breaker/fallback.h"
#include "breaker/fdw.h"
#include "bulkhead/connection.h"
#include "chaos/sites.h"
#include "degradation/degrade.h"
#include "fmgr.h"
#include "policy/publish.h"
#include "policy/query_ids.h"
#include "policy/snapshot_file.h"
#include "shared/layout.h"
#include "shared/settings.h"
#include "shedding/hooks.h"
#include "shedding/preempt.h"
#include "shedding/runaway.h"
#include "worker/database.h"
#include "worker/launcher.h"
#include "worker/prober.h"

#define RSL_VERSION "1.0"

RSL_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

/*
 * Everything needs shared memory, which only preloading can give.  Loaded
 * later the library does nothing, and its SQL functions say what to do.
 * pg_upgrade must find a server that nothing interferes with.
 */
void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;

	rsl_define_settings();
	if (IsBinaryUpgrade)
		return;

	rsl_shmem_init(rsl_snapshot_load);
	rsl_publish_init();
	rsl_query_ids_init();
	rsl_connection_init();
	rsl_shedding_init();
	rsl_preempt_init();
	rsl_runaway_init();
	rsl_fdw_init();
	rsl_fallback_init();
	rsl_fallback_functions_init();
	rsl_database_commands_init();
	rsl_degradation_init();
	rsl_chaos_init();
	rsl_launcher_register();
	rsl_prober_register();
}

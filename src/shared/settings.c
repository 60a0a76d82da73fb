/*-------------------------------------------------------------------------
 *
 * settings.c
 *		The settings (GUCs) of the extension.
 *
 * Limits that all sessions must agree on (context "sighup") take effect
 * through shared memory: the launcher publishes them when it has re-read the
 * configuration, within milliseconds and for all sessions at once.  Left to
 * themselves busy sessions would keep the old values until they are idle.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <limits.h>

#include "core/arrival_history.h"
#include "core/limit_controller.h"
#include "core/listen_address.h"
#include "shared/cancel.h"
#include "shared/experiments.h"
#include "shared/cores.h"
#include "shared/runaway.h"
#include "shared/settings.h"
#include "shared/workers.h"
#include "utils/guc.h"

int			rsl_mode_setting = RSL_MODE_ENFORCE;
int			rsl_priority_setting = RSL_PRIORITY_NORMAL;
int			rsl_requested_priority = RSL_PRIORITY_CRITICAL;
int			rsl_minimum_priority = RSL_PRIORITY_LOW;
int			rsl_max_running = RSL_UNLIMITED;
bool		rsl_adaptive_limit = false;
int			rsl_min_running_limit = 2;
int			rsl_max_waiting = 1000;
int			rsl_max_wait = 1000;
int			rsl_low_priority_cap = -1;
int			rsl_normal_priority_cap = -1;
int			rsl_preemption_setting = RSL_PREEMPTION_WAITING;
int			rsl_deadline = 0;
int			rsl_queue_target = -1;
char	   *rsl_priority_tag = NULL;
double		rsl_max_connection_rate = -1;
int			rsl_max_connection_wait = 500;
int			rsl_max_bulkheads = 128;
int			rsl_max_breakers = 128;
int			rsl_max_compartments = 128;
int			rsl_history_size = 16;
int			rsl_max_runaway_rules = 16;
int			rsl_max_health_checks = 128;
int			rsl_max_health_check_workers = 4;
int			rsl_max_features = 128;
int			rsl_max_degradations = 16;
int			rsl_max_experiments = 128;
bool		rsl_chaos_lever = false;
int			rsl_event_buffer = 1024;
char	   *rsl_http_listen = NULL;

bool		rsl_priority_is_explicit = false;

/* the largest number of slots that a pool's word can count */
#define MAX_SLOTS	((int) RSL_LANE_MASK)

static const struct config_enum_entry mode_options[] = {
	{"off", RSL_MODE_OFF, false},
	{"observe", RSL_MODE_OBSERVE, false},
	{"enforce", RSL_MODE_ENFORCE, false},
	{NULL, 0, false}
};

static const struct config_enum_entry priority_options[] = {
	{"low", RSL_PRIORITY_LOW, false},
	{"normal", RSL_PRIORITY_NORMAL, false},
	{"high", RSL_PRIORITY_HIGH, false},
	{"critical", RSL_PRIORITY_CRITICAL, false},
	{NULL, 0, false}
};

static const struct config_enum_entry preemption_options[] = {
	{"off", RSL_PREEMPTION_OFF, false},
	{"waiting", RSL_PREEMPTION_WAITING, false},
	{"running", RSL_PREEMPTION_RUNNING, false},
	{NULL, 0, false}
};

static const char *
option_name(const struct config_enum_entry *options, int value)
{
	for (; options->name != NULL; options++)
	{
		if (options->val == value)
			return options->name;
	}
	return NULL;
}

static int
option_value(const struct config_enum_entry *options, const char *name)
{
	for (; options->name != NULL; options++)
	{
		if (pg_strcasecmp(options->name, name) == 0)
			return options->val;
	}
	return -1;
}

const char *
rsl_priority_name(int priority)
{
	return option_name(priority_options, priority);
}

const char *
rsl_mode_name(int mode)
{
	return option_name(mode_options, mode);
}

/* Returns -1 when there is no such priority or mode. */
int
rsl_parse_priority(const char *name)
{
	return option_value(priority_options, name);
}

int
rsl_parse_mode(const char *name)
{
	return option_value(mode_options, name);
}

static bool
check_max_running(int *newval, void **extra, GucSource source)
{
	if (*newval == 0)
	{
		GUC_check_errdetail("0 would refuse every statement of every session; the smallest limit is 1.");
		GUC_check_errhint("Use -1 for no limit, or \"resilience.minimum_priority\" to stop less important work.");
		return false;
	}
	return true;
}

static bool
check_history_size(int *newval, void **extra, GucSource source)
{
	if (*newval != 0 && *newval < RSL_HISTORY_MIN_SIZE / 1024)
	{
		GUC_check_errdetail("The smallest history has %d kB; 0 means none.",
							RSL_HISTORY_MIN_SIZE / 1024);
		return false;
	}
	return true;
}

static bool
check_priority_tag(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) < RSL_TAG_LEN)
		return true;
	GUC_check_errdetail("The key of a tag has at most %d bytes.",
						RSL_TAG_LEN - 1);
	return false;
}

static bool
check_http_listen(char **newval, void **extra, GucSource source)
{
	rsl_listen_address address;
	const char *wrong = rsl_parse_listen_address(*newval, &address);

	if (wrong == NULL)
		return true;
	GUC_check_errdetail("%s", wrong);
	GUC_check_errhint("Write 127.0.0.1:8009, [::1]:8009, *:8009, or the absolute path of a unix socket.");
	return false;
}

static bool
check_max_connection_rate(double *newval, void **extra, GucSource source)
{
	if (*newval <= 0 && *newval != -1)
	{
		GUC_check_errdetail("0 would refuse every connection; the rate must be more than 0.");
		GUC_check_errhint("Use -1 for no limit.");
		return false;
	}
	return true;
}

/*
 * The source of a value is known here only, and travels with the value as
 * "extra", through SET LOCAL, RESET and rollback.
 */
static bool
check_priority(int *newval, void **extra, GucSource source)
{
	bool	   *is_explicit = rsl_guc_malloc(sizeof(bool));

	if (is_explicit == NULL)
		return false;
	*is_explicit = source >= PGC_S_DATABASE;
	*extra = is_explicit;
	return true;
}

static void
assign_priority(int newval, void *extra)
{
	rsl_priority_is_explicit = extra != NULL && *(bool *) extra;
}

void
rsl_define_settings(void)
{
	DefineCustomEnumVariable("resilience.mode",
							 "Whether limits are enforced, only observed, or off.",
							 "\"observe\" decides and counts like \"enforce\", but refuses and delays nobody.",
							 &rsl_mode_setting,
							 RSL_MODE_ENFORCE, mode_options,
							 PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomEnumVariable("resilience.priority",
							 "Priority of the session's transactions: who is shed first.",
							 "Meant for ALTER ROLE ... SET and ALTER DATABASE ... SET.",
							 &rsl_priority_setting,
							 RSL_PRIORITY_NORMAL, priority_options,
							 PGC_SUSET, 0,
							 check_priority, assign_priority, NULL);

	DefineCustomEnumVariable("resilience.requested_priority",
							 "Lowers the priority of the session's transactions.",
							 "The lower of this and \"resilience.priority\" counts.",
							 &rsl_requested_priority,
							 RSL_PRIORITY_CRITICAL, priority_options,
							 PGC_USERSET, 0, NULL, NULL, NULL);

	DefineCustomEnumVariable("resilience.minimum_priority",
							 "Statements below this priority are shed.",
							 "A lever that needs no free connection: edit the configuration and reload.",
							 &rsl_minimum_priority,
							 RSL_PRIORITY_LOW, priority_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.max_running",
							"How many transactions may run at once in the whole server.",
							"-1 means no limit.",
							&rsl_max_running,
							RSL_UNLIMITED, RSL_UNLIMITED, MAX_SLOTS,
							PGC_SIGHUP, 0, check_max_running, NULL, NULL);

	DefineCustomBoolVariable("resilience.adaptive_limit",
							 "Find the server-wide limit from measured load.",
							 "It moves between \"resilience.min_running_limit\" and \"resilience.max_running\".",
							 &rsl_adaptive_limit,
							 false,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.min_running_limit",
							"The least to which the adaptive limit may fall.",
							"A value above \"resilience.max_running\" counts as that.",
							&rsl_min_running_limit,
							2, 1, MAX_SLOTS,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.max_waiting",
							"How many transactions may wait for the server-wide limit.",
							NULL,
							&rsl_max_waiting,
							1000, 0, MAX_SLOTS,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.max_wait",
							"How long a transaction may wait for the server-wide limit before it is shed.",
							"0 means that nothing waits.",
							&rsl_max_wait,
							1000, 0, 3600 * 1000,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.queue_target",
							"Under overload, who has waited for more than twice this makes place for younger ones.",
							"-1 means a quarter of the longest wait, 0 that nobody does.",
							&rsl_queue_target,
							-1, -1, 3600 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.low_priority_cap",
							"How many low-priority transactions may run while higher priorities have work.",
							"-1 means a quarter of the limit in force, at least 1.",
							&rsl_low_priority_cap,
							-1, -1, MAX_SLOTS,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.normal_priority_cap",
							"How many normal-priority transactions may run while higher priorities have work.",
							"-1 means three quarters of the limit in force, at least 1.",
							&rsl_normal_priority_cap,
							-1, -1, MAX_SLOTS,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomEnumVariable("resilience.preemption",
							 "Whom a statement of higher priority may push out.",
							 "\"waiting\": somebody of a full queue; \"running\": also a running statement, while it would have to wait.",
							 &rsl_preemption_setting,
							 RSL_PREEMPTION_WAITING, preemption_options,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.deadline",
							"The client's time budget for a statement to begin.",
							"A statement that would wait longer is refused at once. 0 means no deadline.",
							&rsl_deadline,
							0, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);

	DefineCustomStringVariable("resilience.priority_tag",
							   "Key of the tag in a statement's comments that may lower its priority.",
							   "An empty string means none.",
							   &rsl_priority_tag,
							   "priority",
							   PGC_SIGHUP, 0, check_priority_tag, NULL, NULL);

	DefineCustomRealVariable("resilience.max_connection_rate",
							 "How many connections per second are let in, in the whole server.",
							 "One second's worth, and at least one, may come at once. -1 means no limit.",
							 &rsl_max_connection_rate,
							 -1, -1, 1000000,
							 PGC_SIGHUP, 0, check_max_connection_rate, NULL, NULL);

	DefineCustomIntVariable("resilience.max_connection_wait",
							"How long a connection may wait to be let in before it is refused.",
							"For the server's and the bulkheads' rates. 0 means that nothing waits.",
							&rsl_max_connection_wait,
							500, 0, 60 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.max_bulkheads",
							"Room for bulkheads in shared memory.",
							NULL,
							&rsl_max_bulkheads,
							128, 1, 10000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.max_compartments",
							"Room for compartments in shared memory: values of tags that are in use at once.",
							NULL,
							&rsl_max_compartments,
							128, 0, 10000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.max_breakers",
							"Room for circuit breakers in shared memory.",
							NULL,
							&rsl_max_breakers,
							128, 1, 10000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.history_size",
							"Shared memory for the history of arrivals, which resilience.preview_bulkhead() reads.",
							"0 means that none is kept.",
							&rsl_history_size,
							16, 0, 1024 * 1024,
							PGC_POSTMASTER, GUC_UNIT_KB,
							check_history_size, NULL, NULL);

	DefineCustomIntVariable("resilience.max_runaway_rules",
							"Room for runaway rules in shared memory.",
							NULL,
							&rsl_max_runaway_rules,
							16, 1, RSL_MAX_RUNAWAY_RULES,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.max_health_checks",
							"Room for health checks in shared memory.",
							NULL,
							&rsl_max_health_checks,
							128, 1, 10000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.max_health_check_workers",
							"How many background workers may run health checks at once, in the whole server.",
							"Each is one of \"max_worker_processes\". They are started when checks are due. 0 means that none are run.",
							&rsl_max_health_check_workers,
							4, 0, RSL_MAX_DATABASE_WORKERS,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.max_features",
							"Room for features in shared memory.",
							NULL,
							&rsl_max_features,
							128, 1, 10000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.max_degradations",
							"Room for degradations in shared memory.",
							NULL,
							&rsl_max_degradations,
							16, 1, 32,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.max_experiments",
							"Room for chaos experiments in shared memory, all databases together.",
							NULL,
							&rsl_max_experiments,
							128, 1, 10000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);

	DefineCustomBoolVariable("resilience.chaos",
							 "Safety lever of chaos experiments: no fault is injected while it is off.",
							 "Turning it off and reloading ends all faults within a second, with no connection needed.",
							 &rsl_chaos_lever,
							 false,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("resilience.event_buffer",
							"How many of the newest events are kept in shared memory.",
							NULL,
							&rsl_event_buffer,
							1024, 16, 1000000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);

	DefineCustomStringVariable("resilience.http_listen",
							   "Address of the health endpoint: \"127.0.0.1:8009\", \"[::1]:8009\", or the path of a unix socket.",
							   "An empty string means that there is none.",
							   &rsl_http_listen,
							   "",
							   PGC_SIGHUP, 0, check_http_listen, NULL, NULL);

	MarkGUCPrefixReserved("resilience");
}

/* The bounds within which resilience.adaptive_limit may move the limit. */
void
rsl_limit_bounds(int *floor, int *ceiling)
{
	*ceiling = rsl_max_running == RSL_UNLIMITED ? MaxConnections : rsl_max_running;
	*floor = Min(rsl_min_running_limit, *ceiling);
}

/* The limit that is to be in force. */
static int
limit_in_force(void)
{
	pg_atomic_uint32 *found = &rsl_shmem->adaptive_limit;
	rsl_limit_config config;
	int			limit = (int) pg_atomic_read_u32(found);

	if (!rsl_adaptive_limit)
	{
		pg_atomic_write_u32(found, 0);
		return rsl_max_running;
	}

	rsl_limit_bounds(&config.floor, &config.ceiling);
	config.cores = rsl_count_cores();
	if (limit == 0)
		limit = rsl_limit_start(&config);
	limit = Max(config.floor, Min(limit, config.ceiling));
	pg_atomic_write_u32(found, (uint32) limit);
	return limit;
}

/*
 * Put the server-wide limit and the caps that depend on it in force: with the
 * other settings, and by the launcher when it has found another limit.
 */
void
rsl_publish_limit(void)
{
	rsl_pool   *pool = &rsl_shmem->server;
	int			limit = limit_in_force();
	int			low_cap;
	int			normal_cap;

	low_cap = rsl_pool_effective_cap(rsl_low_priority_cap, limit, 1);
	normal_cap = rsl_pool_effective_cap(rsl_normal_priority_cap, limit, 3);

	/* caps without a limit: count, with room for everybody */
	if (limit < 0 && (low_cap >= 0 || normal_cap >= 0))
		limit = MAX_SLOTS;

	pg_atomic_write_u32(&pool->low_cap, (uint32) low_cap);
	pg_atomic_write_u32(&pool->normal_cap, (uint32) normal_cap);
	pg_atomic_write_u32(&pool->max_running, (uint32) limit);
}

/*
 * Make the server-wide settings known to all sessions: at start, and by the
 * launcher after a reload.
 */
void
rsl_publish_settings(void)
{
	rsl_pool   *pool = &rsl_shmem->server;

	rsl_publish_limit();
	pg_atomic_write_u32(&pool->max_waiting, (uint32) rsl_max_waiting);
	pg_atomic_write_u32(&rsl_shmem->minimum_priority,
						(uint32) rsl_minimum_priority);
	pg_atomic_write_u32(&rsl_shmem->preemption,
						(uint32) rsl_preemption_setting);
	rsl_cancel_arm(RSL_CANCEL_BY_PREEMPTION,
				   rsl_preemption_setting == RSL_PREEMPTION_RUNNING);
	rsl_chaos_set_lever(rsl_chaos_lever);
}

/*-------------------------------------------------------------------------
 *
 * settings.h
 *		The settings (GUCs) of the extension.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHARED_SETTINGS_H
#define RSL_SHARED_SETTINGS_H

#include "shared/layout.h"

typedef enum rsl_preemption
{
	RSL_PREEMPTION_OFF = 0,
	RSL_PREEMPTION_WAITING,
	RSL_PREEMPTION_RUNNING
} rsl_preemption;

extern int	rsl_mode_setting;	/* rsl_mode */
extern int	rsl_priority_setting;	/* rsl_priority */
extern int	rsl_requested_priority; /* rsl_priority */
extern int	rsl_minimum_priority;	/* rsl_priority */
extern int	rsl_max_running;
extern bool rsl_adaptive_limit;
extern int	rsl_min_running_limit;
extern int	rsl_max_waiting;
extern int	rsl_max_wait;		/* ms */
extern int	rsl_low_priority_cap;
extern int	rsl_normal_priority_cap;
extern int	rsl_preemption_setting; /* rsl_preemption */
extern double rsl_max_connection_rate;	/* per second; -1 = no limit */
extern int	rsl_max_connection_wait;	/* ms */
extern int	rsl_queue_target;	/* ms; -1 = from max_wait, 0 = off */
extern int	rsl_deadline;		/* ms; 0 = none */
extern char *rsl_priority_tag;	/* "" = none */
extern int	rsl_max_bulkheads;
extern int	rsl_max_breakers;
extern int	rsl_max_compartments;
extern int	rsl_history_size;
extern int	rsl_max_runaway_rules;
extern int	rsl_max_health_checks;
extern int	rsl_max_health_check_workers;
extern int	rsl_max_features;
extern int	rsl_max_degradations;
extern int	rsl_max_experiments;
extern bool rsl_chaos_lever;
extern int	rsl_event_buffer;
extern char *rsl_http_listen;	/* "" = off */

/*
 * Was resilience.priority set for this session, its role or its database?
 * A value from the configuration file only replaces the built-in default: a
 * bulkhead's priority is more specific.
 */
extern bool rsl_priority_is_explicit;

extern void rsl_define_settings(void);
extern void rsl_publish_settings(void);
extern void rsl_publish_limit(void);
extern void rsl_limit_bounds(int *floor, int *ceiling);
extern const char *rsl_priority_name(int priority);
extern const char *rsl_mode_name(int mode);
extern int	rsl_parse_priority(const char *name);
extern int	rsl_parse_mode(const char *name);

#endif							/* RSL_SHARED_SETTINGS_H */

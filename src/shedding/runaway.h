/*-------------------------------------------------------------------------
 *
 * runaway.h
 *		Runaway rules: what a statement tells and is told.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RSL_SHEDDING_RUNAWAY_H
#define RSL_SHEDDING_RUNAWAY_H

#include "lib/stringinfo.h"
#include "policy/statement.h"
#include "shared/runaway.h"

/* the statement's side: shedding/hooks.c, shedding/admission.c */
extern void rsl_runaway_init(void);
extern bool rsl_runaway_statement_starts(const rsl_statement *statement);
extern void rsl_runaway_describe_statement(const rsl_statement *statement);

/* the launcher's side */
extern void rsl_runaway_watch(void);

/* both */
extern bool rsl_runaway_meets_conditions(const rsl_conditions *conditions,
										 int command, uint64 query_id,
										 bool tag);
extern bool rsl_runaway_exceeds(const rsl_runaway_usage *usage,
								const rsl_runaway_usage *limits);
extern void rsl_runaway_append_usage(StringInfo buf, const char *prefix,
									 const rsl_runaway_usage *usage);
extern TimestampTz rsl_runaway_hit(int rule, uint32 uid, uint64 query_id,
								   bool quarantine);

#endif							/* RSL_SHEDDING_RUNAWAY_H */

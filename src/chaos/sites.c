/*-------------------------------------------------------------------------
 *
 * sites.c
 *		Where statements and connections meet chaos experiments.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "chaos/inject.h"
#include "chaos/record.h"
#include "chaos/sites.h"
#include "chaos/target.h"

/* of the statement that started last: the runs whose target it is */
static uint32 targets = 0;

static void
statement_starts(const PlannedStmt *stmt, const char *source_text,
				 QueryDesc *queryDesc)
{
	rsl_statement statement = {.stmt = stmt,.source_text = source_text,.queryDesc = queryDesc};

	targets = 0;
	rsl_targets_refresh();
	if (rsl_session_is_spared())
		return;
	targets = rsl_targets_of_statement(&statement);
	rsl_record_start(targets);
	if (targets != 0)
		rsl_inject_at_start(targets);
}

static void
statement_ends(void)
{
	if (targets != 0)
		rsl_inject_at_end(targets);
	targets = 0;
	rsl_record_end();
}

static void
connection_starts(void)
{
	rsl_inject_at_connection();
}

void
rsl_chaos_init(void)
{
	rsl_chaos.statement_starts = statement_starts;
	rsl_chaos.statement_ends = statement_ends;
	rsl_chaos.connection_starts = connection_starts;
	rsl_record_init();
}

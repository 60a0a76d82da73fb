/*-------------------------------------------------------------------------
 *
 * options.c
 *		The arguments of a retry: defaults, rules, lists of SQLSTATEs; and
 *		retry_delay(), which has most of them.
 *
 * NULL means the default of an argument, where it has no meaning of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "policy/execution.h"
#include "retry/retry.h"
#include "shared/errcodes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(retry_delay);

#define MAX_RETRIES				100
#define MAX_DELAY_US			USECS_PER_DAY

#define DEFAULT_MAX_RETRIES		3
#define DEFAULT_BASE_DELAY_US	INT64CONST(50000)
#define DEFAULT_MAX_DELAY_US	INT64CONST(2000000)
#define DEFAULT_BACKOFF_FACTOR	2.0
#define DEFAULT_JITTER			RSL_JITTER_FULL

/*
 * What is worth another attempt: conflicts with others, and a server that is
 * not there or has no room.  Not where the outcome is unknown (08007, 40003,
 * 08R02): the statement may have been executed.
 */
static const char *const default_retryable[] = {
	"40001", "40P01", "55P03",
	"08000", "08001", "08003", "08004", "08006",
	"53300", "53R01", "53R02", "53R03", "53R04",
	"57P01", "57P02", "57P03"
};

static const struct
{
	const char *name;
	rsl_jitter	jitter;
}			jitters[] =

{
	{"none", RSL_JITTER_NONE},
	{"full", RSL_JITTER_FULL},
	{"equal", RSL_JITTER_EQUAL},
	{"decorrelated", RSL_JITTER_DECORRELATED},
};

static const struct
{
	const char *name;
	int			level;
}			isolation_levels[] =

{
	{"read uncommitted", XACT_READ_UNCOMMITTED},
	{"read committed", XACT_READ_COMMITTED},
	{"repeatable read", XACT_REPEATABLE_READ},
	{"serializable", XACT_SERIALIZABLE},
};

static const rsl_sql_rules retry_rules = {
	.what = "sql of a retry",
	.no_transaction_control = "Each attempt is a subtransaction of its own, which begins and ends without being told.",
	.no_client_copy = "What the client has sent cannot be sent again.",
	.no_client_copy_hint = "COPY into a table first, outside of the retry.",
};

static const rsl_sql_rules transaction_rules = {
	.what = "sql of a retry",
	.no_transaction_control = "Each attempt is a transaction of its own, which begins and ends without being told.",
	.no_client_copy = "What the client has sent cannot be sent again.",
	.no_client_copy_hint = "COPY into a table first, outside of the retry.",
	.no_set_transaction = true,
};

/* uniform in [0, 1) */
double
rsl_retry_random(void)
{
	return pg_prng_double(&pg_global_prng_state);
}

/*
 * An interval in microseconds, a month as 30 days.  What does not fit is far
 * beyond what any argument may be, and comes back as one more than that.
 */
static int64
interval_us(const Interval *interval)
{
	int64		days = (int64) interval->month * DAYS_PER_MONTH + interval->day;

	if (days > 36500 || interval->time > 100 * MAX_DELAY_US)
		return MAX_DELAY_US + 1;
	if (days < -36500 || interval->time < -100 * MAX_DELAY_US)
		return -1;
	return days * USECS_PER_DAY + interval->time;
}

static int64
get_delay(FunctionCallInfo fcinfo, int arg, const char *name,
		  int64 default_us)
{
	Interval   *interval;
	int64		us;

	if (PG_ARGISNULL(arg))
		return default_us;
	interval = PG_GETARG_INTERVAL_P(arg);
	us = interval_us(interval);
	if (us < 0 || us > MAX_DELAY_US)
	{
		char	   *text;

		text = DatumGetCString(DirectFunctionCall1(interval_out,
												   IntervalPGetDatum(interval)));

		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 us < 0 ? errmsg("%s of a retry must not be negative", name) :
				 errmsg("%s of a retry is too long", name),
				 errdetail("%s=\"%s\" maximum=\"1 day\"", name, text),
				 errhint("Use an interval from 0 to 1 day.")));
	}
	return us;
}

static rsl_jitter
get_jitter(FunctionCallInfo fcinfo, int arg)
{
	char	   *name;

	if (PG_ARGISNULL(arg))
		return DEFAULT_JITTER;
	name = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	for (int i = 0; i < lengthof(jitters); i++)
	{
		if (pg_strcasecmp(name, jitters[i].name) == 0)
			return jitters[i].jitter;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown jitter \"%s\"", name),
			 errhint("Use none, full, equal or decorrelated.")));
}

/* base_delay, max_delay, backoff_factor, jitter: from this argument on */
static void
get_backoff(FunctionCallInfo fcinfo, int arg, rsl_backoff *backoff)
{
	backoff->base_us = get_delay(fcinfo, arg, "base_delay",
								 DEFAULT_BASE_DELAY_US);
	backoff->max_us = get_delay(fcinfo, arg + 1, "max_delay",
								DEFAULT_MAX_DELAY_US);
	if (backoff->max_us < backoff->base_us)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_delay of a retry is shorter than base_delay"),
				 errdetail("base_delay_ms=%g max_delay_ms=%g",
						   backoff->base_us / 1000.0, backoff->max_us / 1000.0),
				 errhint("The first delay is base_delay, later ones grow up to max_delay (default 2 s).")));

	backoff->factor = PG_ARGISNULL(arg + 2) ? DEFAULT_BACKOFF_FACTOR :
		PG_GETARG_FLOAT8(arg + 2);
	/* so that NaN fails, too */
	if (!(backoff->factor >= 1.0))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("backoff_factor of a retry must be at least 1"),
				 errdetail("backoff_factor=%g", backoff->factor),
				 errhint("Use 2 to double the delay each time, 1 to leave it as it is.")));
	/* no delay grows into none, however fast */
	if (backoff->base_us == 0)
		backoff->factor = 1.0;
	backoff->jitter = get_jitter(fcinfo, arg + 3);
}

/*
 * Lists of SQLSTATEs.
 */

static int
make_sqlstate(const char *code, bool is_class)
{
	return is_class ? MAKE_SQLSTATE(code[0], code[1], '0', '0', '0') :
		MAKE_SQLSTATE(code[0], code[1], code[2], code[3], code[4]);
}

static void
get_retryable(ArrayType *array, rsl_retry_options *options)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, &nulls, &n);
	options->retryable = palloc(sizeof(rsl_retryable) * Max(n, 1));
	options->nretryable = n;
	for (int i = 0; i < n; i++)
	{
		char	   *code = nulls[i] ? NULL : TextDatumGetCString(elements[i]);
		size_t		length = code ? strlen(code) : 0;

		if ((length != 5 && length != 2) ||
			strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != length)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 code ? errmsg("invalid SQLSTATE \"%s\" in retryable_sqlstates", code) :
					 errmsg("retryable_sqlstates must not contain nulls"),
					 errdetail("Elements are SQLSTATEs such as 40001, or classes of them such as 40: digits and upper-case letters."),
					 errhint("Use NULL in place of the array for the default list.")));
		options->retryable[i].is_class = length == 2;
		options->retryable[i].sqlstate = make_sqlstate(code, length == 2);
	}
}

/*
 * Errors that end a retry even if they are listed: somebody wants the
 * statement to end, or the code is wrong.
 */
bool
rsl_retry_is_never(int sqlstate)
{
	return sqlstate == ERRCODE_QUERY_CANCELED ||
		sqlstate == ERRCODE_ASSERT_FAILURE ||
		sqlstate == ERRCODE_BREAKER_OPEN ||
		sqlstate == ERRCODE_RETRY_BUDGET_EXHAUSTED;
}

/* The outcome is unknown: whoever wants this retried must say so in full. */
static bool
needs_full_code(int sqlstate)
{
	return sqlstate == ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN ||
		sqlstate == ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN ||
		sqlstate == ERRCODE_CALL_TIMED_OUT;
}

bool
rsl_retry_is_retryable(const rsl_retry_options *options, int sqlstate)
{
	if (options->retryable == NULL)
	{
		for (int i = 0; i < lengthof(default_retryable); i++)
		{
			if (make_sqlstate(default_retryable[i], false) == sqlstate)
				return true;
		}
		return false;
	}

	for (int i = 0; i < options->nretryable; i++)
	{
		const rsl_retryable *element = &options->retryable[i];

		if (element->is_class ?
			element->sqlstate == ERRCODE_TO_CATEGORY(sqlstate) &&
			!needs_full_code(sqlstate) :
			element->sqlstate == sqlstate)
			return true;
	}
	return false;
}

/*
 * isolation text, of retry_transaction() only
 */
static int
get_isolation(FunctionCallInfo fcinfo, int arg)
{
	char	   *name;

	if (PG_ARGISNULL(arg))
		return -1;
	name = text_to_cstring(PG_GETARG_TEXT_PP(arg));
	for (int i = 0; i < lengthof(isolation_levels); i++)
	{
		if (pg_strcasecmp(name, isolation_levels[i].name) != 0)
			continue;
		if (isolation_levels[i].level == XACT_SERIALIZABLE && RecoveryInProgress())
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot use serializable mode in a hot standby"),
					 errhint("You can use REPEATABLE READ instead.")));
		return isolation_levels[i].level;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown isolation \"%s\"", name),
			 errhint("Use serializable, repeatable read or read committed, or NULL for default_transaction_isolation.")));
}

/*
 * The arguments of retry(), retry_query() and retry_transaction(), which has
 * one more.
 *
 * Errors: 22023 for a bad argument, 0A000 for COPY from or to the client,
 * 42601 for what is no SQL.
 */
void
rsl_retry_get_options(FunctionCallInfo fcinfo, bool transaction,
					  rsl_retry_options *options)
{
	memset(options, 0, sizeof(*options));

	if (!PG_ARGISNULL(0))
	{
		options->sql = text_to_cstring(PG_GETARG_TEXT_PP(0));
		options->statements =
			rsl_split_statements(options->sql,
								 transaction ? &transaction_rules : &retry_rules);
	}
	if (options->statements == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 options->sql ? errmsg("sql of a retry must not be empty") :
				 errmsg("sql of a retry must not be null"),
				 errhint("Give it one or several statements.")));

	options->max_retries = PG_ARGISNULL(1) ? DEFAULT_MAX_RETRIES :
		PG_GETARG_INT32(1);
	if (options->max_retries < 0 || options->max_retries > MAX_RETRIES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 options->max_retries < 0 ?
				 errmsg("max_retries of a retry must not be negative") :
				 errmsg("max_retries of a retry is too large"),
				 errdetail("max_retries=%d maximum=%d", options->max_retries,
						   MAX_RETRIES),
				 errhint("It does not count the first attempt: 0 means not to retry at all.")));

	get_backoff(fcinfo, 2, &options->backoff);
	if (!PG_ARGISNULL(6))
		get_retryable(PG_GETARG_ARRAYTYPE_P(6), options);

	options->total_timeout_us = get_delay(fcinfo, 7, "total_timeout", 0);
	if (!PG_ARGISNULL(7) && options->total_timeout_us == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("total_timeout of a retry must not be 0"),
				 errhint("Use NULL for no limit.")));

	if (!PG_ARGISNULL(8))
	{
		options->budget = text_to_cstring(PG_GETARG_TEXT_PP(8));
		if (options->budget[0] == '\0' || strlen(options->budget) >= NAMEDATALEN)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 options->budget[0] == '\0' ?
					 errmsg("the name of a retry budget must not be empty") :
					 errmsg("the name of a retry budget is too long"),
					 errdetail("bytes=%zu maximum=%d", strlen(options->budget),
							   NAMEDATALEN - 1),
					 errhint("Use 'default' for the budget that all share, NULL for none.")));
	}

	options->isolation = transaction ? get_isolation(fcinfo, 9) : -1;
}

/*
 * retry_delay(attempt int, base_delay interval, max_delay interval,
 *		backoff_factor float8, jitter text, previous_delay interval)
 *		returns interval
 *
 * How long to wait before the given retry, 1 for the first: what retry()
 * waits, for clients that do their own retries.  Only decorrelated jitter
 * looks at previous_delay, what this function returned for the retry before;
 * NULL and 0 mean base_delay.
 *
 * Errors: 22023 for a bad argument.
 */
Datum
retry_delay(PG_FUNCTION_ARGS)
{
	Interval   *result;
	rsl_backoff backoff;
	int64		previous;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (PG_GETARG_INT32(0) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("attempt of a retry must be at least 1"),
				 errdetail("attempt=%d", PG_GETARG_INT32(0)),
				 errhint("1 is the first retry.")));
	get_backoff(fcinfo, 1, &backoff);
	previous = get_delay(fcinfo, 5, "previous_delay", 0);

	result = palloc0(sizeof(Interval));
	result->time = rsl_backoff_delay(&backoff, PG_GETARG_INT32(0), previous,
									 rsl_retry_random());
	PG_RETURN_INTERVAL_P(result);
}

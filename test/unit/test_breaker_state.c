/*-------------------------------------------------------------------------
 *
 * test_breaker_state.c
 *		Unit tests of core/breaker_state: sequences of events for each rule
 *		and its edge, and random lives against a naive model that keeps a list
 *		of all calls and follows the rules as they are written down.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "core/breaker_state.h"

#define SECOND		INT64_C(1000000)
#define SLOTS		8

/* random numbers at the ends */
#define ALMOST_ONE	(1.0 - 1.0 / (double) (UINT64_C(1) << 53))

/* a window of 10 slices of 1 s, open for 5, 10, 20, 30 s, without jitter */
static const rsl_breaker_config usual = {
	.max_failures = 3,
	.minimum_calls = 10,
	.failure_rate = 0.5,
	.slow_call_rate = 0.5,
	.slow_call_us = SECOND,
	.window_us = 10 * SECOND,
	.reset_us = 5 * SECOND,
	.max_reset_us = 30 * SECOND,
	.backoff_factor = 2,
	.jitter = 0,
	.half_open_calls = 2,
	.success_threshold = 3,
	.probe = false
};

/*
 * Sequences of events
 */

typedef enum
{
	END = 0,
	ADMIT,						/* into a slot; expects the answer */
	OKAY,						/* the slot's call ends; expects "counted" */
	FAIL,
	SLOW,
	SLOW_FAIL,
	NEITHER,
	CALL_OKAY,					/* admitted and ended; expects the admission */
	CALL_FAIL,
	CALL_SLOW,
	DUE,						/* expects the answer */
	ALIVE,						/* the probe's answer, of this generation */
	DEAD,
	OLD_ALIVE,					/* of the one before */
	OLD_DEAD,
	FORCE,						/* to .slot */
	RESET,
	PROBE,						/* the configuration: on or off */
	HALF_OPEN_CALLS,			/* the configuration: .slot */
	THRESHOLD,
	RESET_S,
	RETRY_AFTER,				/* expects .slot ms */
	SUCCESSES,					/* expects .slot trial_successes */
	TRIALS,						/* expects .slot */
	WINDOW,						/* expects .slot calls in it */
	IN_A_ROW,					/* expects .slot consecutive_failures */
	REASON,						/* expects .slot */
	OPENED,						/* expects .slot openings ever */
	OPEN_MS,					/* expects .slot ms spent open */
	OPENED_AT					/* expects .slot ms */
} event_kind;

#define CL	RSL_BREAKER_CLOSED
#define HO	RSL_BREAKER_HALF_OPEN
#define OPN	RSL_BREAKER_OPEN

typedef struct
{
	event_kind	what;
	int			slot;
	double		at;				/* seconds */
	bool		answer;
	int			position;		/* after it, and */
	int			generation;
} event;

typedef struct
{
	const char *name;
	bool		prober;
	event		events[40];
} story;

/* pgindent loses its way in braces within braces */
#define DO(...)			{__VA_ARGS__}
#define STORY(name, prober, ...)	{name, prober, {__VA_ARGS__}}
#define THREE_FAILURES \
	DO(CALL_FAIL, 0, 1, 1, CL, 0), DO(CALL_FAIL, 0, 1, 1, CL, 0), DO(CALL_FAIL, 0, 1, 1, OPN, 1)

static const story stories[] =
{
	STORY("max_failures in a row open it, one less does not", false,
		  DO(CALL_FAIL, 0, 1, 1, CL, 0), DO(IN_A_ROW, 1, 1, 0, CL, 0), DO(CALL_FAIL, 0, 1, 1, CL, 0),
		  DO(OPENED, 0, 1, 0, CL, 0), DO(REASON, RSL_TRIP_NONE, 1, 0, CL, 0),
		  DO(CALL_FAIL, 0, 1, 1, OPN, 1), DO(IN_A_ROW, 3, 1, 0, OPN, 1), DO(OPENED, 1, 1, 0, OPN, 1),
		  DO(REASON, RSL_TRIP_CONSECUTIVE, 1, 0, OPN, 1), DO(CALL_FAIL, 0, 2, 0, OPN, 1)),
	STORY("a success in between begins a new row", false,
		  DO(CALL_FAIL, 0, 1, 1, CL, 0), DO(CALL_FAIL, 0, 1, 1, CL, 0), DO(CALL_OKAY, 0, 1, 1, CL, 0),
		  DO(IN_A_ROW, 0, 1, 0, CL, 0), DO(CALL_FAIL, 0, 1, 1, CL, 0), DO(CALL_FAIL, 0, 1, 1, CL, 0),
		  DO(IN_A_ROW, 2, 1, 0, CL, 0), DO(WINDOW, 5, 1, 0, CL, 0)),
	STORY("a slow success, too", false,
		  DO(CALL_FAIL, 0, 1, 1, CL, 0), DO(CALL_FAIL, 0, 1, 1, CL, 0), DO(CALL_SLOW, 0, 1, 1, CL, 0),
		  DO(IN_A_ROW, 0, 1, 0, CL, 0), DO(CALL_FAIL, 0, 1, 1, CL, 0)),
	STORY("neither is nothing", false,
		  DO(CALL_FAIL, 0, 1, 1, CL, 0), DO(CALL_FAIL, 0, 1, 1, CL, 0), DO(ADMIT, 0, 1, 1, CL, 0),
		  DO(NEITHER, 0, 1, 1, CL, 0), DO(IN_A_ROW, 2, 1, 0, CL, 0), DO(WINDOW, 2, 1, 0, CL, 0),
		  DO(CALL_FAIL, 0, 1, 1, OPN, 1)),
	STORY("failures in a row may be far apart", false,
		  DO(CALL_FAIL, 0, 1, 1, CL, 0), DO(CALL_FAIL, 0, 1000, 1, CL, 0),
		  DO(CALL_FAIL, 0, 99999, 1, OPN, 1)),
	STORY("open until the time is up", false,
		  THREE_FAILURES, DO(RETRY_AFTER, 5000, 1, 0, OPN, 1), DO(ADMIT, 0, 5.999999, 0, OPN, 1),
		  DO(RETRY_AFTER, 1, 5.999, 0, OPN, 1), DO(RETRY_AFTER, 0, 6, 0, OPN, 1),
		  DO(RETRY_AFTER, 0, 9, 0, OPN, 1), DO(DUE, 0, 6, 0, OPN, 1), DO(ADMIT, 0, 6, 1, HO, 2),
		  DO(RETRY_AFTER, 0, 6, 0, HO, 2)),
	STORY("half_open_calls at a time, success_threshold in all", false,
		  THREE_FAILURES, DO(ADMIT, 0, 6, 1, HO, 2), DO(ADMIT, 1, 6, 1, HO, 2),
		  DO(ADMIT, 2, 6, 0, HO, 2), DO(TRIALS, 2, 6, 0, HO, 2), DO(OKAY, 0, 7, 1, HO, 2),
		  DO(TRIALS, 1, 7, 0, HO, 2), DO(ADMIT, 2, 7, 1, HO, 2), DO(ADMIT, 3, 7, 0, HO, 2),
		  DO(OKAY, 1, 7, 1, HO, 2), DO(SUCCESSES, 2, 7, 0, HO, 2), DO(IN_A_ROW, 3, 7, 0, HO, 2),
		  DO(OKAY, 2, 8, 1, CL, 3), DO(SUCCESSES, 0, 8, 0, CL, 3), DO(TRIALS, 0, 8, 0, CL, 3),
		  DO(IN_A_ROW, 0, 8, 0, CL, 3), DO(WINDOW, 0, 8, 0, CL, 3), DO(OPEN_MS, 7000, 8, 0, CL, 3),
		  DO(OPEN_MS, 7000, 99, 0, CL, 3), DO(OPENED_AT, 1000, 99, 0, CL, 3),
		  DO(CALL_FAIL, 0, 8, 1, CL, 3), DO(CALL_FAIL, 0, 8, 1, CL, 3), DO(CALL_FAIL, 0, 8, 1, OPN, 4)),
	STORY("one failed trial opens it again, for longer", false,
		  THREE_FAILURES, DO(CALL_OKAY, 0, 6, 1, HO, 2), DO(CALL_OKAY, 0, 6, 1, HO, 2),
		  DO(CALL_FAIL, 0, 6, 1, OPN, 3), DO(REASON, RSL_TRIP_TRIAL, 6, 0, OPN, 3),
		  DO(OPENED, 2, 6, 0, OPN, 3), DO(RETRY_AFTER, 10000, 6, 0, OPN, 3),
		  DO(SUCCESSES, 0, 6, 0, OPN, 3), DO(OPENED_AT, 1000, 6, 0, OPN, 3),
		  DO(ADMIT, 0, 15.999, 0, OPN, 3), DO(CALL_FAIL, 0, 16, 1, OPN, 5),
		  DO(RETRY_AFTER, 20000, 16, 0, OPN, 5), DO(CALL_FAIL, 0, 36, 1, OPN, 7),
		  DO(RETRY_AFTER, 30000, 36, 0, OPN, 7), DO(CALL_FAIL, 0, 66, 1, OPN, 9),
		  DO(RETRY_AFTER, 30000, 66, 0, OPN, 9), DO(OPENED, 5, 66, 0, OPN, 9),
		  DO(OPEN_MS, 99000, 100, 0, OPN, 9)),
	STORY("a slow trial is a failed one", false,
		  THREE_FAILURES, DO(CALL_OKAY, 0, 6, 1, HO, 2), DO(CALL_SLOW, 0, 6, 1, OPN, 3),
		  DO(REASON, RSL_TRIP_TRIAL, 6, 0, OPN, 3), DO(IN_A_ROW, 3, 6, 0, OPN, 3)),
	STORY("a slow failure of a trial, too", false,
		  THREE_FAILURES, DO(ADMIT, 0, 6, 1, HO, 2), DO(SLOW_FAIL, 0, 6, 1, OPN, 3),
		  DO(IN_A_ROW, 4, 6, 0, OPN, 3)),
	STORY("a trial that says nothing gives its permit back", false,
		  THREE_FAILURES, DO(ADMIT, 0, 6, 1, HO, 2), DO(ADMIT, 1, 6, 1, HO, 2),
		  DO(NEITHER, 0, 7, 1, HO, 2), DO(TRIALS, 1, 7, 0, HO, 2), DO(SUCCESSES, 0, 7, 0, HO, 2),
		  DO(ADMIT, 0, 7, 1, HO, 2), DO(ADMIT, 2, 7, 0, HO, 2), DO(NEITHER, 0, 7, 1, HO, 2),
		  DO(NEITHER, 1, 7, 1, HO, 2), DO(TRIALS, 0, 7, 0, HO, 2), DO(WINDOW, 3, 7, 0, HO, 2)),
	STORY("calls of the closed breaker end in a later generation", false,
		  DO(ADMIT, 4, 1, 1, CL, 0), DO(ADMIT, 5, 1, 1, CL, 0), DO(ADMIT, 6, 1, 1, CL, 0),
		  DO(ADMIT, 7, 1, 1, CL, 0), THREE_FAILURES, DO(FAIL, 4, 2, 0, OPN, 1),
		  DO(IN_A_ROW, 3, 2, 0, OPN, 1), DO(ADMIT, 0, 6, 1, HO, 2), DO(FAIL, 5, 6, 0, HO, 2),
		  DO(OKAY, 6, 6, 0, HO, 2), DO(SUCCESSES, 0, 6, 0, HO, 2), DO(TRIALS, 1, 6, 0, HO, 2),
		  DO(OKAY, 0, 6, 1, HO, 2), DO(CALL_OKAY, 0, 6, 1, HO, 2), DO(CALL_OKAY, 0, 6, 1, CL, 3),
		  DO(FAIL, 7, 7, 0, CL, 3), DO(WINDOW, 0, 7, 0, CL, 3), DO(IN_A_ROW, 0, 7, 0, CL, 3)),
	STORY("a trial ends after another one has failed", false,
		  THREE_FAILURES, DO(ADMIT, 0, 6, 1, HO, 2), DO(ADMIT, 1, 6, 1, HO, 2),
		  DO(FAIL, 0, 7, 1, OPN, 3), DO(TRIALS, 0, 7, 0, OPN, 3), DO(FAIL, 1, 7, 0, OPN, 3),
		  DO(OPENED, 2, 7, 0, OPN, 3), DO(ADMIT, 2, 17, 1, HO, 4), DO(TRIALS, 1, 17, 0, HO, 4),
		  DO(OKAY, 1, 17, 0, HO, 4), DO(NEITHER, 1, 17, 0, HO, 4), DO(TRIALS, 1, 17, 0, HO, 4),
		  DO(SUCCESSES, 0, 17, 0, HO, 4)),
	STORY("closed for less than a minute, it remembers", false,
		  THREE_FAILURES, DO(CALL_OKAY, 0, 6, 1, HO, 2), DO(CALL_OKAY, 0, 6, 1, HO, 2),
		  DO(CALL_OKAY, 0, 6, 1, CL, 3), DO(CALL_FAIL, 0, 65.9, 1, CL, 3),
		  DO(CALL_FAIL, 0, 65.9, 1, CL, 3), DO(CALL_FAIL, 0, 65.999999, 1, OPN, 4),
		  DO(RETRY_AFTER, 10000, 65.999999, 0, OPN, 4), DO(OPENED_AT, 65999, 66, 0, OPN, 4)),
	STORY("closed for a minute, it has forgotten", false,
		  THREE_FAILURES, DO(CALL_OKAY, 0, 6, 1, HO, 2), DO(CALL_OKAY, 0, 6, 1, HO, 2),
		  DO(CALL_OKAY, 0, 6, 1, CL, 3), DO(CALL_FAIL, 0, 65, 1, CL, 3),
		  DO(CALL_FAIL, 0, 66, 1, CL, 3), DO(CALL_FAIL, 0, 66, 1, OPN, 4),
		  DO(RETRY_AFTER, 5000, 66, 0, OPN, 4), DO(OPENED, 2, 66, 0, OPN, 4)),
	STORY("open for a minute is not closed for a minute", false,
		  THREE_FAILURES, DO(CALL_FAIL, 0, 500, 1, OPN, 3), DO(RETRY_AFTER, 10000, 500, 0, OPN, 3),
		  DO(ADMIT, 0, 510, 1, HO, 4), DO(FAIL, 0, 900, 1, OPN, 5),
		  DO(RETRY_AFTER, 20000, 900, 0, OPN, 5)),
	STORY("reset closes it and forgets, but not the totals", false,
		  THREE_FAILURES, DO(CALL_FAIL, 0, 6, 1, OPN, 3), DO(RESET, 0, 9, 0, CL, 4),
		  DO(IN_A_ROW, 0, 9, 0, CL, 4), DO(WINDOW, 0, 9, 0, CL, 4), DO(OPENED, 2, 9, 0, CL, 4),
		  DO(OPEN_MS, 8000, 9, 0, CL, 4), DO(REASON, RSL_TRIP_NONE, 9, 0, CL, 4),
		  DO(RETRY_AFTER, 0, 9, 0, CL, 4), DO(CALL_FAIL, 0, 9, 1, CL, 4),
		  DO(CALL_FAIL, 0, 9, 1, CL, 4), DO(CALL_FAIL, 0, 9, 1, OPN, 5),
		  DO(RETRY_AFTER, 5000, 9, 0, OPN, 5), DO(OPENED, 3, 9, 0, OPN, 5)),
	STORY("reset of a closed breaker begins a generation", false,
		  DO(CALL_FAIL, 0, 1, 1, CL, 0), DO(CALL_FAIL, 0, 1, 1, CL, 0), DO(ADMIT, 0, 1, 1, CL, 0),
		  DO(RESET, 0, 1, 0, CL, 1), DO(FAIL, 0, 1, 0, CL, 1), DO(CALL_FAIL, 0, 1, 1, CL, 1),
		  DO(IN_A_ROW, 1, 1, 0, CL, 1), DO(WINDOW, 1, 1, 0, CL, 1)),
	STORY("reset of a half-open breaker forgets its trials", false,
		  THREE_FAILURES, DO(ADMIT, 0, 6, 1, HO, 2), DO(RESET, 0, 6, 0, CL, 3),
		  DO(TRIALS, 0, 6, 0, CL, 3), DO(FAIL, 0, 6, 0, CL, 3)),
	STORY("reset leaves the force as it is", false,
		  THREE_FAILURES, DO(FORCE, RSL_FORCE_OPEN, 2, 0, OPN, 2), DO(RESET, 0, 3, 0, OPN, 3),
		  DO(REASON, RSL_TRIP_FORCED, 3, 0, OPN, 3), DO(ADMIT, 0, 3, 0, OPN, 3),
		  DO(FORCE, RSL_FORCE_AUTO, 4, 0, CL, 4), DO(OPEN_MS, 3000, 9, 0, CL, 4)),
	STORY("forced open admits nobody, for ever", false,
		  DO(FORCE, RSL_FORCE_OPEN, 1, 0, OPN, 1), DO(ADMIT, 0, 1, 0, OPN, 1),
		  DO(ADMIT, 0, 99999, 0, OPN, 1), DO(RETRY_AFTER, 0, 2, 0, OPN, 1),
		  DO(REASON, RSL_TRIP_FORCED, 2, 0, OPN, 1), DO(OPENED, 0, 2, 0, OPN, 1),
		  DO(OPENED_AT, 1000, 2, 0, OPN, 1), DO(OPEN_MS, 3000, 4, 0, OPN, 1),
		  DO(FORCE, RSL_FORCE_AUTO, 5, 0, CL, 2), DO(OPEN_MS, 4000, 9, 0, CL, 2),
		  DO(ADMIT, 0, 9, 1, CL, 2)),
	STORY("the same force again is nothing", false,
		  DO(FORCE, RSL_FORCE_AUTO, 1, 0, CL, 0), DO(FORCE, RSL_FORCE_OPEN, 1, 0, OPN, 1),
		  DO(FORCE, RSL_FORCE_OPEN, 2, 0, OPN, 1), DO(OPENED_AT, 1000, 2, 0, OPN, 1),
		  DO(FORCE, RSL_FORCE_CLOSED, 3, 0, CL, 2), DO(FORCE, RSL_FORCE_CLOSED, 3, 0, CL, 2),
		  DO(OPEN_MS, 2000, 9, 0, CL, 2)),
	STORY("forced open keeps the open position underneath", false,
		  THREE_FAILURES, DO(FORCE, RSL_FORCE_OPEN, 2, 0, OPN, 2),
		  DO(REASON, RSL_TRIP_CONSECUTIVE, 2, 0, OPN, 2), DO(ADMIT, 0, 7, 0, OPN, 2),
		  DO(FORCE, RSL_FORCE_AUTO, 5, 0, OPN, 3), DO(RETRY_AFTER, 1000, 5, 0, OPN, 3),
		  DO(ADMIT, 0, 5.9, 0, OPN, 3), DO(ADMIT, 0, 6, 1, HO, 4), DO(OPEN_MS, 5000, 6, 0, HO, 4)),
	STORY("its time may be up when the force ends", false,
		  THREE_FAILURES, DO(FORCE, RSL_FORCE_OPEN, 2, 0, OPN, 2), DO(ADMIT, 0, 99, 0, OPN, 2),
		  DO(FORCE, RSL_FORCE_AUTO, 99, 0, OPN, 3), DO(ADMIT, 0, 99, 1, HO, 4)),
	STORY("forced closed over open admits all, counts, and trips nothing", false,
		  THREE_FAILURES, DO(FORCE, RSL_FORCE_CLOSED, 2, 0, CL, 2), DO(RETRY_AFTER, 0, 2, 0, CL, 2),
		  DO(CALL_FAIL, 0, 2, 1, CL, 2), DO(CALL_FAIL, 0, 2, 1, CL, 2), DO(CALL_FAIL, 0, 2, 1, CL, 2),
		  DO(CALL_FAIL, 0, 2, 1, CL, 2), DO(WINDOW, 7, 2, 0, CL, 2), DO(IN_A_ROW, 7, 2, 0, CL, 2),
		  DO(OPENED, 1, 2, 0, CL, 2), DO(CALL_OKAY, 0, 2, 1, CL, 2), DO(IN_A_ROW, 0, 2, 0, CL, 2),
		  DO(ADMIT, 0, 2, 1, CL, 2), DO(TRIALS, 0, 2, 0, CL, 2),
		  DO(FORCE, RSL_FORCE_AUTO, 3, 0, OPN, 3), DO(FAIL, 0, 3, 0, OPN, 3), DO(ADMIT, 0, 5, 0, OPN, 3),
		  DO(ADMIT, 0, 6, 1, HO, 4)),
	STORY("forced closed over closed counts, and trips afterwards", false,
		  DO(CALL_FAIL, 0, 1, 1, CL, 0), DO(FORCE, RSL_FORCE_CLOSED, 1, 0, CL, 1),
		  DO(CALL_FAIL, 0, 1, 1, CL, 1), DO(CALL_FAIL, 0, 1, 1, CL, 1), DO(CALL_FAIL, 0, 1, 1, CL, 1),
		  DO(IN_A_ROW, 4, 1, 0, CL, 1), DO(OPEN_MS, 0, 2, 0, CL, 1), DO(ADMIT, 0, 2, 1, CL, 1),
		  DO(FORCE, RSL_FORCE_AUTO, 2, 0, CL, 2), DO(FAIL, 0, 2, 0, CL, 2), DO(ADMIT, 0, 2, 1, CL, 2),
		  DO(FAIL, 0, 2, 1, OPN, 3), DO(IN_A_ROW, 5, 2, 0, OPN, 3)),
	STORY("force over half-open forgets trials, not successes", false,
		  THREE_FAILURES, DO(CALL_OKAY, 0, 6, 1, HO, 2), DO(ADMIT, 0, 6, 1, HO, 2),
		  DO(ADMIT, 1, 6, 1, HO, 2), DO(FORCE, RSL_FORCE_CLOSED, 7, 0, CL, 3),
		  DO(TRIALS, 0, 7, 0, CL, 3), DO(FAIL, 0, 7, 0, CL, 3), DO(CALL_OKAY, 2, 7, 1, CL, 3),
		  DO(SUCCESSES, 1, 7, 0, CL, 3), DO(FORCE, RSL_FORCE_AUTO, 8, 0, HO, 4),
		  DO(FAIL, 1, 8, 0, HO, 4), DO(ADMIT, 0, 8, 1, HO, 4), DO(ADMIT, 1, 8, 1, HO, 4),
		  DO(ADMIT, 2, 8, 0, HO, 4), DO(OKAY, 0, 8, 1, HO, 4), DO(OKAY, 1, 8, 1, CL, 5)),
	STORY("from forced open to forced closed", false,
		  THREE_FAILURES, DO(FORCE, RSL_FORCE_OPEN, 2, 0, OPN, 2),
		  DO(FORCE, RSL_FORCE_CLOSED, 3, 0, CL, 3), DO(ADMIT, 0, 3, 1, CL, 3),
		  DO(OPEN_MS, 3000, 4, 0, CL, 3), DO(FORCE, RSL_FORCE_OPEN, 5, 0, OPN, 4),
		  DO(FAIL, 0, 5, 0, OPN, 4), DO(OPEN_MS, 5000, 6, 0, OPN, 4), DO(OPENED_AT, 1000, 6, 0, OPN, 4)),
	STORY("with a prober no caller is a trial", true,
		  THREE_FAILURES, DO(ADMIT, 0, 6, 0, OPN, 1), DO(ADMIT, 0, 999, 0, OPN, 1),
		  DO(DUE, 0, 5.999999, 0, OPN, 1), DO(DUE, 0, 6, 1, OPN, 1), DO(ALIVE, 0, 6, 0, HO, 2),
		  DO(SUCCESSES, 1, 6, 0, HO, 2), DO(DUE, 0, 6, 1, HO, 2), DO(ADMIT, 0, 6, 0, HO, 2),
		  DO(TRIALS, 0, 6, 0, HO, 2), DO(ALIVE, 0, 7, 0, HO, 2), DO(SUCCESSES, 2, 7, 0, HO, 2),
		  DO(ALIVE, 0, 8, 0, CL, 3), DO(DUE, 0, 99, 0, CL, 3), DO(OPEN_MS, 7000, 9, 0, CL, 3),
		  DO(ADMIT, 0, 9, 1, CL, 3), DO(WINDOW, 0, 9, 0, CL, 3)),
	STORY("a failed probe waits again, and no longer", true,
		  THREE_FAILURES, DO(DEAD, 0, 6, 0, OPN, 1), DO(RETRY_AFTER, 5000, 6, 0, OPN, 1),
		  DO(OPENED, 1, 6, 0, OPN, 1), DO(REASON, RSL_TRIP_CONSECUTIVE, 6, 0, OPN, 1),
		  DO(DUE, 0, 10.9, 0, OPN, 1), DO(DUE, 0, 11, 1, OPN, 1), DO(DEAD, 0, 12, 0, OPN, 1),
		  DO(RETRY_AFTER, 5000, 12, 0, OPN, 1), DO(OPEN_MS, 12000, 13, 0, OPN, 1)),
	STORY("a failed probe of the half-open breaker", true,
		  THREE_FAILURES, DO(ALIVE, 0, 6, 0, HO, 2), DO(ALIVE, 0, 6, 0, HO, 2),
		  DO(DEAD, 0, 7, 0, OPN, 3), DO(REASON, RSL_TRIP_TRIAL, 7, 0, OPN, 3),
		  DO(OPENED, 1, 7, 0, OPN, 3), DO(RETRY_AFTER, 5000, 7, 0, OPN, 3),
		  DO(SUCCESSES, 0, 7, 0, OPN, 3), DO(ALIVE, 0, 12, 0, HO, 4), DO(SUCCESSES, 1, 12, 0, HO, 4)),
	STORY("an answer of another generation", true,
		  THREE_FAILURES, DO(OLD_ALIVE, 0, 6, 0, OPN, 1), DO(OLD_DEAD, 0, 6, 0, OPN, 1),
		  DO(DUE, 0, 6, 1, OPN, 1), DO(ALIVE, 0, 6, 0, HO, 2), DO(OLD_DEAD, 0, 6, 0, HO, 2),
		  DO(OLD_ALIVE, 0, 6, 0, HO, 2), DO(SUCCESSES, 1, 6, 0, HO, 2)),
	STORY("an answer when nobody asked any more", true,
		  DO(ALIVE, 0, 1, 0, CL, 0), DO(DEAD, 0, 1, 0, CL, 0), DO(SUCCESSES, 0, 1, 0, CL, 0),
		  DO(RETRY_AFTER, 0, 1, 0, CL, 0), THREE_FAILURES, DO(FORCE, RSL_FORCE_OPEN, 2, 0, OPN, 2),
		  DO(DUE, 0, 9, 0, OPN, 2), DO(ALIVE, 0, 9, 0, OPN, 2),
		  DO(FORCE, RSL_FORCE_CLOSED, 9, 0, CL, 3), DO(DUE, 0, 9, 0, CL, 3), DO(DEAD, 0, 9, 0, CL, 3),
		  DO(ALIVE, 0, 9, 0, CL, 3), DO(FORCE, RSL_FORCE_AUTO, 9, 0, OPN, 4),
		  DO(SUCCESSES, 0, 9, 0, OPN, 4), DO(DUE, 0, 9, 1, OPN, 4)),
	STORY("an answer before the time is up counts", true,
		  THREE_FAILURES, DO(ALIVE, 0, 2, 0, HO, 2)),
	STORY("one answer is enough with a threshold of one", true,
		  DO(THRESHOLD, 1, 1, 0, CL, 0), THREE_FAILURES, DO(ALIVE, 0, 6, 0, CL, 2),
		  DO(SUCCESSES, 0, 6, 0, CL, 2), DO(OPEN_MS, 5000, 6, 0, CL, 2)),
	STORY("after a failed probe a call's failure grows on", true,
		  THREE_FAILURES, DO(DEAD, 0, 6, 0, OPN, 1), DO(ALIVE, 0, 11, 0, HO, 2),
		  DO(ALIVE, 0, 11, 0, HO, 2), DO(ALIVE, 0, 11, 0, CL, 3), DO(CALL_FAIL, 0, 12, 1, CL, 3),
		  DO(CALL_FAIL, 0, 12, 1, CL, 3), DO(CALL_FAIL, 0, 12, 1, OPN, 4), DO(OPENED, 2, 12, 0, OPN, 4),
		  DO(RETRY_AFTER, 10000, 12, 0, OPN, 4), DO(DEAD, 0, 22, 0, OPN, 4),
		  DO(RETRY_AFTER, 10000, 22, 0, OPN, 4)),
	STORY("the prober is taken away while it is open", true,
		  THREE_FAILURES, DO(PROBE, false, 2, 0, OPN, 1), DO(DUE, 0, 9, 0, OPN, 1),
		  DO(ALIVE, 0, 5, 0, OPN, 1), DO(ADMIT, 0, 5, 0, OPN, 1), DO(ADMIT, 0, 6, 1, HO, 2)),
	STORY("the prober is taken away while it is half-open", true,
		  THREE_FAILURES, DO(ALIVE, 0, 6, 0, HO, 2), DO(PROBE, false, 6, 0, HO, 2),
		  DO(ALIVE, 0, 6, 0, HO, 2), DO(SUCCESSES, 1, 6, 0, HO, 2), DO(DUE, 0, 6, 0, HO, 2),
		  DO(CALL_OKAY, 0, 6, 1, HO, 2), DO(CALL_OKAY, 0, 6, 1, CL, 3)),
	STORY("a prober comes while it is half-open", false,
		  THREE_FAILURES, DO(ADMIT, 0, 6, 1, HO, 2), DO(ADMIT, 1, 6, 1, HO, 2),
		  DO(PROBE, true, 6, 0, HO, 2), DO(DUE, 0, 6, 1, HO, 2), DO(ADMIT, 2, 6, 0, HO, 2),
		  DO(OKAY, 0, 6, 1, HO, 2), DO(ADMIT, 2, 6, 0, HO, 2), DO(TRIALS, 1, 6, 0, HO, 2),
		  DO(ALIVE, 0, 6, 0, HO, 2), DO(ALIVE, 0, 6, 0, CL, 3), DO(FAIL, 1, 7, 0, CL, 3)),
	STORY("half_open_calls is lowered below what is under way", false,
		  THREE_FAILURES, DO(ADMIT, 0, 6, 1, HO, 2), DO(ADMIT, 1, 6, 1, HO, 2),
		  DO(HALF_OPEN_CALLS, 1, 6, 0, HO, 2), DO(ADMIT, 2, 6, 0, HO, 2), DO(NEITHER, 0, 6, 1, HO, 2),
		  DO(ADMIT, 2, 6, 0, HO, 2), DO(NEITHER, 1, 6, 1, HO, 2), DO(ADMIT, 2, 6, 1, HO, 2),
		  DO(ADMIT, 3, 6, 0, HO, 2), DO(HALF_OPEN_CALLS, 2, 6, 0, HO, 2), DO(ADMIT, 3, 6, 1, HO, 2)),
	STORY("success_threshold is lowered below what was reached", false,
		  THREE_FAILURES, DO(CALL_OKAY, 0, 6, 1, HO, 2), DO(CALL_OKAY, 0, 6, 1, HO, 2),
		  DO(THRESHOLD, 1, 6, 0, HO, 2), DO(CALL_OKAY, 0, 6, 1, CL, 3)),
	STORY("and with a prober", true,
		  THREE_FAILURES, DO(ALIVE, 0, 6, 0, HO, 2), DO(ALIVE, 0, 6, 0, HO, 2),
		  DO(THRESHOLD, 2, 6, 0, HO, 2), DO(DUE, 0, 6, 1, HO, 2), DO(ALIVE, 0, 6, 0, CL, 3)),
	STORY("a shorter open time is in force at once", false,
		  THREE_FAILURES, DO(RESET_S, 2, 2, 0, OPN, 1), DO(RETRY_AFTER, 1000, 2, 0, OPN, 1),
		  DO(RESET_S, 20, 2, 0, OPN, 1), DO(RETRY_AFTER, 1000, 2, 0, OPN, 1), DO(ADMIT, 0, 3, 1, HO, 2)),
	STORY("a longer one with the next opening", false,
		  THREE_FAILURES, DO(RESET_S, 20, 2, 0, OPN, 1), DO(RETRY_AFTER, 4000, 2, 0, OPN, 1),
		  DO(CALL_FAIL, 0, 6, 1, OPN, 3), DO(RETRY_AFTER, 30000, 6, 0, OPN, 3)),
};

static int64_t
microseconds(double seconds)
{
	return (int64_t) llround(seconds * SECOND);
}

/* Play one event; false if something was not as expected. */
static bool
play(rsl_breaker_state *state, rsl_breaker_config *config,
	 rsl_breaker_permit *slots, const event *e)
{
	static const rsl_call_outcome outcomes[] = {
		[OKAY] = RSL_CALL_SUCCESS,[FAIL] = RSL_CALL_FAILURE,
		[SLOW] = RSL_CALL_SUCCESS,[SLOW_FAIL] = RSL_CALL_FAILURE,
		[NEITHER] = RSL_CALL_NEITHER,[CALL_OKAY] = RSL_CALL_SUCCESS,
		[CALL_FAIL] = RSL_CALL_FAILURE,[CALL_SLOW] = RSL_CALL_SUCCESS
	};
	int64_t		now = microseconds(e->at);
	rsl_breaker_permit *permit = &slots[e->slot % SLOTS];
	int64_t		got = e->answer;
	int64_t		expected = e->answer;
	rsl_window_counts sum;

	switch (e->what)
	{
		case ADMIT:
			got = rsl_breaker_admit(state, config, now, permit);
			break;
		case OKAY:
		case FAIL:
		case SLOW:
		case SLOW_FAIL:
		case NEITHER:
			got = rsl_breaker_record(state, config, now, permit, outcomes[e->what],
									 e->what == SLOW || e->what == SLOW_FAIL, 0.5);
			break;
		case CALL_OKAY:
		case CALL_FAIL:
		case CALL_SLOW:
			got = rsl_breaker_admit(state, config, now, permit);
			if (got && !rsl_breaker_record(state, config, now, permit, outcomes[e->what],
										   e->what == CALL_SLOW, 0.5))
				got = -1;
			break;
		case DUE:
			got = rsl_breaker_probe_due(state, config, now);
			break;
		case ALIVE:
		case DEAD:
			rsl_breaker_probed(state, config, now, state->generation, e->what == ALIVE, 0.5);
			break;
		case OLD_ALIVE:
		case OLD_DEAD:
			rsl_breaker_probed(state, config, now, state->generation - 1, e->what == OLD_ALIVE, 0.5);
			break;
		case FORCE:
			rsl_breaker_force_to(state, (rsl_breaker_force) e->slot, now);
			break;
		case RESET:
			rsl_breaker_reset(state, config, now);
			break;
		case PROBE:
			config->probe = e->slot;
			rsl_breaker_reconfigure(state, config);
			break;
		case HALF_OPEN_CALLS:
			config->half_open_calls = e->slot;
			rsl_breaker_reconfigure(state, config);
			break;
		case THRESHOLD:
			config->success_threshold = e->slot;
			rsl_breaker_reconfigure(state, config);
			break;
		case RESET_S:
			config->reset_us = e->slot * SECOND;
			rsl_breaker_reconfigure(state, config);
			break;
		default:
			expected = e->slot;
			rsl_window_sum(&state->window, now, &sum);
			got = e->what == RETRY_AFTER ? rsl_breaker_retry_after(state, now) / 1000 :
				e->what == SUCCESSES ? state->trial_successes :
				e->what == TRIALS ? state->trials :
				e->what == WINDOW ? sum.calls :
				e->what == IN_A_ROW ? state->consecutive_failures :
				e->what == REASON ? (int) state->reason :
				e->what == OPENED ? (int64_t) state->open_count :
				e->what == OPEN_MS ? rsl_breaker_time_open(state, now) / 1000 :
				e->what == OPENED_AT ? state->opened_at / 1000 : -1;
	}
	if (got != expected)
		diag("at %g s: %lld, not %lld", e->at, (long long) got, (long long) expected);
	if ((int) rsl_breaker_effective(state) != e->position ||
		state->generation != (uint32_t) e->generation)
	{
		diag("at %g s: position %d, generation %u", e->at,
			 (int) rsl_breaker_effective(state), state->generation);
		return false;
	}
	return got == expected;
}

static void
test_stories(void)
{
	for (int s = 0; s < (int) (sizeof(stories) / sizeof(stories[0])); s++)
	{
		rsl_breaker_config config = usual;
		rsl_breaker_state state;
		rsl_breaker_permit slots[SLOTS];
		int			i = 0;

		config.probe = stories[s].prober;
		rsl_breaker_init(&state, &config, 1);
		while (stories[s].events[i].what != END &&
			   play(&state, &config, slots, &stories[s].events[i]))
			i++;
		if (!ok(stories[s].events[i].what == END, "%s", stories[s].name))
			diag("event %d", i + 1);
	}
}

/*
 * Rules by rate
 */

/* One call of an automatic, closed breaker. */
static rsl_breaker_position
call(rsl_breaker_state *state, const rsl_breaker_config *config, int64_t now,
	 rsl_call_outcome outcome, bool slow)
{
	rsl_breaker_permit permit = {0, false};

	check(rsl_breaker_admit(state, config, now, &permit), "not admitted");
	check(!permit.trial && permit.generation == state->generation, "permit");
	check(rsl_breaker_record(state, config, now, &permit, outcome, slow, 0.5), "not counted");
	return state->position;
}

/* How many of 100 calls, failures or slow ones first, until it opens? */
static void
test_rates(void)
{
	static const struct
	{
		int			minimum_calls;
		double		failure_rate;
		double		slow_call_rate;
		int			failures;	/* of the first calls */
		int			slow;
		int			opens_with; /* the number of the call; 0 = never */
		rsl_trip_reason reason;
	}			cases[] =
	{
		{10, 0.5, 1, 5, 0, 10, RSL_TRIP_FAILURE_RATE},	/* exactly the rate */
		{10, 0.5, 1, 4, 0, 0, RSL_TRIP_NONE},	/* one less */
		{10, 0.5, 1, 10, 0, 10, RSL_TRIP_FAILURE_RATE}, /* not earlier */
		{11, 0.5, 1, 6, 0, 11, RSL_TRIP_FAILURE_RATE},
		{11, 0.5, 1, 5, 0, 0, RSL_TRIP_NONE},
		{1, 0.5, 1, 1, 0, 1, RSL_TRIP_FAILURE_RATE},
		{10, 0.3, 1, 3, 0, 10, RSL_TRIP_FAILURE_RATE},	/* 0.3 is no double */
		{10, 0.7, 1, 7, 0, 10, RSL_TRIP_FAILURE_RATE},
		{100, 0.29, 1, 29, 0, 100, RSL_TRIP_FAILURE_RATE},
		{100, 0.29, 1, 28, 0, 0, RSL_TRIP_NONE},
		{10, 1, 1, 10, 0, 10, RSL_TRIP_FAILURE_RATE},
		{10, 1, 1, 9, 0, 0, RSL_TRIP_NONE},
		{10, 1, 0.5, 0, 5, 10, RSL_TRIP_SLOW_RATE},
		{10, 1, 0.5, 0, 4, 0, RSL_TRIP_NONE},
		{10, 1, 1, 0, 10, 10, RSL_TRIP_SLOW_RATE},
		{10, 1, 0.5, 0, 10, 10, RSL_TRIP_SLOW_RATE},
		{10, 1, 0.5, 4, 5, 10, RSL_TRIP_SLOW_RATE}, /* slow failures are slow */
		{10, 0.4, 1, 4, 5, 10, RSL_TRIP_FAILURE_RATE},	/* and failures */
		{10, 0.5, 0.5, 5, 5, 10, RSL_TRIP_FAILURE_RATE},	/* both: this is named */
		{10, 1e-9, 1e-9, 0, 0, 0, RSL_TRIP_NONE},	/* nothing is bad */
		{10, 0, 0, 0, 0, 0, RSL_TRIP_NONE},
		{10, NAN, NAN, 100, 100, 0, RSL_TRIP_NONE},
	};

	for (int c = 0; c < (int) (sizeof(cases) / sizeof(cases[0])); c++)
	{
		rsl_breaker_config config = usual;
		rsl_breaker_state state;
		int			opened = 0;

		config.max_failures = INT32_MAX;
		config.minimum_calls = cases[c].minimum_calls;
		config.failure_rate = cases[c].failure_rate;
		config.slow_call_rate = cases[c].slow_call_rate;
		rsl_breaker_init(&state, &config, 1);
		for (int i = 1; i <= 100 && opened == 0; i++)
		{
			if (call(&state, &config, SECOND,
					 i <= cases[c].failures ? RSL_CALL_FAILURE : RSL_CALL_SUCCESS,
					 i <= cases[c].slow) == RSL_BREAKER_OPEN)
				opened = i;
		}
		check(opened == cases[c].opens_with && state.reason == cases[c].reason,
			  "case %d: call %d, reason %d", c, opened, (int) state.reason);
	}
	check_done("rates at their edges");
}

static void
test_window(void)
{
	rsl_breaker_config config = usual;
	rsl_breaker_state state;
	rsl_window_counts sum;

	config.max_failures = INT32_MAX;

	/* nine failures at 0.5 s; the window has them up to 10 s */
	for (int last = 0; last < 2; last++)
	{
		rsl_breaker_init(&state, &config, 1);
		for (int i = 0; i < 9; i++)
			call(&state, &config, SECOND / 2, RSL_CALL_FAILURE, false);
		call(&state, &config, 10 * SECOND - 1 + last, RSL_CALL_FAILURE, false);
		is(state.position, last == 0 ? RSL_BREAKER_OPEN : RSL_BREAKER_CLOSED,
		   last == 0 ? "the last microsecond of the window" : "one later: undefined again");
	}

	/* max_failures goes first */
	config.max_failures = 10;
	rsl_breaker_init(&state, &config, 1);
	for (int i = 0; i < 10; i++)
		call(&state, &config, SECOND, RSL_CALL_FAILURE, true);
	is(state.reason, RSL_TRIP_CONSECUTIVE, "several rules at once: the first is named");

	/* the window of another length */
	rsl_breaker_init(&state, &config, 1);
	for (int i = 0; i < 9; i++)
		call(&state, &config, SECOND, RSL_CALL_FAILURE, false);
	config.max_failures = 100;
	rsl_breaker_reconfigure(&state, &config);
	rsl_window_sum(&state.window, SECOND, &sum);
	is(sum.calls, 9, "another configuration keeps the window");
	config.window_us = 20 * SECOND;
	rsl_breaker_reconfigure(&state, &config);
	rsl_window_sum(&state.window, SECOND, &sum);
	is(sum.calls, 0, "a window of another length starts again");
	ok(state.window.bucket_us == 2 * SECOND && state.consecutive_failures == 9 &&
	   state.generation == 0, "and nothing else does");

	/* closing gives the window the length that is configured */
	rsl_breaker_reset(&state, &config, 2 * SECOND);
	is(state.window.bucket_us, 2 * SECOND, "the length stays when the window starts again");
	check_done("calls of a closed breaker");
}

/*
 * The open time
 */

static int64_t
open_time_of(const rsl_breaker_config *config, int opening, double random)
{
	rsl_breaker_state state;
	rsl_breaker_permit permit = {0, false};
	int64_t		now = SECOND;

	rsl_breaker_init(&state, config, 1);
	rsl_breaker_record(&state, config, now, &permit, RSL_CALL_FAILURE, false, random);
	for (int i = 1; i < opening; i++)
	{
		if (state.retry_at == INT64_MAX)
			return INT64_MAX;
		now = state.retry_at;
		if (!rsl_breaker_admit(&state, config, now, &permit) || !permit.trial)
			return -1;
		rsl_breaker_record(&state, config, now, &permit, RSL_CALL_FAILURE, false, random);
	}
	return state.position == RSL_BREAKER_OPEN && state.openings == (uint32_t) opening ?
		state.retry_at - now : -2;
}

static void
test_open_time(void)
{
	rsl_breaker_config config = usual;
	rsl_breaker_state state;
	rsl_breaker_permit permit = {0, false};
	random_source source = {271828};
	double		sum = 0;

	config.max_failures = 1;
	is(open_time_of(&config, 1, 0.9), 5 * SECOND, "first opening: reset");
	is(open_time_of(&config, 2, 0.9), 10 * SECOND, "second: times the factor");
	is(open_time_of(&config, 3, 0.9), 20 * SECOND, "third: once more");
	is(open_time_of(&config, 4, 0.9), 30 * SECOND, "fourth: the maximum");
	is(open_time_of(&config, 2000, 0.9), 30 * SECOND, "two thousandth: the maximum");
	config.backoff_factor = 1;
	is(open_time_of(&config, 50, 0.9), 5 * SECOND, "factor 1 does not grow");
	config.backoff_factor = 1.5;
	is(open_time_of(&config, 3, 0.9), 11250000, "factor 1.5");
	config.backoff_factor = 1e300;
	is(open_time_of(&config, 9, 0.9), 30 * SECOND, "a factor beyond all numbers");
	config.backoff_factor = INFINITY;
	is(open_time_of(&config, 1, 0.9), 5 * SECOND, "an infinite factor, first");
	is(open_time_of(&config, 2, 0.9), 30 * SECOND, "an infinite factor, second");
	config.backoff_factor = 2;

	config.jitter = 0.2;
	is(open_time_of(&config, 1, 0), 4 * SECOND, "jitter 0.2: from 0.8");
	is(open_time_of(&config, 1, 0.5), 5 * SECOND, "jitter 0.2: the middle");
	ok(llabs(open_time_of(&config, 1, ALMOST_ONE) - 6 * SECOND) <= 1, "jitter 0.2: to 1.2");
	is(open_time_of(&config, 6, 0), 24 * SECOND, "jitter of the maximum, below");
	ok(llabs(open_time_of(&config, 6, ALMOST_ONE) - 36 * SECOND) <= 1,
	   "jitter of the maximum, above: spread, so that not all come back at once");
	config.jitter = 1;
	is(open_time_of(&config, 1, 0), 1, "jitter 1: from nothing, but never nothing");
	ok(llabs(open_time_of(&config, 1, ALMOST_ONE) - 10 * SECOND) <= 1, "jitter 1: to twice");
	config.jitter = 0.5;
	for (int i = 0; i < 20000; i++)
	{
		int64_t		time = open_time_of(&config, 1, random_double(&source));

		check(time >= 5 * SECOND / 2 && time < 15 * SECOND / 2, "%lld", (long long) time);
		sum += (double) time / 20000;
	}
	check(fabs(sum / (5 * SECOND) - 1) < 0.01, "mean %.0f", sum);
	check_done("jitter 0.5 is between 0.5 and 1.5, 1 in the mean");

	config = usual;
	config.max_failures = 1;
	config.jitter = 1;
	config.reset_us = INT64_MAX;
	config.max_reset_us = INT64_MAX;
	is(open_time_of(&config, 1, ALMOST_ONE), INT64_MAX - SECOND, "the longest time ends with time");
	rsl_breaker_init(&state, &config, 1);
	rsl_breaker_record(&state, &config, INT64_MAX - 5, &permit, RSL_CALL_FAILURE, false, 0.5);
	is(state.retry_at, INT64_MAX, "so does one that begins late");
	is(rsl_breaker_retry_after(&state, INT64_MAX - 5), 5, "there is so much left of it");
	rsl_breaker_reconfigure(&state, &usual);
	is(state.retry_at, INT64_MAX, "also when it gets shorter");
}

static void
test_limits(void)
{
	rsl_breaker_config config = usual;
	rsl_breaker_state state;
	rsl_breaker_permit permit = {UINT32_MAX, false};

	config.max_failures = INT32_MAX;
	rsl_breaker_init(&state, &config, 1);
	state.consecutive_failures = UINT32_MAX;
	state.force = RSL_FORCE_CLOSED;
	state.generation = UINT32_MAX;
	ok(rsl_breaker_record(&state, &config, 5, &permit, RSL_CALL_FAILURE, false, 0.5) &&
	   state.consecutive_failures == UINT32_MAX, "failures in a row stay at the last number");
	rsl_breaker_force_to(&state, RSL_FORCE_AUTO, 6);
	is(state.generation, 0, "generations begin again after the last");
	ok(!rsl_breaker_record(&state, &config, 6, &permit, RSL_CALL_FAILURE, false, 0.5),
	   "and are still told apart");

	permit.generation = 0;
	state.openings = UINT32_MAX;
	state.consecutive_failures = 5;
	config.max_failures = 1;
	rsl_breaker_record(&state, &config, 7, &permit, RSL_CALL_FAILURE, false, 0.5);
	is(state.openings, UINT32_MAX, "openings stay at the last number");
	is(state.retry_at, 7 + 30 * SECOND, "with the longest open time");

	state.open_us = INT64_MAX - 10;
	is(rsl_breaker_time_open(&state, 7 + 20), INT64_MAX, "the time open ends with time");
	rsl_breaker_reset(&state, &config, 7 + 30);
	is(state.open_us, INT64_MAX, "also when it is closed");

	/* a call that only observes was refused, and went on */
	config = usual;
	config.max_failures = 1;
	rsl_breaker_init(&state, &config, 1);
	permit.generation = 0;
	rsl_breaker_record(&state, &config, 2, &permit, RSL_CALL_FAILURE, false, 0.5);
	permit.generation = state.generation;
	ok(rsl_breaker_record(&state, &config, 3, &permit, RSL_CALL_FAILURE, true, 0.5) &&
	   state.generation == 1 && state.consecutive_failures == 1 && state.open_count == 1,
	   "what was let through an open breaker leaves no trace");
	rsl_breaker_admit(&state, &config, state.retry_at, &permit);
	permit.trial = false;
	ok(rsl_breaker_record(&state, &config, state.changed_at, &permit, RSL_CALL_FAILURE, true, 0.5) &&
	   state.position == RSL_BREAKER_HALF_OPEN && state.trials == 1 && state.trial_successes == 0,
	   "nor what passed a half-open one without being a trial");
}

/*
 * Random lives, and the model.
 *
 * The model knows nothing of generations as numbers that permits carry: each
 * change makes all calls under way strangers.  It has no window, but a list
 * of all that was counted.
 */

#define MOST_CALLS		3000	/* in the list */
#define MOST_UNDER_WAY	40

typedef struct
{
	int64_t		at;
	bool		failed;
	bool		slow;
} counted_call;

typedef struct
{
	rsl_breaker_permit permit;	/* what the machine gave */
	bool		stranger;		/* a change has come since */
	bool		trial;
} call_under_way;

typedef struct
{
	rsl_breaker_position position;
	rsl_breaker_force force;
	rsl_trip_reason reason;
	uint32_t	changes;
	int64_t		in_a_row;
	int64_t		successes;
	int64_t		openings;
	int64_t		openings_ever;
	int64_t		since;			/* begin of the position */
	int64_t		asleep_until;	/* while open */
	int64_t		time_open;		/* up to "clock" */
	int64_t		clock;
	int64_t		slice;
	counted_call calls[MOST_CALLS];
	int			ncalls;
	call_under_way under_way[MOST_UNDER_WAY];
	int			nunder_way;
} naive;

static naive model;

static void
model_begin(const rsl_breaker_config *config, int64_t now)
{
	memset(&model, 0, sizeof(model));
	model.since = model.clock = now;
	model.slice = config->window_us / 10;
}

static void
model_tick(int64_t now)
{
	if (model.position != RSL_BREAKER_CLOSED || model.force == RSL_FORCE_OPEN)
		model.time_open += now - model.clock;
	model.clock = now;
}

static void
model_changed(void)
{
	model.changes++;
	for (int i = 0; i < model.nunder_way; i++)
		model.under_way[i].stranger = true;
}

static void
model_close(const rsl_breaker_config *config)
{
	model_changed();
	model.position = RSL_BREAKER_CLOSED;
	model.since = model.clock;
	model.in_a_row = 0;
	model.successes = 0;
	model.ncalls = 0;
	model.slice = config->window_us / 10;
}

static double
model_open_time(const rsl_breaker_config *config, double random)
{
	double		time = (double) config->reset_us;
	double		low;
	double		high;

	for (int i = 1; i < model.openings && time < (double) config->max_reset_us; i++)
		time *= config->backoff_factor;
	if (time > (double) config->max_reset_us)
		time = (double) config->max_reset_us;
	low = time * (1 - config->jitter);
	high = time * (1 + config->jitter);
	time = low + (high - low) * random;
	return time < 1 ? 1 : time;
}

static void
model_sleep(const rsl_breaker_config *config, double random)
{
	model.asleep_until = model.clock + (int64_t) model_open_time(config, random);
}

static void
model_open(const rsl_breaker_config *config, rsl_trip_reason reason,
		   bool by_call, double random)
{
	if (model.position == RSL_BREAKER_CLOSED && model.clock - model.since >= 60 * SECOND)
		model.openings = 0;
	if (by_call)
	{
		model.openings++;
		model.openings_ever++;
	}
	model_changed();
	model.position = RSL_BREAKER_OPEN;
	model.since = model.clock;
	model.reason = reason;
	model.successes = 0;
	model_sleep(config, random);
}

static rsl_window_counts
model_window(void)
{
	rsl_window_counts sum = {0, 0, 0};
	int64_t		from = (model.clock / model.slice - 9) * model.slice;

	for (int i = model.ncalls - 1; i >= 0 && model.calls[i].at >= from; i--)
	{
		sum.calls++;
		sum.failures += model.calls[i].failed;
		sum.slow += model.calls[i].slow;
	}
	return sum;
}

static int
model_trials(void)
{
	int			trials = 0;

	for (int i = 0; i < model.nunder_way; i++)
		trials += model.under_way[i].trial && !model.under_way[i].stranger;
	return trials;
}

static bool
model_admit(const rsl_breaker_config *config, bool *trial)
{
	*trial = false;
	if (model.force != RSL_FORCE_AUTO)
		return model.force == RSL_FORCE_CLOSED;
	if (model.position == RSL_BREAKER_CLOSED)
		return true;
	if (config->probe)
		return false;
	if (model.position == RSL_BREAKER_OPEN && model.clock >= model.asleep_until)
	{
		model_changed();
		model.position = RSL_BREAKER_HALF_OPEN;
		model.since = model.clock;
		model.successes = 0;
	}
	*trial = model.position == RSL_BREAKER_HALF_OPEN &&
		model_trials() < config->half_open_calls;
	return *trial;
}

static void
model_success(const rsl_breaker_config *config)
{
	model.successes++;
	if (model.successes >= config->success_threshold)
		model_close(config);
}

/* The call is no longer under way. */
static bool
model_record(const rsl_breaker_config *config, const call_under_way *ended,
			 rsl_call_outcome outcome, bool slow, double random)
{
	bool		failed = outcome == RSL_CALL_FAILURE;
	rsl_window_counts sum;

	if (ended->stranger)
		return false;
	if (outcome == RSL_CALL_NEITHER)
		return true;
	if (ended->trial)
	{
		model.in_a_row += failed;
		if (failed || slow)
			model_open(config, RSL_TRIP_TRIAL, true, random);
		else
			model_success(config);
		return true;
	}

	if (model.ncalls == MOST_CALLS)
	{
		model.ncalls /= 2;
		memmove(model.calls, model.calls + MOST_CALLS - model.ncalls,
				sizeof(counted_call) * model.ncalls);
	}
	model.calls[model.ncalls].at = model.clock;
	model.calls[model.ncalls].failed = failed;
	model.calls[model.ncalls++].slow = slow;
	model.in_a_row = failed ? model.in_a_row + 1 : 0;
	if (model.force != RSL_FORCE_AUTO)
		return true;

	sum = model_window();
	if (model.in_a_row >= config->max_failures)
		model_open(config, RSL_TRIP_CONSECUTIVE, true, random);
	else if (sum.calls >= (uint32_t) config->minimum_calls)
	{
		if (sum.failures * 1.0 / sum.calls >= config->failure_rate)
			model_open(config, RSL_TRIP_FAILURE_RATE, true, random);
		else if (sum.slow * 1.0 / sum.calls >= config->slow_call_rate)
			model_open(config, RSL_TRIP_SLOW_RATE, true, random);
	}
	return true;
}

static void
model_probed(const rsl_breaker_config *config, bool alive, double random)
{
	if (model.position == RSL_BREAKER_CLOSED || model.force != RSL_FORCE_AUTO ||
		!config->probe)
		return;
	if (!alive)
	{
		if (model.position == RSL_BREAKER_OPEN)
			model_sleep(config, random);
		else
			model_open(config, RSL_TRIP_TRIAL, false, random);
		return;
	}
	if (model.position == RSL_BREAKER_OPEN && config->success_threshold > 1)
	{
		model_changed();
		model.position = RSL_BREAKER_HALF_OPEN;
		model.since = model.clock;
		model.successes = 0;
	}
	model_success(config);
}

static void
model_reconfigure(const rsl_breaker_config *config)
{
	int64_t		latest = model.since + (int64_t) model_open_time(config, 1.0);

	if (config->window_us / 10 != model.slice)
		model.ncalls = 0;
	model.slice = config->window_us / 10;
	if (model.position == RSL_BREAKER_OPEN && model.asleep_until > latest)
		model.asleep_until = latest;
}

/* Rates that small counts meet exactly; times that are hit exactly, too. */
static rsl_breaker_config
random_config(random_source *source)
{
	static const double rates[] = {0.1, 0.2, 0.25, 0.3, 0.5, 0.6, 0.7, 0.75, 0.9, 1};
	static const double factors[] = {1, 1.5, 2, 3};
	static const double jitters[] = {0, 0, 0.2, 0.5, 1};
	rsl_breaker_config config = usual;

	config.max_failures = random_below(source, 3) == 0 ? 1000 : 1 + (int32_t) random_below(source, 6);
	config.minimum_calls = 1 + (int32_t) random_below(source, 20);
	config.failure_rate = rates[random_below(source, 10)];
	config.slow_call_rate = rates[random_below(source, 10)];
	config.window_us = 10 * (1 + (int64_t) random_below(source, 3)) * SECOND;
	config.reset_us = 1 + random_below(source, 10 * SECOND);
	config.max_reset_us = config.reset_us + random_below(source, 60 * SECOND);
	config.backoff_factor = factors[random_below(source, 4)];
	config.jitter = jitters[random_below(source, 5)];
	config.half_open_calls = 1 + (int32_t) random_below(source, 4);
	config.success_threshold = 1 + (int32_t) random_below(source, 4);
	config.probe = random_below(source, 2) == 0;
	return config;
}

/*
 * From any state: with the force taken off, calls under way gone, and nothing
 * but successes, a breaker closes.  Nothing may be left to luck: the number
 * of steps is known.
 */
static void
check_recovers(const rsl_breaker_state *now_state, const rsl_breaker_config *config,
			   int64_t now)
{
	rsl_breaker_state state = *now_state;
	rsl_breaker_permit permit;
	int			steps = 0;

	for (int i = 0; i < model.nunder_way; i++)
		rsl_breaker_record(&state, config, now, &model.under_way[i].permit,
						   RSL_CALL_NEITHER, false, 0.5);
	rsl_breaker_force_to(&state, RSL_FORCE_AUTO, now);
	check(state.trials == 0, "%u trials of nobody", state.trials);
	now += rsl_breaker_retry_after(&state, now);
	while (state.position != RSL_BREAKER_CLOSED && steps <= config->success_threshold)
	{
		if (config->probe)
		{
			check(rsl_breaker_probe_due(&state, config, now), "no probe is due");
			rsl_breaker_probed(&state, config, now, state.generation, true, 0.5);
		}
		else
		{
			bool		admitted = rsl_breaker_admit(&state, config, now, &permit);

			check(admitted, "no trial is let through");
			if (admitted)
				rsl_breaker_record(&state, config, now, &permit, RSL_CALL_SUCCESS, false, 0.5);
		}
		steps++;
	}
	check(state.position == RSL_BREAKER_CLOSED && steps <= config->success_threshold,
		  "not closed after %d steps", steps);
}

static void
compare(const rsl_breaker_state *state, const rsl_breaker_config *config,
		uint32_t generation, int life, int step)
{
	rsl_window_counts sum;
	rsl_window_counts expected = model_window();
	int			position = model.force == RSL_FORCE_OPEN ? OPN :
		model.force == RSL_FORCE_CLOSED ? CL : (int) model.position;

	check(state->position == model.position && state->force == model.force &&
		  (int) rsl_breaker_effective(state) == position,
		  "life %d, step %d: position %d, not %d", life, step,
		  (int) state->position, (int) model.position);
	check(state->generation == model.changes && state->generation - generation <= 2,
		  "life %d, step %d: generation %u after %u, not %u", life, step,
		  state->generation, generation, model.changes);
	check(state->consecutive_failures == model.in_a_row &&
		  state->trial_successes == model.successes &&
		  state->trials == (uint32_t) model_trials() && state->open_count == (uint64_t) model.openings_ever,
		  "life %d, step %d: counters", life, step);
	check(model.reason == state->reason || state->force == RSL_FORCE_OPEN ||
		  state->reason == RSL_TRIP_FORCED, "life %d, step %d: reason", life, step);
	check(rsl_breaker_time_open(state, model.clock) == model.time_open,
		  "life %d, step %d: open for %lld, not %lld", life, step,
		  (long long) rsl_breaker_time_open(state, model.clock), (long long) model.time_open);
	rsl_window_sum(&state->window, model.clock, &sum);
	check(memcmp(&sum, &expected, sizeof(sum)) == 0, "life %d, step %d: window of %u, not %u",
		  life, step, sum.calls, expected.calls);
	check(state->changed_at == model.since, "life %d, step %d: changed_at", life, step);

	/* the model multiplies in another order: to the microsecond, then alike */
	if (model.position == RSL_BREAKER_OPEN)
	{
		check(llabs(state->retry_at - model.asleep_until) <= 1,
			  "life %d, step %d: until %lld, not %lld", life, step,
			  (long long) state->retry_at, (long long) model.asleep_until);
		model.asleep_until = state->retry_at;
	}
	else
		check(state->retry_at == 0, "life %d, step %d: retry_at", life, step);
	check(rsl_breaker_retry_after(state, model.clock) ==
		  (position == OPN && model.force == RSL_FORCE_AUTO && model.asleep_until > model.clock ?
		   model.asleep_until - model.clock : 0), "life %d, step %d: retry_after", life, step);
	check(rsl_breaker_probe_due(state, config, model.clock) ==
		  (model.force == RSL_FORCE_AUTO &&
		   (model.position == RSL_BREAKER_HALF_OPEN ||
			(model.position == RSL_BREAKER_OPEN && model.clock >= model.asleep_until)) &&
		   config->probe),
		  "life %d, step %d: probe_due", life, step);
}

static void
test_random(void)
{
	random_source source = {20261124};
	long		admitted_trials = 0;
	long		seen[3][3] = {{0}};
	long		trips[6] = {0};

	for (int life = 0; life < 300; life++)
	{
		rsl_breaker_config config = random_config(&source);
		rsl_breaker_state state;
		int64_t		now = 1 + random_below(&source, 100 * SECOND);
		double		mean = (double) (SECOND / 20) * (1 + random_below(&source, 40));
		uint32_t	badness = 5 + random_below(&source, 60);	/* per cent */
		uint32_t	slowness = random_below(&source, 3) == 0 ? 40 : 3;

		rsl_breaker_init(&state, &config, now);
		model_begin(&config, now);
		for (int step = 0; step < 4000; step++)
		{
			uint32_t	generation = state.generation;
			uint32_t	dice = random_below(&source, 1000);
			double		random = random_double(&source);

			/* sometimes a moment that matters */
			if (random_below(&source, 8) == 0 && model.position == RSL_BREAKER_OPEN &&
				model.asleep_until > now)
				now = model.asleep_until - random_below(&source, 2);
			else if (random_below(&source, 50) == 0)
				now = (now / model.slice + 1) * model.slice - random_below(&source, 2);
			else if (random_below(&source, 400) == 0 && model.since + 60 * SECOND > now)
				now = model.since + 60 * SECOND - random_below(&source, 2);
			else
				now += random_duration(&source, mean) - 1;
			model_tick(now);

			/* the weather changes */
			if (random_below(&source, 300) == 0)
				badness = random_below(&source, 2) == 0 ? 2 : 5 + random_below(&source, 80);

			if (dice < 470 && model.nunder_way < MOST_UNDER_WAY)
			{
				call_under_way begun = {{12345, true}, false, false};
				bool		expected = model_admit(&config, &begun.trial);
				bool		admitted = rsl_breaker_admit(&state, &config, now, &begun.permit);

				check(admitted == expected, "life %d, step %d: %s", life, step,
					  admitted ? "admitted" : "refused");
				check(begun.permit.trial == begun.trial && begun.permit.generation == state.generation,
					  "life %d, step %d: permit", life, step);
				if (admitted)
					model.under_way[model.nunder_way++] = begun;
				if (begun.trial)
				{
					admitted_trials++;
					check(state.trials <= (uint32_t) config.half_open_calls,
						  "life %d, step %d: %u trials", life, step, state.trials);
				}
			}
			else if (dice < 940 && model.nunder_way > 0)
			{
				/* mostly the last that began, so that old ones stay about */
				int			which = random_below(&source, 3) > 0 ? model.nunder_way - 1 :
					(int) random_below(&source, model.nunder_way);
				call_under_way ended = model.under_way[which];
				rsl_call_outcome outcome = random_below(&source, 100) < badness ? RSL_CALL_FAILURE :
					random_below(&source, 10) == 0 ? RSL_CALL_NEITHER : RSL_CALL_SUCCESS;
				bool		slow = random_below(&source, 100) < slowness;
				bool		expected;

				model.under_way[which] = model.under_way[--model.nunder_way];
				expected = model_record(&config, &ended, outcome, slow, random);
				check(rsl_breaker_record(&state, &config, now, &ended.permit, outcome, slow, random) ==
					  expected, "life %d, step %d: counted or not", life, step);
			}
			else if (dice < 985)
			{
				bool		alive = random_below(&source, 100) >= badness;
				bool		old = random_below(&source, 5) == 0;

				if (!old)
					model_probed(&config, alive, random);
				rsl_breaker_probed(&state, &config, now, state.generation - (old ? 1 : 0), alive, random);
			}
			else if (dice < 992)
			{
				rsl_breaker_force force = random_below(&source, 2) == 0 ? RSL_FORCE_AUTO :
					(rsl_breaker_force) random_below(&source, 3);

				if (force != model.force)
					model_changed();
				model.force = force;
				rsl_breaker_force_to(&state, force, now);
			}
			else if (dice < 994)
			{
				model_close(&config);
				model.openings = 0;
				model.reason = RSL_TRIP_NONE;
				rsl_breaker_reset(&state, &config, now);
			}
			else
			{
				rsl_breaker_config other = random_config(&source);

				if (random_below(&source, 2) == 0)
				{
					/* only some of it */
					config.probe = other.probe;
					config.half_open_calls = other.half_open_calls;
					config.success_threshold = other.success_threshold;
				}
				else
					config = other;
				model_reconfigure(&config);
				rsl_breaker_reconfigure(&state, &config);
			}

			compare(&state, &config, generation, life, step);
			if (step % 16 == 0)
				check_recovers(&state, &config, now);
			seen[state.position][state.force]++;
			if (state.generation != generation && state.position == RSL_BREAKER_OPEN)
				trips[state.reason]++;
		}
	}
	check_done("1 200 000 random events, breaker and model alike");
	diag("%ld trials; opened in a row %ld, failure rate %ld, slow rate %ld, trial or probe %ld",
		 admitted_trials, trips[RSL_TRIP_CONSECUTIVE], trips[RSL_TRIP_FAILURE_RATE],
		 trips[RSL_TRIP_SLOW_RATE], trips[RSL_TRIP_TRIAL]);
	diag("steps closed %ld, half-open %ld, open %ld", seen[CL][RSL_FORCE_AUTO],
		 seen[HO][RSL_FORCE_AUTO], seen[OPN][RSL_FORCE_AUTO]);
	for (int position = 0; position < 3; position++)
	{
		for (int force = 0; force < 3; force++)
			check(seen[position][force] > 5000, "position %d, force %d", position, force);
	}
	check(admitted_trials > 5000, "%ld trials", admitted_trials);
	for (int reason = RSL_TRIP_CONSECUTIVE; reason <= RSL_TRIP_TRIAL; reason++)
		check(trips[reason] > 500, "reason %d", reason);
	check_done("the events came to every state and reason often");
}

int
main(void)
{
	test_stories();
	test_rates();
	test_window();
	test_open_time();
	test_limits();
	test_random();
	return done_testing();
}

/*-------------------------------------------------------------------------
 *
 * prober.c
 *		The background worker that asks guarded servers.
 *
 * One process for all databases; it needs no connection to any.  It
 *
 * - asks the servers whose breaker is open, side by side, by libpq's
 *	 asynchronous connection functions.  No credentials are needed to see that
 *	 a server answers: a request for a password will do, and so will any error
 *	 but those of a server that is starting, stopping or full;
 * - announces changes of state: in the log, and by the invalidation message
 *	 that ALTER SERVER would send, so that cached plans are made anew and
 *	 postgres_fdw drops its idle connections;
 * - finds calls that hang, and has them counted as slow ones before they end.
 *
 * A host name is resolved by a blocking call within libpq: name servers that
 * do not answer hold all probes up for as long as resolv.conf allows.  The
 * option hostaddr of a server avoids that.
 *
 * Nothing is lost when it dies: it keeps no state but probes under way, and is
 * started again after a second.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_foreign_server.h"
#include "libpq-fe.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "shared/breakers.h"
#include "shared/pool.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "worker/prober.h"

/* between two looks while there are breakers; also how exact times are */
#define LOOK_EVERY_MS		100

/* without breakers somebody will set the latch */
#define IDLE_MS				60000

/* how long a server may take to answer, at most and at least */
#define MAX_PROBE_US		INT64CONST(5000000)
#define MIN_PROBE_US		INT64CONST(200000)

/* how many servers at most are asked at once */
#define MAX_PROBES			32

typedef struct probe
{
	PGconn	   *conn;			/* NULL = none is under way */
	uint32		uid;			/* of the breaker */
	uint32		generation;		/* of its state */
	int64		deadline;
	PostgresPollingStatusType wants;
	bool		verify;			/* ask now, whatever retry_at says */
	uint32		verified;		/* generation for which that was done */
} probe;

/* What is known of a session's call board. */
typedef struct session_watch
{
	uint32		sequence;
	int64		since;
} session_watch;

static probe *probes;			/* one for each entry of breakers */
static int	nprobes = 0;
static session_watch *watches;	/* one for each session */

static void
clear_prober(int code, Datum arg)
{
	pg_atomic_write_u32(&rsl_breakers_shmem->prober, 0);
}

/*
 * Announcements
 */

static void
invalidate_plans(const rsl_breaker_policy *policy)
{
	SharedInvalidationMessage message = {0};

	if (!OidIsValid(policy->server))
		return;
	message.cc.id = FOREIGNSERVEROID;
	message.cc.dbId = policy->home_database;
	message.cc.hashValue = policy->server_hash;
	SendSharedInvalidMessages(&message, 1);
}

static void
log_state(const rsl_breaker_policy *policy, const rsl_breaker_state *state,
		  int last_sqlstate)
{
	static const char *const positions[] = {"closed", "half-open", "open"};
	static const char *const reasons[] = {"none", "consecutive failures", "failure rate",
	"slow call rate", "failed trial", "forced"};
	rsl_breaker_position position = rsl_breaker_effective(state);
	bool		forced = state->force != RSL_FORCE_AUTO;

	ereport(LOG,
			(OidIsValid(policy->server) ?
			 errmsg("circuit breaker \"%s\" of foreign server \"%s\" is %s%s",
					policy->name, policy->server_name,
					forced ? "forced " : "", positions[position]) :
			 errmsg("circuit breaker \"%s\" is %s%s", policy->name,
					forced ? "forced " : "", positions[position]),
			 position == RSL_BREAKER_OPEN && !forced ?
			 errdetail("reason=\"%s\" consecutive_failures=%u last_sqlstate=%s retry_after_ms=" INT64_FORMAT,
					   reasons[state->reason], state->consecutive_failures,
					   last_sqlstate ? unpack_sql_state(last_sqlstate) : "none",
					   rsl_breaker_retry_after(state, rsl_now_us()) / 1000) : 0));
}

/*
 * A refused connection says little about the server if it was for somebody's
 * wrong password.  Ask at once: otherwise any user could keep the breaker open
 * for everybody.
 */
static bool
wants_verification(int sqlstate)
{
	return sqlstate == ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION ||
		ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION;
}

static void
announce(int index, const rsl_breaker_policy *policy)
{
	rsl_breaker *breaker = &rsl_breakers[index];
	uint32		uid = pg_atomic_read_u32(&breaker->uid);
	rsl_breaker_state state;
	int			last_sqlstate;
	bool		is_new = uid != breaker->announced_uid;

	if (!is_new && breaker->announced_generation ==
		RSL_GATE_GENERATION(pg_atomic_read_u64(&breaker->gate)))
		return;

	SpinLockAcquire(&breaker->mutex);
	state = breaker->state;
	last_sqlstate = breaker->last_sqlstate;
	SpinLockRelease(&breaker->mutex);

	breaker->announced_uid = uid;
	breaker->announced_generation = state.generation;
	if (!is_new)
		log_state(policy, &state, last_sqlstate);
	if (!is_new || rsl_breaker_effective(&state) != RSL_BREAKER_CLOSED)
		invalidate_plans(policy);

	if (state.position == RSL_BREAKER_OPEN &&
		probes[index].verified != state.generation &&
		wants_verification(last_sqlstate))
	{
		probes[index].verify = true;
		probes[index].verified = state.generation;
	}
}

/*
 * Probes
 */

static void
end_probe(int index, bool alive, const char *result)
{
	probe	   *p = &probes[index];

	PQfinish(p->conn);
	p->conn = NULL;
	nprobes--;
	rsl_breaker_probe_done(index, p->uid, p->generation, alive, result);
}

/*
 * The SQLSTATE at the end of a line, for with PQERRORS_SQLSTATE libpq says
 * "FATAL:  28000", the first word in the server's language.
 */
static bool
find_sqlstate(const char *message, char *sqlstate)
{
	bool		found = false;

	while (*message)
	{
		size_t		length = strcspn(message, "\n");

		if (length > 6 && message[length - 6] == ' ' &&
			strspn(message + length - 5,
				   "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") >= 5)
		{
			memcpy(sqlstate, message + length - 5, 5);
			sqlstate[5] = '\0';
			found = true;
		}
		message += length;
		if (*message)
			message++;
	}
	return found;
}

/* The connection came about or failed: what does that say of the server? */
static void
judge_probe(int index)
{
	PGconn	   *conn = probes[index].conn;
	char		sqlstate[6];
	char		result[32];
	const char *message;
	const char *reason;

	if (probes[index].wants == PGRES_POLLING_OK)
	{
		end_probe(index, true, "alive");
		return;
	}
	if (PQconnectionNeedsPassword(conn))
	{
		end_probe(index, true, "alive, wants a password");
		return;
	}
	message = PQerrorMessage(conn);
	if (find_sqlstate(message, sqlstate))
	{
		/* shutting down, crashed, starting up, full */
		bool		alive = strcmp(sqlstate, "57P01") != 0 &&
			strcmp(sqlstate, "57P02") != 0 && strcmp(sqlstate, "57P03") != 0 &&
			strcmp(sqlstate, "53300") != 0;

		snprintf(result, sizeof(result), "%s, says %s",
				 alive ? "alive" : "not ready", sqlstate);
		end_probe(index, alive, result);
		return;
	}
	reason = strstr(message, "failed: ");
	reason = reason ? reason + strlen("failed: ") : message;
	strlcpy(result, reason, Min(sizeof(result), strcspn(reason, "\n") + 1));
	end_probe(index, false, result);
}

static void
start_probe(int index, const rsl_breaker_policy *policy)
{
	probe	   *p = &probes[index];
	rsl_breaker *breaker = &rsl_breakers[index];
	const char *keywords[] = {"dbname", "user", "passfile", "gssencmode",
	"application_name", "fallback_application_name", NULL};
	const char *values[] = {policy->probe_target, "resilience_probe", "/dev/null",
	"disable", "resilience prober", "resilience prober", NULL};
	int64		patience = policy->config.slow_call_us;

	if (policy->call_timeout_ms > 0)
		patience = Min(patience, policy->call_timeout_ms * INT64CONST(1000));
	patience = Max(Min(patience, MAX_PROBE_US), MIN_PROBE_US);

	p->verify = false;
	p->uid = pg_atomic_read_u32(&breaker->uid);
	p->generation = RSL_GATE_GENERATION(pg_atomic_read_u64(&breaker->gate));
	p->deadline = rsl_now_us() + patience;
	p->conn = PQconnectStartParams(keywords, values, 1);
	if (p->conn == NULL)
		return;					/* out of memory: next time */
	nprobes++;
	(void) PQsetErrorVerbosity(p->conn, PQERRORS_SQLSTATE);
	p->wants = PQstatus(p->conn) == CONNECTION_BAD ? PGRES_POLLING_FAILED :
		PGRES_POLLING_WRITING;
	if (p->wants == PGRES_POLLING_FAILED)
		judge_probe(index);
}

static bool
probe_is_due(int index)
{
	rsl_breaker *breaker = &rsl_breakers[index];
	bool		due;

	if (RSL_GATE_POSITION(pg_atomic_read_u64(&breaker->gate)) == RSL_BREAKER_CLOSED)
		return false;
	SpinLockAcquire(&breaker->mutex);
	due = rsl_breaker_probe_due(&breaker->state, &breaker->config, rsl_now_us()) ||
		(probes[index].verify && breaker->config.probe &&
		 breaker->state.force == RSL_FORCE_AUTO);
	SpinLockRelease(&breaker->mutex);
	return due;
}

/*
 * Wait for sockets, the latch, or the time.  Probes whose socket is ready go
 * on; those whose time is up end.
 */
static void
wait_and_advance(long timeout_ms)
{
	WaitEventSet *set = rsl_create_wait_event_set(nprobes + 2);
	WaitEvent  *events = palloc((nprobes + 2) * sizeof(WaitEvent));
	int			n;

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < rsl_breakers_shmem->nbreakers; i++)
	{
		if (probes[i].conn)
			AddWaitEventToSet(set, probes[i].wants == PGRES_POLLING_READING ?
							  WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE,
							  PQsocket(probes[i].conn), NULL, &probes[i]);
	}
	n = WaitEventSetWait(set, timeout_ms, events, nprobes + 2, PG_WAIT_EXTENSION);
	FreeWaitEventSet(set);

	for (int e = 0; e < n; e++)
	{
		probe	   *p = events[e].user_data;

		if (events[e].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
		if (p == NULL || p->conn == NULL)
			continue;
		p->wants = PQconnectPoll(p->conn);
		if (p->wants == PGRES_POLLING_OK || p->wants == PGRES_POLLING_FAILED)
			judge_probe(p - probes);
	}
	pfree(events);

	for (int i = 0; i < rsl_breakers_shmem->nbreakers && nprobes > 0; i++)
	{
		if (probes[i].conn && rsl_now_us() >= probes[i].deadline)
			end_probe(i, false, "timed out");
	}
}

/*
 * Calls that hang
 */

static void
find_hanging_calls(void)
{
	int64		now = rsl_now_us();

	for (int s = 0; s < rsl_shmem->nsessions; s++)
	{
		rsl_call_board *board = &rsl_call_boards[s];
		uint32		sequence = pg_atomic_read_u32(&board->sequence);
		int			index = (int) pg_atomic_read_u32(&board->breaker) - 1;
		int64		limit;

		if ((sequence & 1) == 0 || sequence != watches[s].sequence)
		{
			watches[s].sequence = sequence;
			watches[s].since = now;
			continue;
		}
		if (index < 0 || index >= rsl_breakers_shmem->nbreakers ||
			pg_atomic_read_u32(&board->counted) == sequence)
			continue;
		SpinLockAcquire(&rsl_breakers[index].mutex);
		limit = rsl_breakers[index].config.slow_call_us;
		SpinLockRelease(&rsl_breakers[index].mutex);
		if (now - watches[s].since < limit)
			continue;
		pg_atomic_write_u32(&board->counted, sequence);
		rsl_breaker_count_hanging(index, pg_atomic_read_u32(&board->generation));
	}
}

/* Look at all breakers.  Returns whether there are any. */
static bool
look_at_breakers(void)
{
	static rsl_breaker_policy policy;	/* a copy: large, and no lock is held */

	for (int i = 0; i < rsl_breakers_shmem->nbreakers; i++)
	{
		bool		published;

		LWLockAcquire(rsl_config_lock, LW_SHARED);
		published = rsl_breakers[i].published;
		if (published)
			policy = rsl_breakers[i].policy;
		LWLockRelease(rsl_config_lock);
		if (!published)
			continue;
		announce(i, &policy);
		if (probes[i].conn == NULL && nprobes < MAX_PROBES && probe_is_due(i))
		{
			start_probe(i, &policy);
			announce(i, &policy);
		}
	}
	return pg_atomic_read_u32(&rsl_breakers_shmem->npublished) > 0;
}

void
rsl_prober_main(Datum arg)
{
	int64		next_hang_check = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	probes = MemoryContextAllocZero(TopMemoryContext,
									rsl_breakers_shmem->nbreakers * sizeof(probe));
	watches = MemoryContextAllocZero(TopMemoryContext,
									 rsl_shmem->nsessions * sizeof(session_watch));
	MemoryContextSwitchTo(AllocSetContextCreate(TopMemoryContext,
												"resilience prober",
												ALLOCSET_DEFAULT_SIZES));
	before_shmem_exit(clear_prober, (Datum) 0);
	pg_atomic_write_u32(&rsl_breakers_shmem->prober, rsl_my_slot_number() + 1);

	for (;;)
	{
		bool		any = look_at_breakers();
		int64		now = rsl_now_us();

		if (any && now >= next_hang_check)
		{
			find_hanging_calls();
			next_hang_check = now + LOOK_EVERY_MS * INT64CONST(1000);
		}
		wait_and_advance(any ? LOOK_EVERY_MS : IDLE_MS);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextReset(CurrentMemoryContext);
	}
}

void
rsl_prober_register(void)
{
	BackgroundWorker worker = {0};

	strlcpy(worker.bgw_name, "resilience prober", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "resilience prober", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "resilience",
			sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "rsl_prober_main", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

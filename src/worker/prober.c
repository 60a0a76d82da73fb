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
 * - announces changes of state by the invalidation message that ALTER SERVER
 *	 would send, so that cached plans are made anew and postgres_fdw drops its
 *	 idle connections;
 * - finds calls that hang, and has them counted as slow ones before they end.
 *
 * A host name is resolved by a blocking call within libpq: name servers that
 * do not answer hold all probes up for as long as resolv.conf allows.  The
 * option hostaddr of a server avoids that.  Of several hosts libpq takes the
 * next one when the first refuses; one that is silent uses up the time of the
 * probe, as it does with callers.
 *
 * Nothing is lost when it dies: it keeps no state but probes under way, and is
 * started again after a second.  While there is none that works, callers make
 * the trials themselves (see breakers.c).
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "catalog/pg_foreign_server.h"
#include "policy/probe.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "shared/breakers.h"
#include "shared/pool.h"
#include "shared/workers.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "worker/prober.h"

/* between two looks at the calls that are under way, if there are breakers */
#define LOOK_EVERY_MS		100

/* without breakers somebody will set the latch */
#define IDLE_MS				60000

/* how long a server may take to answer, at most and at least */
#define MAX_PROBE_US		INT64CONST(5000000)
#define MIN_PROBE_US		INT64CONST(200000)

/* how many servers at most are asked at once */
#define MAX_PROBES			32

typedef struct server_probe
{
	PGconn	   *conn;			/* NULL = none is under way */
	uint32		uid;			/* of the breaker */
	uint32		generation;		/* of its state */
	int64		deadline;
	PostgresPollingStatusType wants;
	bool		verify;			/* ask now, whatever retry_at says */
} server_probe;

/* What is known of a session's call board. */
typedef struct session_watch
{
	uint32		sequence;
	int64		since;
} session_watch;

static server_probe *probes;	/* one for each entry of breakers */
static int	nprobes = 0;
static session_watch *watches;	/* one for each session */

/* when something is to be done next */
static int64 next_event;

static void
wake_at(int64 when)
{
	next_event = Min(next_event, when);
}

static void
clear_prober(int code, Datum arg)
{
	pg_atomic_write_u32(&rsl_breakers_shmem->prober, 0);
}

/*
 * Announcements
 */

static void
invalidate_plans(Oid database, uint32 server_hash)
{
	SharedInvalidationMessage message = {0};

	message.cc.id = FOREIGNSERVEROID;
	message.cc.dbId = database;
	message.cc.hashValue = server_hash;
	SendSharedInvalidMessages(&message, 1);
}

/*
 * A refused connection says little about the server if it was for somebody's
 * wrong password.  Ask at once: otherwise any user could keep the breaker open
 * for everybody.  Not so if calls were slow or failed otherwise: that a server
 * asks for a password proves nothing then.
 */
static bool
wants_verification(const rsl_breaker_state *state, int sqlstate)
{
	if (state->position != RSL_BREAKER_OPEN ||
		(state->reason != RSL_TRIP_CONSECUTIVE &&
		 state->reason != RSL_TRIP_FAILURE_RATE))
		return false;
	return sqlstate == ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION ||
		ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION;
}

/*
 * Something about a breaker has changed since it was announced last, or its
 * definition may have.  What was announced is kept in shared memory, so that a
 * worker that died in between misses nothing.
 */
static void
announce(int index)
{
	static rsl_breaker_policy policy;	/* large, and no lock is held later */
	rsl_breaker *breaker = &rsl_breakers[index];
	uint64		last_gate = breaker->announced_gate;
	uint32		last_uid = breaker->announced_uid;
	uint32		uid;
	uint64		gate;
	rsl_breaker_state state;
	int			last_sqlstate;
	bool		changed;
	bool		closed;

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	uid = pg_atomic_read_u32(&breaker->uid);
	policy = breaker->policy;
	LWLockRelease(rsl_config_lock);
	SpinLockAcquire(&breaker->mutex);
	state = breaker->state;
	gate = pg_atomic_read_u64(&breaker->gate);
	last_sqlstate = breaker->last_sqlstate;
	SpinLockRelease(&breaker->mutex);

	/* plans that avoid a server which nothing guards any more */
	if (uid != last_uid && OidIsValid(breaker->announced_database) &&
		RSL_GATE_POSITION(last_gate) != RSL_BREAKER_CLOSED)
		invalidate_plans(breaker->announced_database, breaker->announced_hash);

	breaker->announced_uid = uid;
	breaker->announced_gate = gate;
	breaker->announced_database = InvalidOid;
	if (uid == 0)
		return;
	if (OidIsValid(policy.server))
	{
		breaker->announced_database = policy.home_database;
		breaker->announced_hash = policy.server_hash;
	}

	closed = RSL_GATE_POSITION(gate) == RSL_BREAKER_CLOSED;
	if (uid != last_uid)
		changed = !closed;
	else
		changed = RSL_GATE_GENERATION(gate) != RSL_GATE_GENERATION(last_gate);
	if (OidIsValid(policy.server) && (changed || !closed))
		invalidate_plans(policy.home_database, policy.server_hash);
	if (changed)
		probes[index].verify = wants_verification(&state, last_sqlstate);
}

/*
 * Probes
 */

static void
forget_probe(server_probe *p)
{
	PQfinish(p->conn);
	p->conn = NULL;
	nprobes--;
	ReleaseExternalFD();
}

static void
end_probe(int index, bool alive, const char *result)
{
	server_probe *p = &probes[index];

	forget_probe(p);
	rsl_breaker_probe_done(index, p->uid, p->generation, alive, result);
}

/* The connection came about or failed: what does that say of the server? */
static void
judge_probe(int index)
{
	char		result[32];
	bool		alive = rsl_probe_judge(probes[index].conn,
										probes[index].wants == PGRES_POLLING_OK,
										result, sizeof(result));

	end_probe(index, alive, result);
}

/* Begin to ask.  Returns false if it has to be tried again later. */
static bool
start_probe(int index, uint32 uid, uint32 generation)
{
	server_probe *p = &probes[index];
	rsl_breaker *breaker = &rsl_breakers[index];
	char		target[RSL_PROBE_TARGET_LEN];
	int64		patience;

	LWLockAcquire(rsl_config_lock, LW_SHARED);
	strlcpy(target, breaker->policy.probe_target, sizeof(target));
	patience = breaker->policy.config.slow_call_us;
	if (breaker->policy.call_timeout_ms > 0)
		patience = Min(patience, breaker->policy.call_timeout_ms * INT64CONST(1000));
	LWLockRelease(rsl_config_lock);
	patience = Max(Min(patience, MAX_PROBE_US), MIN_PROBE_US);

	if (!AcquireExternalFD())
		return false;
	p->uid = uid;
	p->generation = generation;
	p->deadline = rsl_now_us() + patience;
	p->conn = rsl_probe_start(target);
	if (p->conn == NULL)
	{
		ReleaseExternalFD();	/* out of memory */
		return false;
	}
	nprobes++;
	p->verify = false;
	p->wants = PQstatus(p->conn) == CONNECTION_BAD ? PGRES_POLLING_FAILED :
		PGRES_POLLING_WRITING;
	if (p->wants == PGRES_POLLING_FAILED)
	{
		judge_probe(index);
		wake_at(0);				/* what came of it is to be announced */
	}
	return true;
}

/* A breaker that is not closed: is it time to ask its server? */
static void
consider_probe(int index)
{
	rsl_breaker *breaker = &rsl_breakers[index];
	server_probe *p = &probes[index];
	uint32		uid = pg_atomic_read_u32(&breaker->uid);
	uint32		generation;
	int64		retry_after;
	bool		probes_at_all;
	bool		due;

	SpinLockAcquire(&breaker->mutex);
	generation = breaker->state.generation;
	retry_after = rsl_breaker_retry_after(&breaker->state, rsl_now_us());
	probes_at_all = breaker->policy.config.probe &&
		breaker->state.force == RSL_FORCE_AUTO;
	due = rsl_breaker_probe_due(&breaker->state, &breaker->policy.config, rsl_now_us());
	SpinLockRelease(&breaker->mutex);

	/* nobody waits for the answer any more */
	if (p->conn && (p->uid != uid || p->generation != generation))
		forget_probe(p);

	if (!probes_at_all || p->conn)
		return;
	if (!due && !p->verify)
		wake_at(rsl_now_us() + retry_after);
	else if (nprobes < MAX_PROBES && !start_probe(index, uid, generation))
		wake_at(rsl_now_us() + LOOK_EVERY_MS * INT64CONST(1000));
}

/*
 * Wait for sockets, the latch, or the time.  Probes whose socket is ready go
 * on; those whose time is up end.
 */
static void
wait_and_advance(void)
{
	WaitEventSet *set;
	WaitEvent  *events;
	int64		now = rsl_now_us();
	long		timeout_ms;
	int			n;

	for (int i = 0; i < rsl_breakers_shmem->nbreakers && nprobes > 0; i++)
	{
		if (probes[i].conn)
			wake_at(probes[i].deadline);
	}
	timeout_ms = next_event <= now ? 0 : (next_event - now + 999) / 1000;

	if (nprobes == 0)
	{
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					  timeout_ms, PG_WAIT_EXTENSION) & WL_LATCH_SET)
			ResetLatch(MyLatch);
		return;
	}

	/* made anew each time: libpq may exchange its socket at every step */
	set = rsl_create_wait_event_set(nprobes + 2);
	events = palloc((nprobes + 2) * sizeof(WaitEvent));
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
		server_probe *p = events[e].user_data;

		if (events[e].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
		if (p == NULL || p->conn == NULL)
			continue;
		p->wants = PQconnectPoll(p->conn);
		if (p->wants == PGRES_POLLING_OK || p->wants == PGRES_POLLING_FAILED ||
			PQsocket(p->conn) == PGINVALID_SOCKET)
			judge_probe(p - probes);
	}
	pfree(events);

	now = rsl_now_us();
	for (int i = 0; i < rsl_breakers_shmem->nbreakers && nprobes > 0; i++)
	{
		if (probes[i].conn && now >= probes[i].deadline)
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
		uint32		generation = pg_atomic_read_u32(&board->generation);
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
		limit = rsl_breakers[index].policy.config.slow_call_us;
		SpinLockRelease(&rsl_breakers[index].mutex);
		if (now - watches[s].since < limit)
			continue;
		pg_read_barrier();
		if (pg_atomic_read_u32(&board->sequence) != sequence)
			continue;			/* it has just gone on */
		pg_atomic_write_u32(&board->counted, sequence);
		rsl_breaker_count_hanging(index, generation);
	}
}

/*
 * Look at all breakers, beginning with another one each time, so that all get
 * their turn when there are many to be asked.  Returns whether there are any.
 */
static bool
look_at_breakers(void)
{
	static uint64 last_publication = 0;
	static int	first = 0;
	int			nbreakers = rsl_breakers_shmem->nbreakers;
	uint64		publication = pg_atomic_read_u64(&rsl_breakers_shmem->generation);
	bool		any = false;

	pg_read_barrier();
	for (int n = 0; n < nbreakers; n++)
	{
		int			i = (first + n) % nbreakers;
		rsl_breaker *breaker = &rsl_breakers[i];
		uint32		uid = pg_atomic_read_u32(&breaker->uid);
		uint64		gate = pg_atomic_read_u64(&breaker->gate);

		/* another definition, say of on_open, concerns cached plans, too */
		if (uid != breaker->announced_uid || gate != breaker->announced_gate ||
			(publication != last_publication &&
			 RSL_GATE_POSITION(gate) != RSL_BREAKER_CLOSED))
			announce(i);
		if (uid != 0)
			any = true;
		if (uid != 0 && RSL_GATE_POSITION(gate) != RSL_BREAKER_CLOSED)
			consider_probe(i);
		else if (probes[i].conn)
			forget_probe(&probes[i]);
	}
	first = (first + 1) % nbreakers;
	last_publication = publication;
	return any;
}

void
rsl_prober_main(Datum arg)
{
	/* what would make libpq send a secret, or judge the server's ways */
	static const char *const variables[] = {"PGPASSWORD", "PGSSLMODE", "PGREQUIREAUTH",
	"PGCHANNELBINDING", "PGOPTIONS"};
	int64		next_hang_check = 0;

	for (int i = 0; i < lengthof(variables); i++)
		unsetenv(variables[i]);

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	probes = MemoryContextAllocZero(TopMemoryContext,
									rsl_breakers_shmem->nbreakers * sizeof(server_probe));
	watches = MemoryContextAllocZero(TopMemoryContext,
									 rsl_shmem->nsessions * sizeof(session_watch));
	MemoryContextSwitchTo(AllocSetContextCreate(TopMemoryContext,
												"resilience prober",
												ALLOCSET_DEFAULT_SIZES));
	before_shmem_exit(clear_prober, (Datum) 0);
	rsl_worker_attach(RSL_WORKER_PROBER);
	pg_atomic_write_u32(&rsl_breakers_shmem->prober, rsl_my_slot_number() + 1);

	for (;;)
	{
		int64		now = rsl_now_us();

		pg_atomic_write_u64(&rsl_breakers_shmem->prober_looked, now);
		rsl_worker_beat(IDLE_MS + RSL_HEARTBEAT_LATE_MS);
		next_event = now + IDLE_MS * INT64CONST(1000);
		if (now >= next_hang_check)
		{
			find_hanging_calls();
			next_hang_check = now + LOOK_EVERY_MS * INT64CONST(1000);
		}
		if (look_at_breakers())
			wake_at(next_hang_check);
		wait_and_advance();
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

/*-------------------------------------------------------------------------
 *
 * endpoint.c
 *		The worker that answers health requests by HTTP.
 *
 * It is there while resilience.http_listen is not empty: the launcher starts
 * it, and starts it again after a failure.  It has no connection to any
 * database, runs no SQL, and needs none of max_connections: it reads shared
 * memory, and so answers also when the server is full.
 *
 * When the address cannot be had, say because it is taken, it says so once,
 * in the log and as a component of the server's health, and tries again every
 * RETRY_MS.  After a reload it moves to another address, or ends.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "endpoint/endpoint.h"
#include "endpoint/http_server.h"
#include "endpoint/listen_socket.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "shared/endpoint.h"
#include "shared/pool.h"
#include "shared/settings.h"
#include "shared/workers.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/* between two attempts to listen */
#define RETRY_MS		5000

/* somebody hears of the worker so often, at least */
#define BEAT_MS			10000

/* between two attempts to start it */
#define RESTART_MS		1000

/*
 * The worker
 */

static char *listens_at = NULL; /* NULL = nowhere */
static WaitEventSet *wait_set = NULL;

/* where it does not listen, and why, as it was logged last */
static char complaint[RSL_ENDPOINT_ADDRESS_LEN + RSL_ENDPOINT_MESSAGE_LEN] = "";

static void
close_endpoint(void)
{
	if (wait_set)
		FreeWaitEventSet(wait_set);
	wait_set = NULL;
	rsl_http_close();
	rsl_listen_forget();
	if (listens_at)
		free(listens_at);
	listens_at = NULL;
}

static void
leave(int code, Datum arg)
{
	close_endpoint();
	rsl_endpoint_set(rsl_http_listen[0] ? RSL_ENDPOINT_STARTING :
					 RSL_ENDPOINT_OFF, rsl_http_listen, NULL);
}

/* The latch, the postmaster, and the library's sockets if there are any. */
static WaitEventSet *
make_wait_set(int epoll_fd)
{
	WaitEventSet *set = rsl_create_wait_event_set(3);

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	if (epoll_fd >= 0)
		AddWaitEventToSet(set, WL_SOCKET_READABLE, epoll_fd, NULL, NULL);
	return set;
}

static void
complain(const char *what, const char *why, const char *hint)
{
	char		text[RSL_ENDPOINT_MESSAGE_LEN];
	char		all[sizeof(complaint)];

	snprintf(text, sizeof(text), "%s: %s", what, why);
	rsl_endpoint_set(RSL_ENDPOINT_FAILED, rsl_http_listen, text);
	snprintf(all, sizeof(all), "%s %s", rsl_http_listen, text);
	if (strcmp(all, complaint) == 0)
		return;
	strlcpy(complaint, all, sizeof(complaint));
	ereport(LOG,
			(errmsg("resilience cannot listen at \"%s\" for health requests: %s",
					rsl_http_listen, why),
			 errhint("%s It is tried again every %d seconds.", hint,
					 RETRY_MS / 1000)));
}

static void
try_to_listen(void)
{
	rsl_listen_address address;
	const char *wrong;
	int			fd;

	/* the setting's check hook has seen it */
	wrong = rsl_parse_listen_address(rsl_http_listen, &address);
	if (wrong)
	{
		complain("bad address", wrong, "Correct \"resilience.http_listen\".");
		return;
	}
	fd = rsl_listen_open(&address);
	if (fd < 0)
	{
		int			save_errno = errno;
		char		why[128];

		strlcpy(why, save_errno == ETXTBSY ? "there is a file that is no socket" :
				strerror(save_errno), sizeof(why));
		complain("cannot listen", why,
				 save_errno == EADDRINUSE ?
				 "Another process listens there: end it, or change \"resilience.http_listen\"." :
				 "Change \"resilience.http_listen\", or remove the cause.");
		return;
	}
	wrong = rsl_http_open(fd, !rsl_listen_is_local(&address));
	if (wrong)
	{
		closesocket(fd);
		rsl_listen_forget();
		complain("no HTTP server", wrong,
				 "Install the package libmicrohttpd12.");
		return;
	}

	listens_at = strdup(rsl_http_listen);
	FreeWaitEventSet(wait_set);
	wait_set = make_wait_set(rsl_http_epoll());
	complaint[0] = '\0';
	rsl_endpoint_set(RSL_ENDPOINT_LISTENING, rsl_http_listen, NULL);
	ereport(LOG,
			(errmsg("resilience answers health requests at \"%s\"",
					rsl_http_listen)));
}

static void
setting_changed(void)
{
	if (rsl_http_listen[0] == '\0')
		proc_exit(0);
	if (listens_at && strcmp(listens_at, rsl_http_listen) == 0)
		return;
	close_endpoint();
	wait_set = make_wait_set(-1);
	try_to_listen();
}

void
rsl_endpoint_main(Datum arg)
{
	rsl_worker *entry = &rsl_workers->entries[RSL_WORKER_ENDPOINT];
	int64		next_try = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	MemoryContextSwitchTo(TopMemoryContext);
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "resilience endpoint");
	rsl_worker_attach(RSL_WORKER_ENDPOINT);
	before_shmem_exit(leave, (Datum) 0);
	wait_set = make_wait_set(-1);

	/* it may have been reloaded between the start and now */
	ConfigReloadPending = true;
	for (;;)
	{
		WaitEvent	event;
		int64		now = rsl_now_us();
		long		timeout = BEAT_MS;
		long		next;

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			setting_changed();
			next_try = rsl_now_us() + RETRY_MS * INT64CONST(1000);
		}
		if (!listens_at)
		{
			if (now >= next_try)
			{
				try_to_listen();
				next_try = rsl_now_us() + RETRY_MS * INT64CONST(1000);
			}
			timeout = RETRY_MS;
		}
		if (listens_at)
		{
			next = rsl_http_run();
			if (next >= 0)
				timeout = Min(timeout, next);
		}

		/* two of us, because the launcher was started again: one is enough */
		if (entry->pid != MyProcPid)
			proc_exit(0);
		rsl_worker_beat(timeout + RSL_HEARTBEAT_LATE_MS);

		if (WaitEventSetWait(wait_set, timeout, &event, 1, PG_WAIT_EXTENSION) > 0 &&
			(event.events & WL_LATCH_SET))
			ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * The launcher's part
 */

static bool
is_here(void)
{
	bool		here;

	LWLockAcquire(rsl_workers_lock, LW_SHARED);
	here = rsl_workers->entries[RSL_WORKER_ENDPOINT].pid != 0;
	LWLockRelease(rsl_workers_lock);
	return here;
}

/* Say once that nobody will listen at that address. */
static void
say_unavailable(const char *why, const char *hint)
{
	static char said[RSL_ENDPOINT_MESSAGE_LEN] = "";

	rsl_endpoint_set(RSL_ENDPOINT_FAILED, rsl_http_listen, why);
	if (strcmp(said, why) == 0)
		return;
	strlcpy(said, why, sizeof(said));
	ereport(LOG,
			(errmsg("resilience cannot answer health requests: %s", why),
			 errhint("%s", hint)));
}

void
rsl_keep_endpoint(void)
{
	static BackgroundWorkerHandle *handle = NULL;
	static int64 next_start = 0;
	static bool was_wanted = false;
	BackgroundWorker worker = {0};
	bool		wanted = rsl_http_listen != NULL && rsl_http_listen[0] != '\0';
	pid_t		pid;

	/* it ends by itself when it is not wanted any more */
	if (!wanted)
	{
		if (was_wanted)
			rsl_endpoint_set(RSL_ENDPOINT_OFF, "", NULL);
		was_wanted = false;
		return;
	}
	was_wanted = true;
	if (!rsl_http_built)
	{
		say_unavailable("this build has no HTTP server",
						"Install libmicrohttpd-dev and build the extension again, or empty \"resilience.http_listen\".");
		return;
	}
	if (handle)
	{
		BgwHandleStatus status = GetBackgroundWorkerPid(handle, &pid);

		if (status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED)
			return;
		pfree(handle);
		handle = NULL;
	}

	/* one that a launcher before this one has started */
	if (is_here() || rsl_now_us() < next_start)
		return;
	next_start = rsl_now_us() + RESTART_MS * INT64CONST(1000);

	strlcpy(worker.bgw_name, "resilience endpoint", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "resilience endpoint", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_ConsistentState;
	worker.bgw_restart_time = BGW_NEVER_RESTART;

	strlcpy(worker.bgw_library_name, "resilience",
			sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "rsl_endpoint_main", BGW_MAXLEN);
	worker.bgw_notify_pid = MyProcPid;

	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		handle = NULL;
		say_unavailable("no background worker is free",
						"Raise \"max_worker_processes\".");
		return;
	}
	if (rsl_endpoint_get(NULL, NULL, NULL) != RSL_ENDPOINT_LISTENING)
		rsl_endpoint_set(RSL_ENDPOINT_STARTING, rsl_http_listen, NULL);
}

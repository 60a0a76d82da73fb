/*-------------------------------------------------------------------------
 *
 * turns.c
 *		A closed loop over many sessions that costs the client little.
 *
 * pgbench hands all its sockets to ppoll() for each answer; with 256 of them
 * that costs more than a select by key.  This program waits by epoll.  And it
 * knows what throughput is possible with that many sessions: with -A and -R
 * only so many of them work at a time, each for so long, and then the client
 * itself gives the turn to the next one in a circle.  Nobody queues in the
 * server then, and everybody is served.  With -A alone the others never work.
 *
 *	turns [-d CONNINFO] [-c SESSIONS] [-A ACTIVE [-R TURN_MS]] [-j THREADS]
 *		  [-T SECONDS] [-w WARMUP_SECONDS] [-s SCALE] [-b]
 *
 * Selects by key from pgbench's tables, or with -b pgbench's TPC-B; prepared
 * statements.  One line of key=value pairs: tps, p50_ms, p99_ms, max_ms,
 * fewest (transactions of the session that did least), cpu (the client's
 * share of one core).
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#define NSEC_PER_SEC	INT64_C(1000000000)
#define MAX_EVENTS		256
#define MAX_PARAMS		4

static const char *const select_sql[] = {
	"SELECT abalance FROM pgbench_accounts WHERE aid = $1",
};
static const char *const tpcb_sql[] = {
	"BEGIN",
	"UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2",
	"SELECT abalance FROM pgbench_accounts WHERE aid = $1",
	"UPDATE pgbench_tellers SET tbalance = tbalance + $1 WHERE tid = $2",
	"UPDATE pgbench_branches SET bbalance = bbalance + $1 WHERE bid = $2",
	"INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP)",
	"END",
};

typedef struct Session
{
	PGconn	   *pg;
	int			step;			/* which statement of the transaction runs */
	int64_t		aid,
				bid,
				tid,
				delta;
	int64_t		start;			/* of the transaction */
	bool		has_turn;
	int64_t		turn_end;
	int64_t		done;			/* transactions, while measuring */
} Session;

typedef struct Thread
{
	pthread_t	id;
	Session    *sessions;
	int			nsessions;
	int			nactive;
	int			next;			/* whose turn it is after this one */
	uint64_t	random;
	float	   *latencies;		/* ms */
	int64_t		nlatencies,
				max_latencies;
	double		cpu;			/* seconds */
} Thread;

static const char *conninfo = "";
static int	nsessions = 256;
static int	nactive = 0;
static int	nthreads = 2;
static int	scale = 20;
static double turn_ms = -1;
static bool tpcb = false;
static int64_t measure_from,
			end_at;

static void
fail(const char *message)
{
	fprintf(stderr, "turns: %s\n", message);
	exit(1);
}

static int64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

/* 1 .. max; xorshift */
static int64_t
any_of(Thread *t, int64_t max)
{
	t->random ^= t->random << 13;
	t->random ^= t->random >> 7;
	t->random ^= t->random << 17;
	return 1 + (int64_t) (t->random % (uint64_t) max);
}

static void
send_statement(Session *s, int n, int64_t first, int64_t second, int64_t third,
			   int64_t fourth)
{
	const int64_t params[MAX_PARAMS] = {first, second, third, fourth};
	char		name[8];
	char		shown[MAX_PARAMS][24] = {{0}};
	const char *values[MAX_PARAMS] = {0};

	snprintf(name, sizeof(name), "p%d", s->step);
	for (int i = 0; i < n; i++)
	{
		snprintf(shown[i], sizeof(shown[i]), "%" PRId64, params[i]);
		values[i] = shown[i];
	}
	if (!PQsendQueryPrepared(s->pg, name, n, values, NULL, NULL, 0))
		fail(PQerrorMessage(s->pg));
}

static void
next_statement(Thread *t, Session *s)
{
	if (s->step == 0)
	{
		s->start = now_ns();
		s->aid = any_of(t, INT64_C(100000) * scale);
		s->bid = any_of(t, scale);
		s->tid = any_of(t, INT64_C(10) * scale);
		s->delta = any_of(t, 10001) - 5001;
	}
	if (!tpcb)
	{
		send_statement(s, 1, s->aid, 0, 0, 0);
		return;
	}
	switch (s->step)
	{
		case 1:
			send_statement(s, 2, s->delta, s->aid, 0, 0);
			break;
		case 2:
			send_statement(s, 1, s->aid, 0, 0, 0);
			break;
		case 3:
			send_statement(s, 2, s->delta, s->tid, 0, 0);
			break;
		case 4:
			send_statement(s, 2, s->delta, s->bid, 0, 0);
			break;
		case 5:
			send_statement(s, 4, s->tid, s->bid, s->aid, s->delta);
			break;
		default:
			send_statement(s, 0, 0, 0, 0, 0);
	}
}

/* Is the statement's answer complete? */
static bool
answered(Session *s)
{
	PGresult   *result;

	if (!PQconsumeInput(s->pg))
		fail(PQerrorMessage(s->pg));
	if (PQisBusy(s->pg))
		return false;
	while ((result = PQgetResult(s->pg)) != NULL)
	{
		if (PQresultStatus(result) != PGRES_TUPLES_OK &&
			PQresultStatus(result) != PGRES_COMMAND_OK)
			fail(PQresultErrorMessage(result));
		PQclear(result);
	}
	return true;
}

/* A transaction has ended: count it, and say whose the next one is. */
static Session *
transaction_done(Thread *t, Session *s)
{
	int64_t		now = now_ns();

	s->step = 0;
	if (now >= measure_from)
	{
		s->done++;
		if (t->nlatencies == t->max_latencies)
		{
			t->max_latencies = t->max_latencies * 2 + 100000;
			t->latencies = realloc(t->latencies, t->max_latencies * sizeof(float));
			if (t->latencies == NULL)
				fail("out of memory");
		}
		t->latencies[t->nlatencies++] = (now - s->start) / 1e6;
	}
	if (turn_ms < 0 || now < s->turn_end)
		return s;

	s->has_turn = false;
	while (t->sessions[t->next].has_turn)
		t->next = (t->next + 1) % t->nsessions;
	s = &t->sessions[t->next];
	t->next = (t->next + 1) % t->nsessions;
	s->has_turn = true;
	s->turn_end = now + (int64_t) (turn_ms * 1e6);
	return s;
}

static void *
run(void *arg)
{
	Thread	   *t = arg;
	int			epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct rusage usage;

	for (int i = 0; i < t->nsessions; i++)
	{
		struct epoll_event event = {.events = EPOLLIN,.data.ptr = &t->sessions[i]};

		if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, PQsocket(t->sessions[i].pg), &event) != 0)
			fail("epoll_ctl failed");
	}
	t->next = t->nactive % t->nsessions;
	for (int i = 0; i < t->nactive; i++)
	{
		t->sessions[i].has_turn = true;
		t->sessions[i].turn_end = now_ns() + (int64_t) (turn_ms * 1e6);
		next_statement(t, &t->sessions[i]);
	}
	while (now_ns() < end_at)
	{
		struct epoll_event events[MAX_EVENTS];
		int			n = epoll_wait(epoll_fd, events, MAX_EVENTS, 100);

		for (int i = 0; i < n; i++)
		{
			Session    *s = events[i].data.ptr;

			if (!answered(s))
				continue;
			if (!tpcb || ++s->step == (int) (sizeof(tpcb_sql) / sizeof(tpcb_sql[0])))
				s = transaction_done(t, s);
			next_statement(t, s);
		}
	}
	getrusage(RUSAGE_THREAD, &usage);
	t->cpu = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
		(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
	return NULL;
}

static void
connect_session(Session *s)
{
	const char *const *statements = tpcb ? tpcb_sql : select_sql;
	int			n = tpcb ? sizeof(tpcb_sql) / sizeof(tpcb_sql[0]) : 1;

	s->pg = PQconnectdb(conninfo);
	if (PQstatus(s->pg) != CONNECTION_OK)
		fail(PQerrorMessage(s->pg));
	for (int i = 0; i < n; i++)
	{
		char		name[8];
		PGresult   *result;

		snprintf(name, sizeof(name), "p%d", i);
		result = PQprepare(s->pg, name, statements[i], 0, NULL);
		if (PQresultStatus(result) != PGRES_COMMAND_OK)
			fail(PQerrorMessage(s->pg));
		PQclear(result);
	}
}

static int
compare_floats(const void *a, const void *b)
{
	float		x = *(const float *) a,
				y = *(const float *) b;

	return x < y ? -1 : x > y;
}

int
main(int argc, char **argv)
{
	double		seconds = 3,
				warmup = 1,
				cpu = 0;
	Session    *sessions;
	Thread	   *threads;
	float	   *all;
	int64_t		n = 0,
				fewest = INT64_MAX;
	int			option,
				first = 0;

	while ((option = getopt(argc, argv, "d:c:A:R:j:T:w:s:b")) != -1)
	{
		switch (option)
		{
			case 'd':
				conninfo = optarg;
				break;
			case 'c':
				nsessions = atoi(optarg);
				break;
			case 'A':
				nactive = atoi(optarg);
				break;
			case 'R':
				turn_ms = atof(optarg);
				break;
			case 'j':
				nthreads = atoi(optarg);
				break;
			case 'T':
				seconds = atof(optarg);
				break;
			case 'w':
				warmup = atof(optarg);
				break;
			case 's':
				scale = atoi(optarg);
				break;
			case 'b':
				tpcb = true;
				break;
			default:
				fail("see the head of turns.c for the options");
		}
	}
	if (nactive == 0)
		nactive = nsessions;
	if (nsessions < 1 || nactive < 1 || nactive > nsessions || scale < 1)
		fail("sessions, active ones and scale must be at least 1");
	if (nthreads < 1 || nthreads > nactive)
		nthreads = nactive;

	sessions = calloc(nsessions, sizeof(Session));
	threads = calloc(nthreads, sizeof(Thread));
	if (sessions == NULL || threads == NULL)
		fail("out of memory");
	for (int i = 0; i < nsessions; i++)
		connect_session(&sessions[i]);

	measure_from = now_ns() + (int64_t) (warmup * NSEC_PER_SEC);
	end_at = measure_from + (int64_t) (seconds * NSEC_PER_SEC);
	for (int i = 0; i < nthreads; i++)
	{
		Thread	   *t = &threads[i];

		t->nactive = nactive * (i + 1) / nthreads - nactive * i / nthreads;
		t->nsessions = nsessions * (i + 1) / nthreads - nsessions * i / nthreads;
		t->sessions = &sessions[first];
		t->random = UINT64_C(88172645463325252) + i * 7919 + getpid();
		first += t->nsessions;
		if (pthread_create(&t->id, NULL, run, t) != 0)
			fail("cannot start a thread");
	}
	for (int i = 0; i < nthreads; i++)
	{
		pthread_join(threads[i].id, NULL);
		n += threads[i].nlatencies;
		cpu += threads[i].cpu;
	}
	if (n == 0)
		fail("not one transaction was finished");

	all = malloc(n * sizeof(float));
	if (all == NULL)
		fail("out of memory");
	n = 0;
	for (int i = 0; i < nthreads; i++)
	{
		if (threads[i].nlatencies > 0)
			memcpy(all + n, threads[i].latencies, threads[i].nlatencies * sizeof(float));
		n += threads[i].nlatencies;
	}
	qsort(all, n, sizeof(float), compare_floats);
	for (int i = 0; i < nsessions; i++)
	{
		if (sessions[i].done < fewest)
			fewest = sessions[i].done;
	}
	printf("tps=%.1f p50_ms=%.3f p99_ms=%.2f max_ms=%.1f fewest=%" PRId64 " cpu=%.2f\n",
		   n / seconds, all[n / 2], all[n * 99 / 100], all[n - 1], fewest,
		   cpu / (seconds + warmup));
	for (int i = 0; i < nsessions; i++)
		PQfinish(sessions[i].pg);
	return 0;
}

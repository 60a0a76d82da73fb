/*
 * preempt.c - is the statement that is cancelled the one that was chosen?
 *
 *	preempt storm CONNINFO HIGH_CONNINFO SUPERUSER_CONNINFO CLIENTS STATEMENTS SEED
 *		CLIENTS sessions of each of the first two kinds run that many short
 *		statements in all, by all protocols.  Meanwhile superusers have
 *		statements of theirs cancelled, by number: the one that runs now, the
 *		one that has just ended, the one that comes next; and cancel them as
 *		users do.
 *
 *		Each session counts its statements.  The server numbers them by twos,
 *		and the error of a cancelled one names the number that was chosen.  So
 *		the difference of number and count must be the same as long as the
 *		session lasts.  And the number must be one that was chosen, once.
 *
 *	preempt user CONNINFO SUPERUSER_CONNINFO ROUNDS SEED
 *		A user's cancel of a statement beside requests for statements that
 *		have ended: none of them is lost.  Then beside requests for the very
 *		same statement.
 *
 * Both print "NAME COUNT" lines; wrong things are counted in names that begin
 * with "wrong_".  A part of the TAP tests, which compile it.
 */
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libpq-fe.h>

#define MAX_SESSIONS	64
#define MAX_RECORDS		2000000
#define SHORT			"SELECT sum(g) FROM generate_series(1, 30) g"
#define BATCH			8

/* A statement of a session, by its number. */
typedef struct record
{
	int			pid;
	unsigned int number;
} record;

/* What a session knows; pid and last are read by those who choose. */
typedef struct client_session
{
	const char *conninfo;
	unsigned int seed;
	PGconn	   *conn;
	volatile int pid;
	volatile unsigned int last; /* highest number that was chosen for it */
	volatile long user_cancels; /* of this connection */
	long		count;			/* statements executed on this connection */
	bool		calibrated;
	unsigned int offset;		/* number - 2 * count */
} client_session;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static client_session sessions[MAX_SESSIONS];
static int	nsessions;
static volatile long statements_left;
static volatile bool over;
static const char *superuser_conninfo;

/* under the lock */
static record *chosen;
static long nchosen;
static record *hit;
static long nhit;
static long nok;
static long npreempted;			/* by the server itself */
static long ncancelled;
static long nlost;
static long wrong_number;
static long wrong_error;
static long wrong_cancel;

static void
die(const char *what, PGconn *conn)
{
	fprintf(stderr, "%s: %s\n", what, conn ? PQerrorMessage(conn) : "");
	exit(1);
}

static PGconn *
connect_or_die(const char *conninfo)
{
	PGconn	   *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
		die("connection", conn);
	return conn;
}

static void
pause_us(unsigned int us)
{
	poll(NULL, 0, us / 1000);
	usleep(us % 1000);
}

/*
 * One of the session's statements has been executed: what came of it?
 * "executed" is false if it was not, because one before it in the pipeline
 * has failed.
 */
static void
note(client_session *s, PGresult *res)
{
	ExecStatusType status = PQresultStatus(res);
	char	   *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	char	   *detail = PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL);
	char	   *field;
	unsigned int number;

	if (status == PGRES_PIPELINE_ABORTED)
		return;
	if (status == PGRES_TUPLES_OK)
	{
		s->count++;
		pthread_mutex_lock(&lock);
		nok++;
		pthread_mutex_unlock(&lock);
		return;
	}
	pthread_mutex_lock(&lock);
	if (sqlstate && strcmp(sqlstate, "57014") == 0)
	{
		/* perhaps it had not begun to execute, or was at its commit */
		ncancelled++;
		s->calibrated = false;
		if (--s->user_cancels < 0)
			wrong_cancel++;
	}
	else if (sqlstate && strcmp(sqlstate, "53R04") == 0 && detail &&
			 (field = strstr(detail, "statement=")) != NULL &&
			 sscanf(field, "statement=%u", &number) == 1)
	{
		s->count++;
		if (strstr(detail, "by_priority=none") == NULL)
			npreempted++;
		else
		{
			hit[nhit].pid = s->pid;
			hit[nhit++].number = number;
		}
		if (s->calibrated && number - 2 * (unsigned int) s->count != s->offset)
		{
			wrong_number++;
			fprintf(stderr, "session %d: statement %ld had number %u, not %u\n",
					s->pid, s->count, number,
					s->offset + 2 * (unsigned int) s->count);
		}
		s->offset = number - 2 * (unsigned int) s->count;
		s->calibrated = true;
	}
	else if (PQstatus(s->conn) == CONNECTION_BAD)
		nlost++;
	else
	{
		wrong_error++;
		fprintf(stderr, "session %d: %s %s\n", s->pid,
				sqlstate ? sqlstate : "-", PQresultErrorMessage(res));
	}
	pthread_mutex_unlock(&lock);
}

static void
run_simple(client_session *s, const char *sql)
{
	PGresult   *res = PQexec(s->conn, sql);

	note(s, res);
	PQclear(res);
}

/* Not counted, and never cancelled. */
static void
run_exempt(client_session *s, const char *sql)
{
	PGresult   *res = PQexec(s->conn, sql);
	char	   *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	if (sqlstate != NULL)
	{
		pthread_mutex_lock(&lock);
		if (strcmp(sqlstate, "57014") == 0)
		{
			ncancelled++;
			s->calibrated = false;
			if (--s->user_cancels < 0)
				wrong_cancel++;
		}
		else if (PQstatus(s->conn) != CONNECTION_BAD)
		{
			wrong_error++;
			fprintf(stderr, "session %d: %s: %s\n", s->pid, sql,
					PQresultErrorMessage(res));
		}
		pthread_mutex_unlock(&lock);
	}
	PQclear(res);
}

/* The next statements are in the server's buffer when one is cancelled. */
static void
run_pipeline(client_session *s)
{
	PGresult   *res;
	int			syncs = 0;

	if (!PQenterPipelineMode(s->conn))
		return;
	for (int i = 0; i < BATCH; i++)
	{
		PQsendQueryParams(s->conn, SHORT, 0, NULL, NULL, NULL, NULL, 0);
		/* half of them in one implicit transaction */
		if (i >= BATCH / 2)
		{
			PQpipelineSync(s->conn);
			syncs++;
		}
	}
	while (syncs > 0 && PQstatus(s->conn) == CONNECTION_OK)
	{
		res = PQgetResult(s->conn);
		if (res == NULL)
			continue;
		if (PQresultStatus(res) == PGRES_PIPELINE_SYNC)
			syncs--;
		else
			note(s, res);
		PQclear(res);
	}
	PQexitPipelineMode(s->conn);
}

static void
connect_session(client_session *s)
{
	if (s->conn)
	{
		s->pid = 0;
		PQfinish(s->conn);
	}
	s->conn = connect_or_die(s->conninfo);
	s->count = 0;
	s->last = 0;
	s->user_cancels = 0;
	s->calibrated = false;
	PQclear(PQprepare(s->conn, "short", SHORT, 0, NULL));
	s->pid = PQbackendPID(s->conn);
}

static void *
work(void *arg)
{
	client_session *s = arg;

	for (;;)
	{
		int			n = 1;
		int			choice = rand_r(&s->seed) % 100;
		PGresult   *res;

		if (s->conn == NULL || choice == 0 ||
			PQstatus(s->conn) != CONNECTION_OK)
		{
			/* leave now and then, perhaps with a request on its way */
			if (s->conn == NULL || rand_r(&s->seed) % 10 == 0)
				connect_session(s);
			continue;
		}
		if (choice < 2)
			run_simple(s, "SELECT pg_sleep(0.015)");
		else if (choice < 40)
			run_simple(s, SHORT);
		else if (choice < 60)
		{
			res = PQexecPrepared(s->conn, "short", 0, NULL, NULL, NULL, 0);
			note(s, res);
			PQclear(res);
		}
		else if (choice < 80)
		{
			run_exempt(s, "BEGIN");
			for (n = 0; n < 3 && PQtransactionStatus(s->conn) == PQTRANS_INTRANS; n++)
				run_simple(s, SHORT);
			run_exempt(s, PQtransactionStatus(s->conn) == PQTRANS_INTRANS ?
					   "COMMIT" : "ROLLBACK");
			if (PQtransactionStatus(s->conn) != PQTRANS_IDLE)
				run_exempt(s, "ROLLBACK");
		}
		else
		{
			n = BATCH;
			run_pipeline(s);
		}

		pthread_mutex_lock(&lock);
		statements_left -= n;
		over = statements_left <= 0;
		pthread_mutex_unlock(&lock);
		if (over)
			break;
	}
	return NULL;
}

/* Have statements cancelled, by their number. */
static void *
choose(void *arg)
{
	unsigned int seed = *(unsigned int *) arg;
	PGconn	   *conn = connect_or_die(superuser_conninfo);

	PQclear(PQprepare(conn, "one", "SELECT resilience.cancel_statement($1, $2)", 0, NULL));
	while (!over)
	{
		client_session *s = &sessions[rand_r(&seed) % nsessions];
		int			pid = s->pid;
		unsigned int last = s->last;
		int			choice = rand_r(&seed) % 4;
		char		pid_text[16];
		char		number[16];
		const char *values[2] = {pid_text, NULL};
		PGresult   *res;

		if (pid == 0)
			continue;
		snprintf(pid_text, sizeof(pid_text), "%d", pid);
		/* one that ended, or that may have not begun */
		if (choice >= 2 && last != 0)
		{
			snprintf(number, sizeof(number), "%u", last + (choice == 2 ? 0 : 2));
			values[1] = number;
		}
		res = PQexecPrepared(conn, "one", 2, values, NULL, NULL, 0);
		if (PQresultStatus(res) != PGRES_TUPLES_OK)
			die("cancel_statement", conn);
		if (!PQgetisnull(res, 0, 0))
		{
			unsigned int n = (unsigned int) atoll(PQgetvalue(res, 0, 0));

			pthread_mutex_lock(&lock);
			chosen[nchosen].pid = pid;
			chosen[nchosen++].number = n;
			if (s->pid == pid && n > s->last)
				s->last = n;
			pthread_mutex_unlock(&lock);
		}
		PQclear(res);
		if (rand_r(&seed) % 4 == 0)
			pause_us(rand_r(&seed) % 300);
	}
	PQfinish(conn);
	return NULL;
}

/* Cancel as users do. */
static void *
cancel(void *arg)
{
	unsigned int seed = *(unsigned int *) arg;
	PGconn	   *conn = connect_or_die(superuser_conninfo);

	while (!over)
	{
		client_session *s = &sessions[rand_r(&seed) % nsessions];
		int			pid = s->pid;
		char		sql[64];

		pause_us(rand_r(&seed) % 10000);
		if (pid == 0)
			continue;
		pthread_mutex_lock(&lock);
		if (s->pid == pid)
			s->user_cancels++;
		pthread_mutex_unlock(&lock);
		snprintf(sql, sizeof(sql), "SELECT pg_cancel_backend(%d)", pid);
		PQclear(PQexec(conn, sql));
	}
	PQfinish(conn);
	return NULL;
}

static int
compare(const void *a, const void *b)
{
	const record *x = a;
	const record *y = b;

	if (x->pid != y->pid)
		return x->pid < y->pid ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

static void
start(pthread_t *thread, void *(*function) (void *), void *arg)
{
	if (pthread_create(thread, NULL, function, arg) != 0)
		die("thread", NULL);
}

static int
storm(char **args)
{
	int			clients = atoi(args[3]);
	unsigned int seed = atoi(args[5]);
	pthread_t	threads[MAX_SESSIONS];
	pthread_t	others[3];
	unsigned int seeds[3];
	long		not_chosen = 0;
	long		twice = 0;

	superuser_conninfo = args[2];
	nsessions = 2 * clients;
	if (nsessions > MAX_SESSIONS)
		die("too many clients", NULL);
	statements_left = atol(args[4]);
	chosen = calloc(MAX_RECORDS, sizeof(record));
	hit = calloc(MAX_RECORDS, sizeof(record));
	for (int i = 0; i < nsessions; i++)
	{
		sessions[i].conninfo = args[i < clients ? 0 : 1];
		sessions[i].seed = seed * 100 + i;
		start(&threads[i], work, &sessions[i]);
	}
	for (int i = 0; i < 3; i++)
	{
		seeds[i] = seed * 100 + 50 + i;
		start(&others[i], i < 2 ? choose : cancel, &seeds[i]);
	}
	for (int i = 0; i < nsessions; i++)
		pthread_join(threads[i], NULL);
	over = true;
	for (int i = 0; i < 3; i++)
		pthread_join(others[i], NULL);
	for (int i = 0; i < nsessions; i++)
		PQfinish(sessions[i].conn);

	qsort(chosen, nchosen, sizeof(record), compare);
	qsort(hit, nhit, sizeof(record), compare);
	for (long i = 0; i < nhit; i++)
	{
		if (bsearch(&hit[i], chosen, nchosen, sizeof(record), compare) == NULL)
			not_chosen++;
		if (i > 0 && compare(&hit[i], &hit[i - 1]) == 0)
			twice++;
	}
	printf("ok %ld\nchosen %ld\nhit %ld\npreempted %ld\ncancelled %ld\nlost %ld\n",
		   nok, nchosen, nhit, npreempted, ncancelled, nlost);
	printf("wrong_number %ld\nwrong_error %ld\nwrong_cancel %ld\nwrong_not_chosen %ld\nwrong_twice %ld\n",
		   wrong_number, wrong_error, wrong_cancel, not_chosen, twice);
	return 0;
}

/*
 * user
 */

static volatile int user_pid;
static char user_number[16];
static volatile int user_go;	/* rounds that have begun */
static int	late_rounds;		/* after them requests are for the same
								 * statement */

/* Requests for a statement that ended, or for the present one. */
static void *
rain(void *arg)
{
	PGconn	   *conn = connect_or_die(superuser_conninfo);
	int			seen = 0;

	PQclear(PQprepare(conn, "one", "SELECT resilience.cancel_statement($1, $2)", 0, NULL));
	while (!over)
	{
		char		pid_text[16];
		const char *values[2] = {pid_text, user_number};

		int			round = user_go;

		if (round == seen)
		{
			usleep(20);
			continue;
		}
		snprintf(pid_text, sizeof(pid_text), "%d", user_pid);
		if (round > late_rounds)
		{
			seen = round;
			values[1] = NULL;
		}
		PQclear(PQexecPrepared(conn, "one", 2, values, NULL, NULL, 0));
	}
	PQfinish(conn);
	return NULL;
}

static int
user(char **args)
{
	PGconn	   *conn = connect_or_die(args[0]);
	PGconn	   *super;
	int			rounds = atoi(args[2]);
	unsigned int seed = atoi(args[3]);
	pthread_t	thread;
	char		sql[128];
	PGresult   *res;
	char	   *field;
	unsigned int number;
	long		user_cancels = 0;
	long		both_user = 0;
	long		both_preempted = 0;
	long		wrong = 0;

	superuser_conninfo = args[1];
	super = connect_or_die(superuser_conninfo);
	user_pid = PQbackendPID(conn);

	/* learn the number of a statement: it has ended when the error is here */
	PQsendQuery(conn, "SELECT pg_sleep(60)");
	snprintf(sql, sizeof(sql), "SELECT resilience.cancel_statement(%d)", user_pid);
	for (;;)
	{
		bool		done;

		res = PQexec(super, sql);
		done = !PQgetisnull(res, 0, 0);
		PQclear(res);
		if (done)
			break;
	}
	res = PQgetResult(conn);
	field = strstr(PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL), "statement=");
	if (field == NULL || sscanf(field, "statement=%u", &number) != 1)
		die("no number", conn);
	snprintf(user_number, sizeof(user_number), "%u", number);
	PQclear(res);
	while ((res = PQgetResult(conn)) != NULL)
		PQclear(res);

	late_rounds = rounds;
	start(&thread, rain, NULL);
	for (int i = 0; i < 2 * rounds; i++)
	{
		bool		same = i >= rounds;
		char	   *sqlstate;

		PQsendQuery(conn, "SELECT pg_sleep(60)");
		snprintf(sql, sizeof(sql),
				 "SELECT count(*) FROM pg_stat_activity WHERE pid = %d AND wait_event = 'PgSleep'",
				 user_pid);
		for (;;)
		{
			bool		sleeps;

			res = PQexec(super, sql);
			sleeps = strcmp(PQgetvalue(res, 0, 0), "1") == 0;
			PQclear(res);
			/* a request that was made for the round before may hit this one */
			if (sleeps || !PQconsumeInput(conn) || !PQisBusy(conn))
				break;
		}
		user_go++;
		usleep(rand_r(&seed) % 200);
		snprintf(sql, sizeof(sql), "SELECT pg_cancel_backend(%d)", user_pid);
		PQclear(PQexec(super, sql));
		res = PQgetResult(conn);
		sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);
		if (sqlstate == NULL)
			wrong++;			/* it slept on: a cancel was lost */
		else if (!same && strcmp(sqlstate, "57014") == 0)
			user_cancels++;
		else if (same && strcmp(sqlstate, "57014") == 0)
			both_user++;
		else if (same && strcmp(sqlstate, "53R04") == 0)
			both_preempted++;
		else
			wrong++;
		PQclear(res);
		while ((res = PQgetResult(conn)) != NULL)
			PQclear(res);
	}
	over = true;
	pthread_join(thread, NULL);
	PQfinish(conn);
	PQfinish(super);
	printf("user %ld\nboth_user %ld\nboth_preempted %ld\nwrong %ld\n",
		   user_cancels, both_user, both_preempted, wrong);
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc == 8 && strcmp(argv[1], "storm") == 0)
		return storm(argv + 2);
	if (argc == 6 && strcmp(argv[1], "user") == 0)
		return user(argv + 2);
	fprintf(stderr, "usage: %s storm CONNINFO HIGH_CONNINFO SUPERUSER_CONNINFO CLIENTS STATEMENTS SEED\n"
			"       %s user CONNINFO SUPERUSER_CONNINFO ROUNDS SEED\n",
			argv[0], argv[0]);
	return 2;
}

/*
 * pipeline.c - what psql cannot do, with libpq
 *
 *	pipeline CONNINFO STEP ...
 *		Sends all steps in pipeline mode before it reads one answer.  A step
 *		is a statement, or "sync".  Prints one line for each answer: "ok",
 *		the SQLSTATE, "aborted" or "sync".
 *
 *	storm CONNINFO SUPERUSER_CONNINFO CLIENTS OUTCOMES SEED
 *		That many clients, each a thread, do things at random that succeed,
 *		fail, are cancelled, terminated, or left in the middle, until
 *		together they have had that many outcomes.  Prints "OUTCOME COUNT"
 *		lines: ok, a SQLSTATE, "refused" (no connection), "left" (the client
 *		went away without waiting for the answer).
 *
 * A part of the TAP tests, which compile it.
 */
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libpq-fe.h>

static void
die(const char *what, PGconn *conn)
{
	fprintf(stderr, "%s: %s", what, conn ? PQerrorMessage(conn) : "\n");
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

/*
 * pipeline
 */

static const char *
answer(PGresult *res)
{
	switch (PQresultStatus(res))
	{
		case PGRES_PIPELINE_SYNC:
			return "sync";
		case PGRES_PIPELINE_ABORTED:
			return "aborted";
		case PGRES_COMMAND_OK:
		case PGRES_TUPLES_OK:
		case PGRES_SINGLE_TUPLE:
			return "ok";
		default:
			return PQresultErrorField(res, PG_DIAG_SQLSTATE);
	}
}

static int
pipeline(const char *conninfo, char **steps, int nsteps)
{
	PGconn	   *conn = connect_or_die(conninfo);
	int			syncs = 0;

	if (!PQenterPipelineMode(conn))
		die("pipeline mode", conn);
	for (int i = 0; i < nsteps; i++)
	{
		int			sent;

		if (strcmp(steps[i], "sync") == 0)
		{
			syncs++;
			sent = PQpipelineSync(conn);
		}
		else
			sent = PQsendQueryParams(conn, steps[i], 0, NULL, NULL, NULL, NULL, 0);
		if (!sent)
			die(steps[i], conn);
	}
	while (syncs > 0)
	{
		PGresult   *res = PQgetResult(conn);
		const char *word;

		if (res == NULL)
			continue;			/* between two statements */
		word = answer(res);
		if (word == NULL)
			die("answer", conn);
		puts(word);
		fflush(stdout);
		if (strcmp(word, "sync") == 0)
			syncs--;
		PQclear(res);
	}
	PQfinish(conn);
	return 0;
}

/*
 * storm
 */

#define MAX_OUTCOMES	64

typedef struct outcome
{
	char		name[16];
	long		count;
} outcome;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static outcome outcomes[MAX_OUTCOMES];
static long outcomes_left;
static const char *conninfo;
static PGconn *superuser;		/* under the lock */

static void
count(const char *name)
{
	int			i = 0;

	pthread_mutex_lock(&lock);
	while (i < MAX_OUTCOMES - 1 && outcomes[i].count > 0 &&
		   strcmp(outcomes[i].name, name) != 0)
		i++;
	snprintf(outcomes[i].name, sizeof(outcomes[i].name), "%s", name);
	outcomes[i].count++;
	outcomes_left--;
	pthread_mutex_unlock(&lock);
}

/*
 * Read all answers to what was sent, and count the first error, or one
 * success.
 */
static bool
finish(PGconn *conn)
{
	PGresult   *res;
	char		name[16] = "";

	while ((res = PQgetResult(conn)) != NULL)
	{
		ExecStatusType status = PQresultStatus(res);
		char	   *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);

		if (status == PGRES_COPY_OUT)
		{
			char	   *row;

			while (PQgetCopyData(conn, &row, 0) > 0)
				PQfreemem(row);
		}
		else if (status == PGRES_COPY_IN)
		{
			PQputCopyData(conn, "1\n", 2);
			PQputCopyEnd(conn, NULL);
		}
		else if (status == PGRES_FATAL_ERROR && name[0] == '\0')
			snprintf(name, sizeof(name), "%s", sqlstate ? sqlstate : "closed");
		PQclear(res);
		if (PQstatus(conn) == CONNECTION_BAD)
			break;
	}
	count(name[0] ? name : "ok");
	return name[0] == '\0';
}

static bool
run(PGconn *conn, const char *sql)
{
	if (PQsendQuery(conn, sql))
		return finish(conn);
	count("closed");
	return false;
}

static void
pause_us(unsigned int us)
{
	poll(NULL, 0, us / 1000);
	usleep(us % 1000);
}

static void
terminate(int pid)
{
	char		sql[64];

	snprintf(sql, sizeof(sql), "SELECT pg_terminate_backend(%d)", pid);
	pthread_mutex_lock(&lock);
	PQclear(PQexec(superuser, sql));
	pthread_mutex_unlock(&lock);
}

/* One thing that a client may do.  Returns false if it needs to reconnect. */
static bool
act(PGconn *conn, unsigned int *seed)
{
	static const char *const simple[] = {
		"SELECT 1",
		"SELECT pg_sleep(0.002)",
		"SELECT pg_sleep(0.01)",
		"SELECT 1/0",
		"BEGIN; SELECT 1; SAVEPOINT s; SELECT 2; ROLLBACK TO s; SELECT 3; COMMIT",
		"BEGIN; INSERT INTO storm VALUES (1); SELECT pg_sleep(0.002); ROLLBACK",
		"DO $$ BEGIN PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN PERFORM 1; END $$",
		"CALL storm_steps()",
		"COPY storm TO STDOUT",
		"COPY storm FROM STDIN",
		"BEGIN; DECLARE c CURSOR FOR SELECT * FROM generate_series(1, 100); FETCH 5 FROM c; COMMIT",
		"SET statement_timeout = '5ms'; SELECT pg_sleep(1)",
		"SET resilience.requested_priority = low",
		"RESET resilience.requested_priority",
		"SELECT count(*) FROM storm",
		"INSERT INTO storm VALUES (2)",
	};
	const char *sleep = "SELECT pg_sleep(0.05)";
	int			choice = rand_r(seed) % 25;
	PGcancel   *cancel;
	char		error[256];

	switch (choice)
	{
		case 16:				/* cancelled, perhaps in the queue */
		case 17:
		case 18:
			if (!PQsendQuery(conn, sleep))
				return false;
			pause_us(rand_r(seed) % 20000);
			cancel = PQgetCancel(conn);
			PQcancel(cancel, error, sizeof(error));
			PQfreeCancel(cancel);
			finish(conn);
			break;
		case 19:				/* terminated, perhaps in the queue */
			if (!PQsendQuery(conn, sleep))
				return false;
			pause_us(rand_r(seed) % 20000);
			terminate(PQbackendPID(conn));
			finish(conn);
			return false;
		case 20:				/* the client goes away in the middle */
			PQsendQuery(conn, sleep);
			pause_us(rand_r(seed) % 10000);
			count("left");
			return false;
		case 21:				/* ... or idle in a transaction */
			run(conn, "BEGIN; SELECT 1");
			pause_us(rand_r(seed) % 200000);
			return false;
		case 22:				/* an error, rolled back to a savepoint */
			if (run(conn, "BEGIN; SELECT 1; SAVEPOINT s"))
			{
				run(conn, "SELECT 1/0");
				run(conn, "ROLLBACK TO s; SELECT pg_sleep(0.002)");
				run(conn, "COMMIT");
			}
			break;
		case 23:				/* idle in a transaction for a while */
			if (run(conn, "BEGIN; SELECT 1"))
			{
				pause_us(rand_r(seed) % 300000);
				run(conn, "SELECT 1");
				run(conn, "COMMIT");
			}
			break;
		case 24:				/* extended protocol */
			if (!PQsendQueryParams(conn, "SELECT pg_sleep(0.001)", 0, NULL, NULL, NULL, NULL, 0))
				return false;
			finish(conn);
			break;
		default:
			run(conn, simple[choice]);
			break;
	}

	/* leave no transaction behind, whatever became of it */
	if (PQtransactionStatus(conn) != PQTRANS_IDLE)
		PQclear(PQexec(conn, "ROLLBACK"));
	PQclear(PQexec(conn, "RESET statement_timeout"));
	return PQstatus(conn) == CONNECTION_OK;
}

static void *
client(void *arg)
{
	unsigned int seed = *(unsigned int *) arg;
	PGconn	   *conn = NULL;

	for (;;)
	{
		bool		over;

		pthread_mutex_lock(&lock);
		over = outcomes_left <= 0;
		pthread_mutex_unlock(&lock);
		if (over)
			break;

		if (conn == NULL)
		{
			conn = PQconnectdb(conninfo);
			if (PQstatus(conn) != CONNECTION_OK)
			{
				count("refused");
				PQfinish(conn);
				conn = NULL;
				pause_us(rand_r(&seed) % 20000);
				continue;
			}
		}
		if (!act(conn, &seed))
		{
			PQfinish(conn);
			conn = NULL;
		}
	}
	PQfinish(conn);
	return NULL;
}

static void
no_notices(void *arg, const PGresult *res)
{
}

static int
storm(char **args)
{
	int			nclients = atoi(args[2]);
	pthread_t  *threads = calloc(nclients, sizeof(pthread_t));
	unsigned int *seeds = calloc(nclients, sizeof(unsigned int));

	conninfo = args[0];
	superuser = connect_or_die(args[1]);
	PQsetNoticeReceiver(superuser, no_notices, NULL);
	outcomes_left = atol(args[3]);
	for (int i = 0; i < nclients; i++)
	{
		seeds[i] = atoi(args[4]) * 1000 + i;
		if (pthread_create(&threads[i], NULL, client, &seeds[i]) != 0)
			die("thread", NULL);
	}
	for (int i = 0; i < nclients; i++)
		pthread_join(threads[i], NULL);
	PQfinish(superuser);

	for (int i = 0; i < MAX_OUTCOMES && outcomes[i].count > 0; i++)
		printf("%s %ld\n", outcomes[i].name, outcomes[i].count);
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc >= 4 && strcmp(argv[1], "pipeline") == 0)
		return pipeline(argv[2], argv + 3, argc - 3);
	if (argc == 7 && strcmp(argv[1], "storm") == 0)
		return storm(argv + 2);
	fprintf(stderr, "usage: %s pipeline CONNINFO STEP ...\n"
			"       %s storm CONNINFO SUPERUSER_CONNINFO CLIENTS OUTCOMES SEED\n",
			argv[0], argv[0]);
	return 2;
}

/*-------------------------------------------------------------------------
 *
 * probe.c
 *		Asking a foreign server whether it answers, without credentials.
 *
 * For the prober of circuit breakers and for health checks.  No credentials
 * are needed to see that a server answers: a request for a password will do,
 * and so will any error but those of a server that is starting, stopping or
 * full.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "commands/defrem.h"
#include "lib/stringinfo.h"
#include "policy/breaker_policy.h"
#include "policy/probe.h"

/* names no file, not even one that libpq would warn of */
#define NO_FILE				"/dev/null/none"

static void
append_conninfo(StringInfo target, const char *keyword, const char *value)
{
	if (target->len > 0)
		appendStringInfoChar(target, ' ');
	appendStringInfo(target, "%s='", keyword);
	for (const char *c = value; *c; c++)
	{
		if (*c == '\'' || *c == '\\')
			appendStringInfoChar(target, '\\');
		appendStringInfoChar(target, *c);
	}
	appendStringInfoChar(target, '\'');
}

/*
 * How the prober can reach a server: where it is, and nothing of anybody's
 * credentials.  Returns "" if it can't; it needs RSL_PROBE_TARGET_LEN bytes.
 */
void
rsl_probe_target(ForeignServer *server, char *target)
{
	static const char *const keywords[] = {"host", "hostaddr", "port", "dbname", "sslmode"};
	StringInfoData conninfo;
	bool		has_dbname = false;
	ListCell   *cell;

	target[0] = '\0';
	if (!rsl_is_postgres_fdw(GetForeignDataWrapper(server->fdwid)->fdwhandler))
		return;
	initStringInfo(&conninfo);
	foreach(cell, server->options)
	{
		DefElem    *option = lfirst(cell);

		/* a service file may say anything, to another user's libpq */
		if (strcmp(option->defname, "service") == 0)
			return;
		for (int i = 0; i < lengthof(keywords); i++)
		{
			if (strcmp(option->defname, keywords[i]) == 0)
				append_conninfo(&conninfo, keywords[i], defGetString(option));
		}
		if (strcmp(option->defname, "dbname") == 0)
			has_dbname = true;
	}
	if (!has_dbname)
		append_conninfo(&conninfo, "dbname", "postgres");
	if (conninfo.len < RSL_PROBE_TARGET_LEN)
		strlcpy(target, conninfo.data, RSL_PROBE_TARGET_LEN);
	pfree(conninfo.data);
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

/*
 * Nothing secret is sent, so there is no need to know whom we talk to: where
 * certificates are to be verified, it will do that there is encryption.  Files
 * named by other options of the server are not at hand here, and those in the
 * home directory are for others.
 */
static const char *
choose_sslmode(const char *target)
{
	PQconninfoOption *options = PQconninfoParse(target, NULL);
	const char *mode = NULL;

	for (PQconninfoOption *o = options; o && o->keyword; o++)
	{
		if (strcmp(o->keyword, "sslmode") == 0 && o->val &&
			strncmp(o->val, "verify-", strlen("verify-")) == 0)
			mode = "require";
	}
	PQconninfoFree(options);
	return mode;
}

static void
ignore_notice(void *arg, const char *message)
{
}

/*
 * Begin to connect, as PQconnectStart() does; NULL when memory is short.  The
 * caller has acquired an external file descriptor.
 */
PGconn *
rsl_probe_start(const char *target)
{
	/* "dbname" is expanded, and what stands after it is stronger */
	static const char *const keywords[] = {"dbname", "user", "passfile", "gssencmode",
	"application_name", "sslcert", "sslrootcert", "sslmode", NULL};
	const char *values[] = {NULL, "resilience_probe", NO_FILE, "disable",
	"resilience prober", NO_FILE, NO_FILE, NULL, NULL};
	char		conninfo[RSL_PROBE_TARGET_LEN + 64];
	PGconn	   *conn;

	/* what is said here is not looked for in the environment */
	snprintf(conninfo, sizeof(conninfo),
			 "password='' options='' sslmode='prefer' %s", target);
	values[0] = conninfo;
	values[7] = choose_sslmode(target);
	conn = PQconnectStartParams(keywords, values, 1);
	if (conn)
	{
		(void) PQsetErrorVerbosity(conn, PQERRORS_SQLSTATE);
		(void) PQsetNoticeProcessor(conn, ignore_notice, NULL);
	}
	return conn;
}

/*
 * The attempt has ended.  Does the server live?  "result" is a word or two, of
 * which it needs 32 bytes.
 */
bool
rsl_probe_judge(PGconn *conn, bool connected, char *result, size_t size)
{
	char		sqlstate[6];
	const char *message;

	if (connected)
	{
		strlcpy(result, "alive", size);
		return true;
	}
	if (PQconnectionNeedsPassword(conn))
	{
		strlcpy(result, "alive: password required", size);
		return true;
	}
	message = PQerrorMessage(conn);
	if (find_sqlstate(message, sqlstate))
	{
		/* no room or memory; shutting down, crashed, starting up */
		bool		alive = strncmp(sqlstate, "53", 2) != 0 &&
			strcmp(sqlstate, "57P01") != 0 &&
			strcmp(sqlstate, "57P02") != 0 && strcmp(sqlstate, "57P03") != 0;

		snprintf(result, size, "%sFATAL %s", alive ? "alive: " : "", sqlstate);
		return alive;
	}

	/*
	 * What libpq says by itself is in the language and encoding of the
	 * operating system's locale: names and error numbers are not.
	 */
	if (strstr(message, "GSSAPI") || strstr(message, "SSPI") ||
		strstr(message, "SASL") || strstr(message, "SCRAM"))
	{
		strlcpy(result, "alive: wants authentication", size);
		return true;
	}
	strlcpy(result, strstr(message, strerror(ECONNREFUSED)) ? "refused" :
			"unreachable", size);
	return false;
}

/*-------------------------------------------------------------------------
 *
 * listen_socket.c
 *		The socket at which the health endpoint listens.
 *
 * A unix socket has the permissions and the group that the server's own have.
 * One that a server left behind which was killed is taken over: nobody
 * answers there.  Anything else that is at the path stays.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>

#include "endpoint/listen_socket.h"
#include "utils/guc.h"

/* as many as a burst of checks may bring before they are served */
#define BACKLOG		128

/* the file of our unix socket */
static char our_path[sizeof(((struct sockaddr_un *) 0)->sun_path)] = "";
static dev_t our_device;
static ino_t our_inode;

/* Close, and fail with what failed before. */
static int
give_up(int fd)
{
	int			save_errno = errno;

	close(fd);
	errno = save_errno;
	return -1;
}

static int
make_socket(int family)
{
	int			fd = socket(family, SOCK_STREAM, 0);

	if (fd < 0)
		return -1;
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return give_up(fd);
	return fd;
}

static int
listen_tcp(const struct sockaddr *address, socklen_t length)
{
	int			on = 1;
	int			fd = make_socket(address->sa_family);

	if (fd < 0)
		return -1;

	/* connections of a process that has just ended are no hindrance */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
		bind(fd, address, length) < 0 || listen(fd, BACKLOG) < 0)
		return give_up(fd);
	return fd;
}

/* Both families by one socket; where there is no IPv6, the other one. */
static int
listen_all(int port)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	struct sockaddr_in in = {.sin_family = AF_INET};
	int			on = 1;
	int			off = 0;
	int			fd = make_socket(AF_INET6);

	in6.sin6_port = in.sin_port = htons((uint16) port);
	if (fd < 0)
		return listen_tcp((struct sockaddr *) &in, sizeof(in));
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0 ||
		bind(fd, (struct sockaddr *) &in6, sizeof(in6)) < 0 ||
		listen(fd, BACKLOG) < 0)
	{
		if (errno == EADDRNOTAVAIL || errno == EAFNOSUPPORT)
		{
			close(fd);
			return listen_tcp((struct sockaddr *) &in, sizeof(in));
		}
		return give_up(fd);
	}
	return fd;
}

/* Does somebody listen there?  Then, and if in doubt, it stays. */
static bool
is_abandoned(const struct sockaddr_un *address)
{
	int			fd = make_socket(AF_UNIX);
	bool		abandoned;

	if (fd < 0)
		return false;
	abandoned = connect(fd, (const struct sockaddr *) address,
						sizeof(*address)) < 0 && errno == ECONNREFUSED;
	close(fd);
	return abandoned;
}

/* The settings by name: libpq.h wants more headers than every machine has. */
static mode_t
socket_permissions(void)
{
	return (mode_t) atoi(GetConfigOption("unix_socket_permissions", false, false));
}

static bool
give_to_group(const char *path)
{
	const char *name = GetConfigOption("unix_socket_group", false, false);
	struct group *group;
	char	   *end;
	unsigned long gid;

	if (name == NULL || name[0] == '\0')
		return true;
	gid = strtoul(name, &end, 10);
	if (*end != '\0')
	{
		group = getgrnam(name);
		if (group == NULL)
		{
			errno = EINVAL;
			return false;
		}
		gid = group->gr_gid;
	}
	return chown(path, (uid_t) -1, (gid_t) gid) == 0;
}

static int
listen_unix(const struct sockaddr_un *address)
{
	const char *path = address->sun_path;
	struct stat there;
	mode_t		mask;
	int			bound;
	int			fd;

	if (lstat(path, &there) == 0)
	{
		if (!S_ISSOCK(there.st_mode))
		{
			errno = ETXTBSY;
			return -1;
		}
		if (!is_abandoned(address))
		{
			errno = EADDRINUSE;
			return -1;
		}
		if (unlink(path) < 0)
			return -1;
	}
	fd = make_socket(AF_UNIX);
	if (fd < 0)
		return -1;

	/* nobody may come before the permissions are right */
	mask = umask(0777);
	bound = bind(fd, (const struct sockaddr *) address, sizeof(*address));
	umask(mask);
	if (bound < 0)
		return give_up(fd);
	if (lstat(path, &there) < 0 || !give_to_group(path) ||
		chmod(path, socket_permissions()) < 0 || listen(fd, BACKLOG) < 0)
	{
		int			save_errno = errno;

		unlink(path);
		errno = save_errno;
		return give_up(fd);
	}
	strlcpy(our_path, path, sizeof(our_path));
	our_device = there.st_dev;
	our_inode = there.st_ino;
	return fd;
}

int
rsl_listen_open(const rsl_listen_address *address)
{
	switch (address->kind)
	{
		case RSL_LISTEN_TCP:
			return listen_tcp(&address->socket.any, address->length);
		case RSL_LISTEN_ALL:
			return listen_all(address->port);
		case RSL_LISTEN_UNIX:
			return listen_unix(&address->socket.path);
		case RSL_LISTEN_NOWHERE:
			break;
	}
	errno = EINVAL;
	return -1;
}

void
rsl_listen_forget(void)
{
	struct stat there;

	if (our_path[0] != '\0' && lstat(our_path, &there) == 0 &&
		there.st_dev == our_device && there.st_ino == our_inode)
		unlink(our_path);
	our_path[0] = '\0';
}

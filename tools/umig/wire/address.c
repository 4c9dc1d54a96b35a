// SPDX-License-Identifier: GPL-2.0
/* Stream addresses: unix:PATH and tcp:HOST:PORT. */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire/address.h"

/* Return: PATH of unix:PATH, NULL for another kind of address. */
const char *address_unix_path(const char *address)
{
	return strncmp(address, "unix:", 5) ? NULL : address + 5;
}

/* Takes "tcp:HOST:PORT" apart; HOST may be [v6] or empty (any). */
static int address_split(const char *address, char *host, size_t host_size, char *port,
			 size_t port_size)
{
	const char *colon;
	size_t length;

	if (strncmp(address, "tcp:", 4))
		return -EINVAL;
	address += 4;
	colon = strrchr(address, ':');
	if (!colon || !isdigit((unsigned char)colon[1]) || strlen(colon + 1) >= port_size)
		return -EINVAL;
	strcpy(port, colon + 1);
	length = (size_t)(colon - address);
	if (length >= 2 && address[0] == '[' && address[length - 1] == ']') {
		address++;
		length -= 2;
	}
	if (length >= host_size)
		return -EINVAL;
	memcpy(host, address, length);
	host[length] = '\0';
	return 0;
}

/* Return: 0 or -EINVAL. */
static int address_check(const char *address)
{
	const char *path = address_unix_path(address);
	struct sockaddr_un sun;
	char host[256], port[16];

	if (path)
		return *path && strlen(path) < sizeof(sun.sun_path) ? 0 : -EINVAL;
	return address_split(address, host, sizeof(host), port, sizeof(port));
}

/* Takes an option's address (see lib/options.h). */
const char *address_take(void *value, const char *text)
{
	if (address_check(text))
		return "is neither unix:PATH nor tcp:HOST:PORT";
	*(const char **)value = text;
	return NULL;
}

static int address_unix_socket(const char *path, struct sockaddr_un *sun)
{
	int fd;

	if (strlen(path) >= sizeof(sun->sun_path))
		return -ENAMETOOLONG;
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	strcpy(sun->sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

/* Removes a socket on which nobody listens: it is left over from a process that was killed. */
static void address_unlink_stale(const char *path, const struct sockaddr_un *sun)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) || !S_ISSOCK(st.st_mode))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) && errno == ECONNREFUSED)
		unlink(path);
	close(fd);
}

static int address_listen_unix(const char *path)
{
	struct sockaddr_un sun;
	int fd = address_unix_socket(path, &sun);
	mode_t mask;
	int ret = 0;

	if (fd < 0)
		return fd;
	address_unlink_stale(path, &sun);
	/* Guest memory goes through it, so only its owner may connect. */
	mask = umask(0177);
	if (bind(fd, (struct sockaddr *)&sun, sizeof(sun)) || listen(fd, 64))
		ret = -errno;
	umask(mask);
	if (ret) {
		close(fd);
		return ret;
	}
	return fd;
}

static int address_resolve(const char *address, int flags, struct addrinfo **list)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = flags };
	char host[256], port[16];
	int ret = address_split(address, host, sizeof(host), port, sizeof(port));

	if (ret)
		return ret;
	if (getaddrinfo(*host ? host : NULL, port, &hints, list))
		return -EHOSTUNREACH;
	return 0;
}

/* Port 0 means any free port. Return: a listening socket or -errno. */
int address_listen(const char *address)
{
	const char *path = address_unix_path(address);
	struct addrinfo *list, *ai;
	int ret, fd = -1, on = 1;

	if (path)
		return address_listen_unix(path);
	ret = address_resolve(address, AI_PASSIVE, &list);
	if (ret)
		return ret;
	ret = -EADDRNOTAVAIL;
	for (ai = list; ai; ai = ai->ai_next) {
		fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC, ai->ai_protocol);
		if (fd < 0) {
			ret = -errno;
			continue;
		}
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		if (!bind(fd, ai->ai_addr, ai->ai_addrlen) && !listen(fd, 64))
			break;
		ret = -errno;
		close(fd);
		fd = -1;
	}
	freeaddrinfo(list);
	return fd < 0 ? ret : fd;
}

static int address_wait_connected(int fd, unsigned int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	socklen_t size = sizeof(int);
	int err = 0;

	if (poll(&pfd, 1, (int)timeout_ms) <= 0)
		return -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size))
		return -errno;
	return -err;
}

static int address_connect_one(int fd, const struct sockaddr *sa, socklen_t length,
			       unsigned int timeout_ms)
{
	int ret = 0, flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	if (connect(fd, sa, length))
		ret = errno == EINPROGRESS ? address_wait_connected(fd, timeout_ms) : -errno;
	fcntl(fd, F_SETFL, flags);
	return ret;
}

/* Return: a connected socket or -errno. */
int address_connect(const char *address, unsigned int timeout_ms)
{
	const char *path = address_unix_path(address);
	struct addrinfo *list, *ai;
	int fd = -1, ret;

	if (path) {
		struct sockaddr_un sun;

		fd = address_unix_socket(path, &sun);
		if (fd < 0)
			return fd;
		ret = address_connect_one(fd, (struct sockaddr *)&sun, sizeof(sun), timeout_ms);
		if (ret)
			close(fd);
		return ret ? ret : fd;
	}
	ret = address_resolve(address, 0, &list);
	if (ret)
		return ret;
	ret = -EHOSTUNREACH;
	for (ai = list; ai; ai = ai->ai_next) {
		fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC, ai->ai_protocol);
		if (fd < 0) {
			ret = -errno;
			continue;
		}
		ret = address_connect_one(fd, ai->ai_addr, ai->ai_addrlen, timeout_ms);
		if (!ret)
			break;
		close(fd);
		fd = -1;
	}
	freeaddrinfo(list);
	return fd < 0 ? ret : fd;
}

static int address_numeric(const struct sockaddr_storage *ss, socklen_t length, char *host,
			   size_t host_size, char *port, size_t port_size)
{
	if (getnameinfo((const struct sockaddr *)ss, length, host, (socklen_t)host_size, port,
			(socklen_t)port_size, NI_NUMERICHOST | NI_NUMERICSERV))
		return -EINVAL;
	return 0;
}

/* The address by which the peer of the connected TCP socket @fd reaches this host. */
int address_local_host(int fd, char *host, size_t size)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t length = sizeof(ss);
	char port[16];

	if (getsockname(fd, (struct sockaddr *)&ss, &length))
		return -errno;
	if (ss.ss_family != AF_INET && ss.ss_family != AF_INET6)
		return -EINVAL;
	return address_numeric(&ss, length, host, size, port, sizeof(port));
}

/* @length: of the whole address. A path that fills the array has no NUL. */
static int address_unix_uri(const struct sockaddr_un *sun, socklen_t length, char *uri,
			    size_t size)
{
	size_t used = (size_t)snprintf(uri, size, "nbd+unix:///?socket=");
	size_t end = length - offsetof(struct sockaddr_un, sun_path), i;

	if (length <= offsetof(struct sockaddr_un, sun_path) || end > sizeof(sun->sun_path))
		return -EINVAL;
	for (i = 0; i < end && sun->sun_path[i]; i++) {
		unsigned char c = (unsigned char)sun->sun_path[i];

		if (used + 4 > size)
			return -ENAMETOOLONG;
		used += (size_t)snprintf(uri + used, size - used,
					 isalnum(c) || strchr("/-._~", c) ? "%c" : "%%%02X", c);
	}
	return 0;
}

/*
 * The HOST of tcp:HOST:PORT as the user wrote it: a server's certificate may be for that name.
 * Return: 0, or -EINVAL if the address is of another kind or HOST is empty.
 */
int address_host(const char *address, char *host, size_t size)
{
	char port[16];
	int ret = address_split(address, host, size, port, sizeof(port));

	return ret || *host ? ret : -EINVAL;
}

/*
 * The NBD URI of a socket that listens at @address. If that is any address of this host, the URI
 * names @host, or localhost if @host is NULL. A path is percent-encoded where a URI needs it.
 */
int address_nbd_uri(int listen_fd, const char *address, const char *host, char *uri, size_t size)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t length = sizeof(ss);
	char own[256], port[16];
	int ret;

	if (getsockname(listen_fd, (struct sockaddr *)&ss, &length))
		return -errno;
	if (ss.ss_family == AF_UNIX) {
		struct sockaddr_un sun;

		memcpy(&sun, &ss, sizeof(sun));
		return address_unix_uri(&sun, length, uri, size);
	}
	ret = address_numeric(&ss, length, own, sizeof(own), port, sizeof(port));
	if (ret)
		return ret;
	if (!strcmp(own, "0.0.0.0") || !strcmp(own, "::"))
		snprintf(own, sizeof(own), "%s", host ? host : "localhost");
	else
		address_host(address, own, sizeof(own));
	if (strchr(own, ':'))
		ret = snprintf(uri, size, "nbd://[%s]:%s/", own, port);
	else
		ret = snprintf(uri, size, "nbd://%s:%s/", own, port);
	return (size_t)ret < size ? 0 : -ENAMETOOLONG;
}

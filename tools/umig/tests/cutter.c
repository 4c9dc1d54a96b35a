// SPDX-License-Identifier: GPL-2.0
/*
 * cutter LISTEN-PATH SOURCE-PATH FIRST: passes bytes between Unix sockets and cuts each connection
 * after a number of bytes from the source: FIRST, FIRST + 1, ... (plus a handshake),
 * so that a test sees replies cut after every byte count.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char *source_path;

struct connection {
	int fd;
	size_t limit;
};

static int open_socket(const char *path, int listening)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	if (listening ? bind(fd, (struct sockaddr *)&sun, sizeof(sun)) || listen(fd, 16) :
	    connect(fd, (struct sockaddr *)&sun, sizeof(sun))) {
		close(fd);
		return -1;
	}
	return fd;
}

static void *pass(void *arg)
{
	struct connection *c = arg;
	int source = open_socket(source_path, 0);
	char buf[16384];

	while (source >= 0) {
		struct pollfd fds[2] = { { c->fd, POLLIN, 0 }, { source, POLLIN, 0 } };
		ssize_t n;

		poll(fds, 2, -1);
		if (fds[0].revents) {
			n = read(c->fd, buf, sizeof(buf));
			if (n <= 0 || write(source, buf, (size_t)n) != n)
				break;
		}
		if (fds[1].revents) {
			n = read(source, buf, sizeof(buf) < c->limit ? sizeof(buf) : c->limit);
			if (n <= 0 || write(c->fd, buf, (size_t)n) != n)
				break;
			c->limit -= (size_t)n;
			if (!c->limit)
				break;
		}
	}
	if (source >= 0)
		close(source);
	close(c->fd);
	free(c);
	return NULL;
}

int main(int argc, char **argv)
{
	size_t limit;
	int fd;

	if (argc != 4)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	source_path = argv[2];
	limit = strtoul(argv[3], NULL, 0);
	fd = open_socket(argv[1], 1);
	if (fd < 0)
		return 1;
	for (;; limit++) {
		struct connection *c = malloc(sizeof(*c));
		pthread_t thread;

		if (!c)
			return 1;
		c->fd = accept(fd, NULL, NULL);
		/* Steps of a few hundred: each connection gets a little further than the last. */
		c->limit = limit + (limit % 13) * 331;
		pthread_create(&thread, NULL, pass, c);
		pthread_detach(thread);
	}
}

// SPDX-License-Identifier: GPL-2.0
/* Descriptors that other threads and signals make readable. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

#include "lib/lib.h"

/**
 * signal_fd_open - have SIGINT, SIGTERM and SIGHUP make a descriptor readable
 *
 * Call it before any thread is started. SIGPIPE is ignored from then on: a lost connection is an
 * error code in umig.
 *
 * Return: the descriptor, or -errno.
 */
int signal_fd_open(void)
{
	sigset_t set;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -errno;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* Never waits. */
bool fd_is_readable(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, 0) > 0;
}

// SPDX-License-Identifier: GPL-2.0
/* How long the peer of a socket may be silent. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "wire/wire.h"

/*
 * A TCP peer that vanished without a word is noticed within 15 s, also while nothing is asked. A
 * Unix socket needs none of it. Return: whether it is TCP.
 */
bool socket_keep_alive(int fd)
{
	int on = 1, idle_s = 5, interval_s = 3, count = 3, timeout_ms = 15000;

	if (setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s)))
		return false;
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
	return true;
}

/* A read or write of @fd that makes no progress for so long fails with EAGAIN. */
void socket_limit(int fd, unsigned int seconds)
{
	struct timeval limit = { .tv_sec = (time_t)seconds };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

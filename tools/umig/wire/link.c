// SPDX-License-Identifier: GPL-2.0
/*
 * The control connection: frames over a stream socket, encrypted if the command line asks for it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/lib.h"
#include "wire/link.h"
#include "wire/tls.h"
#include "wire/tls_session.h"
#include "wire/wire.h"

/* How long a handshake may take. */
#define LINK_TLS_MS	10000
#define LINK_SILENCE_S	30
#define LINK_BUFFER	(2 * (CONTROL_HEADER + CONTROL_MAX_STATE))

int link_init(struct control_link *l)
{
	memset(l, 0, sizeof(*l));
	l->fd = -1;
	pthread_mutex_init(&l->lock, NULL);
	l->buf = malloc(LINK_BUFFER);
	return l->buf ? 0 : -ENOMEM;
}

/*
 * Takes over @fd, also if it fails. The TLS handshake may take LINK_TLS_MS. Return: 0, or -errno as
 * tls_session_open().
 */
int link_open(struct control_link *l, int fd)
{
	struct gnutls_session_int *tls_session = NULL;
	int on = 1, ret;

	/* A peer that takes nothing for so long is gone. */
	socket_limit(fd, LINK_SILENCE_S);
	if (socket_keep_alive(fd))
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (tls_is_on()) {
		ret = tls_session_open(&tls_session, fd, LINK_TLS_MS);
		if (ret) {
			close(fd);
			return ret;
		}
	}
	link_close(l);
	pthread_mutex_lock(&l->lock);
	l->fd = fd;
	l->tls = tls_session;
	l->used = 0;
	l->consumed = 0;
	pthread_mutex_unlock(&l->lock);
	return 0;
}

void link_close(struct control_link *l)
{
	pthread_mutex_lock(&l->lock);
	if (l->tls)
		tls_session_close(l->tls);
	l->tls = NULL;
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	pthread_mutex_unlock(&l->lock);
}

void link_destroy(struct control_link *l)
{
	link_close(l);
	pthread_mutex_destroy(&l->lock);
	free(l->buf);
}

static int link_write(struct control_link *l, const uint8_t *header, size_t header_length,
		      const uint8_t *data, size_t length)
{
	int ret = 0;

	pthread_mutex_lock(&l->lock);
	if (l->fd < 0)
		ret = -ENOTCONN;
	while (!ret && header_length + length) {
		const void *p = header_length ? header : data;
		size_t size = header_length ? header_length : length;
		int more = header_length && length ? MSG_MORE : 0;
		ssize_t n = l->tls ? tls_session_send(l->tls, p, size) :
				     send(l->fd, p, size, MSG_NOSIGNAL | more);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			ret = errno == EAGAIN ? -ETIMEDOUT : -errno;
		} else if (header_length) {
			header += n;
			header_length -= (size_t)n;
		} else {
			data += n;
			length -= (size_t)n;
		}
	}
	/* After half a frame the peer could not find the start of the next one. */
	if (ret && l->fd >= 0)
		shutdown(l->fd, SHUT_RDWR);
	pthread_mutex_unlock(&l->lock);
	return ret;
}

int link_send(struct control_link *l, const struct control_message *msg)
{
	uint8_t buf[4096];
	ssize_t n = control_encode(msg, buf, sizeof(buf));

	return n < 0 ? (int)n : link_write(l, buf, (size_t)n, NULL, 0);
}

int link_send_type(struct control_link *l, enum control_type type)
{
	struct control_message msg = { .type = type };

	return link_send(l, &msg);
}

int link_send_error(struct control_link *l, enum control_error error, const char *fmt, ...)
{
	struct control_message msg = { .type = CONTROL_ERROR, .error = error };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg.text, sizeof(msg.text), fmt, ap);
	va_end(ap);
	return link_send(l, &msg);
}

int link_send_state(struct control_link *l, const void *data, uint32_t length)
{
	uint8_t header[CONTROL_HEADER];

	control_header(header, CONTROL_STATE, length);
	return link_write(l, header, sizeof(header), data, length);
}

/* @nr: 1 to CONTROL_MAX_RANGES; @ranges: as control_put_range() writes them. */
int link_send_ranges(struct control_link *l, enum control_kind kind, const uint8_t *ranges,
		     uint32_t nr)
{
	uint8_t header[CONTROL_HEADER];

	control_header(header, kind, nr * CONTROL_RANGE_SIZE);
	return link_write(l, header, sizeof(header), ranges, nr * CONTROL_RANGE_SIZE);
}

/* Reads once; never waits. Return: 0, -ENODATA at the end of the stream, or -errno. */
int link_receive(struct control_link *l)
{
	ssize_t n;

	if (l->consumed) {
		memmove(l->buf, l->buf + l->consumed, l->used - l->consumed);
		l->used -= l->consumed;
		l->consumed = 0;
	}
	/* The caller has taken every whole frame with link_next(), so there is room for another. */
	do {
		uint8_t *to = l->buf + l->used;
		size_t room = LINK_BUFFER - l->used;

		n = l->tls ? tls_session_receive(l->tls, to, room) :
			     recv(l->fd, to, room, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (!n)
		return -ENODATA;
	l->used += (size_t)n;
	return 0;
}

/* Return: 1 and the next frame, valid until the next call; 0 if no frame is whole; -errno. */
int link_next(struct control_link *l, struct control_frame *frame)
{
	int ret = 0;

	while (!ret) {
		ssize_t n = control_parse_frame(l->buf + l->consumed, l->used - l->consumed, frame);

		if (n) {
			l->consumed += n > 0 ? (size_t)n : 0;
			return n > 0 ? 1 : (int)n;
		}
		if (!l->tls || !tls_session_has_more(l->tls))
			break;
		ret = link_receive(l);
	}
	return ret;
}

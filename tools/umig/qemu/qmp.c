// SPDX-License-Identifier: GPL-2.0
/* QMP, the monitor protocol of QEMU: one JSON object on each line. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/lib.h"
#include "qemu/qmp.h"
#include "wire/address.h"

#define QMP_MAX_LINE	(16U << 20)

static int qmp_failed(struct qmp *q, int error, const char *text)
{
	snprintf(q->error, sizeof(q->error), "%s", text);
	return error;
}

/* Reads once what is there, or waits until the deadline. Return: 0 or -errno. */
static int qmp_fill(struct qmp *q, uint64_t deadline_ns)
{
	struct pollfd pfd = { .fd = q->fd, .events = POLLIN };
	uint64_t now = now_ns();
	ssize_t n;
	int ret;

	ret = poll(&pfd, 1, poll_ms(deadline_ns, now, INT_MAX));
	if (ret < 0)
		return errno == EINTR ? 0 : -errno;
	if (!ret)
		return -ETIMEDOUT;
	if (q->used == q->room) {
		size_t room = q->room ? 2 * q->room : 65536;
		char *buf = room <= QMP_MAX_LINE ? realloc(q->buf, room) : NULL;

		if (!buf)
			return qmp_failed(q, -EMSGSIZE, "an endless line on the QMP socket");
		q->buf = buf;
		q->room = room;
	}
	n = recv(q->fd, q->buf + q->used, q->room - q->used, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 :
			qmp_failed(q, -errno, strerror(errno));
	if (!n)
		return qmp_failed(q, -ECONNRESET, "QEMU closed the QMP connection (has it ended?)");
	q->used += (size_t)n;
	return 0;
}

/* Return: 0 and an object (NULL if no line is whole yet), or -EPROTO. */
static int qmp_take_line(struct qmp *q, json_t **object)
{
	char *end = q->used ? memchr(q->buf, '\n', q->used) : NULL;
	size_t length;

	*object = NULL;
	if (!end)
		return 0;
	length = (size_t)(end - q->buf) + 1;
	*object = json_loadb(q->buf, length, 0, NULL);
	memmove(q->buf, q->buf + length, q->used - length);
	q->used -= length;
	if (!json_is_object(*object)) {
		json_decref(*object);
		*object = NULL;
		return qmp_failed(q, -EPROTO, "this is not a QMP socket");
	}
	return 0;
}

/* The next object that is not an event. Events are kept for qmp_next_event(). */
static int qmp_read(struct qmp *q, uint64_t deadline_ns, json_t **object)
{
	for (;;) {
		int ret = qmp_take_line(q, object);

		if (ret)
			return ret;
		if (*object) {
			if (!json_object_get(*object, "event"))
				return 0;
			json_array_append_new(q->events, *object);
			continue;
		}
		ret = qmp_fill(q, deadline_ns);
		if (ret == -ETIMEDOUT)
			return qmp_failed(q, ret, "QEMU does not answer");
		if (ret)
			return ret;
	}
}

static int qmp_write(struct qmp *q, const char *text, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { .iov_base = (char *)text, .iov_len = strlen(text) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *cmsg;

		msg.msg_control = control;
		msg.msg_controllen = sizeof(control);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	}
	while (iov.iov_len) {
		ssize_t n = sendmsg(q->fd, &msg, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return qmp_failed(q, -errno, strerror(errno));
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
		msg.msg_control = NULL;
		msg.msg_controllen = 0;
	}
	return 0;
}

static int qmp_execute(struct qmp *q, const char *name, json_t *args, int fd, json_t **ret)
{
	uint64_t deadline = now_ns() + q->timeout_ms * 1000000ULL;
	json_int_t id = ++q->next_id;
	json_t *command = json_pack("{s:s, s:I}", "execute", name, "id", id), *reply;
	char *text;
	int err;

	if (args)
		json_object_set_new(command, "arguments", args);
	text = json_dumps(command, JSON_COMPACT);
	json_decref(command);
	if (!text)
		return qmp_failed(q, -ENOMEM, "no memory");
	err = qmp_write(q, text, fd);
	free(text);
	for (;;) {
		json_t *error, *value;

		if (!err)
			err = qmp_read(q, deadline, &reply);
		if (err)
			return err;
		/* A late answer to an earlier command. */
		if (json_integer_value(json_object_get(reply, "id")) != id) {
			json_decref(reply);
			continue;
		}
		error = json_object_get(reply, "error");
		value = json_object_get(reply, "return");
		if (error || !value) {
			const char *desc = json_string_value(json_object_get(error, "desc"));

			qmp_failed(q, 0, desc ? desc : "an answer without a result");
			json_decref(reply);
			return -EREMOTEIO;
		}
		if (ret)
			*ret = json_incref(value);
		json_decref(reply);
		return 0;
	}
}

/**
 * qmp_command - execute a command and wait for its answer
 * @args: object, taken over; may be NULL
 * @ret: where to put a reference to the value returned; may be NULL
 *
 * Return: 0; -EREMOTEIO QEMU refused; -ETIMEDOUT; another -errno: the connection is of no further
 * use. @q->error says why.
 */
int qmp_command(struct qmp *q, const char *name, json_t *args, json_t **ret)
{
	return qmp_execute(q, name, args, -1, ret);
}

/* Hands a descriptor to QEMU, which then knows it as fd:@fd_name. */
int qmp_send_fd(struct qmp *q, const char *fd_name, int fd)
{
	return qmp_execute(q, "getfd", json_pack("{s:s}", "fdname", fd_name), fd, NULL);
}

/* Collects the events that have arrived; never waits. Return: 0 or -errno (QEMU is gone). */
int qmp_pump(struct qmp *q)
{
	for (;;) {
		json_t *object;
		int ret = qmp_take_line(q, &object);

		if (ret)
			return ret;
		if (object) {
			if (json_object_get(object, "event"))
				json_array_append_new(q->events, object);
			else
				json_decref(object);
			continue;
		}
		ret = qmp_fill(q, 0);
		if (ret)
			return ret == -ETIMEDOUT ? 0 : ret;
	}
}

/* Return: the oldest event, a reference for the caller, or NULL. */
json_t *qmp_next_event(struct qmp *q)
{
	json_t *event = json_incref(json_array_get(q->events, 0));

	if (event)
		json_array_remove(q->events, 0);
	return event;
}

/**
 * qmp_open - connect to a QMP socket and leave its negotiation mode
 *
 * Return: 0 or -errno; @q->error says why. QEMU serves one client on each QMP socket; a second one
 * waits without a greeting.
 */
int qmp_open(struct qmp *q, const char *path, unsigned int timeout_ms)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);
	json_t *greeting;
	char address[128];
	int ret;

	memset(q, 0, sizeof(*q));
	q->timeout_ms = timeout_ms;
	q->events = json_array();
	q->fd = -1;
	if ((size_t)snprintf(address, sizeof(address), "unix:%s", path) >= sizeof(address))
		return qmp_failed(q, -ENAMETOOLONG, "the path of the socket is too long");
	ret = address_connect(address, timeout_ms);
	if (ret < 0)
		return qmp_failed(q, ret, strerror(-ret));
	q->fd = ret;
	if (!getsockopt(q->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size)) {
		q->pid = peer.pid;
		q->uid = peer.uid;
	}
	ret = qmp_read(q, now_ns() + timeout_ms * 1000000ULL, &greeting);
	if (!ret) {
		if (!json_object_get(greeting, "QMP"))
			ret = qmp_failed(q, -EPROTO, "this is not a QMP socket");
		json_decref(greeting);
	} else if (ret == -ETIMEDOUT) {
		qmp_failed(q, ret,
			   "QEMU does not answer (is another program connected to this socket, or is QEMU still waiting for all of its memory because of prealloc=on or mem-lock=on?)");
	}
	if (!ret)
		ret = qmp_command(q, "qmp_capabilities", NULL, NULL);
	if (ret) {
		close(q->fd);
		q->fd = -1;
	}
	return ret;
}

void qmp_close(struct qmp *q)
{
	if (q->fd >= 0)
		close(q->fd);
	q->fd = -1;
	json_decref(q->events);
	q->events = NULL;
	free(q->buf);
	q->buf = NULL;
}

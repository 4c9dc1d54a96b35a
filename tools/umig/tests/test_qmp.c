// SPDX-License-Identifier: GPL-2.0
/* The QMP client against a fake QEMU that misbehaves. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "qemu/qmp.h"
#include "tap.h"
#include "wire/address.h"

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"

static char path[64], address[80];
static int listen_fd;

/* The fake's answers: at once, then after each command. Empty: hangs up. NULL: ends quietly. */
struct script {
	const char *greeting;
	const char *answer[4];
};

static void say(int fd, const char *text)
{
	size_t i, length = strlen(text);

	/* In small pieces: a line is not a packet. */
	for (i = 0; i < length; i += 7)
		if (send(fd, text + i, length - i < 7 ? length - i : 7, MSG_NOSIGNAL) < 0)
			return;
}

static void *fake_qemu(void *arg)
{
	const struct script *s = arg;
	int fd = accept(listen_fd, NULL, NULL);
	char buf[4096];
	unsigned int i;

	say(fd, s->greeting);
	for (i = 0; i < 4 && s->answer[i]; i++) {
		if (recv(fd, buf, sizeof(buf), 0) <= 0 || !*s->answer[i])
			break;
		say(fd, s->answer[i]);
	}
	/* Quiet, but there, until the other side goes. */
	if (i < 4 && !s->answer[i])
		while (recv(fd, buf, sizeof(buf), 0) > 0)
			;
	close(fd);
	return NULL;
}

/* Opens, executes one command; returns its (or the opening's) result. */
static int run(struct script *s, struct qmp *q, json_t **ret)
{
	pthread_t thread;
	int err;

	pthread_create(&thread, NULL, fake_qemu, s);
	err = qmp_open(q, path, 3000);
	if (!err)
		err = qmp_command(q, "query-status", NULL, ret);
	if (q->fd >= 0)
		shutdown(q->fd, SHUT_RDWR);
	pthread_join(thread, NULL);
	return err;
}

int main(void)
{
	struct qmp q;
	json_t *ret = NULL, *event;

	snprintf(path, sizeof(path), "/tmp/umig-test-qmp-%d", (int)getpid());
	snprintf(address, sizeof(address), "unix:%s", path);
	listen_fd = address_listen(address);
	if (listen_fd < 0)
		return 1;

	ok(run(&(struct script){ GREETING, { "{\"return\": {}, \"id\": 1}\r\n",
	       "{\"return\": {\"status\": \"running\"}, \"id\": 2}\r\n" } }, &q, &ret) == 0 &&
	   ret && !strcmp(json_string_value(json_object_get(ret, "status")), "running"),
	   "command.returns_the_value");
	ok(q.pid == getpid(), "open.knows_the_process");
	json_decref(ret);
	qmp_close(&q);

	ok(run(&(struct script){ GREETING, { "{\"return\": {}, \"id\": 1}\r\n",
	       "{\"event\": \"STOP\"}\r\n{\"return\": {}, \"id\": 1}\r\n"
	       "{\"event\": \"RESUME\"}\r\n{\"return\": {}, \"id\": 2}\r\n" } }, &q, NULL) == 0,
	   "command.skips_events_and_late_answers");
	event = qmp_next_event(&q);
	ok(event && !strcmp(json_string_value(json_object_get(event, "event")), "STOP"),
	   "event.is_kept_in_order");
	json_decref(event);
	event = qmp_next_event(&q);
	ok(event && !strcmp(json_string_value(json_object_get(event, "event")), "RESUME"),
	   "event.is_not_lost");
	json_decref(event);
	ok(!qmp_next_event(&q), "event.comes_once");
	qmp_close(&q);

	ok(run(&(struct script){ GREETING, { "{\"return\": {}, \"id\": 1}\r\n",
	       "{\"error\": {\"class\": \"x\", \"desc\": \"not now\"}, \"id\": 2}\r\n" } },
	       &q, NULL) == -EREMOTEIO && !strcmp(q.error, "not now"),
	   "command.hands_on_the_error");
	qmp_close(&q);
	ok(run(&(struct script){ GREETING, { "{\"return\": {}, \"id\": 1}\r\n", "" } }, &q, NULL) ==
	   -ECONNRESET, "command.notices_that_qemu_ends");
	qmp_close(&q);
	ok(run(&(struct script){ GREETING, { "{\"return\": {}, \"id\": 1}\r\n", NULL } }, &q, NULL)
	   == -ETIMEDOUT, "command.has_a_time_limit");
	qmp_close(&q);
	ok(run(&(struct script){ "SSH-2.0-OpenSSH_9.2\r\n", { "" } }, &q, NULL) == -EPROTO,
	   "open.refuses_another_protocol");
	qmp_close(&q);
	ok(run(&(struct script){ "{\"hello\": 1}\r\n", { "" } }, &q, NULL) == -EPROTO,
	   "open.refuses_another_greeting");
	qmp_close(&q);
	ok(run(&(struct script){ "", { NULL } }, &q, NULL) == -ETIMEDOUT &&
	   strstr(q.error, "mem-lock"), "open.says_why_qemu_may_be_silent");
	qmp_close(&q);
	close(listen_fd);
	unlink(path);
	ok(qmp_open(&q, path, 300) == -ENOENT, "open.needs_a_socket");
	qmp_close(&q);
	return tap_end();
}

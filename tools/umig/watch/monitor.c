// SPDX-License-Identifier: GPL-2.0
/* The monitor: what others may ask of a running umig, and tell it. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/sandbox.h"
#include "lib/umig.h"
#include "watch/monitor.h"
#include "wire/address.h"

/* A client that says nothing for so long keeps no other waiting. */
#define CLIENT_TIMEOUT_S	2

/**
 * monitor_dir - the directory with the sockets of this user's umigs
 *
 * $UMIG_RUN_DIR; or /run/umig for root; or $XDG_RUNTIME_DIR/umig. It is made if need be.
 *
 * Return: 0; -ENOENT there is no place; -EPERM it belongs to somebody else; another -errno.
 */
int monitor_dir(char *path, size_t size)
{
	const char *dir = getenv("UMIG_RUN_DIR"), *runtime = getenv("XDG_RUNTIME_DIR");
	struct stat st;

	if (dir)
		snprintf(path, size, "%s", dir);
	else if (!geteuid())
		snprintf(path, size, "/run/umig");
	else if (runtime)
		snprintf(path, size, "%s/umig", runtime);
	else
		return -ENOENT;
	if (mkdir(path, 0700) && errno != EEXIST)
		return -errno;
	if (lstat(path, &st))
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	return st.st_uid == geteuid() ? 0 : -EPERM;
}

/* Return: a connected fd, or -errno; -ECONNREFUSED: the process has ended. */
int monitor_connect(const char *path)
{
	struct timeval limit = { .tv_sec = CLIENT_TIMEOUT_S };
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(sun.sun_path))
		return -ENAMETOOLONG;
	strcpy(sun.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun))) {
		int err = errno;

		close(fd);
		return -err;
	}
	return fd;
}

static void monitor_status_transfer(json_t *o, struct transfer *t)
{
	uint64_t lost_ns, total = transfer_total_pages(t), present = transfer_present_pages(t);
	json_t *regions = json_array();
	unsigned int i;

	for (i = 0; i < t->nr_regions; i++)
		json_array_append_new(regions, json_integer((json_int_t)t->regions[i].id));
	pthread_mutex_lock(&t->lock);
	lost_ns = t->lost_by ? now_ns() - t->lost_ns : 0;
	pthread_mutex_unlock(&t->lock);
	json_object_set_new(o, "source", json_string(t->uri));
	json_object_set_new(o, "regions", regions);
	json_object_set_new(o, "total_pages", json_integer((json_int_t)total));
	json_object_set_new(o, "present_pages", json_integer((json_int_t)present));
	json_object_set_new(o, "missing_pages", json_integer((json_int_t)(total - present)));
	json_object_set_new(o, "unreadable_pages",
			    json_integer((json_int_t)transfer_unreadable_pages(t)));
	json_object_set_new(o, "demand_pages",
			    json_integer((json_int_t)atomic_load(&t->pages[FILL_DEMAND])));
	json_object_set_new(o, "p50_ns", json_integer((json_int_t)
			    latency_percentile(&t->demand_latency, 50)));
	json_object_set_new(o, "p99_ns", json_integer((json_int_t)
			    latency_percentile(&t->demand_latency, 99)));
	json_object_set_new(o, "rate", json_integer((json_int_t)atomic_load(&t->rate)));
	json_object_set_new(o, "paused", json_boolean(atomic_load(&t->paused)));
	json_object_set_new(o, "connections", json_integer(t->nr_connections));
	json_object_set_new(o, "reconnects",
			    json_integer((json_int_t)atomic_load(&t->nr_reconnects)));
	json_object_set_new(o, "source_lost_seconds",
			    lost_ns ? json_real((double)lost_ns / 1e9) : json_null());
}

/* Called under the lock, like the next one. */
static json_t *monitor_status(struct monitor *m)
{
	json_t *o = json_pack("{s:i, s:s, s:s, s:f}", "pid", (int)getpid(),
			      "command", m->command, "phase", m->phase,
			      "seconds", (double)(now_ns() - m->started_ns) / 1e9);

	if (m->transfer) {
		monitor_status_transfer(o, m->transfer);
	} else if (m->total) {
		json_object_set_new(o, "total_pages", json_integer((json_int_t)m->total));
		json_object_set_new(o, "present_pages", json_integer((json_int_t)m->present));
		json_object_set_new(o, "missing_pages",
				    json_integer((json_int_t)(m->total - m->present)));
		json_object_set_new(o, "demand_pages", json_integer((json_int_t)m->demand));
	}
	return o;
}

static json_t *monitor_error(const char *text)
{
	return json_pack("{s:s}", "error", text);
}

/* All of it is checked before any of it is done. */
static json_t *monitor_set(struct monitor *m, json_t *request)
{
	json_t *rate = json_object_get(request, "rate");
	json_t *paused = json_object_get(request, "paused");
	json_t *now = json_object_get(request, "switch");

	if (rate && (!json_is_integer(rate) || json_integer_value(rate) < 0))
		return monitor_error("the rate is no number of bytes");
	if (paused && !json_is_boolean(paused))
		return monitor_error("paused is neither true nor false");
	if (now && !json_is_true(now))
		return monitor_error("switch can only be true");
	if ((rate || paused) && !m->transfer)
		return monitor_error("it fills no pages, or not yet; "
				     "ask the umig at the destination");
	if (now && !m->may_switch)
		return monitor_error("it is not in precopy, there is nothing to switch");
	if (rate)
		transfer_set_rate(m->transfer, (uint64_t)json_integer_value(rate));
	if (paused)
		atomic_store(&m->transfer->paused, json_is_true(paused));
	if (now)
		atomic_store(&m->switch_now, true);
	return monitor_status(m);
}

static json_t *monitor_answer(struct monitor *m, const char *line, size_t length)
{
	json_t *request = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL), *answer;
	const char *command = json_string_value(json_object_get(request, "command"));

	pthread_mutex_lock(&m->lock);
	if (command && !strcmp(command, "status"))
		answer = monitor_status(m);
	else if (command && !strcmp(command, "set"))
		answer = monitor_set(m, request);
	else
		answer = monitor_error("neither status nor set");
	pthread_mutex_unlock(&m->lock);
	json_decref(request);
	return answer;
}

static void monitor_serve(struct monitor *m, int fd)
{
	struct timeval limit = { .tv_sec = CLIENT_TIMEOUT_S };
	char line[4096] = "", *text;
	size_t used = 0;
	json_t *answer;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	while (!memchr(line, '\n', used)) {
		ssize_t n = used < sizeof(line) ? recv(fd, line + used, sizeof(line) - used, 0) : 0;

		if (n <= 0)
			return;
		used += (size_t)n;
	}
	answer = monitor_answer(m, line, used);
	text = answer ? json_dumps(answer, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
	if (text && send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_MORE) > 0)
		send(fd, "\n", 1, MSG_NOSIGNAL);
	free(text);
	json_decref(answer);
}

static void *monitor_thread(void *arg)
{
	struct monitor *m = arg;

	sandbox_drop_capabilities();
	for (;;) {
		struct pollfd fds[2] = {
			{ .fd = m->stop_fd, .events = POLLIN },
			{ .fd = m->listen_fd, .events = POLLIN },
		};
		int fd;

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		if (fds[0].revents)
			break;
		if (!fds[1].revents)
			continue;
		fd = accept4(m->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		monitor_serve(m, fd);
		close(fd);
	}
	return NULL;
}

/*
 * Without a place for its socket, umig runs as it would otherwise, but cannot be asked. Always
 * succeeds in as far as monitor_stop() has to be called.
 */
void monitor_start(struct monitor *m, const char *command)
{
	char dir[80], address[128];
	int ret;

	memset(m, 0, sizeof(*m));
	pthread_mutex_init(&m->lock, NULL);
	m->command = command;
	m->phase = "starting";
	m->started_ns = now_ns();
	m->listen_fd = -1;
	m->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = m->stop_fd < 0 ? -errno : monitor_dir(dir, sizeof(dir));
	if (ret == -ENOENT)
		return;
	if (!ret) {
		snprintf(m->path, sizeof(m->path), "%s/%d.sock", dir, (int)getpid());
		/* What is there belongs to a process of this number that is gone. */
		unlink(m->path);
		snprintf(address, sizeof(address), "unix:%s", m->path);
		m->listen_fd = address_listen(address);
		ret = m->listen_fd < 0 ? m->listen_fd : 0;
	}
	if (!ret)
		ret = -pthread_create(&m->thread, NULL, monitor_thread, m);
	m->running = !ret;
	if (ret)
		log_info("cannot be asked by 'umig status': %s: %s",
			 *m->path ? m->path : "no place for a socket", strerror(-ret));
}

void monitor_stop(struct monitor *m)
{
	uint64_t one = 1;

	if (m->running && write(m->stop_fd, &one, sizeof(one)) == sizeof(one))
		pthread_join(m->thread, NULL);
	if (m->listen_fd >= 0) {
		close(m->listen_fd);
		unlink(m->path);
	}
	if (m->stop_fd >= 0)
		close(m->stop_fd);
	pthread_mutex_destroy(&m->lock);
}

void monitor_phase(struct monitor *m, const char *phase)
{
	pthread_mutex_lock(&m->lock);
	m->phase = phase;
	pthread_mutex_unlock(&m->lock);
}

/* @t is attached; or NULL, before it is destroyed. */
void monitor_transfer(struct monitor *m, struct transfer *t)
{
	pthread_mutex_lock(&m->lock);
	m->transfer = t;
	pthread_mutex_unlock(&m->lock);
}

void monitor_may_switch(struct monitor *m, bool may)
{
	pthread_mutex_lock(&m->lock);
	m->may_switch = may;
	pthread_mutex_unlock(&m->lock);
}

void monitor_heard(struct monitor *m, uint64_t present, uint64_t total, uint64_t demand)
{
	pthread_mutex_lock(&m->lock);
	m->present = present;
	m->total = total;
	m->demand = demand;
	pthread_mutex_unlock(&m->lock);
}

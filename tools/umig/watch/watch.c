// SPDX-License-Identifier: GPL-2.0
/* The status socket: other programs ask a running umig what it does, and steer it. */
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
#include <unistd.h>

#include "lib/log.h"
#include "lib/sandbox.h"
#include "lib/lib.h"
#include "watch/watch.h"
#include "transfer/unreadable.h"
#include "wire/address.h"
#include "wire/wire.h"

/* A client that is silent for so long does not keep others waiting. */
#define CLIENT_TIMEOUT_S	2

/**
 * watch_dir - the directory with the status sockets of this user, created if need be
 *
 * $UMIG_RUN_DIR; or /run/umig for root; or $XDG_RUNTIME_DIR/umig.
 *
 * Return: 0; -ENOENT none of them is known; -EPERM another user owns it; another -errno.
 */
int watch_dir(char *path, size_t size)
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

/* Return: a connected fd, or -errno; -ECONNREFUSED: that umig has ended. */
int watch_connect(const char *path)
{
	char address[128];
	int fd;

	if ((size_t)snprintf(address, sizeof(address), "unix:%s", path) >= sizeof(address))
		return -ENAMETOOLONG;
	fd = address_connect(address, CLIENT_TIMEOUT_S * 1000);
	if (fd >= 0)
		socket_limit(fd, CLIENT_TIMEOUT_S);
	return fd;
}

static void set_u64(json_t *o, const char *key, uint64_t value)
{
	json_object_set_new(o, key, json_integer((json_int_t)value));
}

static void watch_status_transfer(json_t *o, struct transfer *t)
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
	set_u64(o, "total_pages", total);
	set_u64(o, "present_pages", present);
	set_u64(o, "missing_pages", total - present);
	set_u64(o, "unreadable_pages", unreadable_nr_pages(t));
	set_u64(o, "demand_pages", atomic_load(&t->pages[FILL_DEMAND]));
	set_u64(o, "p50_ns", latency_percentile(&t->demand_latency, 50));
	set_u64(o, "p99_ns", latency_percentile(&t->demand_latency, 99));
	set_u64(o, "rate", atomic_load(&t->rate));
	json_object_set_new(o, "paused", json_boolean(atomic_load(&t->paused)));
	set_u64(o, "connections", t->nr_connections);
	set_u64(o, "reconnects", atomic_load(&t->nr_reconnects));
	json_object_set_new(o, "source_lost_seconds",
			    lost_ns ? json_real((double)lost_ns / 1e9) : json_null());
}

/* Called under the lock. */
static json_t *watch_status(struct watch *w)
{
	json_t *o = json_pack("{s:i, s:s, s:s, s:f}", "pid", (int)getpid(),
			      "command", w->command, "phase", w->phase,
			      "seconds", (double)(now_ns() - w->started_ns) / 1e9);

	if (w->transfer) {
		watch_status_transfer(o, w->transfer);
	} else if (w->total) {
		set_u64(o, "total_pages", w->total);
		set_u64(o, "present_pages", w->present);
		set_u64(o, "missing_pages", w->total - w->present);
		set_u64(o, "demand_pages", w->demand);
	}
	return o;
}

static json_t *watch_error(const char *text)
{
	return json_pack("{s:s}", "error", text);
}

/* Called under the lock. Checks the whole request before it does anything. */
static json_t *watch_set(struct watch *w, json_t *request)
{
	json_t *rate = json_object_get(request, "rate");
	json_t *paused = json_object_get(request, "paused");
	json_t *now = json_object_get(request, "switch");

	if (rate && (!json_is_integer(rate) || json_integer_value(rate) < 0))
		return watch_error("the rate is no number of bytes");
	if (paused && !json_is_boolean(paused))
		return watch_error("paused is neither true nor false");
	if (now && !json_is_true(now))
		return watch_error("switch can only be true");
	if ((rate || paused) && !w->transfer)
		return watch_error("it fills no pages, or not yet; "
				   "ask the umig at the destination");
	if (now && !w->may_switch)
		return watch_error("it is not in precopy, so there is nothing to switch");
	if (rate)
		transfer_set_rate(w->transfer, (uint64_t)json_integer_value(rate));
	if (paused)
		atomic_store(&w->transfer->paused, json_is_true(paused));
	if (now)
		atomic_store(&w->switch_now, true);
	return watch_status(w);
}

static json_t *watch_answer(struct watch *w, const char *line, size_t length)
{
	json_t *request = json_loadb(line, length, JSON_REJECT_DUPLICATES, NULL), *answer;
	const char *command = json_string_value(json_object_get(request, "command"));

	pthread_mutex_lock(&w->lock);
	if (command && !strcmp(command, "status"))
		answer = watch_status(w);
	else if (command && !strcmp(command, "set"))
		answer = watch_set(w, request);
	else
		answer = watch_error("neither status nor set");
	pthread_mutex_unlock(&w->lock);
	json_decref(request);
	return answer;
}

static void watch_serve(struct watch *w, int fd)
{
	char line[4096] = "", *text;
	size_t used = 0;
	json_t *answer;

	socket_limit(fd, CLIENT_TIMEOUT_S);
	while (!memchr(line, '\n', used)) {
		ssize_t n = used < sizeof(line) ? recv(fd, line + used, sizeof(line) - used, 0) : 0;

		if (n <= 0)
			return;
		used += (size_t)n;
	}
	answer = watch_answer(w, line, used);
	text = answer ? json_dumps(answer, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
	if (text && send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_MORE) > 0)
		send(fd, "\n", 1, MSG_NOSIGNAL);
	free(text);
	json_decref(answer);
}

static void *watch_thread(void *arg)
{
	struct watch *w = arg;

	sandbox_drop_capabilities();
	for (;;) {
		struct pollfd fds[2] = {
			{ .fd = w->stop_fd, .events = POLLIN },
			{ .fd = w->listen_fd, .events = POLLIN },
		};
		int fd;

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		if (fds[0].revents)
			break;
		if (!fds[1].revents)
			continue;
		fd = accept4(w->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		watch_serve(w, fd);
		close(fd);
	}
	return NULL;
}

/*
 * Listens on the status socket. If there is no place for a socket, umig runs as it would otherwise,
 * but nobody can ask it. watch_stop() undoes this in either case.
 */
void watch_start(struct watch *w, const char *command)
{
	char dir[80], address[128];
	int ret;

	memset(w, 0, sizeof(*w));
	pthread_mutex_init(&w->lock, NULL);
	w->command = command;
	w->phase = "starting";
	w->started_ns = now_ns();
	w->listen_fd = -1;
	w->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = w->stop_fd < 0 ? -errno : watch_dir(dir, sizeof(dir));
	if (ret == -ENOENT)
		return;
	if (!ret) {
		snprintf(w->path, sizeof(w->path), "%s/%d.sock", dir, (int)getpid());
		/* A socket of this name is left over from an earlier process of this number. */
		unlink(w->path);
		snprintf(address, sizeof(address), "unix:%s", w->path);
		w->listen_fd = address_listen(address);
		ret = w->listen_fd < 0 ? w->listen_fd : 0;
	}
	if (!ret)
		ret = -pthread_create(&w->thread, NULL, watch_thread, w);
	w->running = !ret;
	if (ret)
		log_info("cannot be asked by 'umig status': %s: %s",
			 *w->path ? w->path : "no place for a socket", strerror(-ret));
}

void watch_stop(struct watch *w)
{
	if (w->running && !eventfd_write(w->stop_fd, 1))
		pthread_join(w->thread, NULL);
	if (w->listen_fd >= 0) {
		close(w->listen_fd);
		unlink(w->path);
	}
	if (w->stop_fd >= 0)
		close(w->stop_fd);
	pthread_mutex_destroy(&w->lock);
}

/* @phase: in words, for status; a string literal */
void watch_phase(struct watch *w, const char *phase)
{
	pthread_mutex_lock(&w->lock);
	w->phase = phase;
	pthread_mutex_unlock(&w->lock);
}

/* @t: an attached transfer, or NULL before it is destroyed. */
void watch_transfer(struct watch *w, struct transfer *t)
{
	pthread_mutex_lock(&w->lock);
	w->transfer = t;
	pthread_mutex_unlock(&w->lock);
}

/* May "umig set --switch" end precopy now? */
void watch_may_switch(struct watch *w, bool may)
{
	pthread_mutex_lock(&w->lock);
	w->may_switch = may;
	pthread_mutex_unlock(&w->lock);
}

/* This side only hears from its peer how far the pages are. */
void watch_heard(struct watch *w, uint64_t present, uint64_t total, uint64_t demand)
{
	pthread_mutex_lock(&w->lock);
	w->present = present;
	w->total = total;
	w->demand = demand;
	pthread_mutex_unlock(&w->lock);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * umig send: the source's side of a live migration.
 *
 * Until GO the guest is the source's: whatever fails, send_recover() makes it run again. With GO
 * it is the destination's: from then on the source is never resumed by umig, only its pages are
 * served until the receiver has acknowledged END. In between, when GO was sent and no RESUMED
 * came, nobody knows; send_reconnect() asks.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "address.h"
#include "digest.h"
#include "link.h"
#include "log.h"
#include "progress.h"
#include "qemu.h"
#include "serve.h"
#include "state.h"
#include "umig.h"

#define FD_NAME		"umig-state"
/* The receiver says PROGRESS twice a second. */
#define SILENCE_MS	30000U

struct send {
	/* Options. */
	const char *qmp_path;
	const char *to;
	const char *pages_listen;
	uint64_t timeout_s;
	bool json;
	bool quit;

	int signal_fd;
	struct qmp qmp;
	struct qemu_ram ram;
	struct qemu_cap caps[QEMU_MAX_CAPS];
	bool caps_set;
	bool fd_given;
	bool was_running;
	struct page_server server;
	char pages_dir[64];
	struct link link;
	struct state_reader state;
	char id[33];

	/* The digest thread's; valid after the join. */
	pthread_t digest_thread;
	bool digest_started;
	volatile bool digest_stop;
	int ram_fd;
	int digest_error;
	struct digest digest;

	uint64_t started_ns;
	uint64_t stop_ns;
	double downtime_ms;
	double resume_ms;
	uint64_t demand;
	bool committed;
	bool resumed;
	bool acked;
	struct progress progress;
};

static unsigned int send_timeout_ms(const struct send *s)
{
	return (unsigned int)s->timeout_s * 1000;
}

static bool send_is_interrupted(struct send *s)
{
	struct pollfd pfd = { .fd = s->signal_fd, .events = POLLIN };

	return poll(&pfd, 1, 0) > 0;
}

/* Looks for STOP: from then on the guest stands still. Return: 0 or -errno (QEMU is gone). */
static int send_take_events(struct send *s)
{
	int ret = qmp_pump(&s->qmp);
	json_t *event;

	while ((event = qmp_next_event(&s->qmp))) {
		const char *name = json_string_value(json_object_get(event, "event"));

		if (name && !strcmp(name, "STOP") && !s->stop_ns)
			s->stop_ns = now_ns();
		json_decref(event);
	}
	return ret;
}

/*
 * The next message of the receiver. Return: 0; -ETIMEDOUT; -EINTR a signal; -EREMOTEIO the
 * receiver said ERROR (in @msg->text); another -errno: the connection is lost. @error gets words.
 */
static int send_wait_message(struct send *s, unsigned int timeout_ms, struct control_message *msg,
			     char *error, size_t size)
{
	uint64_t deadline = now_ns() + timeout_ms * 1000000ULL;

	for (;;) {
		struct control_frame frame;
		int ret = link_next(&s->link, &frame);

		if (ret > 0) {
			ret = frame.kind == CONTROL_MESSAGE ?
				control_decode(frame.body, frame.length, msg) : -EPROTO;
			if (!ret && msg->type == CONTROL_ERROR) {
				snprintf(error, size, "the receiver says: %s", msg->text);
				return -EREMOTEIO;
			}
			if (!ret)
				return 0;
		}
		if (ret < 0) {
			snprintf(error, size, "the receiver does not speak umig's protocol");
			return ret;
		}

		struct pollfd fds[3] = {
			{ .fd = s->link.fd, .events = POLLIN },
			{ .fd = s->signal_fd, .events = POLLIN },
			{ .fd = s->committed ? -1 : s->qmp.fd, .events = POLLIN },
		};
		uint64_t now = now_ns();

		if (now >= deadline) {
			snprintf(error, size, "the receiver said nothing for %u s",
				 timeout_ms / 1000);
			return -ETIMEDOUT;
		}
		if (poll(fds, 3, (int)min_u64((deadline - now) / 1000000 + 1, 1000)) < 0 &&
		    errno != EINTR)
			return -errno;
		if (fds[1].revents) {
			snprintf(error, size, "stopped by a signal");
			return -EINTR;
		}
		if (fds[2].revents && send_take_events(s)) {
			snprintf(error, size, "the source QEMU: %s", s->qmp.error);
			return -EPIPE;
		}
		if (fds[0].revents) {
			ret = link_receive(&s->link);
			if (ret) {
				snprintf(error, size, "the connection to the receiver is lost: %s",
					 ret == -ENODATA ? "closed by the other side" :
					 strerror(-ret));
				return ret;
			}
		}
	}
}

/* Waits for exactly this message, before GO. Return: 0 or -errno, having said why. */
static int send_expect(struct send *s, enum control_type type)
{
	struct control_message msg;
	char error[640];
	int ret = send_wait_message(s, send_timeout_ms(s), &msg, error, sizeof(error));

	if (!ret && msg.type == type)
		return 0;
	if (!ret)
		snprintf(error, sizeof(error), "the receiver said %s instead of %s",
			 control_type_name(msg.type), control_type_name(type));
	log_error("migration failed: %s", error);
	return ret ? ret : -EPROTO;
}

static int send_check_source(struct send *s)
{
	char state[64], error[256];
	struct stat st;
	int ret;

	if (qemu_run_state(&s->qmp, state, sizeof(state)))
		goto qmp_failed;
	/* prelaunch: started with -S and never continued. */
	if (strcmp(state, "running") && strcmp(state, "paused") && strcmp(state, "prelaunch")) {
		log_error("the source guest is in state '%s'; it must be running or paused%s", state,
			  strcmp(state, "postmigrate") ? "" :
			  " (an earlier migration has ended; 'cont' in its monitor resumes it)");
		return -EOPNOTSUPP;
	}
	s->was_running = !strcmp(state, "running");
	if (qemu_migration_state(&s->qmp, state, sizeof(state), error, sizeof(error)))
		goto qmp_failed;
	if (qemu_migration_is_active(state)) {
		log_error("the source is migrating already (%s); wait for it or cancel it", state);
		return -EOPNOTSUPP;
	}
	ret = qemu_find_ram(&s->qmp, "source", &s->ram);
	if (ret)
		return ret;
	if (!s->ram.share) {
		log_error("the source's RAM is private to QEMU; start it with -object memory-backend-file,id=%s,...,mem-path=%s,share=on",
			  s->ram.id, s->ram.path);
		return -EOPNOTSUPP;
	}
	if (stat(s->ram.path, &st) || !S_ISREG(st.st_mode) || (uint64_t)st.st_size < s->ram.size ||
	    !qemu_maps_file(s->qmp.pid, s->ram.path)) {
		log_error("the source's RAM file %s is not the file QEMU has mapped, or is no regular file of %" PRIu64 " bytes; umig must see it under the same path",
			  s->ram.path, s->ram.size);
		return -EOPNOTSUPP;
	}
	return qemu_check_caps(&s->qmp, "source", s->caps);

qmp_failed:
	log_error("cannot ask the source QEMU for its state: %s", s->qmp.error);
	return -EIO;
}

/* Where the pages are served if --pages-listen does not say. */
static int send_start_pages(struct send *s)
{
	char address[160], host[256] = "";

	if (s->pages_listen) {
		address_local_host(s->link.fd, host, sizeof(host));
		return page_server_start(&s->server, s->ram.path, s->pages_listen,
					 *host ? host : NULL);
	}
	if (address_unix_path(s->to)) {
		snprintf(s->pages_dir, sizeof(s->pages_dir), "/tmp/umig-XXXXXX");
		if (!mkdtemp(s->pages_dir)) {
			log_error("cannot make a directory for the page socket: %s",
				  strerror(errno));
			*s->pages_dir = '\0';
			return -EIO;
		}
		snprintf(address, sizeof(address), "unix:%s/pages.sock", s->pages_dir);
		return page_server_start(&s->server, s->ram.path, address, NULL);
	}
	/* The address by which the receiver reaches us, any port. */
	if (address_local_host(s->link.fd, host, sizeof(host))) {
		log_error("cannot tell by which address the receiver reaches this host; give --pages-listen");
		return -EINVAL;
	}
	snprintf(address, sizeof(address), strchr(host, ':') ? "tcp:[%.128s]:0" : "tcp:%.128s:0",
		 host);
	return page_server_start(&s->server, s->ram.path, address, host);
}

static int send_connect(struct send *s, unsigned int timeout_ms)
{
	int fd = address_connect(s->to, timeout_ms);

	if (fd < 0)
		return fd;
	link_open(&s->link, fd);
	return 0;
}

static int send_hello(struct send *s)
{
	struct control_message msg = {
		.type = CONTROL_HELLO,
		.go = s->committed,
		.running = s->was_running,
		.ram_size = s->ram.size,
		.page_size = UMIG_PAGE_SIZE,
	};

	snprintf(msg.id, sizeof(msg.id), "%s", s->id);
	snprintf(msg.ram_id, sizeof(msg.ram_id), "%s", s->ram.id);
	snprintf(msg.uri, sizeof(msg.uri), "%s", s->server.uri);
	return link_send(&s->link, &msg);
}

/* Makes QEMU write its device state into a socket that the state reader empties. */
static int send_start_migration(struct send *s)
{
	int pair[2], ret;

	ret = qemu_set_caps(&s->qmp, s->caps);
	if (ret) {
		log_error("cannot set the source's migration capabilities: %s", s->qmp.error);
		return ret;
	}
	s->caps_set = true;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	ret = qmp_send_fd(&s->qmp, FD_NAME, pair[1]);
	close(pair[1]);
	if (ret) {
		log_error("cannot hand a socket to the source QEMU: %s", s->qmp.error);
		close(pair[0]);
		return ret;
	}
	s->fd_given = true;
	ret = state_reader_start(&s->state, pair[0], &s->link);
	if (ret)
		return ret;
	ret = qmp_command(&s->qmp, "migrate", json_pack("{s:s}", "uri", "fd:" FD_NAME), NULL);
	if (ret)
		log_error("the source QEMU does not migrate: %s", s->qmp.error);
	else
		s->fd_given = false;
	return ret;
}

/* While device state flows. Return: 0 when QEMU has written all of it, -errno having said why. */
static int send_wait_state(struct send *s)
{
	uint64_t last_bytes = 0, last_ns = now_ns();

	for (;;) {
		struct pollfd fds[4] = {
			{ .fd = s->state.done_fd, .events = POLLIN },
			{ .fd = s->signal_fd, .events = POLLIN },
			{ .fd = s->qmp.fd, .events = POLLIN },
			{ .fd = s->link.fd, .events = POLLIN },
		};
		uint64_t bytes = __atomic_load_n(&s->state.bytes, __ATOMIC_RELAXED);

		if (poll(fds, 4, 1000) < 0 && errno != EINTR)
			return -errno;
		if (fds[2].revents && send_take_events(s)) {
			log_error("migration failed: the source QEMU: %s", s->qmp.error);
			return -EPIPE;
		}
		if (fds[1].revents) {
			log_error("migration stopped by a signal");
			return -EINTR;
		}
		if (fds[3].revents) {
			/* Nothing but ERROR or the end of the stream can come now. */
			int ret = send_expect(s, CONTROL_ERROR);

			return ret ? ret : -EPROTO;
		}
		if (fds[0].revents)
			break;
		if (bytes != last_bytes) {
			last_bytes = bytes;
			last_ns = now_ns();
		} else if (now_ns() - last_ns > s->timeout_s * 1000000000ULL) {
			log_error("migration failed: no device state from the source QEMU for %" PRIu64 " s",
				  s->timeout_s);
			return -ETIMEDOUT;
		}
	}
	if (s->state.error)
		log_error("migration failed: device state does not reach the receiver: %s",
			  strerror(-s->state.error));
	return s->state.error;
}

/* QEMU has closed its socket: was that success? The source is stopped for good then. */
static int send_check_migrated(struct send *s)
{
	uint64_t deadline = now_ns() + 5000000000ULL;
	char state[64] = "", error[256] = "";
	int ret;

	do {
		ret = qemu_migration_state(&s->qmp, state, sizeof(state), error, sizeof(error));
		if (ret) {
			log_error("migration failed: the source QEMU: %s", s->qmp.error);
			return ret;
		}
		if (!strcmp(state, "completed")) {
			ret = send_take_events(s);
			if (!s->stop_ns)
				s->stop_ns = now_ns();
			return ret;
		}
		if (!qemu_migration_is_active(state))
			break;
		usleep(1000);
	} while (now_ns() < deadline);
	log_error("migration failed in the source QEMU (%s): %s", state, error);
	return -EIO;
}

static void *send_digest(void *arg)
{
	struct send *s = arg;

	/* The page server and the guests go first. */
	setpriority(PRIO_PROCESS, 0, 10);
	s->digest_error = digest_file(s->ram_fd, s->ram.size, &s->digest_stop, &s->digest);
	return NULL;
}

/* From HELLO to LOADED: everything before the commit point. Return: 0 or -errno. */
static int send_prepare(struct send *s)
{
	struct control_message end = { .type = CONTROL_STATE_END };
	int ret;

	ret = send_connect(s, send_timeout_ms(s));
	if (ret) {
		log_error("cannot connect to the receiver at %s: %s; is 'umig recv --listen' running there?",
			  s->to, strerror(-ret));
		return ret;
	}
	ret = send_start_pages(s);
	if (ret)
		return ret;
	ret = send_hello(s);
	if (ret) {
		log_error("cannot talk to the receiver at %s: %s", s->to, strerror(-ret));
		return ret;
	}
	ret = send_expect(s, CONTROL_READY);
	if (!ret)
		ret = send_start_migration(s);
	if (!ret)
		ret = send_wait_state(s);
	if (!ret)
		ret = send_check_migrated(s);
	if (ret)
		return ret;
	end.bytes = s->state.bytes;
	end.sum = s->state.sum;
	ret = link_send(&s->link, &end);
	if (ret) {
		log_error("migration failed: the connection to the receiver is lost: %s",
			  strerror(-ret));
		return ret;
	}
	if (!pthread_create(&s->digest_thread, NULL, send_digest, s))
		s->digest_started = true;
	else
		return -EAGAIN;
	ret = send_expect(s, CONTROL_LOADED);
	if (!ret && send_is_interrupted(s)) {
		log_error("migration stopped by a signal");
		ret = -EINTR;
	}
	return ret;
}

/* Waits until no migration is under way, cancelling it. */
static int send_cancel(struct send *s)
{
	uint64_t deadline = now_ns() + 20000000000ULL;
	char state[64], error[256];
	bool cancelled = false;

	while (now_ns() < deadline) {
		if (qemu_migration_state(&s->qmp, state, sizeof(state), error, sizeof(error)))
			return -EIO;
		if (!qemu_migration_is_active(state))
			return 0;
		if (!cancelled)
			qmp_command(&s->qmp, "migrate_cancel", NULL, NULL);
		cancelled = true;
		usleep(20000);
	}
	return -ETIMEDOUT;
}

/* Before GO: the source guest is to be as it was. Return: an exit code. */
static int send_recover(struct send *s)
{
	const char *wanted = s->was_running ? "running" : "paused";
	uint64_t deadline;
	char state[64] = "?";

	link_close(&s->link);
	state_reader_stop(&s->state);
	if (s->fd_given)
		qmp_command(&s->qmp, "closefd", json_pack("{s:s}", "fdname", FD_NAME), NULL);
	if (send_cancel(s))
		goto unsure;
	deadline = now_ns() + 20000000000ULL;
	while (now_ns() < deadline) {
		if (qemu_run_state(&s->qmp, state, sizeof(state)))
			goto unsure;
		/* A guest that was paused is well in postmigrate too: it can be continued. */
		if (!strcmp(state, wanted) ||
		    (!s->was_running && (!strcmp(state, "postmigrate") ||
					 !strcmp(state, "prelaunch"))))
			goto restored;
		if (s->was_running && strcmp(state, "finish-migrate"))
			qmp_command(&s->qmp, "cont", NULL, NULL);
		usleep(20000);
	}
unsure:
	log_error("cannot make sure that the source guest is %s (last state: %s; %s); look at it with query-status on %s, and resume it with 'cont'",
		  wanted, state, s->qmp.error, s->qmp_path);
	return UMIG_UNKNOWN;

restored:
	if (s->caps_set && qemu_restore_caps(&s->qmp, s->caps))
		log_error("cannot restore the source's migration capabilities: %s", s->qmp.error);
	log_error("the source guest is %s%s; nothing is lost, the destination QEMU can be thrown away",
		  state, s->was_running && s->stop_ns ? " again" : "");
	return UMIG_SOURCE_RUNS;
}

static void send_say_resume(const struct send *s)
{
	log_info("pages stay available; to go on there: 'umig recv --resume ...' at %s, or 'umig pull --pid PID --from \"%s\"'",
		 s->to, s->server.uri);
}

/*
 * After GO the connection is lost. Connects again and says HELLO (go) until the receiver answers;
 * for a bounded time if the guest is not known to run. Return: 0, -EINTR, or -ETIMEDOUT.
 */
static int send_reconnect(struct send *s)
{
	uint64_t deadline = now_ns() + s->timeout_s * 1000000000ULL, backoff_ms = 0;
	bool said = false;

	link_close(&s->link);
	for (;;) {
		struct pollfd pfd = { .fd = s->signal_fd, .events = POLLIN };

		if (!send_connect(s, 3000)) {
			if (!send_hello(s))
				return 0;
			link_close(&s->link);
		}
		if (!said && s->resumed)
			send_say_resume(s);
		said = true;
		if (!s->resumed && now_ns() >= deadline)
			return -ETIMEDOUT;
		page_server_check(&s->server);
		backoff_ms = backoff_ms ? min_u64(backoff_ms * 2, 5000) : 100;
		if (poll(&pfd, 1, (int)backoff_ms) > 0)
			return -EINTR;
	}
}

static void send_resumed(struct send *s, const struct control_message *msg)
{
	if (s->resumed)
		return;
	s->resumed = true;
	s->downtime_ms = (double)(now_ns() - s->stop_ns) / 1e6;
	s->resume_ms = msg->resume_ms;
	if (s->was_running)
		log_info("the guest runs at the destination; downtime %.1f ms", s->downtime_ms);
	else
		log_info("the destination has taken over the paused guest");
}

/* All pages are there: tell what they should be. */
static int send_end(struct send *s)
{
	struct control_message msg = { .type = CONTROL_END };

	if (s->digest_started)
		pthread_join(s->digest_thread, NULL);
	s->digest_started = false;
	if (s->digest_error) {
		log_error("cannot compute the digest of %s: %s", s->ram.path,
			  strerror(-s->digest_error));
		link_send_error(&s->link, "the sender cannot compute the digest of its RAM: %s",
				strerror(-s->digest_error));
		return s->digest_error;
	}
	msg.digest = s->digest;
	msg.total = s->ram.size / UMIG_PAGE_SIZE;
	return link_send(&s->link, &msg);
}

/* Handles one message after GO. Return: 0, or -EPROTO. */
static int send_handle(struct send *s, const struct control_message *msg)
{
	char tail[48];

	switch (msg->type) {
	case CONTROL_RESUMED:
		send_resumed(s, msg);
		return 0;
	case CONTROL_PROGRESS:
		s->demand = msg->demand;
		snprintf(tail, sizeof(tail), "%" PRIu64 " faults", msg->demand);
		progress_line(&s->progress, msg->present, msg->total, tail);
		return 0;
	case CONTROL_DONE:
		/* A failure shows as a lost connection the next time something is read. */
		send_end(s);
		return 0;
	case CONTROL_ACK:
		s->acked = true;
		return 0;
	default:
		return -EPROTO;
	}
}

static int send_unknown(struct send *s, const char *why)
{
	log_error("%s, and the source was told to let go: it is not known whether the guest runs at the destination. The source stays paused. Look at the destination with query-status. If the guest runs there: serve its pages with 'umig serve --file %s --listen ADDRESS' and go on there with 'umig pull'. If it does not: end that QEMU, then resume here with 'cont' on %s",
		  why, s->ram.path, s->qmp_path);
	return UMIG_UNKNOWN;
}

/* GO and everything after it. Return: an exit code. */
static int send_commit(struct send *s)
{
	unsigned int limit_ms = send_timeout_ms(s);
	char error[640];

	s->committed = true;
	link_send_type(&s->link, CONTROL_GO);
	while (!s->acked) {
		struct control_message msg;
		int ret = send_wait_message(s, s->resumed ? SILENCE_MS : limit_ms, &msg, error,
					    sizeof(error));

		page_server_check(&s->server);
		if (!ret)
			ret = send_handle(s, &msg);
		if (!ret)
			continue;
		if (ret == -EREMOTEIO && !s->resumed)
			return send_unknown(s, error);
		if (ret == -EREMOTEIO && strstr(error, "mismatch")) {
			log_error("%s; the source keeps its pages and stays paused", error);
			return UMIG_MISMATCH;
		}
		if (ret != -EINTR) {
			log_error("%s; connecting again", error);
			ret = send_reconnect(s);
		}
		if (ret == -ETIMEDOUT)
			return send_unknown(s, "the receiver cannot be reached");
		if (ret == -EINTR && !s->resumed)
			return send_unknown(s, "stopped by a signal");
		if (ret == -EINTR) {
			log_error("stopped before the receiver acknowledged all pages. The source stays paused; to go on: 'umig serve --file %s --listen ADDRESS' here and 'umig pull' there",
				  s->ram.path);
			return UMIG_INCOMPLETE;
		}
	}
	return UMIG_OK;
}

static void send_finish(struct send *s)
{
	double seconds = (double)(now_ns() - s->started_ns) / 1e9;

	/* Tells the receiver that its ACK has come. */
	link_close(&s->link);
	progress_end(&s->progress);
	if (s->caps_set)
		qemu_restore_caps(&s->qmp, s->caps);
	log_info("%.1f s: moved; downtime %.1f ms (of that, the receiver's part %.1f ms), %" PRIu64 " pages: %" PRIu64 " with data, %" PRIu64 " zero, %" PRIu64 " by demand; digest agreed",
		 seconds, s->downtime_ms, s->resume_ms, s->digest.nr_data + s->digest.nr_zero,
		 s->digest.nr_data, s->digest.nr_zero, s->demand);
	if (s->json)
		progress_print_json(json_pack("{s:s, s:f, s:f, s:f, s:I, s:I, s:I, s:I}",
					      "event", "summary", "seconds", seconds,
					      "downtime_ms", s->downtime_ms,
					      "resume_ms", s->resume_ms,
					      "data_pages", (json_int_t)s->digest.nr_data,
					      "zero_pages", (json_int_t)s->digest.nr_zero,
					      "demand_pages", (json_int_t)s->demand,
					      "state_bytes", (json_int_t)s->state.bytes));
	if (s->quit)
		qmp_command(&s->qmp, "quit", NULL, NULL);
	else
		log_info("the source QEMU is no longer needed and may be ended");
}

static int send_migrate(struct send *s)
{
	int code;

	if (qmp_open(&s->qmp, s->qmp_path, 10000)) {
		log_error("cannot talk to the source QEMU on %s: %s", s->qmp_path, s->qmp.error);
		return UMIG_FAILED;
	}
	if (send_check_source(s))
		return UMIG_REFUSED;
	s->ram_fd = open(s->ram.path, O_RDONLY | O_CLOEXEC);
	if (s->ram_fd < 0) {
		log_error("cannot read the source's RAM file %s: %s", s->ram.path,
			  strerror(errno));
		return UMIG_REFUSED;
	}
	if (send_prepare(s))
		code = send_recover(s);
	else
		code = send_commit(s);
	if (code == UMIG_OK)
		send_finish(s);
	return code;
}

static void send_cleanup(struct send *s)
{
	state_reader_stop(&s->state);
	s->digest_stop = true;
	if (s->digest_started)
		pthread_join(s->digest_thread, NULL);
	if (s->server.pid)
		page_server_stop(&s->server);
	if (*s->pages_dir)
		rmdir(s->pages_dir);
	link_destroy(&s->link);
	qmp_close(&s->qmp);
	if (s->ram_fd >= 0)
		close(s->ram_fd);
}

static int send_parse(struct send *s, int argc, char **argv)
{
	static const struct option options[] = {
		{ "qmp", required_argument, NULL, 'q' },
		{ "to", required_argument, NULL, 't' },
		{ "pages-listen", required_argument, NULL, 'p' },
		{ "timeout", required_argument, NULL, 'T' },
		{ "json", no_argument, NULL, 'j' },
		{ "quit", no_argument, NULL, 'Q' },
		{ 0 }
	};
	int c;

	s->timeout_s = 60;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'q':
			s->qmp_path = optarg;
			break;
		case 't':
			s->to = optarg;
			break;
		case 'p':
			s->pages_listen = optarg;
			break;
		case 'T':
			if (umig_parse_u64(optarg, &s->timeout_s) || !s->timeout_s ||
			    s->timeout_s > 86400)
				return umig_usage(&send_subcommand, "--timeout %s is no good",
						  optarg);
			break;
		case 'j':
			s->json = true;
			break;
		case 'Q':
			s->quit = true;
			break;
		default:
			return umig_usage(&send_subcommand, "the option is not known or lacks its value");
		}
	}
	if (optind != argc)
		return umig_usage(&send_subcommand, "'%s' is too much", argv[optind]);
	if (!s->qmp_path || !s->to)
		return umig_usage(&send_subcommand, "--qmp SOCKET and --to ADDRESS are needed");
	if (address_check(s->to))
		return umig_usage(&send_subcommand, "'%s' is neither unix:PATH nor tcp:HOST:PORT",
				  s->to);
	if (s->pages_listen && address_check(s->pages_listen))
		return umig_usage(&send_subcommand, "'%s' is neither unix:PATH nor tcp:HOST:PORT",
				  s->pages_listen);
	return 0;
}

static int send_run(int argc, char **argv)
{
	struct send *s = calloc(1, sizeof(*s));
	uint8_t random[16];
	size_t i;
	int code;

	if (!s)
		return UMIG_FAILED;
	code = send_parse(s, argc, argv);
	if (code) {
		free(s);
		return code;
	}
	s->ram_fd = -1;
	s->qmp.fd = -1;
	s->caps[0] = (struct qemu_cap){ .name = "x-ignore-shared", .want = true, .required = true };
	/* Each of these would want more than the one stream umig carries. */
	s->caps[1] = (struct qemu_cap){ .name = "return-path" };
	s->caps[2] = (struct qemu_cap){ .name = "multifd" };
	s->caps[3] = (struct qemu_cap){ .name = "pause-before-switchover" };
	s->started_ns = now_ns();
	s->signal_fd = umig_signal_fd();
	progress_init(&s->progress, s->json);
	code = UMIG_FAILED;
	if (getrandom(random, sizeof(random), 0) == sizeof(random) && s->signal_fd >= 0 &&
	    !link_init(&s->link)) {
		for (i = 0; i < sizeof(random); i++)
			snprintf(s->id + 2 * i, 3, "%02x", random[i]);
		code = send_migrate(s);
		send_cleanup(s);
	}
	free(s);
	return code;
}

const struct subcommand send_subcommand = {
	.name = "send",
	.purpose = "migrate a QEMU guest to where 'umig recv' waits",
	.help =
	"usage: umig send --qmp SOCKET --to unix:PATH|tcp:HOST:PORT [OPTIONS]\n\n"
	"Stops the guest, sends its device state, lets it run at the destination and serves its\n"
	"pages until they are all there. The guest's RAM must be a memory-backend-file,share=on.\n"
	"If anything fails before the destination may run, the source guest runs again.\n\n"
	"  --qmp SOCKET            QMP socket of the source QEMU\n"
	"  --to ADDRESS            where 'umig recv' listens\n"
	"  --pages-listen ADDRESS  where to serve the pages (default: beside the connection)\n"
	"  --timeout SECONDS       how long to wait for each step of the other side (60)\n"
	"  --quit                  end the source QEMU when everything has arrived\n"
	"  --json                  JSON lines on stdout: progress, then a summary\n",
	.run = send_run,
};

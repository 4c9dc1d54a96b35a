// SPDX-License-Identifier: GPL-2.0
/* umig send: the connection to the receiver, and what comes over it. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "lib/umig.h"
#include "migrate/send.h"
#include "wire/address.h"
#include "wire/tls.h"

bool send_is_interrupted(struct send *s)
{
	struct pollfd pfd = { .fd = s->signal_fd, .events = POLLIN };

	return poll(&pfd, 1, 0) > 0;
}

/*
 * The next message of the receiver. Return: 0; -ETIMEDOUT; -EINTR a signal; -EREMOTEIO the
 * receiver said ERROR (in @msg->text); another -errno: the connection is lost. @error gets words.
 */
int send_wait_message(struct send *s, unsigned int timeout_ms, struct control_message *msg,
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
			if (!ret) {
				s->lost_ns = 0;
				s->backoff_ms = 0;
				s->resume_said = false;
				return 0;
			}
		}
		if (ret < 0) {
			snprintf(error, size, "the receiver does not speak umig's protocol%s",
				 tls_is_on() ? "" : ", or only with TLS");
			return ret;
		}

		struct pollfd fds[3] = {
			{ .fd = s->link.fd, .events = POLLIN },
			{ .fd = s->signal_fd, .events = POLLIN },
			{ .fd = s->committed ? -1 : s->qmp.fd, .events = POLLIN },
		};
		uint64_t now = now_ns();

		/* The receiver may have nothing to say before it gets a page. */
		page_server_check(&s->server);
		if (poll(fds, 3, now >= deadline ? 0 :
			 (int)min_u64((deadline - now) / 1000000 + 1, 200)) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (fds[1].revents) {
			snprintf(error, size, "stopped by a signal");
			return -EINTR;
		}
		if (fds[2].revents && qemu_take_events(&s->qmp, &s->events)) {
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
		} else if (now >= deadline) {
			snprintf(error, size, "the receiver said nothing for %u s",
				 timeout_ms / 1000);
			return -ETIMEDOUT;
		}
	}
}

/*
 * Waits for exactly this message, before GO; what is left of precopy's PROGRESS may come before it.
 * Return: 0 or -errno, having said why.
 */
int send_expect(struct send *s, enum control_type type)
{
	/* The type for when there is no message. */
	struct control_message msg = { .type = CONTROL_NR_TYPES };
	char error[640];
	int ret;

	do {
		ret = send_wait_message(s, send_timeout_ms(s), &msg, error, sizeof(error));
	} while (!ret && s->precopy && msg.type == CONTROL_PROGRESS);
	if (!ret && msg.type == type)
		return 0;
	if (!ret)
		snprintf(error, sizeof(error), "the receiver said %s instead of %s",
			 control_type_name(msg.type), control_type_name(type));
	log_error("migration failed: %s", error);
	return ret ? ret : -EPROTO;
}

int send_connect(struct send *s, unsigned int timeout_ms)
{
	int fd = address_connect(s->to, timeout_ms);

	if (fd < 0)
		return fd;
	return link_open(&s->link, fd);
}

/* Nobody listens yet, or the host is not up yet: all of it may change by itself. */
static bool send_may_come(int error)
{
	switch (error) {
	case -ENOENT:
	case -EAGAIN:
	case -ECONNREFUSED:
	case -ECONNRESET:
	case -EHOSTUNREACH:
	case -ENETUNREACH:
	case -ETIMEDOUT:
		return true;
	default:
		return false;
	}
}

/*
 * The first connection, for which the user may want to wait. The guest runs on meanwhile.
 * Return: 0, 1 if there was something to wait for, or -errno, having said why.
 */
int send_connect_first(struct send *s)
{
	uint64_t deadline = now_ns() + s->wait_s * 1000000000ULL, backoff_ms = 0;
	int ret, waited = 0;

	for (;;) {
		struct pollfd fds[2] = {
			{ .fd = s->signal_fd, .events = POLLIN },
			{ .fd = s->qmp.fd, .events = POLLIN },
		};
		uint64_t now;

		ret = send_connect(s, send_timeout_ms(s));
		now = now_ns();
		if (!ret)
			return waited;
		if (!send_may_come(ret) || now >= deadline)
			break;
		if (!waited)
			log_info("nobody listens on %s yet; waiting up to %" PRIu64 " s", s->to,
				 s->wait_s);
		waited = 1;
		monitor_phase(&s->monitor, "waits for peer");
		/* Somebody looks at this wait: seconds of back-off would be felt. */
		backoff_ms = backoff_ms ? min_u64(backoff_ms * 2, 500) : 50;
		if (poll(fds, 2, (int)min_u64(backoff_ms, (deadline - now) / 1000000 + 1)) <= 0)
			continue;
		if (fds[0].revents) {
			log_error("stopped by a signal before the receiver came");
			return -EINTR;
		}
		if (qemu_take_events(&s->qmp, &s->events)) {
			log_error("the source QEMU has ended: %s", s->qmp.error);
			return -EPIPE;
		}
	}
	/* TLS has said why. */
	if (ret != -EKEYREJECTED)
		log_error("cannot connect to the receiver at %s: %s; "
			  "is 'umig recv --listen' running there?",
			  s->to, strerror(-ret));
	return ret;
}

int send_hello(struct send *s)
{
	struct control_message msg = {
		.type = CONTROL_HELLO,
		.go = s->committed,
		.running = s->was_running,
		.precopy = s->precopy && !s->committed,
		.ram_size = s->ram.size,
		.page_size = UMIG_PAGE_SIZE,
	};

	snprintf(msg.id, sizeof(msg.id), "%s", s->id);
	snprintf(msg.ram_id, sizeof(msg.ram_id), "%s", s->ram.id);
	snprintf(msg.uri, sizeof(msg.uri), "%s", s->server.uri);
	return link_send(&s->link, &msg);
}

static void send_say_resume(const struct send *s)
{
	log_info("pages stay available; "
		 "to go on there: 'umig recv --resume ...' at %s, or 'umig pull --pid PID --from \"%s\"'",
		 s->to, s->server.uri);
}

/*
 * After GO the connection is lost. Connects again and says HELLO (go), at once and then more and
 * more seldom, until something is heard of the receiver: who takes the connection may be somebody
 * else, or not answer. For a bounded time if the guest is not known to run. Return: 0, -EINTR, or
 * -ETIMEDOUT.
 */
int send_reconnect(struct send *s)
{
	struct pollfd pfd = { .fd = s->signal_fd, .events = POLLIN };
	uint64_t deadline;

	if (!s->lost_ns)
		s->lost_ns = now_ns();
	deadline = s->lost_ns + s->timeout_s * 1000000000ULL;
	for (;;) {
		link_close(&s->link);
		if (s->backoff_ms && s->resumed && !s->resume_said) {
			send_say_resume(s);
			s->resume_said = true;
		}
		if (s->backoff_ms && !s->resumed && now_ns() >= deadline)
			return -ETIMEDOUT;
		page_server_check(&s->server);
		if (poll(&pfd, 1, (int)s->backoff_ms) > 0)
			return -EINTR;
		s->backoff_ms = s->backoff_ms ? min_u64(s->backoff_ms * 2, 5000) : 100;
		if (!send_connect(s, 3000) && !send_hello(s))
			return 0;
	}
}

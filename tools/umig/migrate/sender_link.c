// SPDX-License-Identifier: GPL-2.0
/* umig send: the connection to the receiver. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "lib/backoff.h"
#include "lib/lib.h"
#include "lib/log.h"
#include "migrate/sender.h"
#include "wire/address.h"
#include "wire/tls.h"

unsigned int sender_timeout_ms(const struct sender *s)
{
	return (unsigned int)s->out.timeout_s * 1000;
}

/*
 * The next message of the receiver. Return: 0; -ETIMEDOUT; -EINTR a signal; -EREMOTEIO the
 * receiver said ERROR, see @msg; another -errno: the connection is lost. @error says what happened,
 * in words.
 */
int sender_wait_message(struct sender *s, unsigned int timeout_ms, struct control_message *msg,
			char *error, size_t size)
{
	uint64_t deadline = now_ns() + timeout_ms * NS_PER_MS;

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
			{ .fd = s->out.signal_fd, .events = POLLIN },
			{ .fd = s->committed ? -1 : s->out.qmp.fd, .events = POLLIN },
		};
		uint64_t now = now_ns();

		/* Without pages the receiver may have nothing to say. */
		page_server_check(&s->server);
		if (poll(fds, 3, poll_ms(deadline, now, 200)) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (fds[1].revents) {
			snprintf(error, size, "stopped by a signal");
			return -EINTR;
		}
		if (fds[2].revents && qemu_take_events(&s->out.qmp, &s->out.events)) {
			snprintf(error, size, "the source QEMU: %s", s->out.qmp.error);
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
 * Waits for exactly this message, before GO. PROGRESS that is left over from precopy may come
 * before it. Return: 0 or -errno, having said why.
 */
int sender_expect(struct sender *s, enum control_type type)
{
	/* A type that no message has. */
	struct control_message msg = { .type = CONTROL_NR_TYPES };
	char error[640];
	int ret;

	do {
		ret = sender_wait_message(s, sender_timeout_ms(s), &msg, error, sizeof(error));
	} while (!ret && s->precopy && msg.type == CONTROL_PROGRESS);
	if (!ret && msg.type == type)
		return 0;
	if (!ret)
		snprintf(error, sizeof(error), "the receiver said %s instead of %s",
			 control_type_name(msg.type), control_type_name(type));
	log_error("migration failed: %s", error);
	return ret ? ret : -EPROTO;
}

static int sender_connect(struct sender *s, unsigned int timeout_ms)
{
	int fd = address_connect(s->to, timeout_ms);

	if (fd < 0)
		return fd;
	return link_open(&s->link, fd);
}

/* Nobody listens yet, or the host is not up yet: both may change by themselves. */
static bool sender_may_come(int error)
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
 * Makes the first connection. With --wait umig tries again until the receiver listens, and the
 * guest runs on meanwhile. Return: 0; 1 if it had to wait; -errno, having said why.
 */
int sender_connect_first(struct sender *s)
{
	uint64_t deadline = now_ns() + s->wait_s * NS_PER_S, backoff_ms = 0;
	int ret, waited = 0;

	for (;;) {
		struct pollfd fds[2] = {
			{ .fd = s->out.signal_fd, .events = POLLIN },
			{ .fd = s->out.qmp.fd, .events = POLLIN },
		};
		uint64_t now;

		ret = sender_connect(s, sender_timeout_ms(s));
		now = now_ns();
		if (!ret)
			return waited;
		if (!sender_may_come(ret) || now >= deadline)
			break;
		if (!waited)
			log_info("nobody listens on %s yet; waiting up to %" PRIu64 " s", s->to,
				 s->wait_s);
		waited = 1;
		watch_phase(&s->watch, "waits for peer");
		/* The user looks on: pauses of seconds would be felt. */
		backoff_ms = backoff_next_ms(backoff_ms, 50, 500);
		if (poll(fds, 2, poll_ms(deadline, now, (int)backoff_ms)) <= 0)
			continue;
		if (fds[0].revents) {
			log_error("stopped by a signal before the receiver came");
			return -EINTR;
		}
		if (qemu_take_events(&s->out.qmp, &s->out.events)) {
			log_error("the source QEMU has ended: %s", s->out.qmp.error);
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

int sender_hello(struct sender *s)
{
	struct control_message msg = {
		.type = CONTROL_HELLO,
		.go = s->committed,
		.running = s->out.was_running,
		.precopy = s->precopy && !s->committed,
		.ram_size = s->out.ram.size,
		.page_size = UMIG_PAGE_SIZE,
	};

	snprintf(msg.id, sizeof(msg.id), "%s", s->id);
	snprintf(msg.ram_id, sizeof(msg.ram_id), "%s", s->out.ram.id);
	snprintf(msg.uri, sizeof(msg.uri), "%s", s->server.uri);
	return link_send(&s->link, &msg);
}

static void sender_say_resume(const struct sender *s)
{
	log_info("pages stay available; "
		 "to go on there: 'umig recv --resume ...' at %s, or 'umig pull --pid PID --from \"%s\"'",
		 s->to, s->server.uri);
}

/*
 * The connection was lost after GO. Connects again and says HELLO (go), at once and then less and
 * less often, until the receiver answers: somebody else may take the connection, or nobody answer
 * on it. It gives up after the timeout if the guest is not known to run. Return: 0, -EINTR, or
 * -ETIMEDOUT.
 */
int sender_reconnect(struct sender *s)
{
	struct pollfd pfd = { .fd = s->out.signal_fd, .events = POLLIN };
	uint64_t deadline;

	if (!s->lost_ns)
		s->lost_ns = now_ns();
	deadline = s->lost_ns + s->out.timeout_s * NS_PER_S;
	for (;;) {
		link_close(&s->link);
		if (s->backoff_ms && s->resumed && !s->resume_said) {
			sender_say_resume(s);
			s->resume_said = true;
		}
		if (s->backoff_ms && !s->resumed && now_ns() >= deadline)
			return -ETIMEDOUT;
		page_server_check(&s->server);
		if (poll(&pfd, 1, (int)s->backoff_ms) > 0)
			return -EINTR;
		s->backoff_ms = backoff_next_ms(s->backoff_ms, BACKOFF_FIRST_MS, BACKOFF_MOST_MS);
		if (!sender_connect(s, 3000) && !sender_hello(s))
			return 0;
	}
}

// SPDX-License-Identifier: GPL-2.0
/* umig send: from GO until the receiver has acknowledged END. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "lib/lib.h"
#include "lib/log.h"
#include "migrate/sender.h"

/* The receiver says PROGRESS twice a second. */
#define SILENCE_MS	30000U

static void sender_make_digest(struct sender *s)
{
	s->digest_error = digest_file(s->out.ram_fd, s->out.ram.size, &s->digest_stop, &s->digest);
	s->digest_made = true;
}

static void *sender_digest_thread(void *arg)
{
	/* The page server and the guests go first. */
	setpriority(PRIO_PROCESS, 0, 10);
	sender_make_digest(arg);
	return NULL;
}

static void sender_hears_resumed(struct sender *s, const struct control_message *msg)
{
	if (s->resumed) {
		log_info("a receiver goes on");
		return;
	}
	s->resumed = true;
	s->downtime_ms = ms_since(s->out.events.stop_ns);
	s->resume_ms = msg->resume_ms;
	/* Only now, so that nothing delays the guest before it runs again. */
	s->digest_started = !pthread_create(&s->digest_thread, NULL, sender_digest_thread, s);
	if (s->out.was_running)
		log_info("the guest runs at the destination; downtime %.1f ms", s->downtime_ms);
	else
		log_info("the destination has taken over the paused guest");
}

/* The receiver has all pages: tells it what they should be. */
static int sender_end(struct sender *s)
{
	struct control_message msg = { .type = CONTROL_END };

	if (s->digest_started)
		pthread_join(s->digest_thread, NULL);
	s->digest_started = false;
	if (!s->digest_made)
		sender_make_digest(s);
	if (s->digest_error) {
		log_error("cannot compute the digest of %s: %s", s->out.ram.path,
			  strerror(-s->digest_error));
		link_send_error(&s->link, CONTROL_FAILED,
				"the sender cannot compute the digest of its RAM: %s",
				strerror(-s->digest_error));
		return s->digest_error;
	}
	msg.digest = s->digest;
	msg.total = s->out.ram.size / DIGEST_UNIT;
	return link_send(&s->link, &msg);
}

/* Handles one message after GO. Return: 0, or -EPROTO. */
static int sender_hears(struct sender *s, const struct control_message *msg)
{
	char tail[48];

	switch (msg->type) {
	case CONTROL_RESUMED:
		sender_hears_resumed(s, msg);
		return 0;
	case CONTROL_PROGRESS:
		s->demand = msg->demand;
		snprintf(tail, sizeof(tail), "%" PRIu64 " faults", msg->demand);
		watch_heard(&s->watch, msg->present, msg->total, msg->demand);
		progress_line(&s->progress, msg->present, msg->total, tail);
		return 0;
	case CONTROL_DONE:
		/* If this fails, the next read finds the connection lost. */
		sender_end(s);
		return 0;
	case CONTROL_ACK:
		s->acked = true;
		return 0;
	default:
		return -EPROTO;
	}
}

static int sender_unknown(struct sender *s, const char *why)
{
	log_error("%s, and the source was told to let go; "
		  "it is not known whether the guest runs at the destination; "
		  "the source stays paused; look at the destination with query-status", why);
	log_error("if the guest runs there, serve its pages; "
		  "'umig serve --file %s --listen ADDRESS' here, 'umig pull' there",
		  s->out.ram.path);
	log_error("if it does not: end that QEMU, then resume here with 'cont' on %s",
		  s->out.qmp_path);
	return UMIG_UNKNOWN;
}

/* GO and everything after it. Return: an exit code. */
int sender_commit(struct sender *s)
{
	unsigned int limit_ms = sender_timeout_ms(s);
	char error[640];

	s->committed = true;
	watch_phase(&s->watch, "serving pages");
	link_send_type(&s->link, CONTROL_GO);
	while (!s->acked) {
		struct control_message msg;
		int ret = sender_wait_message(s, s->resumed ? SILENCE_MS : limit_ms, &msg, error,
					    sizeof(error));

		if (!ret)
			ret = sender_hears(s, &msg);
		if (!ret)
			continue;
		if (ret == -EREMOTEIO && !s->resumed)
			return sender_unknown(s, error);
		if (ret == -EREMOTEIO && msg.error == CONTROL_MISMATCH) {
			log_error("%s; the source keeps its pages and stays paused", error);
			return UMIG_MISMATCH;
		}
		if (ret != -EINTR) {
			log_error("%s; connecting again", error);
			ret = sender_reconnect(s);
		}
		if (ret == -ETIMEDOUT)
			return sender_unknown(s, "the receiver cannot be reached");
		if (ret == -EINTR && !s->resumed)
			return sender_unknown(s, "stopped by a signal");
		if (ret == -EINTR) {
			log_error("stopped before the receiver acknowledged all pages; "
				  "the source stays paused; "
				  "go on with 'umig serve --file %s --listen ADDRESS' here, 'umig pull' there",
				  s->out.ram.path);
			return UMIG_INCOMPLETE;
		}
	}
	return UMIG_OK;
}

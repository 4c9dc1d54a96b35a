// SPDX-License-Identifier: GPL-2.0
/* umig send: GO, then pages until the receiver has acknowledged END. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "lib/umig.h"
#include "migrate/send.h"

/* The receiver says PROGRESS twice a second. */
#define SILENCE_MS	30000U

static void send_make_digest(struct send *s)
{
	s->digest_error = digest_file(s->ram_fd, s->ram.size, &s->digest_stop, &s->digest);
	s->digest_made = true;
}

static void *send_digest(void *arg)
{
	/* The page server and the guests go first. */
	setpriority(PRIO_PROCESS, 0, 10);
	send_make_digest(arg);
	return NULL;
}

static void send_resumed(struct send *s, const struct control_message *msg)
{
	if (s->resumed) {
		log_info("a receiver goes on");
		return;
	}
	s->resumed = true;
	s->downtime_ms = (double)(now_ns() - s->events.stop_ns) / 1e6;
	s->resume_ms = msg->resume_ms;
	/* Not before: nothing is to run beside what lets the guest run again. */
	s->digest_started = !pthread_create(&s->digest_thread, NULL, send_digest, s);
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
	if (!s->digest_made)
		send_make_digest(s);
	if (s->digest_error) {
		log_error("cannot compute the digest of %s: %s", s->ram.path,
			  strerror(-s->digest_error));
		link_send_error(&s->link, CONTROL_FAILED,
				"the sender cannot compute the digest of its RAM: %s",
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
		monitor_heard(&s->monitor, msg->present, msg->total, msg->demand);
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
	log_error("%s, and the source was told to let go; "
		  "it is not known whether the guest runs at the destination; "
		  "the source stays paused; look at the destination with query-status", why);
	log_error("if the guest runs there, serve its pages; "
		  "'umig serve --file %s --listen ADDRESS' here, 'umig pull' there",
		  s->ram.path);
	log_error("if it does not: end that QEMU, then resume here with 'cont' on %s",
		  s->qmp_path);
	return UMIG_UNKNOWN;
}

/* GO and everything after it. Return: an exit code. */
int send_commit(struct send *s)
{
	unsigned int limit_ms = send_timeout_ms(s);
	char error[640];

	s->committed = true;
	monitor_phase(&s->monitor, "serving pages");
	link_send_type(&s->link, CONTROL_GO);
	while (!s->acked) {
		struct control_message msg;
		int ret = send_wait_message(s, s->resumed ? SILENCE_MS : limit_ms, &msg, error,
					    sizeof(error));

		if (!ret)
			ret = send_handle(s, &msg);
		if (!ret)
			continue;
		if (ret == -EREMOTEIO && !s->resumed)
			return send_unknown(s, error);
		if (ret == -EREMOTEIO && msg.error == CONTROL_MISMATCH) {
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
			log_error("stopped before the receiver acknowledged all pages; "
				  "the source stays paused; "
				  "go on with 'umig serve --file %s --listen ADDRESS' here, 'umig pull' there",
				  s->ram.path);
			return UMIG_INCOMPLETE;
		}
	}
	return UMIG_OK;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * umig send: the source's side of a live migration.
 *
 * Until GO the guest belongs to the source: whatever fails, outgoing_put_back() makes it run again.
 * With GO it belongs to the destination: from then on umig never resumes the source, and only
 * serves its pages until the receiver has acknowledged END. If GO was sent and no RESUMED came,
 * nobody knows which of the two holds, and sender_reconnect() asks.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/log.h"
#include "migrate/sender.h"

static void sender_init(struct sender *s)
{
	outgoing_init(&s->out);
	s->out.signal_fd = signal_fd_open();
	s->link.fd = -1;
	s->started_ns = now_ns();
	progress_init(&s->progress, s->json);
}

static void sender_report(struct sender *s)
{
	double seconds = ms_since(s->started_ns) / 1e3;

	log_info("%.1f s: moved; downtime %.1f ms (of that, the receiver's part %.1f ms), %" PRIu64
		 " pages of 4 KiB: %" PRIu64 " with data, %" PRIu64 " zero; %" PRIu64
		 " of the host by demand; digest agreed",
		 seconds, s->downtime_ms, s->resume_ms, s->digest.nr_data + s->digest.nr_zero,
		 s->digest.nr_data, s->digest.nr_zero, s->demand);
	if (s->json)
		log_json(json_pack("{s:s, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:I}",
				   "event", "summary", "seconds", seconds,
				   "downtime_ms", s->downtime_ms,
				   "resume_ms", s->resume_ms,
				   "data_pages", (json_int_t)s->digest.nr_data,
				   "zero_pages", (json_int_t)s->digest.nr_zero,
				   "demand_pages", (json_int_t)s->demand,
				   "state_bytes", (json_int_t)atomic_load(&s->out.state.bytes),
				   "dirty_pages", (json_int_t)s->nr_dirty));
}

/* The receiver has acknowledged everything. */
static void sender_finish(struct sender *s)
{
	/* Tells the receiver that its ACK has come. */
	link_close(&s->link);
	progress_end(&s->progress);
	if (s->out.caps_set)
		qemu_restore_caps(&s->out.qmp, s->out.caps);
	sender_report(s);
	if (s->quit)
		qmp_command(&s->out.qmp, "quit", NULL, NULL);
	else
		log_info("the source QEMU is no longer needed and may be ended");
}

/* The migration has failed before GO. Return: an exit code. */
static int sender_give_up(struct sender *s)
{
	struct outgoing *o = &s->out;

	link_close(&s->link);
	if (outgoing_put_back(o))
		return UMIG_UNKNOWN;
	log_error("the source guest is %s%s; "
		  "nothing is lost, the destination QEMU can be thrown away", o->left_as,
		  !strcmp(o->left_as, "running") && o->events.stop_ns ? " again" : "");
	return UMIG_SOURCE_RUNS;
}

static int sender_migrate(struct sender *s)
{
	int code, ret;

	if (outgoing_open(&s->out))
		return UMIG_FAILED;
	if (outgoing_check(&s->out))
		return UMIG_REFUSED;
	if (s->precopy && sender_precopy_start(s))
		return UMIG_REFUSED;
	ret = sender_connect_first(s);
	if (ret < 0)
		return sender_give_up(s);
	/* While umig waited for the receiver, much may have happened to the source. */
	if (ret && (outgoing_check(&s->out) ||
		    (s->precopy && writes_check(&s->writes, &s->out))))
		return UMIG_REFUSED;
	if (outgoing_open_ram(&s->out))
		return UMIG_REFUSED;
	if (sender_switch_over(s))
		return sender_give_up(s);
	code = sender_commit(s);
	if (code == UMIG_OK)
		sender_finish(s);
	return code;
}

static void sender_cleanup(struct sender *s)
{
	watch_stop(&s->watch);
	/* The reader writes to the link until it is stopped. */
	state_reader_stop(&s->out.state);
	writes_stop(&s->writes);
	free(s->ranges);
	atomic_store(&s->digest_stop, true);
	if (s->digest_started)
		pthread_join(s->digest_thread, NULL);
	if (s->server.pid)
		page_server_stop(&s->server);
	link_destroy(&s->link);
	outgoing_close(&s->out);
}

/* Return: 0 or -1. */
static int sender_make_id(struct sender *s)
{
	uint8_t random[16];
	size_t i;

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -1;
	for (i = 0; i < sizeof(random); i++)
		snprintf(s->id + 2 * i, 3, "%02x", random[i]);
	return 0;
}

/* After the options have been read. Return: an exit code. */
int sender_run(struct sender *s)
{
	int code;

	sender_init(s);
	if (s->out.signal_fd < 0 || sender_make_id(s) || link_init(&s->link)) {
		log_error("cannot begin: no memory or no descriptors");
		return UMIG_FAILED;
	}
	watch_start(&s->watch, "send");
	code = sender_migrate(s);
	sender_cleanup(s);
	return code;
}

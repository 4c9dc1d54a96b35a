/* SPDX-License-Identifier: GPL-2.0 */
/*
 * umig send's parts: send_link.c talks to the receiver, send_source.c to the source QEMU,
 * send_precopy.c sends while it runs, send_switch.c goes as far as LOADED, send_pages.c from GO on.
 */
#ifndef UMIG_SEND_H
#define UMIG_SEND_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/digest.h"
#include "lib/log.h"
#include "migrate/track.h"
#include "qemu/qemu.h"
#include "qemu/state.h"
#include "serve/serve.h"
#include "watch/monitor.h"
#include "watch/progress.h"
#include "wire/link.h"

struct send {
	/* Options. */
	const char *qmp_path;
	const char *to;
	const char *pages_listen;
	uint64_t timeout_s;
	uint64_t wait_s;
	bool json;
	bool quit;
	bool precopy;
	uint64_t rounds;
	uint64_t switch_bytes;

	int signal_fd;
	struct qmp qmp;
	struct qemu_ram ram;
	struct qemu_cap caps[QEMU_MAX_CAPS];
	bool caps_set;
	bool migrating;		/* we have begun it */
	bool stopped;		/* the guest, by us, and not told to go on since */
	bool fd_given;
	bool was_running;
	char source_state[64];	/* that send_restore_source() has left it in */
	struct page_server server;
	struct link link;
	struct state_reader state;
	state_sink sink;
	void *sink_arg;
	char id[CONTROL_ID_SIZE];

	/* The digest thread's; valid after the join. */
	pthread_t digest_thread;
	bool digest_started;
	bool digest_made;
	volatile bool digest_stop;
	int ram_fd;
	int digest_error;
	struct digest digest;

	/* With --precopy. */
	struct track track;
	bool tracking;
	uint64_t *dirty;
	uint8_t *ranges;
	unsigned int round;
	uint64_t nr_dirty;

	/* After GO: since when nothing was heard of the receiver, 0 if something was. */
	uint64_t lost_ns;
	uint64_t backoff_ms;
	bool resume_said;

	uint64_t started_ns;
	struct qemu_events events;
	double downtime_ms;
	double resume_ms;
	uint64_t demand;
	bool committed;
	bool resumed;
	bool acked;
	struct progress progress;
	struct monitor monitor;
};

static inline unsigned int send_timeout_ms(const struct send *s)
{
	return (unsigned int)s->timeout_s * 1000;
}

bool send_is_interrupted(struct send *s);
int send_wait_message(struct send *s, unsigned int timeout_ms, struct control_message *msg,
		      char *error, size_t size);
int send_expect(struct send *s, enum control_type type);
int send_connect(struct send *s, unsigned int timeout_ms);
int send_connect_first(struct send *s);
int send_hello(struct send *s);
int send_reconnect(struct send *s);
int send_check_source(struct send *s);
int send_start_migration(struct send *s);
int send_check_migrated(struct send *s);
int send_restore_source(struct send *s);
int send_recover(struct send *s);
int send_wait_state(struct send *s);
void send_init(struct send *s);
void send_cleanup(struct send *s);
int precopy_check(struct send *s);
int precopy_start(struct send *s);
int precopy_run(struct send *s);
int precopy_finish(struct send *s);
void precopy_stop(struct send *s);
int send_prepare(struct send *s);
int send_commit(struct send *s);

#endif

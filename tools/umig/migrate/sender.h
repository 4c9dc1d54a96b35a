/* SPDX-License-Identifier: GPL-2.0 */
/*
 * umig send: an outgoing QEMU and the connection to a receiver.
 *
 *   sender.c          the session, from the first check to the last message
 *   sender_link.c     the connection to the receiver
 *   sender_switch.c   from HELLO to LOADED
 *   sender_precopy.c  pages flow while the source runs
 *   sender_commit.c   from GO on
 */
#ifndef UMIG_SENDER_H
#define UMIG_SENDER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/digest.h"
#include "migrate/outgoing.h"
#include "migrate/writes.h"
#include "serve/serve.h"
#include "watch/progress.h"
#include "watch/watch.h"
#include "wire/link.h"

/**
 * struct sender
 * @to: address of the receiver;  @pages_listen: where to serve pages, NULL: beside the connection
 * @wait_s: how long to wait for the receiver to listen
 * @precopy, @rounds, @switch_bytes, @quit, @json: options
 * @digest_stop: the digest thread is to give up
 * @id: of this migration, 32 hex digits
 * @ranges: a frame of ranges, with @precopy
 * @nr_dirty: pages that the guest wrote to, of the last set
 * @committed: GO was sent;  @resumed: the receiver said RESUMED;  @acked: it said ACK
 * @lost_ns: after GO: since when nothing was heard of the receiver; 0: it was heard
 * @backoff_ms: the last pause between attempts to connect again
 * @resume_said: the user was told how to go on without this receiver
 * @demand: pages that came by demand, as the receiver says
 */
struct sender {
	_Atomic bool digest_stop;
	const char *to;
	const char *pages_listen;
	uint64_t wait_s;
	uint64_t rounds;
	uint64_t switch_bytes;
	bool precopy;
	bool quit;
	bool json;

	struct outgoing out;
	struct page_server server;
	struct control_link link;
	char id[CONTROL_ID_SIZE];

	struct writes writes;
	uint8_t *ranges;
	unsigned int round;
	uint64_t nr_dirty;

	/* The digest thread's; the others read them after they have joined it. */
	pthread_t digest_thread;
	bool digest_started;
	bool digest_made;
	int digest_error;
	struct digest digest;

	bool committed;
	bool resumed;
	bool acked;
	uint64_t lost_ns;
	uint64_t backoff_ms;
	bool resume_said;

	uint64_t started_ns;
	double downtime_ms;
	double resume_ms;
	uint64_t demand;
	struct progress progress;
	struct watch watch;
};

/* sender.c */
int sender_run(struct sender *s);

/* sender_link.c */
int sender_wait_message(struct sender *s, unsigned int timeout_ms, struct control_message *msg,
			char *error, size_t size);
int sender_expect(struct sender *s, enum control_type type);
int sender_connect_first(struct sender *s);
int sender_hello(struct sender *s);
int sender_reconnect(struct sender *s);
unsigned int sender_timeout_ms(const struct sender *s);

/* sender_switch.c, sender_precopy.c, sender_commit.c */
int sender_switch_over(struct sender *s);
int sender_precopy_start(struct sender *s);
int sender_precopy(struct sender *s);
int sender_precopy_finish(struct sender *s);
int sender_commit(struct sender *s);

#endif

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * umig recv: an incoming QEMU and the connection from a sender.
 *
 *   receiver.c          the session, from the first check to the last message
 *   receiver_link.c     the connection to the sender
 *   receiver_switch.c   from HELLO to RESUMED
 *   receiver_precopy.c  pages come while the source still runs
 *   receiver_pages.c    from RESUMED on: pages until END
 */
#ifndef UMIG_RECEIVER_H
#define UMIG_RECEIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "migrate/incoming.h"
#include "watch/progress.h"
#include "watch/watch.h"
#include "wire/link.h"

/**
 * struct receiver
 * @listen: where the sender connects;  @listen_fd: stays open to the end, so that a sender can
 *	connect again
 * @hello: of the sender;  @guest: what it says of the guest
 * @links: one is in use (@link), the other takes a new connection until its HELLO has been read
 * @go: the sender has said GO
 * @precopy_runs: background fills, and DIRTY may still come
 * @converted: the memory is plain memory
 * @lost_ns: the last moment at which the sender was connected or a page was missing
 * @told_ns: when the sender was told last how far the pages are; UINT64_MAX: that all are here
 */
struct receiver {
	const char *listen;

	struct incoming in;
	int listen_fd;
	struct control_message hello;
	struct guest guest;
	struct control_link links[2];
	struct control_link *link;
	struct progress progress;
	struct watch watch;

	bool go;
	bool precopy_runs;
	bool converted;
	uint64_t lost_ns;
	uint64_t told_ns;
};

static inline bool receiver_is_connected(const struct receiver *r)
{
	return r->link->fd >= 0;
}

/* Says something to the sender and to the user. */
#define receiver_refuse_as(r, error, fmt, ...)					\
do {										\
	log_error(fmt, ##__VA_ARGS__);						\
	link_send_error((r)->link, error, fmt, ##__VA_ARGS__);			\
} while (0)

#define receiver_refuse(r, fmt, ...) receiver_refuse_as(r, CONTROL_FAILED, fmt, ##__VA_ARGS__)

/* receiver.c */
int receiver_run(struct receiver *r);

/* receiver_link.c */
int receiver_frame(struct receiver *r, struct control_link *link, int timeout_ms,
		   struct control_frame *frame);
int receiver_message(struct receiver *r, struct control_link *link, int timeout_ms,
		     struct control_message *msg);
int receiver_wait_sender(struct receiver *r);
int receiver_accept_again(struct receiver *r);
int receiver_lost(struct receiver *r, int error);
int receiver_send_resumed(struct receiver *r);

/* receiver_switch.c, receiver_precopy.c, receiver_pages.c */
int receiver_switch_over(struct receiver *r);
int receiver_precopy_start(struct receiver *r);
int receiver_precopy_tell(struct receiver *r);
int receiver_precopy_ranges(struct receiver *r, const struct control_frame *frame);
int receiver_precopy_round(struct receiver *r);
void receiver_precopy_stop(struct receiver *r);
int receiver_pages(struct receiver *r);
void receiver_linger(struct receiver *r);

#endif

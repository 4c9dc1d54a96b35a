/* SPDX-License-Identifier: GPL-2.0 */
/* The loop in which a caller waits for a transfer, and shows its progress. */
#ifndef UMIG_WAITER_H
#define UMIG_WAITER_H

#include <poll.h>

#include "lib/digest.h"
#include "transfer/transfer.h"
#include "watch/progress.h"

/* What turn() returns to go on waiting; not an exit code. */
#define WAITER_MORE	-1

/* How many descriptors of its own a caller may wait for. */
#define WAITER_FDS	2

/**
 * struct waiter - what a caller waits for
 * @signal_fd: ends the wait with UMIG_INCOMPLETE
 * @poll: fills in WAITER_FDS descriptors, -1 for none; NULL: there are none
 * @turn: called whenever something may have happened, at least ten times a second. @fds: as @poll
 *	has filled them in, with revents. Return: WAITER_MORE, or an exit code.
 */
struct waiter {
	struct transfer *transfer;
	struct progress *progress;
	int signal_fd;
	void (*poll)(void *arg, struct pollfd *fds);
	int (*turn)(void *arg, const struct pollfd *fds);
	void *arg;
};

int waiter_wait(const struct waiter *w);
int waiter_convert(struct transfer *t, struct progress *progress, int signal_fd,
		   const struct digest *want, bool convert);

#endif

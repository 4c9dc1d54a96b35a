// SPDX-License-Identifier: GPL-2.0
/* The loop in which a caller waits for a transfer, and shows its progress. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/lib.h"
#include "lib/log.h"
#include "watch/waiter.h"

#define TURN_MS		100

/*
 * The kernel missed pages that were thought present: how long to give it before the next attempt.
 */
#define CONVERT_AGAIN_US	50000

/* The first time that nothing is missing. */
static void waiter_note_complete(const struct waiter *w)
{
	if (!transfer_is_complete(w->transfer) || atomic_load(&w->transfer->complete_ns))
		return;
	atomic_store(&w->transfer->complete_ns, now_ns());
	progress_show_now(w->progress, w->transfer);
}

/**
 * waiter_wait - wait until @w->turn() says so, a signal comes or the transfer fails
 *
 * Return: an exit code.
 */
int waiter_wait(const struct waiter *w)
{
	for (;;) {
		struct pollfd fds[2 + WAITER_FDS] = {
			{ .fd = w->signal_fd, .events = POLLIN },
			{ .fd = w->transfer->done_fd, .events = POLLIN },
			{ .fd = -1 },
			{ .fd = -1 },
		};
		eventfd_t value;
		int code;

		if (w->poll)
			w->poll(w->arg, fds + 2);
		if (poll(fds, 2 + WAITER_FDS, TURN_MS) < 0 && errno != EINTR)
			return UMIG_FAILED;
		if (fds[1].revents && eventfd_read(w->transfer->done_fd, &value))
			return UMIG_FAILED;
		progress_show(w->progress, w->transfer);
		if (transfer_exit_code(w->transfer))
			return transfer_exit_code(w->transfer);
		if (fds[0].revents)
			return UMIG_INCOMPLETE;
		waiter_note_complete(w);
		code = w->turn(w->arg, fds + 2);
		if (code != WAITER_MORE)
			return code;
	}
}

struct conversion {
	struct transfer *transfer;
	const struct digest *want;
	bool convert;
};

static int conversion_turn(void *arg, const struct pollfd *fds)
{
	const struct conversion *c = arg;
	struct transfer *t = c->transfer;
	char why[256];
	int ret;

	(void)fds;
	if (!transfer_is_complete(t))
		return WAITER_MORE;
	if (c->want && !transfer_agrees(t, c->want, why, sizeof(why))) {
		log_error("%s", why);
		return UMIG_MISMATCH;
	}
	if (!c->convert)
		return UMIG_OK;
	ret = transfer_convert(t);
	if (ret == -EAGAIN) {
		usleep(CONVERT_AGAIN_US);
		return WAITER_MORE;
	}
	if (ret && !transfer_exit_code(t))
		transfer_fail(t, UMIG_FAILED);
	return transfer_exit_code(t);
}

/**
 * waiter_convert - wait until every page is here, compare the contents, convert
 * @want: what the contents should be, or NULL
 * @convert: false: leave the regions in the module
 *
 * Return: an exit code.
 */
int waiter_convert(struct transfer *t, struct progress *progress, int signal_fd,
		   const struct digest *want, bool convert)
{
	struct conversion c = { .transfer = t, .want = want, .convert = convert };
	struct waiter w = {
		.transfer = t,
		.progress = progress,
		.signal_fd = signal_fd,
		.turn = conversion_turn,
		.arg = &c,
	};

	return waiter_wait(&w);
}

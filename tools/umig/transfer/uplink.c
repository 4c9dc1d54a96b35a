// SPDX-License-Identifier: GPL-2.0
/* One thread's connection to the source, made again for as long as it takes. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>

#include "lib/log.h"
#include "lib/backoff.h"
#include "lib/lib.h"
#include "transfer/uplink.h"

/* Puts off the next attempt, each time for longer. */
void uplink_back_off(struct uplink *u)
{
	u->backoff_ms = backoff_next_ms(u->backoff_ms, BACKOFF_FIRST_MS, BACKOFF_MOST_MS);
	u->retry_at_ns = now_ns() + u->backoff_ms * NS_PER_MS;
}

/* What was in flight never completes, and nothing is received any more. */
void uplink_close(struct uplink *u)
{
	if (u->connected)
		source_close(&u->source);
	u->connected = false;
}

void uplink_lost(struct uplink *u, const char *why)
{
	uplink_close(u);
	transfer_source_lost(u->t, u, why);
	uplink_back_off(u);
}

/**
 * uplink_connect - connect, unless it is connected or the time has not come yet
 * @want_status: block status will be asked for
 * @stop_fd: gives up when this is readable
 *
 * A source that can never be used fails the transfer. Any other failure is tried again later.
 */
void uplink_connect(struct uplink *u, bool want_status, int stop_fd)
{
	struct transfer *t = u->t;
	int ret;

	if (u->connected || now_ns() < u->retry_at_ns)
		return;
	ret = source_open(&u->source, t->uri, want_status, stop_fd, t->timeout_ms);
	if (ret == -ECANCELED)
		return;
	if (ret == -EINVAL) {
		if (!atomic_load(&t->exit_code))
			log_error("cannot use the source %s: %s; "
				  "give an NBD URI such as nbd://host:port/ or nbd+unix:///?socket=PATH",
				  t->uri, u->source.error);
		transfer_fail(t, UMIG_REFUSED);
		u->retry_at_ns = UINT64_MAX;
		return;
	}
	if (ret) {
		uplink_lost(u, u->source.error);
		return;
	}
	u->connected = true;
	if (!transfer_fits(t, &u->source)) {
		uplink_close(u);
		u->retry_at_ns = UINT64_MAX;
		return;
	}
	transfer_source_back(t, u);
	if (u->was_connected)
		atomic_fetch_add(&t->nr_reconnects, 1);
	else
		atomic_fetch_add(&t->connected, 1);
	u->was_connected = true;
}

/* Fills in what poll() waits for: nothing if it is not connected. */
void uplink_poll(struct uplink *u, struct pollfd *fd)
{
	*fd = (struct pollfd){ .fd = -1 };
	if (!u->connected)
		return;
	fd->fd = source_fd(&u->source);
	fd->events = source_events(&u->source);
}

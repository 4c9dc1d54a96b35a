/* SPDX-License-Identifier: GPL-2.0 */
/* One thread's connection to the source, made again whenever it breaks. */
#ifndef UMIG_UPLINK_H
#define UMIG_UPLINK_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "transfer/source.h"
#include "transfer/transfer.h"

/**
 * struct uplink
 * @source: valid while @connected
 * @retry_at_ns: the next attempt is not before this; UINT64_MAX: never
 * @backoff_ms: the last pause; 0 after a success
 */
struct uplink {
	struct transfer *t;
	struct source source;
	bool connected;
	bool was_connected;
	uint64_t retry_at_ns;
	uint64_t backoff_ms;
};

void uplink_connect(struct uplink *u, bool want_status, int stop_fd);
void uplink_back_off(struct uplink *u);
void uplink_lost(struct uplink *u, const char *why);
void uplink_close(struct uplink *u);
void uplink_poll(struct uplink *u, struct pollfd *fd);

#endif

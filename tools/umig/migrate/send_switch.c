// SPDX-License-Identifier: GPL-2.0
/* umig send: from HELLO to LOADED. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/umig.h"
#include "migrate/send.h"
#include "wire/address.h"

/* Where the pages are served if --pages-listen does not say. */
static int send_start_pages(struct send *s)
{
	char address[160], host[256] = "";

	if (s->pages_listen) {
		address_local_host(s->link.fd, host, sizeof(host));
		return page_server_start(&s->server, s->ram.path, s->pages_listen,
					 *host ? host : NULL);
	}
	if (address_unix_path(s->to))
		return page_server_start_private(&s->server, s->ram.path);
	/* The address by which the receiver reaches us, any port. */
	if (address_local_host(s->link.fd, host, sizeof(host))) {
		log_error("cannot tell by which address the receiver reaches this host; "
			  "give --pages-listen");
		return -EINVAL;
	}
	snprintf(address, sizeof(address), strchr(host, ':') ? "tcp:[%.128s]:0" : "tcp:%.128s:0",
		 host);
	return page_server_start(&s->server, s->ram.path, address, host);
}

/* What is left of precopy's PROGRESS may come now; else only ERROR or the end of the stream. */
static int send_during_state(struct send *s)
{
	struct control_message msg;
	char error[640];
	int ret = send_wait_message(s, 0, &msg, error, sizeof(error));

	if (ret == -ETIMEDOUT || (!ret && s->precopy && msg.type == CONTROL_PROGRESS))
		return 0;
	log_error("migration failed: %s", ret ? error : "the receiver said something unexpected");
	return ret ? ret : -EPROTO;
}

/* While device state flows. Return: 0 when QEMU has written all of it, -errno having said why. */
int send_wait_state(struct send *s)
{
	uint64_t last_bytes = 0, last_ns = now_ns();

	for (;;) {
		struct pollfd fds[4] = {
			{ .fd = s->state.done_fd, .events = POLLIN },
			{ .fd = s->signal_fd, .events = POLLIN },
			{ .fd = s->qmp.fd, .events = POLLIN },
			{ .fd = s->link.fd, .events = POLLIN },
		};
		uint64_t bytes = __atomic_load_n(&s->state.bytes, __ATOMIC_RELAXED);

		if (poll(fds, 4, 1000) < 0 && errno != EINTR)
			return -errno;
		if (fds[2].revents && qemu_take_events(&s->qmp, &s->events)) {
			log_error("migration failed: the source QEMU: %s", s->qmp.error);
			return -EPIPE;
		}
		if (fds[1].revents) {
			log_error("migration stopped by a signal");
			return -EINTR;
		}
		if (fds[3].revents) {
			int ret = send_during_state(s);

			if (ret)
				return ret;
		}
		if (fds[0].revents)
			break;
		if (bytes != last_bytes) {
			last_bytes = bytes;
			last_ns = now_ns();
		} else if (now_ns() - last_ns > s->timeout_s * 1000000000ULL) {
			log_error("migration failed: the source QEMU sent no state for %" PRIu64
				  " s", s->timeout_s);
			return -ETIMEDOUT;
		}
	}
	if (s->state.error)
		log_error("migration failed: device state does not reach the receiver: %s",
			  strerror(-s->state.error));
	return s->state.error;
}

/* From HELLO to LOADED: everything before the commit point. Return: 0 or -errno. */
int send_prepare(struct send *s)
{
	struct control_message end = { .type = CONTROL_STATE_END };
	int ret;

	monitor_phase(&s->monitor, "switching over");
	ret = send_start_pages(s);
	if (ret)
		return ret;
	/* What was written to before is read as it is now. */
	ret = s->precopy ? track_clear(&s->track) : 0;
	if (!ret)
		ret = send_hello(s);
	if (ret) {
		log_error("cannot talk to the receiver at %s: %s", s->to, strerror(-ret));
		return ret;
	}
	ret = send_expect(s, CONTROL_READY);
	if (!ret && s->precopy)
		ret = precopy_run(s);
	if (!ret)
		ret = send_start_migration(s);
	if (!ret)
		ret = send_wait_state(s);
	if (!ret && s->precopy) {
		ret = send_check_migrated(s);
		if (!ret)
			ret = precopy_finish(s);
	}
	if (ret)
		return ret;
	end.bytes = s->state.bytes;
	end.sum = s->state.sum;
	ret = link_send(&s->link, &end);
	if (ret) {
		log_error("migration failed: the connection to the receiver is lost: %s",
			  strerror(-ret));
		return ret;
	}
	/*
	 * The destination loads meanwhile. If this fails there is no GO, and what it has read from
	 * a source that runs again is thrown away with it.
	 */
	if (!s->precopy)
		ret = send_check_migrated(s);
	if (ret) {
		link_send_error(&s->link, CONTROL_FAILED, "the source QEMU's migration failed");
		return ret;
	}
	ret = send_expect(s, CONTROL_LOADED);
	if (!ret && send_is_interrupted(s)) {
		log_error("migration stopped by a signal");
		ret = -EINTR;
	}
	return ret;
}

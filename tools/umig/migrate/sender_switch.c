// SPDX-License-Identifier: GPL-2.0
/* umig send: from HELLO to LOADED. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/lib.h"
#include "lib/log.h"
#include "migrate/sender.h"
#include "wire/address.h"

/*
 * Starts the page server: at --pages-listen, or beside the connection. Return: 0 or -errno, having
 * said why.
 */
static int sender_start_pages(struct sender *s)
{
	char address[160], host[256] = "";

	if (s->pages_listen) {
		address_local_host(s->link.fd, host, sizeof(host));
		return page_server_start(&s->server, s->out.ram.path, s->pages_listen,
					 *host ? host : NULL);
	}
	if (address_unix_path(s->to))
		return page_server_start_private(&s->server, s->out.ram.path);
	/* At the address by which the receiver reaches this host, on any free port. */
	if (address_local_host(s->link.fd, host, sizeof(host))) {
		log_error("cannot tell by which address the receiver reaches this host; "
			  "give --pages-listen");
		return -EINVAL;
	}
	snprintf(address, sizeof(address), strchr(host, ':') ? "tcp:[%.128s]:0" : "tcp:%.128s:0",
		 host);
	return page_server_start(&s->server, s->out.ram.path, address, host);
}

/* A sink: STATE frames. */
static int state_to_link(void *link, const void *data, uint32_t length)
{
	return link_send_state(link, data, length);
}

/*
 * While device state flows the receiver is silent, but for PROGRESS that is left over from precopy.
 * Return: 0 or -errno, having said why.
 */
static int sender_hears_during_state(void *arg)
{
	struct sender *s = arg;
	struct control_message msg;
	char error[640];
	int ret = sender_wait_message(s, 0, &msg, error, sizeof(error));

	if (ret == -ETIMEDOUT || (!ret && s->precopy && msg.type == CONTROL_PROGRESS))
		return 0;
	log_error("migration failed: %s", ret ? error : "the receiver said something unexpected");
	return ret ? ret : -EPROTO;
}

/* The source stops for good and its device state travels. Return: 0 or -errno, having said why. */
static int sender_state(struct sender *s)
{
	struct control_message end = { .type = CONTROL_STATE_END };
	struct peer peer = { .fd = s->link.fd, .ready = sender_hears_during_state, .arg = s };
	int ret = outgoing_start(&s->out, state_to_link, &s->link);

	if (!ret)
		ret = outgoing_wait_state(&s->out, &peer);
	if (!ret && s->precopy) {
		ret = outgoing_wait_migrated(&s->out);
		if (!ret)
			ret = sender_precopy_finish(s);
	}
	if (ret)
		return ret;
	end.bytes = atomic_load(&s->out.state.bytes);
	end.sum = s->out.state.sum;
	ret = link_send(&s->link, &end);
	if (ret) {
		log_error("migration failed: the connection to the receiver is lost: %s",
			  strerror(-ret));
		return ret;
	}
	/*
	 * The destination loads meanwhile. If the source's migration has failed there is no GO, and
	 * whatever the destination has read from a source that runs again is thrown away with it.
	 */
	if (!s->precopy)
		ret = outgoing_wait_migrated(&s->out);
	if (ret)
		link_send_error(&s->link, CONTROL_FAILED, "the source QEMU's migration failed");
	return ret;
}

/*
 * From HELLO to LOADED, everything before the commit point. Return: 0 or -errno, having said why.
 */
int sender_switch_over(struct sender *s)
{
	int ret;

	watch_phase(&s->watch, "switching over");
	ret = sender_start_pages(s);
	if (ret)
		return ret;
	/* Writes so far need no mark: the pages are read after this. */
	ret = s->precopy ? writes_clear(&s->writes) : 0;
	if (!ret)
		ret = sender_hello(s);
	if (ret) {
		log_error("cannot talk to the receiver at %s: %s", s->to, strerror(-ret));
		return ret;
	}
	ret = sender_expect(s, CONTROL_READY);
	if (!ret && s->precopy)
		ret = sender_precopy(s);
	if (!ret)
		ret = sender_state(s);
	if (!ret)
		ret = sender_expect(s, CONTROL_LOADED);
	if (!ret && fd_is_readable(s->out.signal_fd)) {
		log_error("migration stopped by a signal");
		ret = -EINTR;
	}
	return ret;
}

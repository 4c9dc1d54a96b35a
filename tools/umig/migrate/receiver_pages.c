// SPDX-License-Identifier: GPL-2.0
/* umig recv: the guest runs and its pages come; then END, conversion, ACK. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "lib/lib.h"
#include "lib/log.h"
#include "migrate/receiver.h"
#include "watch/waiter.h"

/* How long to wait for the sender to close the connection. */
#define LINGER_S	5

/* The sender connects again. Return: 0 or -errno. */
static int receiver_take_back(struct receiver *r)
{
	int ret = receiver_accept_again(r);

	if (ret)
		return ret == -EAGAIN ? 0 : ret;
	r->told_ns = 0;
	log_info("the sender is back");
	return receiver_send_resumed(r);
}

/* Tells the sender twice a second how many pages are here; then, once, DONE. */
static void receiver_tell(struct receiver *r)
{
	const struct transfer *t = &r->in.transfer;
	struct control_message msg = {
		.type = transfer_is_complete(t) ? CONTROL_DONE : CONTROL_PROGRESS,
		.present = transfer_present_pages(t),
		.total = transfer_total_pages(t),
		.demand = atomic_load(&t->pages[FILL_DEMAND]),
	};
	uint64_t now = now_ns();

	if (!receiver_is_connected(r))
		return;
	if (msg.type == CONTROL_DONE) {
		/* Once on each connection. */
		if (r->told_ns == UINT64_MAX)
			return;
		r->told_ns = UINT64_MAX;
	} else {
		if (now - r->told_ns < PROGRESS_MS * NS_PER_MS)
			return;
		r->told_ns = now;
	}
	link_send(r->link, &msg);
}

/* END says what the contents should be. Return: an exit code, WAITER_MORE to go on. */
static int receiver_end(struct receiver *r, const struct control_message *msg)
{
	struct transfer *t = &r->in.transfer;
	char why[256];
	int ret;

	if (!transfer_is_complete(t)) {
		receiver_refuse_as(r, CONTROL_MISMATCH,
				   "the contents differ: END came before all pages were here");
		return UMIG_MISMATCH;
	}
	if (!transfer_agrees(t, &msg->digest, why, sizeof(why))) {
		receiver_refuse_as(r, CONTROL_MISMATCH, "%s", why);
		return UMIG_MISMATCH;
	}
	if (!t->whole_view)
		log_info("another umig had filled some of the pages, so the digest cannot be compared; the number of pages is right");
	ret = transfer_convert(t);
	if (ret == -EAGAIN) {
		r->told_ns = 0;
		return WAITER_MORE;
	}
	if (ret) {
		link_send_error(r->link, CONTROL_FAILED,
				"the destination's memory cannot be converted: %s",
				strerror(-ret));
		return transfer_exit_code(t) ? transfer_exit_code(t) : UMIG_FAILED;
	}
	r->converted = true;
	/* Without the ACK the sender keeps its pages until a person ends it. */
	if (link_send_type(r->link, CONTROL_ACK))
		log_error("the sender did not hear of it; "
			  "the guest is whole here, the source QEMU may be ended");
	return UMIG_OK;
}

/* A message of the sender while pages come. Return: an exit code, WAITER_MORE to go on. */
static int receiver_hears(struct receiver *r)
{
	struct control_message msg;
	int ret = receiver_message(r, r->link, 0, &msg);

	if (!ret)
		return WAITER_MORE;
	if (ret > 0 && msg.type == CONTROL_END)
		return receiver_end(r, &msg);
	if (ret > 0 && msg.type == CONTROL_ERROR) {
		log_error("the sender says: %s; nothing is converted", msg.text);
		return UMIG_FAILED;
	}
	if (ret == -EINTR)
		return UMIG_INCOMPLETE;
	if (ret == -EPIPE)
		return WAITER_MORE;
	log_error("the connection to the sender is lost: %s; "
		  "pages go on coming if its page server lives",
		  ret == -ENODATA ? "closed without END" : strerror(ret < 0 ? -ret : EPROTO));
	link_close(r->link);
	return WAITER_MORE;
}

static void receiver_poll(void *arg, struct pollfd *fds)
{
	const struct receiver *r = arg;

	fds[0] = (struct pollfd){ .fd = r->listen_fd, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = r->link->fd, .events = POLLIN };
}

/* Every page is here. Has the sender been gone for too long to confirm it? */
static bool receiver_is_abandoned(struct receiver *r)
{
	uint64_t now = now_ns();

	if (receiver_is_connected(r) || !transfer_is_complete(&r->in.transfer))
		r->lost_ns = now;
	return now - r->lost_ns > r->in.timeout_s * NS_PER_S;
}

static int receiver_turn(void *arg, const struct pollfd *fds)
{
	struct receiver *r = arg;
	int code = WAITER_MORE;

	incoming_watch_qemu(&r->in);
	if (fds[0].revents && receiver_take_back(r) == -EINTR)
		return UMIG_INCOMPLETE;
	if (fds[1].revents)
		code = receiver_hears(r);
	if (code != WAITER_MORE)
		return code;
	receiver_tell(r);
	if (!receiver_is_abandoned(r))
		return WAITER_MORE;
	log_error("every page is here, but not confirmed by the sender for %" PRIu64
		  " s, so nothing is converted; "
		  "if the source is known to be well: umig pull --region %" PRIu64
		  " --from '%s'",
		  r->in.timeout_s, r->in.region, r->hello.uri);
	return UMIG_INCOMPLETE;
}

/* After RESUMED: pages until END. Return: an exit code. */
int receiver_pages(struct receiver *r)
{
	struct transfer *t = &r->in.transfer;
	struct waiter w = {
		.transfer = t,
		.progress = &r->progress,
		.signal_fd = r->in.signal_fd,
		.poll = receiver_poll,
		.turn = receiver_turn,
		.arg = r,
	};
	int code;

	watch_phase(&r->watch, "filling");
	r->told_ns = 0;
	code = waiter_wait(&w);
	if (transfer_exit_code(t))
		link_send_error(r->link, CONTROL_FAILED,
				"the destination's memory cannot be filled any more");
	return code;
}

/* Waits until the sender closes the connection: before it has the ACK it may ask again. */
void receiver_linger(struct receiver *r)
{
	uint64_t deadline = now_ns() + LINGER_S * NS_PER_S;
	struct control_message msg;

	while (receiver_is_connected(r) && now_ns() < deadline) {
		struct pollfd pfd = { .fd = r->link->fd, .events = POLLIN };

		if (poll(&pfd, 1, 100) > 0 && receiver_message(r, r->link, 0, &msg) < 0)
			break;
	}
}

// SPDX-License-Identifier: GPL-2.0
/* umig recv: from the sender's HELLO to RESUMED. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "lib/lib.h"
#include "lib/log.h"
#include "migrate/receiver.h"

/* What HELLO says of the guest. */
static void receiver_set_guest(struct receiver *r)
{
	const struct control_message *h = &r->hello;

	r->guest.running = h->running;
	r->guest.ram_size = h->ram_size;
	r->guest.page_size = h->page_size;
	snprintf(r->guest.ram_id, sizeof(r->guest.ram_id), "%s", h->ram_id);
}

/*
 * Attaches to the region. If the guest is not here yet, waits until a connection to the pages is
 * up. Otherwise the guest runs on what it has, and the sender is told so at once.
 */
static int receiver_attach(struct receiver *r)
{
	int ret = incoming_attach(&r->in, r->hello.uri);

	if (ret)
		return ret;
	watch_transfer(&r->watch, &r->in.transfer);
	watch_phase(&r->watch, "switching over");
	return r->in.resume ? 0 : incoming_wait_source(&r->in);
}

/* STATE_END: the source has stopped. Return: 0 or -errno, having said why. */
static int receiver_state_end(struct receiver *r, const struct control_message *msg)
{
	int ret = incoming_end_state(&r->in, msg->bytes, msg->sum);

	if (ret)
		return ret;
	receiver_precopy_stop(r);
	transfer_release(&r->in.transfer);
	state_writer_hold(&r->in.state, false);
	return 0;
}

/* A message before STATE_END. Return: 1 that was STATE_END; 0 go on; -errno, having said why. */
static int receiver_state_message(struct receiver *r, const struct control_frame *frame)
{
	struct control_message msg;
	int ret;

	if (control_decode(frame->body, frame->length, &msg))
		return receiver_lost(r, -EPROTO);
	if (msg.type == CONTROL_STATE_END) {
		ret = receiver_state_end(r, &msg);
		return ret ? ret : 1;
	}
	if (msg.type == CONTROL_ROUND) {
		ret = receiver_precopy_round(r);
		return ret ? receiver_lost(r, ret) : 0;
	}
	if (msg.type == CONTROL_ERROR)
		log_error("the sender gives up: %s", msg.text);
	return receiver_lost(r, -EPROTO);
}

/* One frame up to STATE_END. Return: as receiver_state_message(). */
static int receiver_state_frame(struct receiver *r, const struct control_frame *frame)
{
	switch (frame->kind) {
	case CONTROL_DIRTY:
	case CONTROL_HOLES:
		return receiver_precopy_ranges(r, frame);
	case CONTROL_STATE:
		if (r->precopy_runs)
			watch_phase(&r->watch, "switching over");
		receiver_precopy_stop(r);
		return incoming_push_state(&r->in, frame->body, frame->length);
	default:
		return receiver_state_message(r, frame);
	}
}

/*
 * Takes device state up to STATE_END. QMP is left alone, because QEMU may be waiting for a page.
 * Return: 0 or -errno, having said why.
 */
static int receiver_state(struct receiver *r)
{
	uint64_t last_ns = now_ns();

	for (;;) {
		struct control_frame frame;
		int got = receiver_frame(r, r->link, 200, &frame), ret;

		if (got < 0)
			return receiver_lost(r, got);
		ret = incoming_check_transfer(&r->in);
		if (ret)
			return ret;
		if (r->precopy_runs) {
			if (receiver_precopy_tell(r))
				return receiver_lost(r, -ECONNRESET);
			last_ns = now_ns();
		}
		ret = incoming_check_state_taken(&r->in);
		if (ret)
			return ret;
		if (got) {
			last_ns = now_ns();
			ret = receiver_state_frame(r, &frame);
			if (ret)
				return ret > 0 ? 0 : ret;
		} else if (now_ns() - last_ns > r->in.timeout_s * NS_PER_S) {
			receiver_refuse(r, "no device state for %" PRIu64 " s", r->in.timeout_s);
			return -ETIMEDOUT;
		}
	}
}

/* While QEMU loads the sender is silent. Return: 0 or -errno, having said why. */
static int receiver_hears_while_loading(void *arg)
{
	struct receiver *r = arg;
	struct control_message msg;
	int ret = receiver_message(r, r->link, 0, &msg);

	if (!ret)
		return 0;
	if (ret > 0 && msg.type == CONTROL_ERROR)
		log_error("the sender gives up: %s", msg.text);
	return receiver_lost(r, ret < 0 ? ret : -EPROTO);
}

static int receiver_wait_loaded(struct receiver *r)
{
	struct peer peer = { .fd = r->link->fd, .ready = receiver_hears_while_loading, .arg = r };

	return incoming_wait_loaded(&r->in, &peer);
}

/*
 * Waits for GO, on this connection or as HELLO (go) on a new one. Without GO the guest stays where
 * it is. Return: 0 or -errno, having said why.
 */
static int receiver_wait_go(struct receiver *r)
{
	uint64_t deadline = now_ns() + r->in.timeout_s * NS_PER_S;

	while (!r->go) {
		struct control_message msg;
		struct pollfd pfd = { .fd = r->listen_fd, .events = POLLIN };
		int ret = 0;

		if (now_ns() > deadline) {
			receiver_refuse(r, "no GO from the sender within %" PRIu64 " s; "
				       "the guest was not started here",
				    r->in.timeout_s);
			return -ETIMEDOUT;
		}
		if (receiver_is_connected(r))
			ret = receiver_message(r, r->link, 100, &msg);
		if (ret == -EINTR || ret == -EPIPE)
			return receiver_lost(r, ret);
		if (ret > 0 && msg.type == CONTROL_GO) {
			r->go = true;
			break;
		}
		if (ret > 0) {
			log_error("the sender gives up: %s",
				  msg.type == CONTROL_ERROR ? msg.text : "unexpected message");
			return -EPROTO;
		}
		if (ret < 0) {
			log_info("the connection to the sender is lost before GO; waiting %" PRIu64
				 " s for it to come back",
				 r->in.timeout_s);
			link_close(r->link);
		}
		if (poll(&pfd, 1, receiver_is_connected(r) ? 0 : 200) <= 0)
			continue;
		ret = receiver_accept_again(r);
		if (ret == -EINTR || ret == -EPIPE)
			return receiver_lost(r, ret);
		r->go = !ret;
	}
	return 0;
}

/* After GO. Return: 0 or -errno, having said why. */
static int receiver_resume(struct receiver *r)
{
	int ret = incoming_resume(&r->in, &r->guest);

	if (ret)
		return ret;
	if (r->in.json)
		progress_resumed(&r->progress, r->in.load_ms, r->in.resume_ms);
	/* If the connection is lost, the next read from it finds that out. */
	receiver_send_resumed(r);
	return 0;
}

/* With --resume: an earlier receiver got as far as GO. Return: 0 or -errno, having said why. */
static int receiver_go_on(struct receiver *r)
{
	transfer_release(&r->in.transfer);
	r->go = true;
	if (!incoming_runs(&r->in))
		return receiver_resume(r);
	receiver_send_resumed(r);
	return 0;
}

/* Everything up to RESUMED. Return: 0 or -errno, having said why. */
int receiver_switch_over(struct receiver *r)
{
	int ret;

	watch_phase(&r->watch, "waits for sender");
	ret = receiver_wait_sender(r);
	if (ret)
		return ret;
	receiver_set_guest(r);
	ret = incoming_check_page_size(&r->in, &r->guest);
	if (!ret)
		ret = incoming_check_guest(&r->in, &r->guest);
	if (!ret)
		ret = receiver_attach(r);
	if (ret)
		return ret;
	if (r->in.resume)
		return receiver_go_on(r);
	ret = incoming_start(&r->in, r->hello.id, r->hello.precopy);
	if (!ret && r->hello.precopy)
		ret = receiver_precopy_start(r);
	else if (!ret)
		ret = link_send_type(r->link, CONTROL_READY);
	if (!ret)
		ret = receiver_state(r);
	if (!ret)
		ret = receiver_wait_loaded(r);
	if (!ret)
		ret = link_send_type(r->link, CONTROL_LOADED);
	if (!ret)
		ret = receiver_wait_go(r);
	if (!ret)
		ret = receiver_resume(r);
	return ret;
}

// SPDX-License-Identifier: GPL-2.0
/* umig recv: the connection to the sender. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/lib.h"
#include "lib/log.h"
#include "migrate/receiver.h"

/*
 * The next frame of the link. Return: 1; 0 none came within @timeout_ms; -EINTR a signal; -EPIPE
 * the destination QEMU is gone; another -errno: the connection is of no further use.
 */
int receiver_frame(struct receiver *r, struct control_link *link, int timeout_ms,
		   struct control_frame *frame)
{
	int ret = link_next(link, frame);
	struct pollfd fds[3] = {
		{ .fd = link->fd, .events = POLLIN },
		{ .fd = r->in.signal_fd, .events = POLLIN },
		{ .fd = r->in.qmp.fd, .events = POLLIN },
	};

	if (ret)
		return ret;
	if (poll(fds, 3, timeout_ms) < 0 && errno != EINTR)
		return -errno;
	if (fds[1].revents)
		return -EINTR;
	if (fds[2].revents && qemu_take_events(&r->in.qmp, &r->in.events))
		return -EPIPE;
	if (fds[0].revents)
		ret = link_receive(link);
	return ret ? ret : link_next(link, frame);
}

/* The next message. Return: as receiver_frame(). */
int receiver_message(struct receiver *r, struct control_link *link, int timeout_ms,
		     struct control_message *msg)
{
	struct control_frame frame;
	int ret = receiver_frame(r, link, timeout_ms, &frame);

	if (ret <= 0)
		return ret;
	if (frame.kind != CONTROL_MESSAGE)
		return -EPROTO;
	ret = control_decode(frame.body, frame.length, msg);
	return ret ? ret : 1;
}

/* How long a connection may take to say HELLO. */
#define HELLO_S		10

static struct control_link *receiver_spare(struct receiver *r)
{
	return &r->links[r->link == &r->links[0]];
}

/*
 * Accepts a connection on the spare link and reads its HELLO into @msg. Return: 0; -EAGAIN if
 * nobody said HELLO; -EINTR or -EPIPE as receiver_frame().
 */
static int receiver_accept(struct receiver *r, struct control_message *msg)
{
	struct control_link *spare = receiver_spare(r);
	uint64_t deadline = now_ns() + HELLO_S * NS_PER_S;
	int fd = accept4(r->listen_fd, NULL, NULL, SOCK_CLOEXEC), ret = 0;

	if (fd < 0)
		return -EAGAIN;
	if (link_open(spare, fd))
		return -EAGAIN;
	while (!ret && now_ns() < deadline)
		ret = receiver_message(r, spare, 200, msg);
	if (ret > 0 && msg->type == CONTROL_HELLO)
		return 0;
	if (ret == -EPROTONOSUPPORT)
		link_send_error(spare, CONTROL_FAILED,
				"this umig speaks version %d of the control protocol, the sender another; use the same umig on both sides",
				CONTROL_VERSION);
	link_close(spare);
	if (ret == -EINTR || ret == -EPIPE)
		return ret;
	log_info("a connection was closed because it did not say hello");
	return -EAGAIN;
}

/* Tells the sender on the spare link why it is wrong here, and closes that link. */
static void receiver_turn_away(struct receiver *r, const char *why)
{
	struct control_link *spare = receiver_spare(r);

	link_send_error(spare, CONTROL_FAILED, "%s", why);
	link_close(spare);
}

/* Goes on with the sender on the spare link. */
static void receiver_use_spare(struct receiver *r)
{
	struct control_link *spare = receiver_spare(r);

	link_close(r->link);
	r->link = spare;
	r->lost_ns = 0;
}

/* Return: why the sender that said HELLO is wrong here, or NULL. */
static const char *receiver_is_wrong_for(const struct receiver *r)
{
	if (r->hello.go && !r->in.resume)
		return "this receiver waits for a new migration, not for one that is under way";
	if (!r->hello.go && r->in.resume)
		return "this receiver was started with --resume; it takes no new migration";
	if (r->in.resume && r->in.kept_id[0] && strcmp(r->hello.id, r->in.kept_id))
		return "this receiver goes on with another migration";
	return NULL;
}

/*
 * Waits for the sender and its HELLO. Senders left over from an earlier guest are turned away.
 * Return: 0 or -errno, having said why.
 */
int receiver_wait_sender(struct receiver *r)
{
	log_info("waiting for the sender on %s", r->listen);
	for (;;) {
		struct pollfd fds[3] = {
			{ .fd = r->listen_fd, .events = POLLIN },
			{ .fd = r->in.signal_fd, .events = POLLIN },
			{ .fd = r->in.qmp.fd, .events = POLLIN },
		};
		const char *why;
		int ret;

		if (poll(fds, 3, -1) < 0 && errno != EINTR)
			return -errno;
		if (fds[1].revents) {
			log_error("stopped by a signal before a sender came");
			return -EINTR;
		}
		if (fds[2].revents && qmp_pump(&r->in.qmp)) {
			log_error("the destination QEMU has ended: %s", r->in.qmp.error);
			return -EPIPE;
		}
		if (!fds[0].revents)
			continue;
		ret = receiver_accept(r, &r->hello);
		if (ret == -EAGAIN)
			continue;
		if (ret)
			return ret;
		why = receiver_is_wrong_for(r);
		if (why) {
			log_info("a sender was turned away: %s", why);
			receiver_turn_away(r, why);
			continue;
		}
		receiver_use_spare(r);
		return 0;
	}
}

/*
 * Accepts the sender of this migration, which connects again and says GO. Others are turned away.
 * Return: as receiver_accept().
 */
int receiver_accept_again(struct receiver *r)
{
	struct control_message msg;
	int ret = receiver_accept(r, &msg);

	if (ret)
		return ret;
	if (!msg.go || strcmp(msg.id, r->hello.id)) {
		receiver_turn_away(r, "this receiver is busy with another migration");
		return -EAGAIN;
	}
	receiver_use_spare(r);
	return 0;
}

/* Says what has ended the connection, or the wait for it, before GO. Return: @error. */
int receiver_lost(struct receiver *r, int error)
{
	if (error == -EINTR) {
		receiver_refuse(r, "the receiver was stopped by a signal");
	} else if (error == -EPIPE) {
		receiver_refuse(r, "the destination QEMU has ended: %s; its own messages say why",
				r->in.qmp.error);
	} else {
		log_error("the sender is lost: %s", error == -ENODATA ?
			  "it closed the connection before the end" : strerror(-error));
	}
	return error;
}

int receiver_send_resumed(struct receiver *r)
{
	struct control_message msg = { .type = CONTROL_RESUMED, .resume_ms = r->in.resume_ms };

	return link_send(r->link, &msg);
}

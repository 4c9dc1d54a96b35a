// SPDX-License-Identifier: GPL-2.0
/* umig recv: the connection to the sender, and what comes over it. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/umig.h"
#include "migrate/recv.h"

/*
 * The next frame of the link. Return: 1; 0 none within @timeout_ms; -EINTR a signal; -EPIPE the
 * destination QEMU is gone; another -errno: the connection is of no use any more.
 */
int recv_frame(struct recv *r, struct link *link, int timeout_ms,
	       struct control_frame *frame)
{
	int ret = link_next(link, frame);
	struct pollfd fds[3] = {
		{ .fd = link->fd, .events = POLLIN },
		{ .fd = r->signal_fd, .events = POLLIN },
		{ .fd = r->qmp.fd, .events = POLLIN },
	};

	if (ret)
		return ret;
	if (poll(fds, 3, timeout_ms) < 0 && errno != EINTR)
		return -errno;
	if (fds[1].revents)
		return -EINTR;
	if (fds[2].revents && qemu_take_events(&r->qmp, &r->events))
		return -EPIPE;
	if (fds[0].revents)
		ret = link_receive(link);
	return ret ? ret : link_next(link, frame);
}

/* The next message, in the same way. */
int recv_message(struct recv *r, struct link *link, int timeout_ms,
		 struct control_message *msg)
{
	struct control_frame frame;
	int ret = recv_frame(r, link, timeout_ms, &frame);

	if (ret <= 0)
		return ret;
	if (frame.kind != CONTROL_MESSAGE)
		return -EPROTO;
	ret = control_decode(frame.body, frame.length, msg);
	return ret ? ret : 1;
}

/*
 * Accepts a connection and reads its HELLO into the spare link. Return: 0 and @msg; -EAGAIN if
 * nothing came of it; -EINTR, -EPIPE.
 */
int recv_accept(struct recv *r, struct control_message *msg)
{
	struct link *spare = &r->links[r->link == &r->links[0]];
	uint64_t deadline = now_ns() + 10000000000ULL;
	int fd = accept4(r->listen_fd, NULL, NULL, SOCK_CLOEXEC), ret = 0;

	if (fd < 0)
		return -EAGAIN;
	if (link_open(spare, fd))
		return -EAGAIN;
	while (!ret && now_ns() < deadline)
		ret = recv_message(r, spare, 200, msg);
	if (ret > 0 && msg->type == CONTROL_HELLO)
		return 0;
	if (ret == -EPROTONOSUPPORT)
		link_send_error(spare, CONTROL_FAILED,
				"this umig speaks version %d of the control protocol, the sender another; use the same umig on both sides",
				CONTROL_VERSION);
	link_close(spare);
	if (ret == -EINTR || ret == -EPIPE)
		return ret;
	log_info("a connection came that did not say hello; it was closed");
	return -EAGAIN;
}

/* Who said HELLO last is told why it is not for us. */
void recv_turn_away(struct recv *r, const char *why)
{
	struct link *spare = &r->links[r->link == &r->links[0]];

	link_send_error(spare, CONTROL_FAILED, "%s", why);
	link_close(spare);
}

void recv_use_spare(struct recv *r)
{
	link_close(r->link);
	r->link = &r->links[r->link == &r->links[0]];
	r->lost_ns = 0;
}

/*
 * The sender of this migration comes again, and says GO; others are turned away. Return: as
 * recv_accept().
 */
int recv_accept_again(struct recv *r)
{
	struct control_message msg;
	int ret = recv_accept(r, &msg);

	if (ret)
		return ret;
	if (!msg.go || strcmp(msg.id, r->hello.id)) {
		recv_turn_away(r, "this receiver is busy with another migration");
		return -EAGAIN;
	}
	recv_use_spare(r);
	return 0;
}

/* Says what ended the connection or the wait before GO. Return: @error. */
int recv_lost(struct recv *r, int error)
{
	if (error == -EINTR) {
		recv_refuse(r, "the receiver was stopped by a signal");
	} else if (error == -EPIPE) {
		recv_refuse(r, "the destination QEMU has ended: %s; its own messages say why",
			    r->qmp.error);
	} else {
		log_error("the sender is lost: %s", error == -ENODATA ?
			  "it closed the connection before the end" : strerror(-error));
	}
	return error;
}

int recv_send_resumed(struct recv *r)
{
	struct control_message msg = { .type = CONTROL_RESUMED, .resume_ms = r->resume_ms };

	return link_send(r->link, &msg);
}

// SPDX-License-Identifier: GPL-2.0
/* umig recv: from the sender's HELLO to RESUMED. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/sandbox.h"
#include "lib/umig.h"
#include "migrate/recv.h"

/* Why this HELLO is for another receiver, or NULL. */
static const char *recv_not_ours(const struct recv *r)
{
	if (r->hello.go && !r->resume)
		return "this receiver waits for a new migration, not for one that is under way";
	if (!r->hello.go && r->resume)
		return "this receiver was started with --resume; it takes no new migration";
	if (r->resume && r->id[0] && strcmp(r->hello.id, r->id))
		return "this receiver goes on with another migration";
	return NULL;
}

/* Waits for the sender and its HELLO. Others, left over from an earlier guest, are turned away. */
static int recv_wait_sender(struct recv *r)
{
	log_info("waiting for the sender on %s", r->listen);
	monitor_phase(&r->monitor, "waits for sender");
	for (;;) {
		struct pollfd fds[3] = {
			{ .fd = r->listen_fd, .events = POLLIN },
			{ .fd = r->signal_fd, .events = POLLIN },
			{ .fd = r->qmp.fd, .events = POLLIN },
		};
		const char *why;
		int ret;

		if (poll(fds, 3, -1) < 0 && errno != EINTR)
			return -errno;
		if (fds[1].revents) {
			log_error("stopped by a signal before a sender came");
			return -EINTR;
		}
		if (fds[2].revents && qmp_pump(&r->qmp)) {
			log_error("the destination QEMU has ended: %s", r->qmp.error);
			return -EPIPE;
		}
		if (!fds[0].revents)
			continue;
		ret = recv_accept(r, &r->hello);
		if (ret == -EAGAIN)
			continue;
		if (ret)
			return ret;
		why = recv_not_ours(r);
		if (why) {
			log_info("a sender came for somebody else: %s", why);
			recv_turn_away(r, why);
			continue;
		}
		recv_use_spare(r);
		return recv_check_hello(r);
	}
}

/* Nothing is risked on pages that cannot be had. Return: 0, or -errno, having said why. */
static int recv_wait_pages(struct recv *r)
{
	struct transfer *t = &r->transfer;
	uint64_t deadline = now_ns() + r->timeout_s * 1000000000ULL;

	while (!atomic_load(&t->connected) && !atomic_load(&t->exit_code)) {
		struct pollfd pfd = { .fd = r->signal_fd, .events = POLLIN };

		if (now_ns() > deadline) {
			recv_refuse(r, "cannot connect to the source's pages at %s within %" PRIu64
				       " s; "
				       "give the sender a --pages-listen that can be reached from here",
				    r->hello.uri, r->timeout_s);
			return -ETIMEDOUT;
		}
		if (poll(&pfd, 1, 5) > 0)
			return -EINTR;
	}
	if (atomic_load(&t->exit_code)) {
		link_send_error(r->link, CONTROL_FAILED,
				"the receiver cannot use the pages at %s", r->hello.uri);
		return -EIO;
	}
	return 0;
}

/*
 * Attaches. Before the guest is here it waits for the page connection; afterwards the guest runs
 * on what it has, and the sender is told so at once.
 */
int recv_open_transfer(struct recv *r)
{
	struct transfer *t = &r->transfer;
	int ret = transfer_init(t, r->hello.uri);

	if (ret)
		return ret;
	r->transfer_open = true;
	t->nr_connections = (unsigned int)r->connections;
	t->json = r->json;
	t->replay = r->replay;
	t->record = r->record;
	atomic_store(&t->rate, r->rate);
	ret = transfer_attach(t, r->context, &r->region, 1);
	/* The transfer closes it. */
	r->context = -1;
	if (!ret)
		ret = sandbox_enter();
	if (!ret)
		ret = transfer_start_demand(t);
	if (ret) {
		link_send_error(r->link, CONTROL_FAILED,
				"cannot attach to the destination's memory: %s",
				strerror(-ret));
		return ret;
	}
	monitor_transfer(&r->monitor, t);
	monitor_phase(&r->monitor, "switching over");
	return r->resume ? 0 : recv_wait_pages(r);
}

/* Makes the destination wait for device state on a socket that the state writer fills. */
int recv_start_incoming(struct recv *r)
{
	int pair[2], ret;

	ret = qemu_set_caps(&r->qmp, r->caps);
	r->caps_set = !ret;
	/* For whoever goes on with this. A QEMU that cannot keep it is none the worse for it. */
	if (!ret && *r->hello.id)
		qemu_keep_id(&r->qmp, r->hello.id);
	/* While it waits for a migration, stop means: do not start by yourself at its end. */
	if (!ret)
		ret = qmp_command(&r->qmp, "stop", NULL, NULL);
	if (ret)
		goto failed;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	ret = qmp_send_fd(&r->qmp, RECV_FD_NAME, pair[1]);
	close(pair[1]);
	if (ret) {
		close(pair[0]);
		goto failed;
	}
	r->fd_given = true;
	ret = state_writer_start(&r->state, pair[0]);
	if (ret)
		return ret;
	/* What precopy has brought may be stale until STATE_END, and QEMU reads guest RAM. */
	state_writer_hold(&r->state, r->hello.precopy);
	ret = qmp_command(&r->qmp,
			  "migrate-incoming", json_pack("{s:s}", "uri", "fd:" RECV_FD_NAME),
			  NULL);
	if (!ret) {
		r->fd_given = false;
		return 0;
	}
failed:
	recv_refuse(r, "the destination QEMU cannot be prepared: %s", r->qmp.error);
	return ret;
}

static int recv_state_end(struct recv *r, const struct control_message *msg)
{
	uint64_t sum = state_writer_finish(&r->state);

	if (msg->bytes != r->state.bytes || msg->sum != sum) {
		recv_refuse(r, "the device state arrived damaged: %" PRIu64
			       " bytes instead of %" PRIu64 ", or another digest",
			    r->state.bytes, msg->bytes);
		return -EBADMSG;
	}
	r->state_end_ns = now_ns();
	recv_precopy_stop(r);
	transfer_release(&r->transfer);
	state_writer_hold(&r->state, false);
	return 0;
}

/* Takes device state up to STATE_END. QMP is left alone: QEMU may be waiting for a page. */
static int recv_state(struct recv *r)
{
	uint64_t last_ns = now_ns();

	for (;;) {
		struct control_message msg;
		struct control_frame frame;
		int ret = recv_frame(r, r->link, 200, &frame);

		if (ret < 0)
			return recv_lost(r, ret);
		ret = ret ? 1 : 0;
		if (atomic_load(&r->transfer.exit_code)) {
			recv_refuse(r, "the destination's memory cannot be filled");
			return -EIO;
		}
		if (r->precopy_runs) {
			if (recv_precopy_tell(r))
				return recv_lost(r, -ECONNRESET);
			last_ns = now_ns();
		}
		if (state_writer_error(&r->state)) {
			recv_refuse(r, "the destination QEMU takes no device state: %s; "
				       "its own messages say why",
				    strerror(-state_writer_error(&r->state)));
			return -EPIPE;
		}
		if (!ret && now_ns() - last_ns > r->timeout_s * 1000000000ULL) {
			recv_refuse(r, "no device state for %" PRIu64 " s", r->timeout_s);
			return -ETIMEDOUT;
		}
		if (!ret)
			continue;
		last_ns = now_ns();
		if (frame.kind == CONTROL_DIRTY || frame.kind == CONTROL_HOLES) {
			ret = recv_precopy_ranges(r, &frame);
			if (ret)
				return ret;
			continue;
		}
		if (frame.kind == CONTROL_STATE) {
			if (r->precopy_runs)
				monitor_phase(&r->monitor, "switching over");
			recv_precopy_stop(r);
			ret = state_writer_push(&r->state, frame.body, frame.length);
			if (ret) {
				recv_refuse(r, "cannot keep the device state: %s", strerror(-ret));
				return ret;
			}
			continue;
		}
		if (control_decode(frame.body, frame.length, &msg))
			return recv_lost(r, -EPROTO);
		if (msg.type == CONTROL_STATE_END)
			return recv_state_end(r, &msg);
		if (msg.type == CONTROL_ROUND) {
			ret = recv_precopy_round(r);
			if (ret)
				return recv_lost(r, ret);
			continue;
		}
		if (msg.type == CONTROL_ERROR)
			log_error("the sender gives up: %s", msg.text);
		return recv_lost(r, -EPROTO);
	}
}

/* Asks QEMU how far it is. Return: 1 it has loaded everything, 0, or -errno, having said why. */
static int recv_ask_loaded(struct recv *r)
{
	char state[64], error[256];
	int ret = qemu_migration_state(&r->qmp, state, sizeof(state), error, sizeof(error));

	if (ret) {
		recv_refuse(r, "the destination QEMU cannot load the device state: %s; "
			       "its own messages say why",
			    r->qmp.error);
		return ret;
	}
	if (!strcmp(state, "failed")) {
		recv_refuse(r, "the destination QEMU cannot load the device state: %s", error);
		return -EIO;
	}
	return !strcmp(state, "completed");
}

/*
 * Waits until QEMU has loaded everything. It says so by itself: while it loads and a guest waits it
 * is not asked more often than ten times a second.
 */
int recv_wait_loaded(struct recv *r)
{
	uint64_t deadline = now_ns() + r->timeout_s * 1000000000ULL;
	uint64_t asked_ns = now_ns();

	for (;;) {
		struct control_message msg;
		int ret;

		if (qemu_take_events(&r->qmp, &r->events))
			return recv_lost(r, -EPIPE);
		if (!strcmp(r->events.migration, "completed"))
			break;
		ret = recv_message(r, r->link, 100, &msg);
		if (ret > 0 && msg.type == CONTROL_ERROR)
			log_error("the sender gives up: %s", msg.text);
		if (ret)
			return recv_lost(r, ret < 0 ? ret : -EPROTO);
		if (atomic_load(&r->transfer.exit_code)) {
			recv_refuse(r, "the destination's memory cannot be filled");
			return -EIO;
		}
		if (now_ns() > deadline) {
			recv_refuse(r, "the destination QEMU is still loading device state; "
				    "gave up after %" PRIu64 " s", r->timeout_s);
			return -ETIMEDOUT;
		}
		if (now_ns() - asked_ns < 100000000ULL && strcmp(r->events.migration, "failed"))
			continue;
		ret = recv_ask_loaded(r);
		if (ret < 0)
			return ret;
		if (ret)
			break;
		asked_ns = now_ns();
	}
	/* What it has said before its answer. */
	if (qemu_take_events(&r->qmp, &r->events))
		return recv_lost(r, -EPIPE);
	if (r->events.runs) {
		/* Cannot be after stop; if it were, two guests could run. */
		recv_refuse(r, "the destination guest has started by itself; it must be ended");
		return -EIO;
	}
	r->load_ms = (double)(now_ns() - r->state_end_ns) / 1e6;
	return 0;
}

/*
 * Waits for GO, on this connection or as HELLO (go) on a new one. Without either the guest stays
 * where it is.
 */
static int recv_wait_go(struct recv *r)
{
	uint64_t deadline = now_ns() + r->timeout_s * 1000000000ULL;

	while (!r->go) {
		struct control_message msg;
		struct pollfd pfd = { .fd = r->listen_fd, .events = POLLIN };
		int ret = 0;

		if (now_ns() > deadline) {
			recv_refuse(r, "no GO from the sender within %" PRIu64 " s; "
				       "the guest was not started here",
				    r->timeout_s);
			return -ETIMEDOUT;
		}
		if (recv_is_connected(r))
			ret = recv_message(r, r->link, 100, &msg);
		if (ret == -EINTR || ret == -EPIPE)
			return recv_lost(r, ret);
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
				 r->timeout_s);
			link_close(r->link);
		}
		if (poll(&pfd, 1, recv_is_connected(r) ? 0 : 200) <= 0)
			continue;
		ret = recv_accept_again(r);
		if (ret == -EINTR || ret == -EPIPE)
			return recv_lost(r, ret);
		r->go = !ret;
	}
	return 0;
}

/* After GO. */
int recv_resume_guest(struct recv *r)
{
	uint64_t begin = now_ns();
	char state[64] = "?";

	if (r->hello.running) {
		int ret = qmp_command(&r->qmp, "cont", NULL, NULL);

		if (!ret)
			ret = qemu_run_state(&r->qmp, state, sizeof(state));
		if (ret) {
			recv_refuse(r, "the destination QEMU does not resume the guest: %s; "
				       "mend that and say 'cont' on %s, its pages go on being served meanwhile only by 'umig pull'",
				    r->qmp.error, r->qmp_path);
			return ret;
		}
	}
	r->resume_ms = r->load_ms + (double)(now_ns() - begin) / 1e6;
	r->resumed = true;
	if (r->json)
		progress_resumed(&r->progress, r->load_ms, r->resume_ms);
	/* A lost connection is dealt with where it shows next. */
	recv_send_resumed(r);
	if (r->hello.running)
		log_info("the guest runs here; loading took %.1f ms, resuming %.1f ms", r->load_ms,
			 r->resume_ms - r->load_ms);
	return 0;
}

/* Everything up to RESUMED. Return: 0 or -errno, having said why. */
int recv_switch_over(struct recv *r)
{
	int ret = recv_wait_sender(r);

	if (!ret)
		ret = recv_open_transfer(r);
	if (ret)
		return ret;
	if (r->resume) {
		char state[64] = "?";

		/* The sender's HELLO said go: if the guest does not run yet, it is to run. */
		transfer_release(&r->transfer);
		r->go = true;
		if (!qemu_run_state(&r->qmp, state, sizeof(state)) && !strcmp(state, "running")) {
			r->resumed = true;
			recv_send_resumed(r);
			return 0;
		}
		return recv_resume_guest(r);
	}
	ret = recv_start_incoming(r);
	if (!ret && r->hello.precopy)
		ret = recv_precopy_start(r);
	else if (!ret)
		ret = link_send_type(r->link, CONTROL_READY);
	if (!ret)
		ret = recv_state(r);
	if (!ret)
		ret = recv_wait_loaded(r);
	if (!ret)
		ret = link_send_type(r->link, CONTROL_LOADED);
	if (!ret)
		ret = recv_wait_go(r);
	if (!ret)
		ret = recv_resume_guest(r);
	return ret;
}

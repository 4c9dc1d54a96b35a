// SPDX-License-Identifier: GPL-2.0
/*
 * umig recv: the destination's side of a live migration.
 *
 * The guest is never resumed without GO. The listening socket stays open to the end, so that a
 * sender whose connection broke after GO can ask (HELLO, phase go) and learn what became of it.
 *
 * Demand is attached before QEMU loads device state, because loading touches guest RAM, but it
 * reads no page before STATE_END: until the source has stopped, a page read from it may be stale,
 * and a page is filled only once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "dev.h"
#include "find.h"
#include "link.h"
#include "log.h"
#include "progress.h"
#include "qemu.h"
#include "state.h"
#include "transfer.h"
#include "umig.h"

#define FD_NAME		"umig-state"
#define PROGRESS_MS	500

struct recv {
	/* Options. */
	const char *qmp_path;
	const char *listen;
	uint64_t timeout_s;
	uint64_t connections;
	uint64_t rate;
	bool json;
	bool resume;
	pid_t pid;

	int signal_fd;
	int listen_fd;
	struct qmp qmp;
	struct qemu_ram ram;
	struct qemu_cap caps[QEMU_MAX_CAPS];
	bool caps_set;
	bool fd_given;
	int context;
	uint64_t region;
	struct control_message hello;
	struct link links[2];
	struct link *link;
	struct state_writer state;
	struct transfer transfer;
	bool transfer_open;
	struct progress progress;

	uint64_t state_end_ns;
	double load_ms;
	double resume_ms;
	bool go;
	bool resumed;
	bool converted;
	uint64_t lost_ns;
	uint64_t told_ns;
};

static bool recv_is_connected(const struct recv *r)
{
	return r->link->fd >= 0;
}

/* Checks the destination QEMU. Return: 0 or -errno, having said why. */
static int recv_check_qemu(struct recv *r)
{
	char state[64];
	int ret;

	if (qemu_run_state(&r->qmp, state, sizeof(state))) {
		log_error("cannot ask the destination QEMU for its state: %s", r->qmp.error);
		return -EIO;
	}
	if (!r->resume && strcmp(state, "inmigrate")) {
		log_error("the destination QEMU is in state '%s', not waiting for a migration; start it with -incoming defer%s",
			  state, strcmp(state, "running") && strcmp(state, "paused") ? "" :
			  ", or give --resume if its memory is only partly there");
		return -EOPNOTSUPP;
	}
	if (r->resume && !strcmp(state, "inmigrate")) {
		log_error("the destination QEMU has not been loaded, there is nothing to resume");
		return -EOPNOTSUPP;
	}
	ret = qemu_find_ram(&r->qmp, "destination", &r->ram);
	if (ret)
		return ret;
	if (strcmp(r->ram.path, dev_path())) {
		log_error("the destination's RAM is the file %s; start it with -object memory-backend-file,id=%s,size=%" PRIu64 ",mem-path=%s,share=off",
			  r->ram.path, r->ram.id, r->ram.size, dev_path());
		return -EOPNOTSUPP;
	}
	if (r->ram.prealloc) {
		log_error("the destination's memory backend has prealloc=on, which waits for every page; leave it out");
		return -EOPNOTSUPP;
	}
	if (!r->pid)
		r->pid = r->qmp.pid;
	if (qemu_has_locked_memory(r->pid)) {
		log_error("the destination QEMU locks its memory (-overcommit mem-lock=on), which waits for every page; leave it out");
		return -EOPNOTSUPP;
	}
	return r->resume ? 0 : qemu_check_caps(&r->qmp, "destination", r->caps);
}

static int recv_find_region(struct recv *r)
{
	struct postcopy_region_info info;
	uint64_t *ids = NULL;
	size_t nr = 0;
	int ret;

	r->context = find_open_context();
	if (r->context < 0)
		return r->context;
	ret = find_regions(r->context, r->pid, &ids, &nr);
	if (!ret && nr == 1)
		r->region = ids[0];
	free(ids);
	if (!ret && nr != 1) {
		log_error("QEMU (process %d) has %zu regions of %s instead of 1%s", (int)r->pid, nr,
			  dev_path(), nr ? "" : "; if this is not QEMU's process id, give --pid");
		return -EOPNOTSUPP;
	}
	if (!ret)
		ret = dev_region_info(r->context, r->region, &info);
	if (ret) {
		log_error("cannot find the region of process %d: %s", (int)r->pid, strerror(-ret));
		return ret;
	}
	if (info.out_offset || info.out_length != r->ram.size) {
		log_error("region %" PRIu64 " has %" PRIu64 " bytes at %" PRIu64 ", the machine's RAM has %" PRIu64,
			  r->region, (uint64_t)info.out_length, (uint64_t)info.out_offset,
			  r->ram.size);
		return -EOPNOTSUPP;
	}
	return 0;
}

/*
 * The next frame of the link. Return: 1; 0 none within @timeout_ms; -EINTR a signal; -EPIPE the
 * destination QEMU is gone; another -errno: the connection is of no use any more.
 */
static int recv_frame(struct recv *r, struct link *link, int timeout_ms,
		      struct control_frame *frame)
{
	int ret = link_next(link, frame);
	struct pollfd fds[3] = {
		{ .fd = link->fd, .events = POLLIN },
		{ .fd = r->signal_fd, .events = POLLIN },
		{ .fd = r->qmp.fd, .events = POLLIN },
	};
	json_t *event;

	if (ret)
		return ret;
	if (poll(fds, 3, timeout_ms) < 0 && errno != EINTR)
		return -errno;
	if (fds[1].revents)
		return -EINTR;
	if (fds[2].revents) {
		ret = qmp_pump(&r->qmp);
		while ((event = qmp_next_event(&r->qmp)))
			json_decref(event);
		if (ret)
			return -EPIPE;
	}
	if (fds[0].revents)
		ret = link_receive(link);
	return ret ? ret : link_next(link, frame);
}

/* The next message, in the same way. */
static int recv_message(struct recv *r, struct link *link, int timeout_ms,
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
static int recv_accept(struct recv *r, struct control_message *msg)
{
	struct link *spare = &r->links[r->link == &r->links[0]];
	uint64_t deadline = now_ns() + 10000000000ULL;
	int fd = accept4(r->listen_fd, NULL, NULL, SOCK_CLOEXEC), ret = 0;

	if (fd < 0)
		return -EAGAIN;
	link_open(spare, fd);
	while (!ret && now_ns() < deadline)
		ret = recv_message(r, spare, 200, msg);
	if (ret > 0 && msg->type == CONTROL_HELLO)
		return 0;
	if (ret == -EPROTONOSUPPORT)
		link_send_error(spare, "this umig speaks version %d of the control protocol, the sender another; use the same umig on both sides",
				CONTROL_VERSION);
	link_close(spare);
	if (ret == -EINTR || ret == -EPIPE)
		return ret;
	log_info("a connection came that did not say hello; it was closed");
	return -EAGAIN;
}

static void recv_use_spare(struct recv *r)
{
	link_close(r->link);
	r->link = &r->links[r->link == &r->links[0]];
	r->lost_ns = 0;
}

/* Says @fmt to the sender and to the user. */
#define recv_refuse(r, fmt, ...)						\
do {										\
	log_error(fmt, ##__VA_ARGS__);						\
	link_send_error((r)->link, fmt, ##__VA_ARGS__);				\
} while (0)

static int recv_check_hello(struct recv *r)
{
	const struct control_message *h = &r->hello;

	if (h->go != r->resume) {
		recv_refuse(r, "%s", h->go ?
			    "this receiver knows nothing of that migration; start it with --resume" :
			    "this receiver was started with --resume; it takes no new migration");
		return -EOPNOTSUPP;
	}
	if (h->page_size != UMIG_PAGE_SIZE) {
		recv_refuse(r, "pages of %" PRIu64 " bytes on the source, %llu here", h->page_size,
			    UMIG_PAGE_SIZE);
		return -EOPNOTSUPP;
	}
	if (h->ram_size != r->ram.size) {
		recv_refuse(r, "the source's RAM has %" PRIu64 " bytes, the destination's %" PRIu64 "; start both QEMUs with the same -m",
			    h->ram_size, r->ram.size);
		return -EOPNOTSUPP;
	}
	if (strcmp(h->ram_id, r->ram.id)) {
		recv_refuse(r, "the memory backend is called '%s' on the source and '%s' on the destination; QEMU needs the same name on both",
			    h->ram_id, r->ram.id);
		return -EOPNOTSUPP;
	}
	return 0;
}

/* Waits for the sender and its HELLO. */
static int recv_wait_sender(struct recv *r)
{
	log_info("waiting for the sender on %s", r->listen);
	for (;;) {
		struct pollfd fds[3] = {
			{ .fd = r->listen_fd, .events = POLLIN },
			{ .fd = r->signal_fd, .events = POLLIN },
			{ .fd = r->qmp.fd, .events = POLLIN },
		};
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
		recv_use_spare(r);
		return recv_check_hello(r);
	}
}

/* Attaches and waits for the page connection. */
static int recv_open_transfer(struct recv *r)
{
	struct transfer *t = &r->transfer;
	uint64_t deadline = now_ns() + r->timeout_s * 1000000000ULL;
	int ret = transfer_init(t, r->hello.uri);

	if (ret)
		return ret;
	r->transfer_open = true;
	t->nr_connections = (unsigned int)r->connections;
	atomic_store(&t->rate, r->rate);
	ret = transfer_attach(t, r->context, &r->region, 1);
	/* The transfer closes it. */
	r->context = -1;
	if (!ret)
		ret = transfer_start_demand(t);
	if (ret) {
		link_send_error(r->link, "cannot attach to the destination's memory: %s",
				strerror(-ret));
		return ret;
	}
	while (!atomic_load(&t->connected) && !atomic_load(&t->exit_code)) {
		struct pollfd pfd = { .fd = r->signal_fd, .events = POLLIN };

		if (now_ns() > deadline) {
			recv_refuse(r, "cannot connect to the source's pages at %s within %" PRIu64 " s; give the sender a --pages-listen that can be reached from here",
				    r->hello.uri, r->timeout_s);
			return -ETIMEDOUT;
		}
		if (poll(&pfd, 1, 5) > 0)
			return -EINTR;
	}
	if (atomic_load(&t->exit_code)) {
		link_send_error(r->link, "the receiver cannot use the pages at %s", r->hello.uri);
		return -EIO;
	}
	return 0;
}

/* Makes the destination wait for device state on a socket that the state writer fills. */
static int recv_start_incoming(struct recv *r)
{
	int pair[2], ret;

	ret = qemu_set_caps(&r->qmp, r->caps);
	r->caps_set = !ret;
	/* While it waits for a migration, stop means: do not start by yourself at its end. */
	if (!ret)
		ret = qmp_command(&r->qmp, "stop", NULL, NULL);
	if (ret)
		goto failed;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	ret = qmp_send_fd(&r->qmp, FD_NAME, pair[1]);
	close(pair[1]);
	if (ret) {
		close(pair[0]);
		goto failed;
	}
	r->fd_given = true;
	ret = state_writer_start(&r->state, pair[0]);
	if (ret)
		return ret;
	ret = qmp_command(&r->qmp, "migrate-incoming", json_pack("{s:s}", "uri", "fd:" FD_NAME),
			  NULL);
	if (!ret) {
		r->fd_given = false;
		return 0;
	}
failed:
	recv_refuse(r, "the destination QEMU cannot be prepared: %s", r->qmp.error);
	return ret;
}

/* Says what ended the connection or the wait before GO. Return: @error. */
static int recv_lost(struct recv *r, int error)
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

static int recv_state_end(struct recv *r, const struct control_message *msg)
{
	uint64_t sum = state_writer_finish(&r->state);

	if (msg->bytes != r->state.bytes || msg->sum != sum) {
		recv_refuse(r, "the device state arrived damaged: %" PRIu64 " bytes instead of %" PRIu64 ", or another digest",
			    r->state.bytes, msg->bytes);
		return -EBADMSG;
	}
	r->state_end_ns = now_ns();
	transfer_release(&r->transfer);
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
		if (state_writer_error(&r->state)) {
			recv_refuse(r, "the destination QEMU takes no device state: %s; its own messages say why",
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
		if (frame.kind == CONTROL_STATE) {
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
		if (msg.type == CONTROL_ERROR)
			log_error("the sender gives up: %s", msg.text);
		return recv_lost(r, -EPROTO);
	}
}

/* Waits until QEMU has loaded everything. */
static int recv_wait_loaded(struct recv *r)
{
	uint64_t deadline = now_ns() + r->timeout_s * 1000000000ULL;
	char state[64], error[256];

	for (;;) {
		struct control_message msg;
		int ret = qemu_migration_state(&r->qmp, state, sizeof(state), error,
					       sizeof(error));

		if (ret) {
			recv_refuse(r, "the destination QEMU cannot load the device state: %s; its own messages say why",
				    r->qmp.error);
			return ret;
		}
		if (!strcmp(state, "completed"))
			break;
		if (!strcmp(state, "failed")) {
			recv_refuse(r, "the destination QEMU cannot load the device state: %s",
				    error);
			return -EIO;
		}
		if (atomic_load(&r->transfer.exit_code)) {
			recv_refuse(r, "the destination's memory cannot be filled");
			return -EIO;
		}
		if (now_ns() > deadline) {
			recv_refuse(r, "the destination QEMU has not loaded the device state within %" PRIu64 " s",
				    r->timeout_s);
			return -ETIMEDOUT;
		}
		ret = recv_message(r, r->link, 1, &msg);
		if (ret)
			return recv_lost(r, ret < 0 ? ret : -EPROTO);
	}
	if (!qemu_run_state(&r->qmp, state, sizeof(state)) && !strcmp(state, "running")) {
		/* Cannot be after stop; if it were, two guests could run. */
		recv_refuse(r, "the destination guest has started by itself; it must be ended");
		return -EIO;
	}
	r->load_ms = (double)(now_ns() - r->state_end_ns) / 1e6;
	return link_send_type(r->link, CONTROL_LOADED);
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
			recv_refuse(r, "no GO from the sender within %" PRIu64 " s; the guest was not started here",
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
			log_info("the connection to the sender is lost before GO; waiting %" PRIu64 " s for it to come back",
				 r->timeout_s);
			link_close(r->link);
		}
		if (poll(&pfd, 1, recv_is_connected(r) ? 0 : 200) <= 0)
			continue;
		ret = recv_accept(r, &msg);
		if (ret == -EINTR || ret == -EPIPE)
			return recv_lost(r, ret);
		if (ret || !msg.go || strcmp(msg.id, r->hello.id))
			continue;
		recv_use_spare(r);
		r->go = true;
	}
	return 0;
}

static int recv_send_resumed(struct recv *r)
{
	struct control_message msg = { .type = CONTROL_RESUMED, .resume_ms = r->resume_ms };

	return link_send(r->link, &msg);
}

/* After GO. */
static int recv_resume_guest(struct recv *r)
{
	uint64_t begin = now_ns();
	char state[64] = "?";

	if (r->hello.running) {
		int ret = qmp_command(&r->qmp, "cont", NULL, NULL);

		if (!ret)
			ret = qemu_run_state(&r->qmp, state, sizeof(state));
		if (ret) {
			recv_refuse(r, "the destination QEMU does not resume the guest: %s; mend that and say 'cont' on %s, its pages go on being served meanwhile only by 'umig pull'",
				    r->qmp.error, r->qmp_path);
			return ret;
		}
	}
	r->resume_ms = r->load_ms + (double)(now_ns() - begin) / 1e6;
	r->resumed = true;
	/* A lost connection is dealt with where it shows next. */
	recv_send_resumed(r);
	if (r->hello.running)
		log_info("the guest runs here; loading took %.1f ms, resuming %.1f ms", r->load_ms,
			 r->resume_ms - r->load_ms);
	return 0;
}

/* A sender that lost us comes back. */
static int recv_take_back(struct recv *r)
{
	struct control_message msg;
	int ret = recv_accept(r, &msg);

	if (ret)
		return ret == -EAGAIN ? 0 : ret;
	if (!msg.go || strcmp(msg.id, r->hello.id)) {
		link_send_error(&r->links[r->link == &r->links[0]],
				"this receiver is busy with another migration");
		link_close(&r->links[r->link == &r->links[0]]);
		return 0;
	}
	recv_use_spare(r);
	r->told_ns = 0;
	log_info("the sender is back");
	return recv_send_resumed(r);
}

/* Tells the sender how far we are, twice a second; DONE instead once every page is there. */
static void recv_tell(struct recv *r)
{
	const struct transfer *t = &r->transfer;
	struct control_message msg = {
		.type = transfer_is_complete(t) ? CONTROL_DONE : CONTROL_PROGRESS,
		.present = transfer_present_pages(t),
		.total = transfer_total_pages(t),
		.demand = atomic_load(&t->pages[FILL_DEMAND]),
	};
	uint64_t now = now_ns();

	if (!recv_is_connected(r))
		return;
	if (msg.type == CONTROL_DONE) {
		/* Once for each connection. */
		if (r->told_ns == UINT64_MAX)
			return;
		r->told_ns = UINT64_MAX;
	} else {
		if (now - r->told_ns < PROGRESS_MS * 1000000ULL)
			return;
		r->told_ns = now;
	}
	link_send(r->link, &msg);
}

/* END: does what came agree with what was sent? Return: an exit code, -1 to go on. */
static int recv_end(struct recv *r, const struct control_message *msg)
{
	struct transfer *t = &r->transfer;
	struct digest got;
	int ret;

	if (!transfer_is_complete(t)) {
		recv_refuse(r, "mismatch: END came before all pages were there");
		return UMIG_MISMATCH;
	}
	transfer_digest(t, &got);
	if (msg->total != transfer_total_pages(t) ||
	    (t->whole_view && (got.nr_zero != msg->digest.nr_zero ||
			       got.nr_data != msg->digest.nr_data ||
			       got.sum != msg->digest.sum))) {
		recv_refuse(r, "mismatch: %" PRIu64 " data and %" PRIu64 " zero pages with digest %016" PRIx64 " came, %" PRIu64 ", %" PRIu64 " and %016" PRIx64 " were sent; nothing is converted, keep both sides for inspection",
			    got.nr_data, got.nr_zero, got.sum, msg->digest.nr_data,
			    msg->digest.nr_zero, msg->digest.sum);
		return UMIG_MISMATCH;
	}
	if (!t->whole_view)
		log_info("another umig had filled part of the pages, so the digest cannot be compared; the number of pages is right");
	ret = transfer_convert(t);
	if (ret == -EAGAIN) {
		r->told_ns = 0;
		return -1;
	}
	if (ret) {
		link_send_error(r->link, "the destination's memory cannot be converted: %s",
				strerror(-ret));
		return atomic_load(&t->exit_code) ? atomic_load(&t->exit_code) : UMIG_FAILED;
	}
	r->converted = true;
	/* If this is lost the sender keeps its pages until told otherwise by a person. */
	if (link_send_type(r->link, CONTROL_ACK))
		log_error("the sender did not get the acknowledgement; the guest is whole here, the source QEMU may be ended");
	return UMIG_OK;
}

/* One message of the sender while pages come. Return: an exit code, -1 to go on. */
static int recv_page_message(struct recv *r)
{
	struct control_message msg;
	int ret = recv_message(r, r->link, 0, &msg);

	if (!ret)
		return -1;
	if (ret > 0 && msg.type == CONTROL_END)
		return recv_end(r, &msg);
	if (ret > 0 && msg.type == CONTROL_ERROR) {
		log_error("the sender says: %s; nothing is converted", msg.text);
		return UMIG_FAILED;
	}
	if (ret == -EINTR)
		return UMIG_INCOMPLETE;
	if (ret == -EPIPE)
		return -1;
	log_error("the connection to the sender is lost: %s; pages go on coming if its page server lives",
		  ret == -ENODATA ? "closed without END" : strerror(ret < 0 ? -ret : EPROTO));
	link_close(r->link);
	return -1;
}

/* QEMU's end is noticed by the region's; a QMP socket that merely hangs up matters to nobody. */
static void recv_watch_qemu(struct recv *r)
{
	if (r->qmp.fd >= 0 && qmp_pump(&r->qmp)) {
		close(r->qmp.fd);
		r->qmp.fd = -1;
	}
}

/* After RESUMED: pages until END. Return: an exit code. */
static int recv_pages(struct recv *r)
{
	struct transfer *t = &r->transfer;

	for (;;) {
		struct pollfd fds[4] = {
			{ .fd = r->signal_fd, .events = POLLIN },
			{ .fd = r->listen_fd, .events = POLLIN },
			{ .fd = r->link->fd, .events = POLLIN },
			{ .fd = t->done_fd, .events = POLLIN },
		};
		uint64_t value, now;
		int code = -1;

		if (poll(fds, 4, 100) < 0 && errno != EINTR)
			return UMIG_FAILED;
		if (fds[3].revents && read(t->done_fd, &value, sizeof(value)) < 0)
			return UMIG_FAILED;
		recv_watch_qemu(r);
		progress_show(&r->progress, t);
		if (atomic_load(&t->exit_code)) {
			link_send_error(r->link, "the destination's memory cannot be filled any more");
			return atomic_load(&t->exit_code);
		}
		if (fds[0].revents)
			return UMIG_INCOMPLETE;
		if (transfer_is_complete(t) && !atomic_load(&t->complete_ns))
			atomic_store(&t->complete_ns, now_ns());
		if (fds[1].revents) {
			int ret = recv_take_back(r);

			if (ret == -EINTR)
				return UMIG_INCOMPLETE;
		}
		if (fds[2].revents)
			code = recv_page_message(r);
		if (code >= 0)
			return code;
		recv_tell(r);

		now = now_ns();
		if (recv_is_connected(r) || !transfer_is_complete(t))
			r->lost_ns = now;
		if (now - r->lost_ns > r->timeout_s * 1000000000ULL) {
			log_error("every page is here, but the sender has not confirmed it for %" PRIu64 " s, so nothing is converted; if the source is known to be well: umig pull --region %" PRIu64 " --from '%s'",
				  r->timeout_s, r->region, r->hello.uri);
			return UMIG_INCOMPLETE;
		}
	}
}

/* The sender hangs up when it has the ACK; until then it may ask again. */
static void recv_linger(struct recv *r)
{
	uint64_t deadline = now_ns() + 5000000000ULL;
	struct control_message msg;

	while (recv_is_connected(r) && now_ns() < deadline) {
		struct pollfd pfd = { .fd = r->link->fd, .events = POLLIN };

		if (poll(&pfd, 1, 100) > 0 && recv_message(r, r->link, 0, &msg) < 0)
			break;
	}
}

static void recv_report(struct recv *r, int code)
{
	const struct transfer *t = &r->transfer;

	progress_end(&r->progress);
	if (r->json) {
		json_t *summary = progress_summary(t);

		json_object_set_new(summary, "resume_ms", json_real(r->resume_ms));
		json_object_set_new(summary, "load_ms", json_real(r->load_ms));
		json_object_set_new(summary, "state_bytes", json_integer((json_int_t)r->state.bytes));
		json_object_set_new(summary, "digest_checked",
				    json_boolean(r->converted && t->whole_view));
		json_object_set_new(summary, "converted", json_boolean(r->converted));
		json_object_set_new(summary, "exit_code", json_integer(code));
		progress_print_json(summary);
	} else {
		progress_print_summary(t);
	}
	if (code == UMIG_OK)
		log_info("%sconverted to ordinary memory", t->whole_view ? "digest agreed; " : "");
	else if (code == UMIG_INCOMPLETE)
		log_error("stopped with %" PRIu64 " pages missing; go on with 'umig recv --resume --qmp %s --listen %s' or 'umig pull --region %" PRIu64 " --from \"%s\"'",
			  transfer_total_pages(t) - transfer_present_pages(t), r->qmp_path,
			  r->listen, r->region, r->hello.uri);
}

/* Everything up to RESUMED. Return: 0 or -errno, having said why. */
static int recv_switch_over(struct recv *r)
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
	if (!ret)
		ret = link_send_type(r->link, CONTROL_READY);
	if (!ret)
		ret = recv_state(r);
	if (!ret)
		ret = recv_wait_loaded(r);
	if (!ret)
		ret = recv_wait_go(r);
	if (!ret)
		ret = recv_resume_guest(r);
	return ret;
}

static int recv_migrate(struct recv *r)
{
	int ret, code;

	if (qmp_open(&r->qmp, r->qmp_path, 10000)) {
		log_error("cannot talk to the destination QEMU on %s: %s", r->qmp_path,
			  r->qmp.error);
		return UMIG_FAILED;
	}
	r->qmp.timeout_ms = (unsigned int)r->timeout_s * 1000;
	if (recv_check_qemu(r))
		return UMIG_REFUSED;
	ret = recv_find_region(r);
	if (ret)
		return ret == -EOPNOTSUPP ? UMIG_REFUSED : UMIG_FAILED;
	r->listen_fd = address_listen(r->listen);
	if (r->listen_fd < 0) {
		log_error("cannot listen on %s: %s", r->listen, strerror(-r->listen_fd));
		return UMIG_FAILED;
	}
	ret = recv_switch_over(r);
	if (ret) {
		if (!r->go)
			log_error("the guest was not started here%s",
				  r->caps_set ? "; this QEMU can be thrown away" : "");
		if (r->fd_given)
			qmp_command(&r->qmp, "closefd", json_pack("{s:s}", "fdname", FD_NAME),
				    NULL);
		return r->go ? UMIG_UNKNOWN : ret == -EOPNOTSUPP ? UMIG_REFUSED : UMIG_FAILED;
	}
	if (transfer_start_background(&r->transfer))
		code = UMIG_FAILED;
	else
		code = recv_pages(r);
	if (r->caps_set && r->qmp.fd >= 0)
		qemu_restore_caps(&r->qmp, r->caps);
	transfer_stop(&r->transfer);
	if (code == UMIG_OK)
		recv_linger(r);
	recv_report(r, code);
	return code;
}

static void recv_cleanup(struct recv *r)
{
	state_writer_stop(&r->state);
	if (r->transfer_open) {
		transfer_stop(&r->transfer);
		transfer_destroy(&r->transfer);
	}
	if (r->context >= 0)
		close(r->context);
	if (r->listen_fd >= 0)
		close(r->listen_fd);
	if (r->listen_fd >= 0 && address_unix_path(r->listen))
		unlink(address_unix_path(r->listen));
	link_destroy(&r->links[0]);
	link_destroy(&r->links[1]);
	qmp_close(&r->qmp);
}

static int recv_parse(struct recv *r, int argc, char **argv)
{
	static const struct option options[] = {
		{ "qmp", required_argument, NULL, 'q' },
		{ "listen", required_argument, NULL, 'l' },
		{ "pid", required_argument, NULL, 'p' },
		{ "timeout", required_argument, NULL, 'T' },
		{ "connections", required_argument, NULL, 'c' },
		{ "rate", required_argument, NULL, 'R' },
		{ "resume", no_argument, NULL, 'r' },
		{ "json", no_argument, NULL, 'j' },
		{ 0 }
	};
	uint64_t pid = 0;
	int c, bad = 0;

	r->timeout_s = 60;
	r->connections = 2;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'q':
			r->qmp_path = optarg;
			break;
		case 'l':
			r->listen = optarg;
			break;
		case 'p':
			bad |= umig_parse_u64(optarg, &pid) || !pid || pid > INT32_MAX;
			break;
		case 'T':
			bad |= umig_parse_u64(optarg, &r->timeout_s) || !r->timeout_s ||
				r->timeout_s > 86400;
			break;
		case 'c':
			bad |= umig_parse_u64(optarg, &r->connections) || !r->connections ||
				r->connections > MAX_CONNECTIONS;
			break;
		case 'R':
			bad |= umig_parse_size(optarg, &r->rate);
			break;
		case 'r':
			r->resume = true;
			break;
		case 'j':
			r->json = true;
			break;
		default:
			return umig_usage(&recv_subcommand, "the option is not known or lacks its value");
		}
		if (bad)
			return umig_usage(&recv_subcommand, "'%s' is not a good value", optarg);
	}
	r->pid = (pid_t)pid;
	if (optind != argc)
		return umig_usage(&recv_subcommand, "'%s' is too much", argv[optind]);
	if (!r->qmp_path || !r->listen)
		return umig_usage(&recv_subcommand, "--qmp SOCKET and --listen ADDRESS are needed");
	if (address_check(r->listen))
		return umig_usage(&recv_subcommand, "'%s' is neither unix:PATH nor tcp:HOST:PORT",
				  r->listen);
	return 0;
}

static int recv_run(int argc, char **argv)
{
	struct recv *r = calloc(1, sizeof(*r));
	int code;

	if (!r)
		return UMIG_FAILED;
	code = recv_parse(r, argc, argv);
	if (code) {
		free(r);
		return code;
	}
	r->context = -1;
	r->listen_fd = -1;
	r->qmp.fd = -1;
	r->link = &r->links[0];
	r->caps[0] = (struct qemu_cap){ .name = "x-ignore-shared", .want = true, .required = true };
	/* Disk images are locked by cont, not by loading: the source can still take them back. */
	r->caps[1] = (struct qemu_cap){ .name = "late-block-activate", .want = true };
	r->caps[2] = (struct qemu_cap){ .name = "return-path" };
	r->caps[3] = (struct qemu_cap){ .name = "multifd" };
	r->signal_fd = umig_signal_fd();
	progress_init(&r->progress, r->json);
	code = UMIG_FAILED;
	if (r->signal_fd >= 0 && !link_init(&r->links[0]) && !link_init(&r->links[1])) {
		code = recv_migrate(r);
		recv_cleanup(r);
	}
	free(r);
	return code;
}

const struct subcommand recv_subcommand = {
	.name = "recv",
	.purpose = "receive a guest that 'umig send' migrates",
	.help =
	"usage: umig recv --qmp SOCKET --listen unix:PATH|tcp:HOST:PORT [OPTIONS]\n\n"
	"Waits for 'umig send', loads the device state, lets the guest run when the sender says so,\n"
	"and fills its memory. The destination QEMU is started with\n"
	"  -object memory-backend-file,id=r0,size=SIZE,mem-path=/dev/postcopy,share=off\n"
	"  -machine TYPE,memory-backend=r0 -incoming defer\n"
	"and otherwise like the source.\n\n"
	"  --qmp SOCKET       QMP socket of the destination QEMU\n"
	"  --listen ADDRESS   where the sender connects\n"
	"  --resume           an earlier 'umig recv' was killed: go on with its guest; give the\n"
	"                     same --listen, the sender comes back by itself\n"
	"  --pid PID          QEMU's process id, if the socket does not tell\n"
	"  --connections N    background connections, 1 to 16 (2)\n"
	"  --rate BYTES       background reads per second at most (suffix K, M, G)\n"
	"  --timeout SECONDS  how long to wait for each step of the other side (60)\n"
	"  --json             JSON lines on stdout: progress, then a summary\n",
	.run = recv_run,
};

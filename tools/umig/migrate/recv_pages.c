// SPDX-License-Identifier: GPL-2.0
/* umig recv: the guest runs, its pages come; END, conversion, ACK. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "lib/umig.h"
#include "migrate/recv.h"

#define PROGRESS_MS	500

/* A sender that lost us comes back. */
static int recv_take_back(struct recv *r)
{
	int ret = recv_accept_again(r);

	if (ret)
		return ret == -EAGAIN ? 0 : ret;
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
		recv_refuse_as(r, CONTROL_MISMATCH,
			       "the contents differ: END came before all pages were there");
		return UMIG_MISMATCH;
	}
	transfer_digest(t, &got);
	if (msg->total != transfer_total_pages(t) ||
	    (t->whole_view && (got.nr_zero != msg->digest.nr_zero ||
			       got.nr_data != msg->digest.nr_data ||
			       got.sum != msg->digest.sum))) {
		recv_refuse_as(r, CONTROL_MISMATCH, "the contents differ: %" PRIu64
						    " data and %" PRIu64
						    " zero pages with digest %016" PRIx64
						    " came, %" PRIu64 ", %" PRIu64
						    " and %016" PRIx64 " were sent; "
						    "nothing is converted, keep both sides for inspection",
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
		link_send_error(r->link, CONTROL_FAILED,
				"the destination's memory cannot be converted: %s",
				strerror(-ret));
		return atomic_load(&t->exit_code) ? atomic_load(&t->exit_code) : UMIG_FAILED;
	}
	r->converted = true;
	/* If this is lost the sender keeps its pages until told otherwise by a person. */
	if (link_send_type(r->link, CONTROL_ACK))
		log_error("the sender did not hear of it; "
			  "the guest is whole here, the source QEMU may be ended");
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
	log_error("the connection to the sender is lost: %s; "
		  "pages go on coming if its page server lives",
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
int recv_pages(struct recv *r)
{
	struct transfer *t = &r->transfer;

	monitor_phase(&r->monitor, "filling");
	r->told_ns = 0;
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
			link_send_error(r->link, CONTROL_FAILED,
					"the destination's memory cannot be filled any more");
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
			log_error("every page is here, but not confirmed by the sender for %" PRIu64
				  " s, so nothing is converted; "
				  "if the source is known to be well: umig pull --region %" PRIu64
				  " --from '%s'",
				  r->timeout_s, r->region, r->hello.uri);
			return UMIG_INCOMPLETE;
		}
	}
}

/* The sender hangs up when it has the ACK; until then it may ask again. */
void recv_linger(struct recv *r)
{
	uint64_t deadline = now_ns() + 5000000000ULL;
	struct control_message msg;

	while (recv_is_connected(r) && now_ns() < deadline) {
		struct pollfd pfd = { .fd = r->link->fd, .events = POLLIN };

		if (poll(&pfd, 1, 100) > 0 && recv_message(r, r->link, 0, &msg) < 0)
			break;
	}
}

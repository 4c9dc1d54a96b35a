// SPDX-License-Identifier: GPL-2.0
/*
 * umig recv: the destination's side of a live migration.
 *
 * The guest is never resumed without GO. The listening socket stays open to the end, so that a
 * sender whose connection broke after GO can ask (HELLO, phase go) what became of the guest.
 *
 * Demand is attached before QEMU loads device state, because loading touches guest RAM. But it
 * reads no page before STATE_END: until the source has stopped a page read from it may be stale,
 * and a page is filled only once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "lib/log.h"
#include "migrate/receiver.h"
#include "wire/address.h"

static void receiver_report(struct receiver *r, int code)
{
	struct transfer *t = &r->in.transfer;

	progress_end(&r->progress);
	if (r->in.json) {
		json_t *summary = progress_summary(t);

		json_object_set_new(summary, "resume_ms", json_real(r->in.resume_ms));
		json_object_set_new(summary, "load_ms", json_real(r->in.load_ms));
		json_object_set_new(summary, "state_bytes",
				    json_integer((json_int_t)r->in.state.bytes));
		json_object_set_new(summary, "digest_checked",
				    json_boolean(r->converted && t->whole_view));
		json_object_set_new(summary, "converted", json_boolean(r->converted));
		json_object_set_new(summary, "exit_code", json_integer(code));
		log_json(summary);
	} else {
		progress_print_summary(t);
	}
	if (code == UMIG_OK)
		log_info("%sconverted to ordinary memory", t->whole_view ? "digest agreed; " : "");
	else if (code == UMIG_INCOMPLETE)
		log_error("stopped with %" PRIu64 " pages missing; "
			  "go on with 'umig recv --resume --qmp %s --listen %s'; "
			  "or 'umig pull --region %" PRIu64
			  " --from \"%s\"'",
			  transfer_total_pages(t) - transfer_present_pages(t), r->in.qmp_path,
			  r->listen, r->in.region, r->hello.uri);
}

/* Nothing has been risked yet. Return: 0 or an exit code, having said why. */
static int receiver_prepare(struct receiver *r)
{
	int ret;

	if (incoming_open(&r->in))
		return UMIG_FAILED;
	if (incoming_check(&r->in))
		return UMIG_REFUSED;
	ret = incoming_find_region(&r->in);
	if (ret)
		return ret == -EOPNOTSUPP ? UMIG_REFUSED : UMIG_FAILED;
	r->listen_fd = address_listen(r->listen);
	if (r->listen_fd < 0) {
		log_error("cannot listen on %s: %s", r->listen, strerror(-r->listen_fd));
		return UMIG_FAILED;
	}
	return 0;
}

/* The migration has failed before RESUMED. Return: an exit code. */
static int receiver_give_up(struct receiver *r, int error)
{
	/* The link sends nothing if it is not connected. */
	if (*r->in.why)
		link_send_error(r->link, CONTROL_FAILED, "%s", r->in.why);
	if (r->go)
		return UMIG_UNKNOWN;
	log_error("the guest was not started here%s",
		  r->in.caps_set ? "; this QEMU can be thrown away" : "");
	return error == -EOPNOTSUPP ? UMIG_REFUSED : UMIG_FAILED;
}

static int receiver_migrate(struct receiver *r)
{
	int code = receiver_prepare(r), ret;

	if (code)
		return code;
	ret = receiver_switch_over(r);
	if (ret)
		return receiver_give_up(r, ret);
	if (transfer_start_background(&r->in.transfer))
		code = UMIG_FAILED;
	else
		code = receiver_pages(r);
	incoming_put_back(&r->in, code == UMIG_OK);
	transfer_stop(&r->in.transfer);
	if (code == UMIG_OK)
		receiver_linger(r);
	receiver_report(r, code);
	return code;
}

static void receiver_cleanup(struct receiver *r)
{
	watch_stop(&r->watch);
	incoming_close(&r->in);
	if (r->listen_fd >= 0)
		close(r->listen_fd);
	if (r->listen_fd >= 0 && address_unix_path(r->listen))
		unlink(address_unix_path(r->listen));
	link_destroy(&r->links[0]);
	link_destroy(&r->links[1]);
}

/* After the options have been read. Return: an exit code. */
int receiver_run(struct receiver *r)
{
	int code;

	incoming_init(&r->in);
	r->listen_fd = -1;
	r->link = &r->links[0];
	progress_init(&r->progress, r->in.json);
	if (r->in.signal_fd < 0 || link_init(&r->links[0]) || link_init(&r->links[1])) {
		log_error("cannot begin: no memory or no descriptors");
		return UMIG_FAILED;
	}
	watch_start(&r->watch, "recv");
	code = receiver_migrate(r);
	receiver_cleanup(r);
	return code;
}

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
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <getopt.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/umig.h"
#include "migrate/recv.h"
#include "wire/address.h"
#include "wire/tls.h"
#include "wire/tls_session.h"

static void recv_report(struct recv *r, int code)
{
	struct transfer *t = &r->transfer;

	progress_end(&r->progress);
	if (r->json) {
		json_t *summary = progress_summary(t);

		json_object_set_new(summary, "resume_ms", json_real(r->resume_ms));
		json_object_set_new(summary, "load_ms", json_real(r->load_ms));
		json_object_set_new(summary,
				    "state_bytes", json_integer((json_int_t)r->state.bytes));
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
		log_error("stopped with %" PRIu64 " pages missing; "
			  "go on with 'umig recv --resume --qmp %s --listen %s'; "
			  "or 'umig pull --region %" PRIu64
			  " --from \"%s\"'",
			  transfer_total_pages(t) - transfer_present_pages(t), r->qmp_path,
			  r->listen, r->region, r->hello.uri);
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
			qmp_command(&r->qmp, "closefd", json_pack("{s:s}", "fdname", RECV_FD_NAME),
				    NULL);
		return r->go ? UMIG_UNKNOWN : ret == -EOPNOTSUPP ? UMIG_REFUSED : UMIG_FAILED;
	}
	if (transfer_start_background(&r->transfer))
		code = UMIG_FAILED;
	else
		code = recv_pages(r);
	if (r->caps_set && r->qmp.fd >= 0)
		qemu_restore_caps(&r->qmp, r->caps);
	if (code == UMIG_OK && r->qmp.fd >= 0)
		qemu_forget_id(&r->qmp);
	transfer_stop(&r->transfer);
	if (code == UMIG_OK)
		recv_linger(r);
	recv_report(r, code);
	return code;
}

void recv_cleanup(struct recv *r)
{
	state_writer_stop(&r->state);
	monitor_stop(&r->monitor);
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
		{ "listen", required_argument, NULL, 'l' },
		{ "timeout", required_argument, NULL, 'T' },
		{ "resume", no_argument, NULL, 'r' },
		RECV_OPTIONS,
		{ 0 }
	};
	int c, ret;

	recv_defaults(r);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		ret = 0;
		switch (c) {
		case 'l':
			r->listen = optarg;
			break;
		case 'T':
			if (umig_parse_u64(optarg, &r->timeout_s) || !r->timeout_s ||
			    r->timeout_s > 86400)
				ret = -EINVAL;
			break;
		case 'r':
			r->resume = true;
			break;
		default:
			ret = recv_option(r, c, optarg);
		}
		if (ret == -ENOENT)
			return umig_usage(&recv_subcommand,
					  "the option is not known or lacks its value");
		if (ret)
			return umig_usage(&recv_subcommand, "'%s' is not a good value", optarg);
	}
	if (optind != argc)
		return umig_usage(&recv_subcommand, "'%s' is too much", argv[optind]);
	if (!r->qmp_path || !r->listen)
		return umig_usage(&recv_subcommand, "--qmp SOCKET and --listen ADDRESS are needed");
	if (address_check(r->listen))
		return umig_usage(&recv_subcommand, "'%s' is neither unix:PATH nor tcp:HOST:PORT",
				  r->listen);
	if (tls_problem())
		return umig_usage(&recv_subcommand, "%s", tls_problem());
	return tls_load(TLS_SERVER, NULL) ? UMIG_REFUSED : 0;
}

/* After the options. Return: 0 or -errno. */
int recv_init(struct recv *r)
{
	r->context = -1;
	r->listen_fd = -1;
	r->qmp.fd = -1;
	r->link = &r->links[0];
	r->caps[0] = (struct qemu_cap){ .name = "x-ignore-shared", .want = true, .required = true };
	/* Disk images are locked by cont, not by loading: the source can still take them back. */
	r->caps[1] = (struct qemu_cap){ .name = "late-block-activate", .want = true };
	r->caps[2] = (struct qemu_cap){ .name = "return-path" };
	r->caps[3] = (struct qemu_cap){ .name = "multifd" };
	r->caps[4] = (struct qemu_cap){ .name = "events", .want = true };
	r->signal_fd = umig_signal_fd();
	progress_init(&r->progress, r->json);
	if (r->signal_fd < 0)
		return r->signal_fd;
	return link_init(&r->links[0]) || link_init(&r->links[1]) ? -ENOMEM : 0;
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
	code = UMIG_FAILED;
	if (!recv_init(r)) {
		monitor_start(&r->monitor, "recv");
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
	"and otherwise like the source; with share=on if it has vhost-user devices or is to be moved\n"
	"once more by 'umig send'.\n\n"
	"  --qmp SOCKET       QMP socket of the destination QEMU\n"
	"  --listen ADDRESS   where the sender connects\n"
	"  --resume           an earlier 'umig recv' was killed: go on with its guest; give the\n"
	"                     same --listen, the sender comes back by itself\n"
	"  --pid PID          QEMU's process id, if the socket does not tell\n"
	"  --connections N    background connections, 1 to 16 (2)\n"
	"  --rate BYTES       background reads per second at most (suffix K, M, G)\n"
	"  --timeout SECONDS  how long to wait for each step of the other side (60)\n"
	"  --tls-psk FILE | --tls-certificates DIR\n"
	"                     only encrypted, and only with a sender one knows (see umig(1))\n"
	"  --json             JSON lines on stdout: progress, then a summary\n",
	.run = recv_run,
};

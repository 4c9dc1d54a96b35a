// SPDX-License-Identifier: GPL-2.0
/* umig pull: fill the regions of a VMM from an NBD export, then convert them. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "device/regions.h"
#include "lib/log.h"
#include "lib/options.h"
#include "lib/sandbox.h"
#include "transfer/transfer.h"
#include "watch/progress.h"
#include "watch/waiter.h"
#include "watch/watch.h"
#include "wire/tls.h"

#define MAX_REGIONS	1024

struct pull_options {
	uint64_t pid;
	uint64_t ids[MAX_REGIONS];
	size_t nr_ids;
	const char *uri;
	uint64_t rate;
	uint64_t connections;
	uint64_t timeout_s;
	bool json;
	bool no_convert;
	bool wait;
};

/* --region may be given more than once. */
static const char *pull_take_region(void *value, const char *text)
{
	struct pull_options *o = value;

	if (o->nr_ids == MAX_REGIONS)
		return "is one region too many";
	return parse_u64(text, &o->ids[o->nr_ids++]) ? "is not the number of a region" : NULL;
}

static int pull_parse(struct pull_options *o, int argc, char **argv)
{
	const struct option_entry options[] = {
		OPTION_OF_NUMBER("pid", &o->pid, 1, INT32_MAX),
		OPTION_OF_TAKE("region", o, pull_take_region),
		OPTION_OF_TEXT("from", &o->uri),
		OPTION_OF_SIZE("rate", &o->rate, OPTION_MAX_BYTES),
		OPTION_OF_NUMBER("connections", &o->connections, 1, MAX_CONNECTIONS),
		OPTION_OF_NUMBER("timeout", &o->timeout_s, 1, OPTION_MAX_SECONDS),
		OPTION_OF_FLAG("json", &o->json),
		OPTION_OF_FLAG("no-convert", &o->no_convert),
		OPTION_OF_FLAG("wait", &o->wait),
		TLS_OPTIONS,
		{ 0 }
	};
	int ret;

	o->connections = 2;
	o->timeout_s = 30;
	ret = options_parse("pull", options, argc, argv, 0);
	if (ret)
		return ret;
	if (tls_problem())
		return options_bad("pull", "%s", tls_problem());
	if (!o->uri)
		return options_bad("pull", "--from NBD-URI is missing");
	if (!o->pid == !o->nr_ids)
		return options_bad("pull", "give either --pid or --region");
	if (o->wait && !o->pid)
		return options_bad("pull", "--wait needs --pid");
	return 0;
}

/* Finds the regions of --pid. Return: 0 or an exit code, having said why. */
static int pull_find(struct pull_options *o, int context, int signal_fd)
{
	while (!o->nr_ids) {
		struct pollfd fds[2] = {
			{ .fd = signal_fd, .events = POLLIN },
			{ .fd = context, .events = POLLIN },
		};
		uint64_t *ids = NULL;
		size_t nr = 0;
		int ret = regions_of(context, (pid_t)o->pid, &ids, &nr);

		if (ret) {
			log_error("cannot list regions: %s", strerror(-ret));
			return UMIG_FAILED;
		}
		if (nr > MAX_REGIONS)
			nr = MAX_REGIONS;
		memcpy(o->ids, ids, nr * sizeof(*ids));
		o->nr_ids = nr;
		free(ids);
		if (nr)
			break;
		if (!o->wait) {
			log_error("process %" PRIu64 " has no region that is still to be filled; "
				  "see 'umig list', or give --wait",
				  o->pid);
			return UMIG_GONE;
		}
		if (kill((pid_t)o->pid, 0) && errno == ESRCH) {
			log_error("cannot wait for a region: there is no process %" PRIu64, o->pid);
			return UMIG_GONE;
		}
		poll(fds, 2, 1000);
		if (fds[0].revents)
			return UMIG_INCOMPLETE;
	}
	return 0;
}

static void pull_report(struct transfer *t, const struct pull_options *o, int code)
{
	if (o->json) {
		json_t *summary = progress_summary(t);

		json_object_set_new(summary, "exit_code", json_integer(code));
		json_object_set_new(summary, "converted",
				    json_boolean(code == UMIG_OK && !o->no_convert));
		log_json(summary);
	} else {
		progress_print_summary(t);
	}
	if (code == UMIG_INCOMPLETE)
		log_error("stopped with %" PRIu64 " pages missing; the same command picks up here",
			  transfer_total_pages(t) - transfer_present_pages(t));
	else if (code == UMIG_OK && !o->no_convert)
		log_info("converted to ordinary memory");
}

static int pull_transfer(struct pull_options *o, int context, int signal_fd)
{
	struct progress progress;
	struct watch watch;
	struct transfer t;
	int code = UMIG_FAILED, ret;

	ret = transfer_init(&t, o->uri);
	if (ret) {
		log_error("cannot begin: %s", strerror(-ret));
		return UMIG_FAILED;
	}
	t.no_digest = true;
	t.nr_connections = (unsigned int)o->connections;
	t.timeout_ms = (unsigned int)o->timeout_s * 1000;
	t.json = o->json;
	atomic_store(&t.rate, o->rate);
	ret = transfer_attach(&t, context, o->ids, (unsigned int)o->nr_ids);
	if (ret) {
		code = ret == -ENOENT || ret == -ESRCH || ret == -EALREADY ? UMIG_GONE :
			UMIG_REFUSED;
		goto out;
	}
	if (sandbox_enter())
		goto out;
	progress_init(&progress, o->json);
	watch_start(&watch, "pull");
	watch_transfer(&watch, &t);
	watch_phase(&watch, "filling");
	transfer_release(&t);
	if (!transfer_is_complete(&t) &&
	    (transfer_start_demand(&t) || transfer_start_background(&t)))
		goto stop;
	code = waiter_convert(&t, &progress, signal_fd, NULL, !o->no_convert);
stop:
	watch_stop(&watch);
	transfer_stop(&t);
	progress_end(&progress);
	pull_report(&t, o, code);
out:
	transfer_destroy(&t);
	return code;
}

static int pull_run(int argc, char **argv)
{
	struct pull_options *o = calloc(1, sizeof(*o));
	int code, context, signal_fd;

	if (!o)
		return UMIG_FAILED;
	code = pull_parse(o, argc, argv);
	if (code)
		goto out;
	code = UMIG_FAILED;
	signal_fd = signal_fd_open();
	if (signal_fd < 0)
		goto out;
	context = regions_open_context();
	if (context < 0)
		goto out;
	code = pull_find(o, context, signal_fd);
	if (code)
		close(context);
	else
		code = pull_transfer(o, context, signal_fd);
out:
	free(o);
	return code;
}

const struct subcommand pull_subcommand = {
	.name = "pull",
	.purpose = "fill a VMM's memory from an NBD export, then convert it",
	.help =
	"usage: umig pull (--pid PID | --region ID [--region ID ...]) --from NBD-URI [OPTIONS]\n\n"
	"Becomes the helper of the regions, answers faults first, fills the rest in the background\n"
	"and at the end turns the memory into ordinary anonymous memory. After it was stopped or\n"
	"killed, the same command picks up where it was. It tries for ever to reach a lost source.\n\n"
	"  --pid PID         all regions of this process\n"
	"  --region ID       this region (see 'umig list'); may be repeated\n"
	"  --from NBD-URI    nbd://HOST:PORT/, nbd+unix:///?socket=PATH, nbds://... (TLS)\n"
	"  --tls-psk FILE, --tls-user NAME, --tls-certificates DIR\n"
	"                    encrypt, and check who the server is (see umig(1))\n"
	"  --wait            with --pid: wait until the process has a region\n"
	"  --rate BYTES      background reads per second at most (suffix K, M, G)\n"
	"  --connections N   background connections, 1 to 16 (2)\n"
	"  --timeout SECONDS a connection whose answer takes longer counts as lost (30)\n"
	"  --no-convert      leave the regions in the driver at the end\n"
	"  --json            JSON lines on stdout: progress, then a summary\n",
	.run = pull_run,
};

// SPDX-License-Identifier: GPL-2.0
/* umig pull: fill the regions of a VMM from an NBD export, then convert them. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cmd/pull.h"
#include "device/dev.h"
#include "device/find.h"
#include "lib/log.h"
#include "lib/sandbox.h"
#include "lib/umig.h"
#include "transfer/transfer.h"
#include "watch/monitor.h"
#include "watch/progress.h"
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

static int pull_parse(struct pull_options *o, int argc, char **argv)
{
	static const struct option options[] = {
		{ "pid", required_argument, NULL, 'p' },
		{ "region", required_argument, NULL, 'r' },
		{ "from", required_argument, NULL, 'f' },
		{ "rate", required_argument, NULL, 'R' },
		{ "connections", required_argument, NULL, 'c' },
		{ "timeout", required_argument, NULL, 't' },
		{ "json", no_argument, NULL, 'j' },
		{ "no-convert", no_argument, NULL, 'n' },
		{ "wait", no_argument, NULL, 'w' },
		TLS_OPTIONS,
		{ 0 }
	};
	int c, bad = 0;

	memset(o, 0, sizeof(*o));
	o->connections = 2;
	o->timeout_s = 30;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'p':
			bad |= umig_parse_u64(optarg, &o->pid) || !o->pid || o->pid > INT32_MAX;
			break;
		case 'r':
			if (o->nr_ids == MAX_REGIONS)
				return umig_usage(&pull_subcommand, "too many regions");
			bad |= umig_parse_u64(optarg, &o->ids[o->nr_ids++]);
			break;
		case 'f':
			o->uri = optarg;
			break;
		case 'R':
			bad |= umig_parse_size(optarg, &o->rate);
			break;
		case 'c':
			bad |= umig_parse_u64(optarg, &o->connections) || !o->connections ||
				o->connections > MAX_CONNECTIONS;
			break;
		case 't':
			bad |= umig_parse_u64(optarg, &o->timeout_s) || !o->timeout_s ||
				o->timeout_s > 86400;
			break;
		case 'j':
			o->json = true;
			break;
		case 'n':
			o->no_convert = true;
			break;
		case 'w':
			o->wait = true;
			break;
		default:
			if (tls_option(c, optarg))
				break;
			return umig_usage(&pull_subcommand,
					  "the option is not known or lacks its value");
		}
		if (bad)
			return umig_usage(&pull_subcommand, "'%s' is not a good value", optarg);
	}
	if (optind != argc)
		return umig_usage(&pull_subcommand, "'%s' is too much", argv[optind]);
	if (tls_problem())
		return umig_usage(&pull_subcommand, "%s", tls_problem());
	if (!o->uri)
		return umig_usage(&pull_subcommand, "--from NBD-URI is missing");
	if (!o->pid == !o->nr_ids)
		return umig_usage(&pull_subcommand, "give either --pid or --region");
	if (o->wait && !o->pid)
		return umig_usage(&pull_subcommand, "--wait goes with --pid");
	return 0;
}

/* Fills in the ids of --pid. Return: 0 or an exit code. */
static int pull_find(struct pull_options *o, int context, int signal_fd)
{
	while (!o->nr_ids) {
		struct pollfd fds[2] = {
			{ .fd = signal_fd, .events = POLLIN },
			{ .fd = context, .events = POLLIN },
		};
		uint64_t *ids = NULL;
		size_t nr = 0;
		int ret = find_regions(context, (pid_t)o->pid, &ids, &nr);

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

static bool pull_agrees(const struct transfer *t, const struct digest *want)
{
	struct digest got;

	if (!want || !t->whole_view)
		return true;
	transfer_digest(t, &got);
	if (got.nr_zero == want->nr_zero && got.nr_data == want->nr_data && got.sum == want->sum)
		return true;
	log_error("the contents differ: %" PRIu64 " data and %" PRIu64
		  " zero pages with digest %016" PRIx64 " came, not %" PRIu64 ", %" PRIu64
		  " and %016" PRIx64 "; nothing is converted, keep both sides for inspection",
		  got.nr_data, got.nr_zero, got.sum, want->nr_data, want->nr_zero, want->sum);
	return false;
}

/**
 * pull_wait - shows progress until every page is there, then compares and converts
 * @want: what the contents should be, or NULL
 *
 * Return: an exit code.
 */
int pull_wait(struct transfer *t, int signal_fd, struct progress *progress,
	      const struct digest *want, bool convert)
{
	for (;;) {
		struct pollfd fds[2] = {
			{ .fd = signal_fd, .events = POLLIN },
			{ .fd = t->done_fd, .events = POLLIN },
		};
		uint64_t value;
		int ret;

		if (poll(fds, 2, 100) < 0 && errno != EINTR)
			return UMIG_FAILED;
		if (fds[1].revents && read(t->done_fd, &value, sizeof(value)) < 0)
			return UMIG_FAILED;
		progress_show(progress, t);
		if (atomic_load(&t->exit_code))
			return atomic_load(&t->exit_code);
		if (fds[0].revents)
			return UMIG_INCOMPLETE;
		if (!transfer_is_complete(t))
			continue;
		if (!atomic_load(&t->complete_ns))
			atomic_store(&t->complete_ns, now_ns());
		progress->last_ns = 0;
		progress_show(progress, t);
		if (!pull_agrees(t, want))
			return UMIG_MISMATCH;
		if (!convert)
			return UMIG_OK;
		ret = transfer_convert(t);
		if (ret == -EAGAIN) {
			usleep(50000);
			continue;
		}
		if (ret && !atomic_load(&t->exit_code))
			transfer_fail(t, UMIG_FAILED);
		return atomic_load(&t->exit_code);
	}
}

static void pull_report(struct transfer *t, const struct pull_options *o, int code)
{
	if (o->json) {
		json_t *summary = progress_summary(t);

		json_object_set_new(summary, "exit_code", json_integer(code));
		json_object_set_new(summary, "converted",
				    json_boolean(code == UMIG_OK && !o->no_convert));
		progress_print_json(summary);
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
	struct monitor monitor;
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
	monitor_start(&monitor, "pull");
	monitor_transfer(&monitor, &t);
	monitor_phase(&monitor, "filling");
	transfer_release(&t);
	if (!transfer_is_complete(&t) &&
	    (transfer_start_demand(&t) || transfer_start_background(&t)))
		goto stop;
	code = pull_wait(&t, signal_fd, &progress, NULL, !o->no_convert);
stop:
	monitor_stop(&monitor);
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
	signal_fd = umig_signal_fd();
	if (signal_fd < 0)
		goto out;
	context = find_open_context();
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
	"and at the end turns the memory into ordinary anonymous memory. Stopped or killed at any\n"
	"moment, the same command picks up where it was. A lost source is tried again for ever.\n\n"
	"  --pid PID         all regions of this process\n"
	"  --region ID       this region (see 'umig list'); may be repeated\n"
	"  --from NBD-URI    nbd://HOST:PORT/, nbd+unix:///?socket=PATH, nbds://... (TLS)\n"
	"  --tls-psk FILE, --tls-user NAME, --tls-certificates DIR\n"
	"                    encrypt, and check who the server is (see umig(1))\n"
	"  --wait            with --pid: wait until the process has a region\n"
	"  --rate BYTES      background reads per second at most (suffix K, M, G)\n"
	"  --connections N   background connections, 1 to 16 (2)\n"
	"  --timeout SECONDS an answer that takes longer means the connection is lost (30)\n"
	"  --no-convert      leave the regions in the driver at the end\n"
	"  --json            JSON lines on stdout: progress, then a summary\n",
	.run = pull_run,
};

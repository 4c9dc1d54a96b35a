// SPDX-License-Identifier: GPL-2.0
/*
 * umig restore: a guest out of a snapshot. It runs at once, its pages come on demand and in the
 * background, from the snapshot's own file or from any NBD server that has it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/pull.h"
#include "lib/umig.h"
#include "migrate/recv.h"
#include "migrate/snapshot.h"
#include "serve/serve.h"
#include "transfer/working_set.h"
#include "wire/tls.h"

struct restore {
	struct recv recv;
	const char *dir;
	const char *uri;
	struct snapshot meta;
	struct page_server server;
	uint64_t record_s;
	bool replay;
	struct working_set set;
	int state_fd;
};

static void restore_set_path(const struct restore *re, char *path)
{
	snprintf(path, PATH_MAX, "%s/" SNAPSHOT_SET, re->dir);
}

/* Gives QEMU the device state. Return: 0 or -errno, having said why. */
static int restore_state(struct restore *re)
{
	struct recv *r = &re->recv;
	uint8_t *buf = malloc(CONTROL_MAX_STATE);
	int ret = buf ? 0 : -ENOMEM;
	ssize_t n = 1;

	while (!ret && n) {
		n = read(re->state_fd, buf, CONTROL_MAX_STATE);
		if (n < 0 && errno != EINTR)
			ret = -errno;
		if (n > 0)
			ret = state_writer_push(&r->state, buf, (uint32_t)n);
	}
	free(buf);
	if (ret && state_writer_error(&r->state)) {
		log_error("QEMU takes no device state: %s; its own messages say why",
			  strerror(-state_writer_error(&r->state)));
		return -EPIPE;
	}
	if (ret) {
		log_error("cannot read the device state %s/" SNAPSHOT_STATE ": %s", re->dir,
			  strerror(-ret));
		return ret;
	}
	if (r->state.bytes != re->meta.state_bytes ||
	    state_writer_finish(&r->state) != re->meta.state_sum) {
		log_error("%s/" SNAPSHOT_STATE " is not what was saved; the guest was not started",
			  re->dir);
		return -EBADMSG;
	}
	r->state_end_ns = now_ns();
	return 0;
}

/*
 * What of DIR is needed while the guest is started: later root may not open what is another user's
 * (sandbox.c). Serves ram.raw on a socket of our own, unless there is a server.
 */
static int restore_source(struct restore *re)
{
	char file[PATH_MAX];
	int ret;

	snprintf(file, sizeof(file), "%s/" SNAPSHOT_STATE, re->dir);
	re->state_fd = open(file, O_RDONLY | O_CLOEXEC);
	if (re->state_fd < 0) {
		log_error("cannot read the device state %s: %s", file, strerror(errno));
		return -errno;
	}
	if (re->uri)
		return 0;
	snprintf(file, sizeof(file), "%s/" SNAPSHOT_RAM, re->dir);
	ret = page_server_start_private(&re->server, file);
	re->uri = re->server.uri;
	return ret;
}

/* Until the guest runs. Return: 0 or an exit code. */
static int restore_start_guest(struct restore *re)
{
	struct recv *r = &re->recv;
	int ret;

	if (qmp_open(&r->qmp, r->qmp_path, 10000)) {
		log_error("cannot talk to QEMU on %s: %s", r->qmp_path, r->qmp.error);
		return UMIG_FAILED;
	}
	r->qmp.timeout_ms = (unsigned int)r->timeout_s * 1000;
	r->hello.running = re->meta.running;
	r->hello.ram_size = re->meta.ram_size;
	r->hello.page_size = re->meta.page_size;
	snprintf(r->hello.ram_id, sizeof(r->hello.ram_id), "%s", re->meta.ram_id);
	if (recv_check_qemu(r))
		return UMIG_REFUSED;
	ret = recv_find_region(r);
	if (ret)
		return ret == -EOPNOTSUPP ? UMIG_REFUSED : UMIG_FAILED;
	if (recv_check_hello(r))
		return UMIG_REFUSED;
	if (restore_source(re))
		return UMIG_FAILED;
	snprintf(r->hello.uri, sizeof(r->hello.uri), "%s", re->uri);
	ret = recv_open_transfer(r);
	if (ret)
		return r->transfer_open && atomic_load(&r->transfer.exit_code) ?
			atomic_load(&r->transfer.exit_code) : UMIG_FAILED;
	/* As whom it will be written. */
	if (re->record_s && access(re->dir, W_OK)) {
		log_error("cannot record into %s: %s", re->dir, strerror(errno));
		return UMIG_REFUSED;
	}
	/* The pages are what they will ever be. */
	transfer_release(&r->transfer);
	/* What it will touch first can come while its devices are loaded. */
	if (re->replay && transfer_start_background(&r->transfer))
		return UMIG_FAILED;
	ret = recv_start_incoming(r);
	if (!ret)
		ret = restore_state(re);
	if (!ret)
		ret = recv_wait_loaded(r);
	if (!ret)
		ret = recv_resume_guest(r);
	if (ret)
		log_error("the guest was not started; this QEMU can be thrown away");
	return ret ? UMIG_FAILED : 0;
}

/*
 * For a while only what the guest touches is read, and that is written down. Return: 0, also if
 * it could not be kept, which is no reason to stop the guest; or an exit code.
 */
static int restore_record(struct restore *re)
{
	struct recv *r = &re->recv;
	struct transfer *t = &r->transfer;
	uint64_t end = now_ns() + re->record_s * 1000000000ULL;
	char path[PATH_MAX];

	log_info("recording for %" PRIu64 " s what the guest touches", re->record_s);
	monitor_phase(&r->monitor, "recording");
	while (now_ns() < end && !transfer_is_complete(t)) {
		struct pollfd pfd = { .fd = r->signal_fd, .events = POLLIN };

		/* Its end is told by the exit code and by completeness: nothing to wait for. */
		if (poll(&pfd, 1, 100) < 0 && errno != EINTR)
			return UMIG_FAILED;
		progress_show(&r->progress, t);
		if (atomic_load(&t->exit_code))
			return atomic_load(&t->exit_code);
		if (pfd.revents)
			return UMIG_INCOMPLETE;
	}
	transfer_stop_recording(t);
	restore_set_path(re, path);
	if (!working_set_save(&re->set, path, re->meta.ram_size / UMIG_PAGE_SIZE))
		log_info("working set: %" PRIu64 " pages, in %s", working_set_pages(&re->set),
			 path);
	return 0;
}

static int restore_fill(struct restore *re)
{
	struct recv *r = &re->recv;
	int code = re->record_s ? restore_record(re) : 0;

	if (code)
		return code;
	monitor_phase(&r->monitor, "filling");
	if (!re->replay && transfer_start_background(&r->transfer))
		return UMIG_FAILED;
	return pull_wait(&r->transfer, r->signal_fd, &r->progress, &re->meta.digest, true);
}

static int restore_guest(struct restore *re)
{
	struct recv *r = &re->recv;
	struct transfer *t = &r->transfer;
	int code = restore_start_guest(re);
	double started_ms = (double)(now_ns() - r->progress.started_ns) / 1e6;

	if (code)
		return code;
	log_info("the guest runs after %.0f ms", started_ms);
	code = restore_fill(re);
	transfer_stop(t);
	if (r->caps_set && r->qmp.fd >= 0)
		qemu_restore_caps(&r->qmp, r->caps);
	progress_end(&r->progress);
	if (r->json) {
		json_t *summary = progress_summary(t);

		json_object_set_new(summary, "started_ms", json_real(started_ms));
		json_object_set_new(summary, "converted", json_boolean(code == UMIG_OK));
		json_object_set_new(summary, "exit_code", json_integer(code));
		progress_print_json(summary);
	} else {
		progress_print_summary(t);
	}
	if (code == UMIG_OK)
		log_info("%sconverted to ordinary memory",
			 t->whole_view ? "the contents are what was saved; " : "");
	else if (code == UMIG_INCOMPLETE)
		log_error("stopped with %" PRIu64 " pages missing; "
			  "go on with 'umig serve --file %s/" SNAPSHOT_RAM
			  " --listen unix:PATH' and 'umig pull --region %" PRIu64
			  " --from \"nbd+unix:///?socket=PATH\"'",
			  transfer_total_pages(t) - transfer_present_pages(t), re->dir, r->region);
	return code;
}

static int restore_parse(struct restore *re, int argc, char **argv)
{
	static const struct option options[] = {
		{ "from", required_argument, NULL, 'f' },
		{ "record", required_argument, NULL, 'o' },
		{ "replay", no_argument, NULL, 'y' },
		RECV_OPTIONS,
		{ 0 }
	};
	struct recv *r = &re->recv;
	int c, ret;

	recv_defaults(r);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		ret = 0;
		switch (c) {
		case 'f':
			re->uri = optarg;
			break;
		case 'o':
			if (umig_parse_u64(optarg, &re->record_s) || !re->record_s ||
			    re->record_s > 3600)
				ret = -EINVAL;
			break;
		case 'y':
			re->replay = true;
			break;
		default:
			ret = recv_option(r, c, optarg);
		}
		if (ret == -ENOENT)
			return umig_usage(&restore_subcommand,
					  "the option is not known or lacks its value");
		if (ret)
			return umig_usage(&restore_subcommand, "'%s' is not a good value", optarg);
	}
	if (tls_problem() || (tls_is_on() && !re->uri))
		return umig_usage(&restore_subcommand, "%s",
				  tls_problem() ?: "--tls-... goes with --from");
	if (re->record_s && re->replay)
		return umig_usage(&restore_subcommand,
				  "--record and --replay exclude each other");
	if (optind + 1 != argc || !r->qmp_path)
		return umig_usage(&restore_subcommand, "--qmp SOCKET and one DIR are needed");
	re->dir = argv[optind];
	if (strlen(re->dir) > PATH_MAX - 32)
		return umig_usage(&restore_subcommand, "the name of DIR is too long");
	return 0;
}

/* Return: 0 or an exit code. */
static int restore_prepare_set(struct restore *re)
{
	char path[PATH_MAX];

	restore_set_path(re, path);
	if (re->replay &&
	    working_set_load(&re->set, path, re->meta.ram_size / UMIG_PAGE_SIZE))
		return UMIG_REFUSED;
	re->recv.record = re->record_s ? &re->set : NULL;
	re->recv.replay = re->replay ? &re->set : NULL;
	return 0;
}

static int restore_run(int argc, char **argv)
{
	struct restore *re = calloc(1, sizeof(*re));
	int code;

	if (!re)
		return UMIG_FAILED;
	re->state_fd = -1;
	code = restore_parse(re, argc, argv);
	if (!code && snapshot_load(re->dir, &re->meta))
		code = UMIG_REFUSED;
	if (!code)
		code = restore_prepare_set(re);
	if (code)
		goto out;
	code = UMIG_FAILED;
	if (recv_init(&re->recv))
		goto out;
	monitor_start(&re->recv.monitor, "restore");
	code = restore_guest(re);
	recv_cleanup(&re->recv);
	if (re->server.pid)
		page_server_stop(&re->server);
	if (re->state_fd >= 0)
		close(re->state_fd);
out:
	working_set_destroy(&re->set);
	free(re);
	return code;
}

const struct subcommand restore_subcommand = {
	.name = "restore",
	.purpose = "start a guest out of a snapshot, its pages follow",
	.help =
	"usage: umig restore --qmp SOCKET [OPTIONS] DIR\n\n"
	"Starts the guest that 'umig snapshot' has written to DIR in a QEMU that waits for it\n"
	"(-incoming defer, RAM mapped from /dev/postcopy; see 'umig help recv'). It runs at once; what\n"
	"it touches comes first, the rest in the background, then the memory is converted. Without\n"
	"--record DIR is only read: many guests can be started from it at the same time.\n\n"
	"  --qmp SOCKET      QMP socket of the QEMU that waits\n"
	"  --from NBD-URI    where ram.raw is served, instead of reading DIR/ram.raw\n"
	"  --tls-psk FILE, --tls-user NAME, --tls-certificates DIR\n"
	"                    with --from: encrypt, and check who the server is (see umig(1))\n"
	"  --pid PID         QEMU's process id, if the socket does not tell\n"
	"  --connections N   background connections, 1 to 16 (2)\n"
	"  --rate BYTES      background reads per second at most (suffix K, M, G)\n"
	"  --record SECONDS  read only what the guest touches for so long and write its order to\n"
	"                    DIR/working_set.json; then the rest\n"
	"  --replay          read the pages of DIR/working_set.json first, in that order\n"
	"  --json            JSON lines on stdout: progress, then a summary\n",
	.run = restore_run,
};

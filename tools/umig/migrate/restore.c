// SPDX-License-Identifier: GPL-2.0
/*
 * umig restore: a guest out of a snapshot. It runs at once; its pages come on demand and in the
 * background, from the snapshot's own file or from any NBD server that has it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/log.h"
#include "migrate/restore.h"
#include "watch/waiter.h"

#define STATE_BLOCK	(1U << 20)

static void restore_set_path(const struct restore *re, char *path)
{
	snprintf(path, PATH_MAX, "%s/" SNAPSHOT_SET, re->dir);
}

/* Gives QEMU the device state. Return: 0 or -errno, having said why. */
static int restore_state(struct restore *re)
{
	uint8_t *buf = malloc(STATE_BLOCK);
	int ret = buf ? 0 : -ENOMEM;
	ssize_t n = 1;

	while (!ret && n) {
		n = read(re->state_fd, buf, STATE_BLOCK);
		if (n < 0 && errno != EINTR)
			ret = -errno;
		if (ret)
			break;
		if (n > 0 && incoming_push_state(&re->in, buf, (uint32_t)n)) {
			free(buf);
			return -EIO;
		}
	}
	free(buf);
	if (ret) {
		log_error("cannot read the device state %s/" SNAPSHOT_STATE ": %s", re->dir,
			  strerror(-ret));
		return ret;
	}
	ret = incoming_end_state(&re->in, re->meta.state_bytes, re->meta.state_sum);
	if (ret)
		log_error("%s/" SNAPSHOT_STATE " is not what was saved", re->dir);
	return ret;
}

/*
 * Opens the files of DIR before the sandbox, in which root may not open files of other users.
 * Serves ram.raw on a private socket, unless --from names a server. Return: 0 or -errno, having
 * said why.
 */
static int restore_open_files(struct restore *re)
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

/* Everything before QEMU is changed. Return: 0 or an exit code, having said why. */
static int restore_prepare(struct restore *re)
{
	struct incoming *in = &re->in;
	int ret;

	if (incoming_open(in))
		return UMIG_FAILED;
	if (incoming_check(in))
		return UMIG_REFUSED;
	ret = incoming_find_region(in);
	if (ret)
		return ret == -EOPNOTSUPP ? UMIG_REFUSED : UMIG_FAILED;
	if (incoming_check_guest(in, &re->meta.guest))
		return UMIG_REFUSED;
	if (restore_open_files(re))
		return UMIG_FAILED;
	ret = incoming_attach(in, re->uri);
	if (!ret) {
		watch_transfer(&re->watch, &in->transfer);
		watch_phase(&re->watch, "switching over");
		ret = incoming_wait_source(in);
	}
	if (ret)
		return in->transfer_open && transfer_exit_code(&in->transfer) ?
			transfer_exit_code(&in->transfer) : UMIG_FAILED;
	/* Checked as the user who will write the file. */
	if (re->record_s && access(re->dir, W_OK)) {
		log_error("cannot record into %s: %s", re->dir, strerror(errno));
		return UMIG_REFUSED;
	}
	return 0;
}

/* Until the guest runs. Return: 0 or an exit code, having said why. */
static int restore_start_guest(struct restore *re)
{
	struct incoming *in = &re->in;
	int ret;

	/* The pages of a snapshot are final. */
	transfer_release(&in->transfer);
	/* The guest's first pages can come while its devices are loaded. */
	if (re->replay && transfer_start_background(&in->transfer))
		return UMIG_FAILED;
	ret = incoming_start(in, "", false);
	if (!ret)
		ret = restore_state(re);
	if (!ret)
		ret = incoming_wait_loaded(in, &NO_PEER);
	if (!ret)
		ret = incoming_resume(in, &re->meta.guest);
	if (!ret)
		return 0;
	log_error("the guest was not started; this QEMU can be thrown away");
	return UMIG_FAILED;
}

struct recording {
	struct transfer *transfer;
	uint64_t end_ns;
};

static int recording_turn(void *arg, const struct pollfd *fds)
{
	const struct recording *rec = arg;

	(void)fds;
	return now_ns() >= rec->end_ns || transfer_is_complete(rec->transfer) ? UMIG_OK :
		WAITER_MORE;
}

/*
 * For a while only what the guest touches is read, and that is written down. Return: 0, also if it
 * could not be written, which is no reason to stop the guest; or an exit code.
 */
static int restore_record(struct restore *re)
{
	struct incoming *in = &re->in;
	struct recording rec = {
		.transfer = &in->transfer,
		.end_ns = now_ns() + re->record_s * NS_PER_S,
	};
	struct waiter w = {
		.transfer = &in->transfer,
		.progress = &re->progress,
		.signal_fd = in->signal_fd,
		.turn = recording_turn,
		.arg = &rec,
	};
	char path[PATH_MAX];
	int code;

	log_info("recording for %" PRIu64 " s which pages the guest touches", re->record_s);
	watch_phase(&re->watch, "recording");
	code = waiter_wait(&w);
	if (code)
		return code;
	transfer_stop_recording(&in->transfer);
	restore_set_path(re, path);
	if (!working_set_save(&re->set, path, re->meta.guest.ram_size / UMIG_PAGE_SIZE))
		log_info("working set: %" PRIu64 " pages, in %s", working_set_pages(&re->set),
			 path);
	return 0;
}

static int restore_fill(struct restore *re)
{
	struct incoming *in = &re->in;
	int code = re->record_s ? restore_record(re) : 0;

	if (code)
		return code;
	watch_phase(&re->watch, "filling");
	if (!re->replay && transfer_start_background(&in->transfer))
		return UMIG_FAILED;
	return waiter_convert(&in->transfer, &re->progress, in->signal_fd, &re->meta.digest, true);
}

static void restore_report(struct restore *re, int code, double started_ms)
{
	struct transfer *t = &re->in.transfer;

	progress_end(&re->progress);
	if (re->in.json) {
		json_t *summary = progress_summary(t);

		json_object_set_new(summary, "started_ms", json_real(started_ms));
		json_object_set_new(summary, "converted", json_boolean(code == UMIG_OK));
		json_object_set_new(summary, "exit_code", json_integer(code));
		log_json(summary);
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
			  transfer_total_pages(t) - transfer_present_pages(t), re->dir,
			  re->in.region);
}

static int restore_guest(struct restore *re)
{
	int code = restore_prepare(re);
	double started_ms;

	if (!code)
		code = restore_start_guest(re);
	if (code)
		return code;
	started_ms = ms_since(re->progress.started_ns);
	log_info("the guest runs after %.0f ms", started_ms);
	if (re->in.json)
		progress_resumed(&re->progress, re->in.load_ms, re->in.resume_ms);
	code = restore_fill(re);
	transfer_stop(&re->in.transfer);
	incoming_put_back(&re->in, false);
	restore_report(re, code, started_ms);
	return code;
}

/* Return: 0 or an exit code, having said why. */
static int restore_prepare_set(struct restore *re)
{
	char path[PATH_MAX];

	restore_set_path(re, path);
	if (re->replay &&
	    working_set_load(&re->set, path, re->meta.guest.ram_size / UMIG_PAGE_SIZE))
		return UMIG_REFUSED;
	re->in.record = re->record_s ? &re->set : NULL;
	re->in.replay = re->replay ? &re->set : NULL;
	return 0;
}

static void restore_cleanup(struct restore *re)
{
	watch_stop(&re->watch);
	incoming_close(&re->in);
	if (re->server.pid)
		page_server_stop(&re->server);
	if (re->state_fd >= 0)
		close(re->state_fd);
}

/* After the options have been read. Return: an exit code. */
int restore_run(struct restore *re)
{
	int code;

	re->state_fd = -1;
	if (snapshot_load(re->dir, &re->meta))
		return UMIG_REFUSED;
	code = restore_prepare_set(re);
	if (code)
		return code;
	incoming_init(&re->in);
	progress_init(&re->progress, re->in.json);
	if (re->in.signal_fd < 0) {
		log_error("cannot begin: no descriptors");
		code = UMIG_FAILED;
	} else {
		watch_start(&re->watch, "restore");
		code = restore_guest(re);
		restore_cleanup(re);
	}
	working_set_destroy(&re->set);
	return code;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * umig snapshot: a running guest into a directory; the guest goes on.
 *
 * RAM is copied while the guest runs and what it writes to is tracked (track.h); then the guest
 * stands still for as long as it takes to save the device state and to copy these pages again.
 * Where writes cannot be tracked it stands still for the whole copy.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/sparse.h"
#include "lib/umig.h"
#include "migrate/send.h"
#include "migrate/snapshot.h"

#define COPY_BLOCK	(1ULL << 20)

struct snapshot_job {
	struct send send;
	const char *dir;
	bool pause;
	int out_ram;
	int out_state;
	uint8_t *buf;
	struct snapshot meta;
};

static int write_all(int fd, const uint8_t *data, uint64_t length, off_t offset, bool positioned)
{
	while (length) {
		ssize_t n = positioned ? pwrite(fd, data, length, offset) :
			write(fd, data, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		offset += n;
		length -= (uint64_t)n;
	}
	return 0;
}

static int state_to_file(void *arg, const void *data, uint32_t length)
{
	const struct snapshot_job *job = arg;

	return write_all(job->out_state, data, length, 0, false);
}

/* Copies [@offset, @offset + @length); zeros are written only over what may be something else. */
static int copy_range(struct snapshot_job *job, uint64_t offset, uint64_t length, bool again)
{
	while (length) {
		ssize_t n = pread(job->send.ram_fd, job->buf, min_u64(length, COPY_BLOCK),
				  (off_t)offset);
		uint64_t at;
		int ret;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || n % (ssize_t)UMIG_PAGE_SIZE)
			return n < 0 ? -errno : -EIO;
		for (at = 0; at < (uint64_t)n; at += UMIG_PAGE_SIZE) {
			if (!again && digest_page_is_zero(job->buf + at))
				continue;
			ret = write_all(job->out_ram, job->buf + at, UMIG_PAGE_SIZE,
					(off_t)(offset + at), true);
			if (ret)
				return ret;
		}
		offset += (uint64_t)n;
		length -= (uint64_t)n;
	}
	return 0;
}

static int copy_all(struct snapshot_job *job)
{
	struct send *s = &job->send;
	uint64_t offset = 0;

	while (offset < s->ram.size) {
		struct sparse_extent x = sparse_next(s->ram_fd, offset, s->ram.size);
		int ret;

		for (offset = x.data; offset < x.end; offset += COPY_BLOCK) {
			ret = copy_range(job, offset, min_u64(COPY_BLOCK, x.end - offset), false);
			if (ret)
				return ret;
			if (send_is_interrupted(s))
				return -EINTR;
			progress_line(&s->progress, offset / UMIG_PAGE_SIZE,
				      s->ram.size / UMIG_PAGE_SIZE, "copying");
		}
		offset = x.end;
	}
	return 0;
}

static int write_zeros(struct snapshot_job *job, uint64_t offset, uint64_t end)
{
	int ret = 0;

	memset(job->buf, 0, COPY_BLOCK);
	for (; !ret && offset < end; offset += COPY_BLOCK) {
		ret = write_all(job->out_ram, job->buf, min_u64(COPY_BLOCK, end - offset),
				(off_t)offset, true);
		if (!ret && send_is_interrupted(&job->send))
			ret = -EINTR;
	}
	return ret;
}

/* [@offset, @end) is a hole of the source: what was copied there before is made one, or zeros. */
static int copy_hole(struct snapshot_job *job, uint64_t offset, uint64_t end)
{
	int ret = 0;

	while (!ret && offset < end) {
		struct sparse_extent x = sparse_next(job->out_ram, offset, end);

		if (x.data < x.end &&
		    fallocate(job->out_ram, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (off_t)x.data, (off_t)(x.end - x.data)))
			/* Not every file system can. */
			ret = errno == EOPNOTSUPP ? write_zeros(job, x.data, x.end) : -errno;
		offset = x.end;
	}
	return ret;
}

/* What was written to since, and the holes that were punched since. The guest stands still. */
static int copy_rest(struct snapshot_job *job)
{
	struct send *s = &job->send;
	uint64_t nr_pages = s->ram.size / UMIG_PAGE_SIZE, i, offset = 0;
	int ret = track_dirty(&s->track, s->dirty, &s->nr_dirty);

	for (i = 0; i < nr_pages && !ret; i++) {
		if (!(s->dirty[i / 64] & (1ULL << (i % 64))))
			continue;
		ret = copy_range(job, i * UMIG_PAGE_SIZE, UMIG_PAGE_SIZE, true);
		if (!ret && send_is_interrupted(s))
			ret = -EINTR;
	}
	while (!ret && offset < s->ram.size) {
		struct sparse_extent x = sparse_next(s->ram_fd, offset, s->ram.size);

		ret = copy_hole(job, offset, x.data);
		offset = x.end;
	}
	return ret;
}

/* Creates DIR and the files in it. Return: 0 or -errno, having said why. */
static int snapshot_create(struct snapshot_job *job)
{
	char path[PATH_MAX];

	if (mkdir(job->dir, 0700)) {
		log_error("cannot make %s: %s; a snapshot gets a directory of its own", job->dir,
			  strerror(errno));
		return -errno;
	}
	snprintf(path, sizeof(path), "%s/" SNAPSHOT_RAM, job->dir);
	job->out_ram = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (job->out_ram >= 0) {
		snprintf(path, sizeof(path), "%s/" SNAPSHOT_STATE, job->dir);
		job->out_state = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	}
	if (job->out_ram < 0 || job->out_state < 0 ||
	    ftruncate(job->out_ram, (off_t)job->send.ram.size)) {
		log_error("cannot write %s: %s", path, strerror(errno));
		return -errno;
	}
	job->buf = aligned_alloc(UMIG_PAGE_SIZE, COPY_BLOCK);
	return job->buf ? 0 : -ENOMEM;
}

/* Half a snapshot is none. */
static void snapshot_remove(const struct snapshot_job *job)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/" SNAPSHOT_RAM, job->dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/" SNAPSHOT_STATE, job->dir);
	unlink(path);
	rmdir(job->dir);
}

/* With the guest standing still at the end. Return: 0 or -errno, having said why. */
static int snapshot_take(struct snapshot_job *job)
{
	struct send *s = &job->send;
	int ret;

	if (s->tracking) {
		ret = copy_all(job);
		if (ret)
			goto copy_failed;
	}
	ret = s->tracking ? precopy_check(s) : 0;
	if (!ret)
		ret = send_start_migration(s);
	if (!ret)
		ret = send_wait_state(s);
	if (!ret)
		ret = send_check_migrated(s);
	if (ret)
		return ret;
	ret = s->tracking ? copy_rest(job) : copy_all(job);
	if (!ret)
		return 0;
copy_failed:
	if (ret == -EINTR)
		log_error("stopped by a signal");
	else
		log_error("cannot copy the guest's RAM to %s: %s", job->dir, strerror(-ret));
	return ret;
}

/* The guest runs again: what has been written is read back for its digest, and gets its name. */
static int snapshot_finish(struct snapshot_job *job)
{
	struct send *s = &job->send;
	struct snapshot *m = &job->meta;
	int ret;

	snprintf(m->ram_id, sizeof(m->ram_id), "%s", s->ram.id);
	m->ram_size = s->ram.size;
	m->page_size = UMIG_PAGE_SIZE;
	m->running = s->was_running;
	m->state_bytes = s->state.bytes;
	m->state_sum = s->state.sum;
	ret = fsync(job->out_ram) || fsync(job->out_state) ? -errno : 0;
	if (!ret)
		ret = digest_file(job->out_ram, s->ram.size, &s->digest_stop, &m->digest);
	if (!ret)
		ret = snapshot_save(job->dir, m);
	if (ret)
		log_error("cannot finish the snapshot %s: %s", job->dir, strerror(-ret));
	return ret;
}

static int snapshot_guest(struct snapshot_job *job)
{
	struct send *s = &job->send;
	double paused_ms;
	int ret;

	if (qmp_open(&s->qmp, s->qmp_path, 10000)) {
		log_error("cannot talk to QEMU on %s: %s", s->qmp_path, s->qmp.error);
		return UMIG_FAILED;
	}
	if (send_check_source(s))
		return UMIG_REFUSED;
	s->ram_fd = open(s->ram.path, O_RDONLY | O_CLOEXEC);
	if (s->ram_fd < 0) {
		log_error("cannot read QEMU's RAM file %s: %s", s->ram.path, strerror(errno));
		return UMIG_REFUSED;
	}
	if (!job->pause && precopy_start(s)) {
		log_error("without tracking the guest stands still for the whole copy; "
			  "if it may, give --pause");
		return UMIG_REFUSED;
	}
	if (snapshot_create(job))
		return UMIG_FAILED;
	monitor_phase(&s->monitor, "copying");
	ret = snapshot_take(job);
	/* After a migration QEMU wants to be told to go on. */
	if (send_restore_source(s)) {
		log_error("the snapshot %s is not complete", job->dir);
		snapshot_remove(job);
		return UMIG_UNKNOWN;
	}
	paused_ms = s->events.stop_ns ? (double)(now_ns() - s->events.stop_ns) / 1e6 : 0;
	if (!ret)
		ret = snapshot_finish(job);
	progress_end(&s->progress);
	if (ret) {
		snapshot_remove(job);
		log_error("the guest is %s; nothing is left of the snapshot", s->source_state);
		return UMIG_SOURCE_RUNS;
	}
	log_info("%s: %" PRIu64 " pages with data, %" PRIu64 " zero; "
		 "the guest stood still for %.1f ms, %" PRIu64 " pages were copied again",
		 job->dir, job->meta.digest.nr_data, job->meta.digest.nr_zero, paused_ms,
		 s->nr_dirty);
	if (s->json)
		progress_print_json(json_pack("{s:s, s:f, s:f, s:I, s:I, s:I}", "event", "summary",
					      "seconds", (double)(now_ns() - s->started_ns) / 1e9,
					      "paused_ms", paused_ms,
					      "data_pages", (json_int_t)job->meta.digest.nr_data,
					      "zero_pages", (json_int_t)job->meta.digest.nr_zero,
					      "dirty_pages", (json_int_t)s->nr_dirty));
	return UMIG_OK;
}

static int snapshot_parse(struct snapshot_job *job, int argc, char **argv)
{
	static const struct option options[] = {
		{ "qmp", required_argument, NULL, 'q' },
		{ "pause", no_argument, NULL, 'p' },
		{ "json", no_argument, NULL, 'j' },
		{ 0 }
	};
	int c;

	job->send.timeout_s = 60;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'q')
			job->send.qmp_path = optarg;
		else if (c == 'p')
			job->pause = true;
		else if (c == 'j')
			job->send.json = true;
		else
			return umig_usage(&snapshot_subcommand,
					  "the option is not known or lacks its value");
	}
	if (optind + 1 != argc || !job->send.qmp_path)
		return umig_usage(&snapshot_subcommand, "--qmp SOCKET and one DIR are needed");
	job->dir = argv[optind];
	if (strlen(job->dir) > PATH_MAX - 32)
		return umig_usage(&snapshot_subcommand, "the name of DIR is too long");
	return 0;
}

static int snapshot_run(int argc, char **argv)
{
	struct snapshot_job *job = calloc(1, sizeof(*job));
	int code;

	if (!job)
		return UMIG_FAILED;
	code = snapshot_parse(job, argc, argv);
	if (code)
		goto out;
	job->out_ram = -1;
	job->out_state = -1;
	send_init(&job->send);
	job->send.sink = state_to_file;
	job->send.sink_arg = job;
	code = UMIG_FAILED;
	if (job->send.signal_fd < 0 || link_init(&job->send.link))
		goto out;
	monitor_start(&job->send.monitor, "snapshot");
	code = snapshot_guest(job);
	send_cleanup(&job->send);
	if (job->out_ram >= 0)
		close(job->out_ram);
	if (job->out_state >= 0)
		close(job->out_state);
	free(job->buf);
out:
	free(job);
	return code;
}

const struct subcommand snapshot_subcommand = {
	.name = "snapshot",
	.purpose = "write a running guest into a directory; it goes on",
	.help =
	"usage: umig snapshot --qmp SOCKET [--pause] [--json] DIR\n\n"
	"Writes the guest's RAM and device state into DIR, which must not exist. RAM is copied while\n"
	"the guest runs; it stands still only while the device state is saved and what it has written\n"
	"to meanwhile is copied again. 'umig restore DIR' starts it again, as often as wanted. Disks\n"
	"are not part of it. QEMU's RAM must be a memory-backend-file with share=on.\n\n"
	"  --qmp SOCKET   QMP socket of QEMU\n"
	"  --pause        the guest stands still for the whole copy: works also where writes cannot\n"
	"                 be tracked\n"
	"  --json         a JSON summary on stdout\n",
	.run = snapshot_run,
};

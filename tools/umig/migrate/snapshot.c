// SPDX-License-Identifier: GPL-2.0
/*
 * umig snapshot: a running guest into a directory; the guest goes on.
 *
 * RAM is copied while the guest runs, and umig tracks the pages that it writes to (writes.h). Then
 * the guest stands still while the device state is saved and these pages are copied again. Where
 * writes cannot be tracked it stands still for the whole copy.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/sparse.h"
#include "migrate/snapshot.h"

#define COPY_BLOCK		(1ULL << 20)

/* How long to wait for QEMU. */
#define SNAPSHOT_TIMEOUT_S	60

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
	const struct snapshotter *sn = arg;

	return write_all(sn->out_state, data, length, 0, false);
}

/*
 * Copies [@offset, @offset + @length). Zeros are written only if other data may be there (@again).
 */
static int copy_range(struct snapshotter *sn, uint64_t offset, uint64_t length, bool again)
{
	while (length) {
		ssize_t n = pread(sn->out.ram_fd, sn->buf, min_u64(length, COPY_BLOCK),
				  (off_t)offset);
		uint64_t at;
		int ret;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || n % (ssize_t)UMIG_PAGE_SIZE)
			return n < 0 ? -errno : -EIO;
		for (at = 0; at < (uint64_t)n; at += UMIG_PAGE_SIZE) {
			if (!again && digest_page_is_zero(sn->buf + at))
				continue;
			ret = write_all(sn->out_ram, sn->buf + at, UMIG_PAGE_SIZE,
					(off_t)(offset + at), true);
			if (ret)
				return ret;
		}
		offset += (uint64_t)n;
		length -= (uint64_t)n;
	}
	return 0;
}

static int copy_all(struct snapshotter *sn)
{
	uint64_t offset = 0;

	while (offset < sn->out.ram.size) {
		struct sparse_extent x = sparse_next(sn->out.ram_fd, offset, sn->out.ram.size);
		int ret;

		for (offset = x.data; offset < x.end; offset += COPY_BLOCK) {
			ret = copy_range(sn, offset, min_u64(COPY_BLOCK, x.end - offset), false);
			if (ret)
				return ret;
			if (fd_is_readable(sn->out.signal_fd))
				return -EINTR;
			progress_line(&sn->progress, offset / UMIG_PAGE_SIZE,
				      sn->out.ram.size / UMIG_PAGE_SIZE, "copying");
		}
		offset = x.end;
	}
	return 0;
}

static int write_zeros(struct snapshotter *sn, uint64_t offset, uint64_t end)
{
	int ret = 0;

	memset(sn->buf, 0, COPY_BLOCK);
	for (; !ret && offset < end; offset += COPY_BLOCK) {
		ret = write_all(sn->out_ram, sn->buf, min_u64(COPY_BLOCK, end - offset),
				(off_t)offset, true);
		if (!ret && fd_is_readable(sn->out.signal_fd))
			ret = -EINTR;
	}
	return ret;
}

/*
 * [@offset, @end) is a hole of the source: makes a hole, or zeros, of what was copied there before.
 */
static int copy_hole(struct snapshotter *sn, uint64_t offset, uint64_t end)
{
	int ret = 0;

	while (!ret && offset < end) {
		struct sparse_extent x = sparse_next(sn->out_ram, offset, end);

		if (x.data < x.end &&
		    fallocate(sn->out_ram, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (off_t)x.data, (off_t)(x.end - x.data)))
			/* Not every file system can punch holes. */
			ret = errno == EOPNOTSUPP ? write_zeros(sn, x.data, x.end) : -errno;
		offset = x.end;
	}
	return ret;
}

/* Copies the pages written to since, and the holes punched since. The guest stands still. */
static int copy_rest(struct snapshotter *sn)
{
	uint64_t nr_pages = sn->out.ram.size / UMIG_PAGE_SIZE, i, offset = 0;
	int ret = writes_read(&sn->writes, &sn->nr_dirty);

	for (i = 0; i < nr_pages && !ret; i++) {
		if (!writes_has(&sn->writes, i))
			continue;
		ret = copy_range(sn, i * UMIG_PAGE_SIZE, UMIG_PAGE_SIZE, true);
		if (!ret && fd_is_readable(sn->out.signal_fd))
			ret = -EINTR;
	}
	while (!ret && offset < sn->out.ram.size) {
		struct sparse_extent x = sparse_next(sn->out.ram_fd, offset, sn->out.ram.size);

		ret = copy_hole(sn, offset, x.data);
		offset = x.end;
	}
	return ret;
}

/* Creates DIR and the files in it. Return: 0 or -errno, having said why. */
static int snapshot_create(struct snapshotter *sn)
{
	char path[PATH_MAX];

	if (mkdir(sn->dir, 0700)) {
		log_error("cannot make %s: %s; a snapshot gets a directory of its own", sn->dir,
			  strerror(errno));
		return -errno;
	}
	snprintf(path, sizeof(path), "%s/" SNAPSHOT_RAM, sn->dir);
	sn->out_ram = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (sn->out_ram >= 0) {
		snprintf(path, sizeof(path), "%s/" SNAPSHOT_STATE, sn->dir);
		sn->out_state = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	}
	if (sn->out_ram < 0 || sn->out_state < 0 ||
	    ftruncate(sn->out_ram, (off_t)sn->out.ram.size)) {
		log_error("cannot write %s: %s", path, strerror(errno));
		return -errno;
	}
	sn->buf = aligned_alloc(UMIG_PAGE_SIZE, COPY_BLOCK);
	return sn->buf ? 0 : -ENOMEM;
}

/* Half a snapshot is worth nothing. */
static void snapshot_remove(const struct snapshotter *sn)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/" SNAPSHOT_RAM, sn->dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/" SNAPSHOT_STATE, sn->dir);
	unlink(path);
	rmdir(sn->dir);
}

/* At its end the guest stands still. Return: 0 or -errno, having said why. */
static int snapshot_take(struct snapshotter *sn)
{
	int ret;

	if (sn->writes.on) {
		ret = copy_all(sn);
		if (ret)
			goto copy_failed;
	}
	ret = sn->writes.on ? writes_check(&sn->writes, &sn->out) : 0;
	if (!ret)
		ret = outgoing_start(&sn->out, state_to_file, sn);
	if (!ret)
		ret = outgoing_wait_state(&sn->out, &NO_PEER);
	if (!ret)
		ret = outgoing_wait_migrated(&sn->out);
	if (ret)
		return ret;
	ret = sn->writes.on ? copy_rest(sn) : copy_all(sn);
	if (!ret)
		return 0;
copy_failed:
	if (ret == -EINTR)
		log_error("stopped by a signal");
	else
		log_error("cannot copy the guest's RAM to %s: %s", sn->dir, strerror(-ret));
	return ret;
}

/* The guest runs again: reads back what was written for its digest, and writes meta.json. */
static int snapshot_finish(struct snapshotter *sn)
{
	struct snapshot *m = &sn->meta;
	int ret;

	snprintf(m->guest.ram_id, sizeof(m->guest.ram_id), "%s", sn->out.ram.id);
	m->guest.ram_size = sn->out.ram.size;
	m->guest.page_size = UMIG_PAGE_SIZE;
	m->guest.running = sn->out.was_running;
	m->state_bytes = atomic_load(&sn->out.state.bytes);
	m->state_sum = sn->out.state.sum;
	ret = fsync(sn->out_ram) || fsync(sn->out_state) ? -errno : 0;
	if (!ret)
		ret = digest_file(sn->out_ram, sn->out.ram.size, &sn->digest_stop, &m->digest);
	if (!ret)
		ret = snapshot_save(sn->dir, m);
	if (ret)
		log_error("cannot finish the snapshot %s: %s", sn->dir, strerror(-ret));
	return ret;
}

/* Everything before the guest is disturbed. Return: 0 or an exit code, having said why. */
static int snapshot_prepare(struct snapshotter *sn)
{
	struct outgoing *o = &sn->out;

	if (outgoing_open(o))
		return UMIG_FAILED;
	if (outgoing_check(o) || outgoing_open_ram(o))
		return UMIG_REFUSED;
	if (!sn->pause && writes_start(&sn->writes, o)) {
		log_error("without tracking the guest stands still for the whole copy; "
			  "if it may, give --pause");
		return UMIG_REFUSED;
	}
	return snapshot_create(sn) ? UMIG_FAILED : 0;
}

static void snapshot_report(struct snapshotter *sn, double paused_ms)
{
	const struct digest *d = &sn->meta.digest;

	log_info("%s: %" PRIu64 " pages of 4 KiB with data, %" PRIu64 " zero; "
		 "the guest stood still for %.1f ms, %" PRIu64 " pages were copied again",
		 sn->dir, d->nr_data, d->nr_zero, paused_ms, sn->nr_dirty);
	if (sn->json)
		log_json(json_pack("{s:s, s:f, s:f, s:I, s:I, s:I}", "event", "summary",
				   "seconds", ms_since(sn->started_ns) / 1e3,
				   "paused_ms", paused_ms,
				   "data_pages", (json_int_t)d->nr_data,
				   "zero_pages", (json_int_t)d->nr_zero,
				   "dirty_pages", (json_int_t)sn->nr_dirty));
}

static int snapshot_guest(struct snapshotter *sn)
{
	struct outgoing *o = &sn->out;
	int code = snapshot_prepare(sn), ret;
	double paused_ms;

	if (code)
		return code;
	watch_phase(&sn->watch, "copying");
	ret = snapshot_take(sn);
	/* After its migration QEMU does not resume the guest by itself. */
	if (outgoing_put_back(o)) {
		log_error("the snapshot %s is not complete", sn->dir);
		snapshot_remove(sn);
		return UMIG_UNKNOWN;
	}
	paused_ms = o->events.stop_ns ? ms_since(o->events.stop_ns) : 0;
	if (!ret)
		ret = snapshot_finish(sn);
	progress_end(&sn->progress);
	if (ret) {
		snapshot_remove(sn);
		log_error("the guest is %s; nothing is left of the snapshot", o->left_as);
		return UMIG_SOURCE_RUNS;
	}
	snapshot_report(sn, paused_ms);
	return UMIG_OK;
}

static void snapshot_cleanup(struct snapshotter *sn)
{
	watch_stop(&sn->watch);
	/* The reader writes to state.bin until it is stopped. */
	outgoing_close(&sn->out);
	writes_stop(&sn->writes);
	if (sn->out_ram >= 0)
		close(sn->out_ram);
	if (sn->out_state >= 0)
		close(sn->out_state);
	free(sn->buf);
}

/* After the options have been read. Return: an exit code. */
int snapshot_run(struct snapshotter *sn)
{
	int code;

	sn->out_ram = -1;
	sn->out_state = -1;
	sn->started_ns = now_ns();
	outgoing_init(&sn->out);
	sn->out.timeout_s = SNAPSHOT_TIMEOUT_S;
	sn->out.signal_fd = signal_fd_open();
	progress_init(&sn->progress, sn->json);
	if (sn->out.signal_fd < 0) {
		log_error("cannot begin: no descriptors");
		return UMIG_FAILED;
	}
	watch_start(&sn->watch, "snapshot");
	code = snapshot_guest(sn);
	snapshot_cleanup(sn);
	return code;
}

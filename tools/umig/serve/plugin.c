// SPDX-License-Identifier: GPL-2.0
/*
 * nbdkit plugin: guest RAM in a file (in /dev/shm, on hugetlbfs, a memfd as /proc/PID/fd/N), or in
 * a process (through its /proc/PID/mem), as a read-only export.
 *
 * Unlike nbdkit's file plugin it also announces pages of zeros inside the data as zero extents: a
 * guest's free memory is mostly zeros. To find them it looks at data through a mapping, where the
 * first bytes of most pages show that they are not zero. It reads with pread() what it sends, and
 * what it cannot map: touching a hole of shmem would allocate it, and touching memory beyond the
 * end of a file that has shrunk would kill nbdkit.
 */
#define _GNU_SOURCE
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

/* How much one extents call looks at; nbdkit asks again for the rest. */
#define SCAN	(64ULL << 20)
#define BLOCK	(256ULL << 10)

/* Set once before the first connection. */
static uint64_t page_size;
static char *file_path;
static int file_fd = -1;
static int64_t file_size;
static uint8_t *file_map = MAP_FAILED;
/* For memory of a process: the address at which the export begins. */
static int is_memory;
static uint64_t memory_start;

static int umig_config(const char *key, const char *value)
{
	uint64_t start, end;

	if (!strcmp(key, "memory")) {
		is_memory = 1;
		return nbdkit_parse_int("memory", value, &file_fd);
	}
	if (!strcmp(key, "range")) {
		if (sscanf(value, "%" SCNu64 "-%" SCNu64, &start, &end) != 2 || start >= end ||
		    end > INT64_MAX) {
			nbdkit_error("'%s' is no range of addresses", value);
			return -1;
		}
		memory_start = start;
		file_size = (int64_t)(end - start);
		return 0;
	}
	if (strcmp(key, "file")) {
		nbdkit_error("unknown parameter '%s'; the plugin takes file=PATH", key);
		return -1;
	}
	free(file_path);
	file_path = nbdkit_absolute_path(value);
	return file_path ? 0 : -1;
}

static int umig_config_complete(void)
{
	if (is_memory && (file_path || !file_size)) {
		nbdkit_error("memory=FD goes with range=START-END, and not with file=");
		return -1;
	}
	if (!file_path && !is_memory) {
		nbdkit_error("file=PATH is missing: which file holds the guest's RAM?");
		return -1;
	}
	return 0;
}

static int umig_get_ready(void)
{
	struct stat st;

	page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	if (is_memory)
		return 0;
	file_fd = open(file_path, O_RDONLY | O_CLOEXEC);
	if (file_fd < 0 || fstat(file_fd, &st) < 0) {
		nbdkit_error("cannot open %s: %m", file_path);
		return -1;
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		nbdkit_error("cannot serve %s: it is neither a file nor a block device",
			     file_path);
		return -1;
	}
	file_size = lseek(file_fd, 0, SEEK_END);
	if (file_size < 0) {
		nbdkit_error("cannot find the size of %s: %m", file_path);
		return -1;
	}
	file_map = mmap(NULL, (size_t)file_size, PROT_READ, MAP_SHARED, file_fd, 0);
	return 0;
}

static void umig_unload(void)
{
	if (file_map != MAP_FAILED)
		munmap(file_map, (size_t)file_size);
	if (file_fd >= 0)
		close(file_fd);
	free(file_path);
}

static void *umig_open(int readonly)
{
	(void)readonly;
	return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t umig_get_size(void *handle)
{
	(void)handle;
	return file_size;
}

/* The contents do not change, so a client may use several connections at once. */
static int umig_can_multi_conn(void *handle)
{
	(void)handle;
	return 1;
}

static int umig_can_extents(void *handle)
{
	(void)handle;
	return 1;
}

static int umig_read(void *buf, uint64_t count, uint64_t offset)
{
	uint8_t *p = buf;

	while (count) {
		ssize_t n = pread(file_fd, p, count, (off_t)(memory_start + offset));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			nbdkit_error("cannot read %s: %m", file_path ? file_path : "the process");
			return -1;
		}
		/* The file has shrunk or the process has ended: an error, never zeros. */
		if (!n) {
			nbdkit_error("%s", is_memory ? "the process has ended" :
				     "the file has shrunk");
			nbdkit_set_error(EIO);
			return -1;
		}
		p += n;
		offset += (uint64_t)n;
		count -= (uint64_t)n;
	}
	return 0;
}

static int umig_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	(void)handle;
	(void)flags;
	return umig_read(buf, count, offset);
}

/* Return: data to look at, in the mapping or read into @buf; NULL: an error. */
static const uint8_t *umig_look(uint8_t *buf, uint64_t count, uint64_t offset)
{
	uint64_t ahead = offset % page_size;

	/* The kernel can say that all of it is mapped (since 5.14). */
	if (file_map != MAP_FAILED &&
	    !madvise(file_map + offset - ahead, count + ahead, MADV_POPULATE_READ))
		return file_map + offset;
	return umig_read(buf, count, offset) ? NULL : buf;
}

static int page_is_zero(const uint8_t *page, uint64_t length)
{
	return !page[0] && !memcmp(page, page + 1, length - 1);
}

/* Adds the pages of [offset, end), at most BLOCK bytes. nbdkit joins neighbours of one kind. */
static int umig_scan_data(struct nbdkit_extents *extents, uint8_t *buf, uint64_t offset,
			  uint64_t end)
{
	const uint8_t *data = umig_look(buf, end - offset, offset);
	uint64_t at, length;

	if (!data)
		return -1;
	for (at = offset; at < end; at += length) {
		int zero;

		length = page_size - at % page_size;
		if (length > end - at)
			length = end - at;
		zero = page_is_zero(data + (at - offset), length);
		if (nbdkit_add_extent(extents, at, length, zero ? NBDKIT_EXTENT_ZERO : 0))
			return -1;
	}
	return 0;
}

static uint64_t umig_seek(uint64_t offset, int whence, uint64_t fallback, uint64_t end)
{
	off_t pos;

	/* Memory of a process may have pages that come only when they are read. */
	if (is_memory)
		return fallback;
	pos = lseek(file_fd, (off_t)offset, whence);
	/* ENXIO: nothing but a hole up to the end of the file. */
	if (pos < 0)
		return errno == ENXIO ? end : fallback;
	return (uint64_t)pos < end ? (uint64_t)pos : end;
}

/*
 * Beyond the end of a file everything looks like a hole. This is called after an answer was put
 * together: if the file still has its whole size, the holes of the answer were holes.
 */
static int umig_has_not_shrunk(void)
{
	struct stat st;

	if (is_memory)
		return 0;
	if (fstat(file_fd, &st) < 0 || (S_ISREG(st.st_mode) && st.st_size < file_size)) {
		nbdkit_error("%s has shrunk", file_path);
		nbdkit_set_error(EIO);
		return -1;
	}
	return 0;
}

static int umig_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
			struct nbdkit_extents *extents)
{
	uint64_t end = offset + (count < SCAN ? count : SCAN);
	uint8_t *buf = malloc(BLOCK);
	int ret = 0;

	(void)handle;
	(void)flags;
	if (!buf) {
		nbdkit_error("no memory");
		return -1;
	}
	while (!ret && offset < end) {
		uint64_t data = umig_seek(offset, SEEK_DATA, offset, end), stop;

		if (data > offset &&
		    nbdkit_add_extent(extents, offset, data - offset,
				      NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO)) {
			ret = -1;
			break;
		}
		offset = data;
		if (offset >= end)
			break;
		stop = umig_seek(offset, SEEK_HOLE, end, end);
		if (stop > offset + BLOCK)
			stop = offset + BLOCK;
		/* The hole was made just now, and its end is not known: it counts as data. */
		if (stop <= offset)
			stop = end < offset + BLOCK ? end : offset + BLOCK;
		ret = umig_scan_data(extents, buf, offset, stop);
		offset = stop;
	}
	free(buf);
	return ret ? ret : umig_has_not_shrunk();
}

static struct nbdkit_plugin plugin = {
	.name			= "umig",
	.longname		= "guest RAM in a file",
	.description		= "serves the RAM of a VMM read-only, zero pages as zero extents",
	.unload			= umig_unload,
	.config			= umig_config,
	.config_complete	= umig_config_complete,
	.config_help		= "file=PATH         the file that holds the RAM, or\n"
				  "memory=FD range=START-END   an open /proc/PID/mem",
	.magic_config_key	= "file",
	.get_ready		= umig_get_ready,
	.open			= umig_open,
	.get_size		= umig_get_size,
	.can_multi_conn		= umig_can_multi_conn,
	.can_extents		= umig_can_extents,
	.pread			= umig_pread,
	.extents		= umig_extents,
	.errno_is_preserved	= 1,
};

NBDKIT_REGISTER_PLUGIN(plugin)

// SPDX-License-Identifier: GPL-2.0
/*
 * Which pages a running VMM writes to, seen from outside.
 *
 * A written page that is taken for clean would be wrong at the destination for ever. So umig first
 * looks for everything that could make the kernel forget a soft-dirty bit, or write without setting
 * one, and refuses if it finds:
 *	swap, or a file that is not shared memory: a page that is unmapped and then mapped
 *	  again by a read is clean
 *	huge pages in the file: splitting one drops its bits
 *	another process that can write to the file: its bits are in other page tables
 *	memory pinned for a device or io_uring: it is written to without the page tables
 *
 * A hole punched into the file (by a balloon) leaves no bit either, so the caller must also ask the
 * file for its holes.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/mappings.h"
#include "lib/lib.h"
#include "migrate/track.h"

#define PAGEMAP_SOFT_DIRTY	(1ULL << 55)
#define PAGEMAP_BATCH		65536
#define SCAN_BATCH		4096

/* <linux/fs.h> has these since Linux 6.7. */
struct track_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};

struct track_scan {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

#define TRACK_SCAN		_IOWR('f', 16, struct track_scan)
#define TRACK_SOFT_DIRTY	(1ULL << 7)

/* Does the kernel keep soft-dirty bits? A page that was just written to must have one. */
static bool track_is_supported(void)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint8_t *page = mmap(NULL, UMIG_PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t entry = 0, at = (uintptr_t)page / UMIG_PAGE_SIZE * sizeof(entry);

	if (fd >= 0 && page != MAP_FAILED) {
		*(volatile uint8_t *)page = 1;
		if (pread(fd, &entry, sizeof(entry), (off_t)at) != sizeof(entry))
			entry = 0;
	}
	if (page != MAP_FAILED)
		munmap(page, UMIG_PAGE_SIZE);
	if (fd >= 0)
		close(fd);
	return entry & PAGEMAP_SOFT_DIRTY;
}

static bool track_is_of_file(const struct track *t, const struct mapping *m)
{
	return m->inode == t->ino && m->dev == t->dev;
}

/* Has this process mapped the file so that it can write to it? */
static bool track_can_write(const struct track *t, pid_t pid)
{
	FILE *f = mappings_open(pid);
	struct mapping m;
	bool found = false;

	while (f && !found && mappings_next(f, &m))
		found = track_is_of_file(t, &m) && m.writable && m.shared;
	if (f)
		fclose(f);
	return found;
}

/* Return: the first other process that can write to the file, 0 if there is none. */
static pid_t track_other_writer(const struct track *t)
{
	DIR *d = opendir("/proc");
	struct dirent *entry;
	pid_t found = 0;

	while (d && !found && (entry = readdir(d))) {
		pid_t pid = (pid_t)atoi(entry->d_name);

		if (pid > 0 && pid != t->pid && pid != getpid() && track_can_write(t, pid))
			found = pid;
	}
	if (d)
		closedir(d);
	return found;
}

static bool track_has_swap(void)
{
	FILE *f = fopen("/proc/swaps", "re");
	unsigned int lines = 0;
	int c;

	while (f && (c = fgetc(f)) != EOF)
		lines += c == '\n';
	if (f)
		fclose(f);
	return lines > 1;
}

/* Is the file a memfd or the like? Another tmpfs that nobody has mounted has rules of its own. */
static bool track_is_memfd(const struct track *t)
{
	struct stat st = { 0 };
	int fd = memfd_create("umig", MFD_CLOEXEC);

	if (fd < 0)
		return false;
	if (fstat(fd, &st))
		st.st_dev = 0;
	close(fd);
	return st.st_dev == t->dev;
}

/* May the file have huge pages? Its file system decides, or for a memfd the whole system. */
static bool track_may_be_huge(const struct track *t)
{
	char line[8192], options[4096], shmem[128] = "";
	bool mounted = false, huge = false, known;
	unsigned int maj, min;
	FILE *f = fopen("/proc/self/mountinfo", "re");

	while (f && fgets(line, sizeof(line), f)) {
		const char *dash = strstr(line, " - ");

		if (!dash || sscanf(line, "%*d %*d %u:%u", &maj, &min) != 2 ||
		    maj != major(t->dev) || min != minor(t->dev))
			continue;
		mounted = true;
		if (sscanf(dash, " - %*s %*s %4095s", options) == 1 && strstr(options, "huge=") &&
		    !strstr(options, "huge=never"))
			huge = true;
	}
	if (f)
		fclose(f);
	f = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");
	known = f && fgets(shmem, sizeof(shmem), f);
	if (f)
		fclose(f);
	return huge || strstr(shmem, "[force]") ||
		(!mounted && known && (!strstr(shmem, "[never]") || !track_is_memfd(t)));
}

/*
 * Finds an open file through which the memory of the process may be written to without page tables.
 * @name: gets the file, or "".
 */
static void track_pinner(pid_t pid, char *name, size_t size)
{
	static const char *const words[] = {
		"io_uring", "/dev/vfio/", "/dev/vhost-vdpa", "/dev/infiniband/",
	};
	char path[PATH_MAX], target[PATH_MAX];
	struct dirent *entry;
	unsigned int i;
	DIR *d;

	*name = '\0';
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	d = opendir(path);
	while (d && !*name && (entry = readdir(d))) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid, entry->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		if (n < 0)
			continue;
		target[n] = '\0';
		for (i = 0; i < ARRAY_SIZE(words); i++) {
			if (strstr(target, words[i]))
				snprintf(name, size, "%.100s", target);
		}
	}
	if (d)
		closedir(d);
}

static int track_refuse(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int track_refuse(const char *fmt, ...)
{
	char why[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	log_error("cannot track the source's writes: %s; migrate without --precopy", why);
	return -EOPNOTSUPP;
}

/**
 * track_check - can the marks be trusted? The answer may change while pages are copied.
 *
 * Return: 0 or -EOPNOTSUPP, having said why.
 */
int track_check(const struct track *t)
{
	struct statfs fs;
	char pinner[128];
	pid_t other;

	if (!track_is_supported())
		return track_refuse("no soft-dirty bits in this kernel (CONFIG_MEM_SOFT_DIRTY)");
	if (statfs(t->path, &fs) || fs.f_type != TMPFS_MAGIC)
		return track_refuse("%.128s is not on a tmpfs", t->path);
	if (track_has_swap())
		return track_refuse("this host has swap, which loses marks; swapoff -a");
	if (track_may_be_huge(t))
		return track_refuse("%.128s may have huge pages (huge=, shmem_enabled)", t->path);
	other = track_other_writer(t);
	if (other)
		return track_refuse("process %d can write to %.128s, too (a vhost-user back end?)",
				    (int)other, t->path);
	track_pinner(t->pid, pinner, sizeof(pinner));
	if (*pinner)
		return track_refuse("QEMU uses %s, which may write past the page tables", pinner);
	return 0;
}

/* Remembers where the VMM has mapped the file. Return: 0 or -errno. */
static int track_read_maps(struct track *t)
{
	FILE *f = mappings_open(t->pid);
	struct mapping m;
	int ret = 0;

	if (!f)
		return -errno;
	t->nr_maps = 0;
	while (!ret && mappings_next(f, &m)) {
		if (!track_is_of_file(t, &m))
			continue;
		if (t->nr_maps == TRACK_MAX_MAPS)
			ret = -E2BIG;
		else
			t->map[t->nr_maps++] = (struct track_map){ m.start, m.end, m.offset };
	}
	fclose(f);
	return ret;
}

/**
 * track_start - check that the marks can be trusted, and begin with everything clean
 * @pid: the VMM
 * @path: its RAM file; the string must live as long as @t
 *
 * Return: 0; -EOPNOTSUPP or another -errno, having said why.
 */
int track_start(struct track *t, pid_t pid, const char *path, uint64_t size)
{
	char name[64];
	struct stat st;
	int ret;

	memset(t, 0, sizeof(*t));
	t->pid = pid;
	t->path = path;
	t->size = size;
	t->pagemap = -1;
	t->clear = -1;
	t->scan = true;
	if (stat(path, &st)) {
		log_error("cannot look at %s: %s", path, strerror(errno));
		return -errno;
	}
	t->dev = st.st_dev;
	t->ino = st.st_ino;
	ret = track_check(t);
	if (ret)
		return ret;
	snprintf(name, sizeof(name), "/proc/%d/pagemap", (int)pid);
	t->pagemap = open(name, O_RDONLY | O_CLOEXEC);
	snprintf(name, sizeof(name), "/proc/%d/clear_refs", (int)pid);
	t->clear = open(name, O_WRONLY | O_CLOEXEC);
	if (t->pagemap < 0 || t->clear < 0) {
		log_error("cannot track the source's writes: %s: %s; "
			  "run umig as QEMU's user or as root", name, strerror(errno));
		track_stop(t);
		return -EACCES;
	}
	ret = track_clear(t);
	if (ret) {
		log_error("cannot track the source's writes: %s: %s", name, strerror(-ret));
		track_stop(t);
	}
	return ret;
}

/*
 * From here on everything counts as clean. A write between track_dirty() and this call is lost, so
 * the guest must stand still meanwhile. Return: 0 or -errno.
 */
int track_clear(struct track *t)
{
	ssize_t n;
	int ret = track_read_maps(t);

	if (ret)
		return ret;
	do {
		n = pwrite(t->clear, "4", 1, 0);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

static void track_mark(const struct track *t, uint64_t *bitmap, uint64_t offset)
{
	uint64_t page = offset / UMIG_PAGE_SIZE;

	if (offset < t->size)
		bitmap[page / 64] |= 1ULL << (page % 64);
}

static int track_by_scan(struct track *t, const struct track_map *map, uint64_t *bitmap)
{
	struct track_region *vec = malloc(SCAN_BATCH * sizeof(*vec));
	struct track_scan scan = {
		.size = sizeof(scan),
		.start = map->start,
		.end = map->end,
		.vec = (uintptr_t)vec,
		.vec_len = SCAN_BATCH,
		.category_mask = TRACK_SOFT_DIRTY,
		.return_mask = TRACK_SOFT_DIRTY,
	};
	int n = vec ? 0 : -ENOMEM, i;

	while (n >= 0 && scan.start < scan.end) {
		n = ioctl(t->pagemap, TRACK_SCAN, &scan);
		if (n < 0)
			n = -errno;
		for (i = 0; i < n; i++) {
			uint64_t at;

			for (at = vec[i].start; at < vec[i].end; at += UMIG_PAGE_SIZE)
				track_mark(t, bitmap, map->offset + at - map->start);
		}
		if (n >= 0 && scan.walk_end <= scan.start)
			n = -EIO;
		scan.start = scan.walk_end;
	}
	free(vec);
	return n < 0 ? n : 0;
}

static int track_by_read(struct track *t, const struct track_map *map, uint64_t *bitmap)
{
	uint64_t *entry = malloc(PAGEMAP_BATCH * sizeof(*entry)), at = map->start;
	int ret = entry ? 0 : -ENOMEM;

	while (!ret && at < map->end) {
		uint64_t nr = min_u64(PAGEMAP_BATCH, (map->end - at) / UMIG_PAGE_SIZE), i;
		ssize_t n = pread(t->pagemap, entry, nr * 8, (off_t)(at / UMIG_PAGE_SIZE * 8));

		if (n < 8) {
			ret = n < 0 ? -errno : -ESRCH;
			break;
		}
		nr = (uint64_t)n / 8;
		for (i = 0; i < nr; i++, at += UMIG_PAGE_SIZE) {
			if (entry[i] & PAGEMAP_SOFT_DIRTY)
				track_mark(t, bitmap, map->offset + at - map->start);
		}
	}
	free(entry);
	return ret;
}

/**
 * track_dirty - the pages written to since track_clear()
 * @bitmap: (size / page size + 63) / 64 words; bits are set, none is cleared
 * @nr_dirty: how many bits are set in it afterwards
 *
 * Return: 0, or -errno (-ESRCH the VMM is gone).
 */
int track_dirty(struct track *t, uint64_t *bitmap, uint64_t *nr_dirty)
{
	uint64_t nr_words = (t->size / UMIG_PAGE_SIZE + 63) / 64, i;
	struct track_map before[TRACK_MAX_MAPS];
	unsigned int nr_before = t->nr_maps, m;
	int ret;

	memcpy(before, t->map, sizeof(before));
	ret = track_read_maps(t);
	if (ret)
		return ret;
	/* The bits of a new mapping tell nothing: all pages count as dirty. */
	if (t->nr_maps != nr_before || memcmp(before, t->map, nr_before * sizeof(before[0]))) {
		for (i = 0; i < t->size; i += UMIG_PAGE_SIZE)
			track_mark(t, bitmap, i);
	}
	for (m = 0; m < t->nr_maps && !ret; m++) {
		if (t->scan) {
			ret = track_by_scan(t, &t->map[m], bitmap);
			t->scan = ret != -ENOTTY && ret != -EINVAL;
		}
		if (!t->scan)
			ret = track_by_read(t, &t->map[m], bitmap);
	}
	*nr_dirty = 0;
	for (i = 0; i < nr_words; i++)
		*nr_dirty += (uint64_t)__builtin_popcountll(bitmap[i]);
	return ret;
}

void track_stop(struct track *t)
{
	if (t->pagemap >= 0)
		close(t->pagemap);
	if (t->clear >= 0)
		close(t->clear);
	t->pagemap = -1;
	t->clear = -1;
}

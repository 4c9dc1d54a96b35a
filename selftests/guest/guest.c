// SPDX-License-Identifier: GPL-2.0
/*
 * The guest with Linux that is migrated in the tests: the only program in it. Most
 * scenarios have the guest without an operating system, bare.c, which prints the same.
 *
 * It fills most of its memory with data that it can predict, then for ever
 * rewrites a part of it and verifies all of it (pages.h), with as many threads as it has
 * processors. What it finds goes to the serial port:
 *
 *	guest: ready, N MiB in M threads
 *	guest: round R, verified N MiB, wrong bytes W
 *	guest: tick T ms, pages P			(every 100 ms: work done)
 *	guest: wrong page P, word W: X, expected Y	(the first few)
 *	guest: disk pass R, N MiB, wrong bytes W	(with a disk)
 *
 * The kernel command line may have guest.mib=N (memory to use),
 * guest.rewrite=N (of 64 pages, how many a round rewrites) and guest.disk=N: the
 * guest writes N MiB of its memory to a virtio disk and reads them back elsewhere,
 * for ever. No processor touches that data, so the process that does the disk's work
 * is the first to want it after a migration.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "pages.h"

#define MAX_THREADS	64
#define DISK_BLOCK	(64UL << 10)

struct part {
	pthread_t thread;
	size_t first, end;	/* pages */
};

static pthread_barrier_t round_start, round_end;
static int port;

static void say(const char *format, ...)
{
	char line[160];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	/* One write: lines of several threads do not mix. */
	if (write(port, line, length) != length)
		abort();
}

static void *part_run(void *arg)
{
	struct part *part = arg;

	for (unsigned int round = 0;; round++) {
		pthread_barrier_wait(&round_start);
		for (size_t page = part->first; page < part->end; page++)
			page_visit(page, round);
		pthread_barrier_wait(&round_end);
	}
	return NULL;
}

static void *ticks_run(void *arg)
{
	struct timespec interval = { .tv_nsec = 100 * 1000 * 1000 };
	struct timespec now;

	(void)arg;
	for (;;) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		say("guest: tick %ld ms, pages %lu\n",
		    now.tv_sec * 1000 + now.tv_nsec / 1000000, pages_done);
		nanosleep(&interval, NULL);
	}
	return NULL;
}

/* Each needs the ones before it. Modules that the kernel has built in are missing. */
static void load_modules(void)
{
	static const char *const names[] = {
		"virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev",
		"virtio_pci", "virtio_blk",
	};
	char path[64];

	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int fd;

		snprintf(path, sizeof(path), "/modules/%s.ko", names[i]);
		fd = open(path, O_RDONLY);
		if (fd >= 0 && syscall(SYS_finit_module, fd, "", 0))
			say("guest: cannot load %s: %d\n", path, errno);
		close(fd);
	}
}

static int disk_open(void)
{
	struct timespec interval = { .tv_nsec = 10 * 1000 * 1000 };

	for (unsigned int i = 0; i < 2000; i++) {
		int fd = open("/dev/vda", O_RDWR | O_DIRECT);

		if (fd >= 0)
			return fd;
		nanosleep(&interval, NULL);
	}
	return -1;
}

static void disk_verify(const uint64_t *in, size_t first_page)
{
	for (size_t i = 0; i < DISK_BLOCK / sizeof(*in); i++) {
		uint64_t expected = word_of(first_page + i / PAGE_WORDS, 0, i % PAGE_WORDS);

		if (in[i] == expected)
			continue;
		wrong_bytes += sizeof(*in);
		if (reports++ < MAX_REPORTS)
			say("guest: wrong page %zu on disk, word %zu: %#lx, expected %#lx\n",
			    first_page + i / PAGE_WORDS, i % PAGE_WORDS, in[i], expected);
	}
}

/* In each pass every block of the disk gets the content of another part of memory. */
static void *disk_run(void *arg)
{
	size_t mib = (uintptr_t)arg, nr = (mib << 20) / DISK_BLOCK;
	char *out = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	char *in = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	int fd;

	load_modules();
	fd = disk_open();
	if (fd < 0 || out == MAP_FAILED || in == MAP_FAILED) {
		say("guest: no disk\n");
		return NULL;
	}
	for (size_t i = 0; i < (mib << 20) / sizeof(uint64_t); i++)
		((uint64_t *)out)[i] = word_of(i / PAGE_WORDS, 0, i % PAGE_WORDS);
	for (unsigned int pass = 1;; pass++) {
		for (size_t i = 0; i < nr; i++) {
			size_t from = (i + pass) % nr;
			char *to = in + i * DISK_BLOCK;

			if (pwrite(fd, out + from * DISK_BLOCK, DISK_BLOCK, i * DISK_BLOCK) !=
			    (ssize_t)DISK_BLOCK ||
			    pread(fd, to, DISK_BLOCK, i * DISK_BLOCK) != (ssize_t)DISK_BLOCK) {
				wrong_bytes += DISK_BLOCK;
				say("guest: wrong page on disk, block %zu: error %d\n", i, errno);
				continue;
			}
			disk_verify((uint64_t *)to, from * (DISK_BLOCK / 4096));
		}
		say("guest: disk pass %u, %zu MiB, wrong bytes %lu\n", pass, mib, wrong_bytes);
	}
	return NULL;
}

static unsigned long option(const char *name, unsigned long otherwise)
{
	static char line[4096];
	char *found;

	if (!line[0]) {
		int fd = open("/proc/cmdline", O_RDONLY);

		if (fd < 0 || read(fd, line, sizeof(line) - 1) < 0)
			abort();
		close(fd);
	}
	found = strstr(line, name);
	return found ? strtoul(found + strlen(name), NULL, 0) : otherwise;
}

int main(void)
{
	struct part parts[MAX_THREADS];
	pthread_t ticks, disk;
	unsigned int nr_threads;
	size_t disk_mib, mib, nr_pages;
	struct sysinfo info;

	mkdir("/proc", 0755);
	mount("proc", "/proc", "proc", 0, NULL);
	mkdir("/dev", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	/* The serial port, whatever it is called on this architecture. */
	port = open("/dev/console", O_WRONLY);
	if (port < 0)
		abort();

	sysinfo(&info);
	mib = option("guest.mib=", (info.freeram >> 20) * 8 / 10);
	rewrite = option("guest.rewrite=", rewrite);
	nr_pages = mib << 8;
	nr_threads = sysconf(_SC_NPROCESSORS_ONLN);
	if (nr_threads > MAX_THREADS)
		nr_threads = MAX_THREADS;

	memory = mmap(NULL, nr_pages << 12, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	generation = calloc(nr_pages, sizeof(*generation));
	if (memory == MAP_FAILED || !generation) {
		say("guest: no memory for %zu MiB\n", mib);
		reboot(RB_POWER_OFF);
	}
	pthread_barrier_init(&round_start, NULL, nr_threads + 1);
	pthread_barrier_init(&round_end, NULL, nr_threads + 1);
	for (unsigned int i = 0; i < nr_threads; i++) {
		parts[i].first = nr_pages * i / nr_threads;
		parts[i].end = nr_pages * (i + 1) / nr_threads;
		pthread_create(&parts[i].thread, NULL, part_run, &parts[i]);
	}

	for (unsigned int round = 0;; round++) {
		pthread_barrier_wait(&round_start);
		pthread_barrier_wait(&round_end);
		if (round == 0) {
			say("guest: ready, %zu MiB in %u threads\n", mib, nr_threads);
			pthread_create(&ticks, NULL, ticks_run, NULL);
			disk_mib = option("guest.disk=", 0);
			if (disk_mib)
				pthread_create(&disk, NULL, disk_run, (void *)disk_mib);
			continue;
		}
		say("guest: round %u, verified %zu MiB, wrong bytes %lu\n",
		    round, mib, wrong_bytes);
	}
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Row 13: a converted region against plain anonymous memory.
 *
 * The loop does to both what guest RAM may see: writes to every page, a fork whose
 * child exits at once and after which every page is written again (copied), mprotect
 * to read-only and back with writes, MADV_DONTNEED of a half and writes.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

static void write_all(char *address, size_t length)
{
	size_t i;

	for (i = 0; i < length; i += PAGE)
		(*(volatile char *)(address + i))++;
}

static double loop(char *address, size_t length)
{
	unsigned int i, rounds = bench_short ? 2 : 8;
	uint64_t start = clock_now();
	pid_t pid;

	for (i = 0; i < rounds; i++) {
		write_all(address, length);
		pid = fork();
		must(pid >= 0);
		if (!pid)
			_exit(0);
		must(waitpid(pid, NULL, 0) == pid);
		write_all(address, length);
		must(!mprotect(address, length, PROT_READ));
		must(!mprotect(address, length, PROT_READ | PROT_WRITE));
		write_all(address, length);
		must(!madvise(address + length / 2, length / 2, MADV_DONTNEED));
		write_all(address, length);
	}
	return (double)(clock_now() - start) / rounds;
}

static double loop_ours(size_t length, char *data)
{
	struct region r = bench_region(length / PAGE);
	uint64_t missing;
	size_t done;
	double taken;

	for (done = 0; done < length; done += HUGE)
		bench_fill(&r, done, HUGE, data);
	must(!region_convert(&r, 0, &missing));
	madvise(r.address, length, MADV_NOHUGEPAGE);
	taken = loop(r.address, length);
	region_close(&r);
	return taken;
}

static double loop_rival(size_t length, char *data)
{
	char *address = memory_missing(length);
	double taken;
	size_t done;

	for (done = 0; done < length; done += HUGE)
		memcpy(address + done, data, HUGE);
	taken = loop(address, length);
	munmap(address, length);
	return taken;
}

void bench_converted(void)
{
	size_t length = bench_short ? 8UL << 20 : 32UL << 20;
	char *data = memory_populated(HUGE);
	struct row row = {
		.id = "13",
		.name = "after conversion: touch, fork, mprotect, madvise / anonymous memory",
		.unit = "loop",
		.target = 0.97,
		.target_max = 1.03,
	};

	loop_rival(length, data);
	row.ours = loop_ours(length, data);
	row.rival = loop_rival(length, data);
	row_print(&row);
	munmap(data, HUGE);
}

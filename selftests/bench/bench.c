// SPDX-License-Identifier: GPL-2.0
/*
 * Runs benchmarks by name and prints their rows as lines of JSON. To be run in the
 * test VM with the module loaded; run.sh does that.
 *
 * usage: bench [--short] [--clock instructions|wall] NAME...
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

bool bench_short;
const char *bench_clock = "instructions";

void bench_die(const char *file, int line, const char *what)
{
	fprintf(stderr, "bench: %s:%d: %s: %s\n", file, line, what, strerror(errno));
	exit(1);
}

uint64_t clock_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* Instructions without effect that a profiler in the emulator can look for. */
#ifdef __x86_64__
#define PROFILE_START	"nopl 0x50524f01(%%rax)"
#define PROFILE_STOP	"nopl 0x50524f02(%%rax)"
#else
#define PROFILE_START	""
#define PROFILE_STOP	""
#endif

__attribute__((noinline)) void profile_start(void)
{
	asm volatile(PROFILE_START ::: "memory");
}

__attribute__((noinline)) void profile_stop(void)
{
	asm volatile(PROFILE_STOP ::: "memory");
}

void row_print(const struct row *row)
{
	printf("{\"id\": \"%s\", \"name\": \"%s\", \"unit\": \"%s\", \"clock\": \"%s\", ",
	       row->id, row->name, row->unit, bench_clock);
	printf("\"ours\": %.6g, \"rival\": %.6g, \"ratio\": %.4g, \"floor\": %.6g, ",
	       row->ours, row->rival, row->ours / row->rival, row->floor);
	printf("\"target\": %g, \"target_max\": %g, \"more_is_better\": %s, \"spread\": %.3g}\n",
	       row->target, row->target_max, row->more_is_better ? "true" : "false",
	       row->spread);
	fflush(stdout);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double median(double *values, size_t nr)
{
	qsort(values, nr, sizeof(*values), compare);
	return values[nr / 2];
}

void row_rounds(struct row *row, size_t nr, double (*ours)(void), double (*rival)(void))
{
	double a[ROUNDS_MAX], b[ROUNDS_MAX], ratio[ROUNDS_MAX];
	size_t i;

	must(nr && nr <= ROUNDS_MAX);
	ours();
	for (i = 0; i < nr; i++) {
		a[i] = ours();
		b[i] = rival();
		ratio[i] = a[i] / b[i];
	}
	row->ours = median(a, nr);
	row->rival = median(b, nr);
	median(ratio, nr);
	row->spread = (ratio[nr - 1] - ratio[0]) / 2;
	row_print(row);
}

char *memory_populated(size_t length)
{
	char *p = mmap(NULL, length, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must(p != MAP_FAILED);
	madvise(p, length, MADV_NOHUGEPAGE);
	memset(p, 0x5a, length);
	return p;
}

char *memory_missing(size_t length)
{
	char *p = mmap(NULL, length + HUGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	must(p != MAP_FAILED);
	p = (char *)(((uintptr_t)p + HUGE - 1) & ~(HUGE - 1));
	madvise(p, length, MADV_NOHUGEPAGE);
	return p;
}

struct region bench_region(size_t nr_pages)
{
	struct region r;

	must(!region_map(&r, 0, nr_pages));
	must(!region_attach(&r));
	return r;
}

struct region bench_region_shared(size_t nr_pages, char **helper_memory)
{
	struct region r = {
		.context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC),
		.length = nr_pages * PAGE,
	};

	must(r.context >= 0);
	r.address = mmap(NULL, r.length, PROT_READ | PROT_WRITE, MAP_SHARED, r.context, 0);
	must(r.address != MAP_FAILED);
	r.id = region_find(r.context, getpid(), r.address);
	must(r.id);
	must(!region_attach(&r));
	if (helper_memory) {
		/* At a multiple of 2 MiB, so that huge pages can be mapped. */
		*helper_memory = mmap(memory_missing(r.length), r.length,
				      PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
				      r.helper, 0);
		must(*helper_memory != MAP_FAILED);
		must(!madvise(*helper_memory, r.length, MADV_HUGEPAGE));
	}
	return r;
}

void bench_fill(struct region *r, size_t offset, size_t length, const void *data)
{
	struct postcopy_pages_fill fill;

	must(!pages_fill_raw(r->helper, r->offset + offset, length, data, &fill));
	must(fill.out_length == length);
}

void bench_present(struct region *r, size_t offset, size_t length)
{
	struct postcopy_range range = { r->offset + offset, length };
	struct postcopy_pages_present present = {
		.size = sizeof(present),
		.ranges = (uintptr_t)&range,
		.nr_ranges = 1,
	};

	must(!ioctl(r->helper, POSTCOPY_PAGES_PRESENT, &present));
	must(present.out_nr_marked == length / PAGE);
}

void bench_zero(struct region *r, size_t offset, size_t length)
{
	uint64_t zeroed;

	must(!pages_zero(r, offset / PAGE, length / PAGE, &zeroed));
	must(zeroed == length / PAGE);
}

int uffd_open(int flags, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | flags);

	must(uffd >= 0);
	must(!ioctl(uffd, UFFDIO_API, &api));
	return uffd;
}

void uffd_register(int uffd, char *start, size_t length, uint64_t mode)
{
	struct uffdio_register reg = {
		.range = { (uintptr_t)start, length },
		.mode = mode,
	};

	must(!ioctl(uffd, UFFDIO_REGISTER, &reg));
}

void uffd_copy(int uffd, char *to, const void *from, size_t length)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)to,
		.src = (uintptr_t)from,
		.len = length,
	};

	must(!ioctl(uffd, UFFDIO_COPY, &copy));
}

void uffd_zeropage(int uffd, char *to, size_t length)
{
	struct uffdio_zeropage zero = { .range = { (uintptr_t)to, length } };

	must(!ioctl(uffd, UFFDIO_ZEROPAGE, &zero));
}

void uffd_continue(int uffd, char *to, size_t length)
{
	struct uffdio_continue cont = { .range = { (uintptr_t)to, length } };

	must(!ioctl(uffd, UFFDIO_CONTINUE, &cont));
}

static const struct {
	const char *name;
	void (*run)(void);
} benches[] = {
	{ "demand", bench_demand },
	{ "bulk", bench_bulk },
	{ "shared", bench_shared },
	{ "converted", bench_converted },
	{ "scale", bench_scale },
	{ "threads", bench_threads },
	{ "pull", bench_pull },
};

int main(int argc, char **argv)
{
	size_t i;

	for (argv++; argc-- > 1; argv++) {
		if (!strcmp(*argv, "--short")) {
			bench_short = true;
			continue;
		}
		if (!strcmp(*argv, "--clock") && argc > 1) {
			bench_clock = *++argv;
			argc--;
			continue;
		}
		for (i = 0; i < sizeof(benches) / sizeof(benches[0]); i++) {
			if (!strcmp(*argv, benches[i].name)) {
				benches[i].run();
				break;
			}
		}
		if (i == sizeof(benches) / sizeof(benches[0])) {
			fprintf(stderr, "bench: no benchmark %s\n", *argv);
			return 2;
		}
	}
	return 0;
}

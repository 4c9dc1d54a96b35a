// SPDX-License-Identifier: GPL-2.0
/*
 * Row 7: many threads fault, one helper thread answers. Wall clock, 4 processors.
 *
 * Ours and one userfaultfd in turns, the median of the rounds' ratios.
 */
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

#define NR_THREADS	8

struct toucher {
	pthread_t thread;
	pthread_barrier_t *start;
	char *address;
	size_t nr;
};

static void *touch(void *arg)
{
	struct toucher *t = arg;
	size_t i;

	pthread_barrier_wait(t->start);
	for (i = 0; i < t->nr; i++)
		(void)*(volatile char *)(t->address + i * PAGE);
	return NULL;
}

struct helper {
	struct region r;
	int uffd;
	char *page;
	size_t nr;
};

static void *serve_ours(void *arg)
{
	struct postcopy_request request[NR_THREADS];
	struct postcopy_helper_exchange exchange = {
		.size = sizeof(exchange),
		.flags = POSTCOPY_EXCHANGE_WAIT,
		.requests = (uintptr_t)request,
		.nr_requests = NR_THREADS,
	};
	struct helper *h = arg;
	size_t done = 0, i;

	for (;;) {
		/* The last answer is not to wait for another request. */
		done += exchange.length ? 1 : 0;
		if (done == h->nr)
			exchange.nr_requests = 0;
		must(!ioctl(h->r.helper, POSTCOPY_HELPER_EXCHANGE, &exchange));
		if (done == h->nr)
			return NULL;
		must(exchange.out_nr_requests);
		for (i = 0; i + 1 < exchange.out_nr_requests; i++, done++)
			bench_fill(&h->r, request[i].offset, request[i].length, h->page);
		exchange.offset = request[i].offset;
		exchange.length = request[i].length;
		exchange.data = (uintptr_t)h->page;
	}
}

static void *serve_rival(void *arg)
{
	struct uffd_msg msg[NR_THREADS];
	struct helper *h = arg;
	size_t done = 0;
	ssize_t i, n;

	while (done < h->nr) {
		n = read(h->uffd, msg, sizeof(msg));
		must(n > 0);
		for (i = 0; i < n / (ssize_t)sizeof(msg[0]); i++, done++)
			uffd_copy(h->uffd, (char *)(msg[i].arg.pagefault.address & ~(PAGE - 1)),
				  h->page, PAGE);
	}
	return NULL;
}

/* Faults per second */
static double round_run(bool ours, size_t nr_each)
{
	struct helper h = { .nr = nr_each * NR_THREADS, .page = memory_populated(PAGE) };
	struct toucher t[NR_THREADS];
	pthread_barrier_t barrier;
	pthread_t helper;
	char *address;
	uint64_t start;
	size_t i;

	if (ours) {
		h.r = bench_region(h.nr);
		address = h.r.address;
	} else {
		address = memory_missing(h.nr * PAGE);
		h.uffd = uffd_open(0, 0);
		uffd_register(h.uffd, address, h.nr * PAGE, UFFDIO_REGISTER_MODE_MISSING);
	}
	must(!pthread_create(&helper, NULL, ours ? serve_ours : serve_rival, &h));
	pthread_barrier_init(&barrier, NULL, NR_THREADS + 1);
	for (i = 0; i < NR_THREADS; i++) {
		t[i] = (struct toucher){
			.start = &barrier,
			.address = address + i * nr_each * PAGE,
			.nr = nr_each,
		};
		must(!pthread_create(&t[i].thread, NULL, touch, &t[i]));
	}
	pthread_barrier_wait(&barrier);
	start = clock_now();
	for (i = 0; i < NR_THREADS; i++)
		pthread_join(t[i].thread, NULL);
	start = clock_now() - start;
	pthread_join(helper, NULL);
	if (ours) {
		region_close(&h.r);
	} else {
		munmap(address, h.nr * PAGE);
		close(h.uffd);
	}
	munmap(h.page, PAGE);
	return h.nr * 1e9 / start;
}

static double rate_ours(void)
{
	return round_run(true, bench_short ? 64 : 256);
}

static double rate_rival(void)
{
	return round_run(false, bench_short ? 64 : 256);
}

void bench_threads(void)
{
	struct row row = {
		.id = "7",
		.name = "faults/s, 8 threads, one helper thread / one userfaultfd, one reader",
		.unit = "second",
		.target = 2.0,
		.more_is_better = true,
	};

	row_rounds(&row, 33, rate_ours, rate_rival);
}

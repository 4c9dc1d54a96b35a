// SPDX-License-Identifier: GPL-2.0
/*
 * Rows 1 and 2: a thread touches a missing page, a helper answers.
 *
 * Ours is one page of a private region. The rival is userfaultfd, answered by
 * UFFDIO_COPY, in its two usual loops: poll() + read(), as QEMU does to hear of
 * its own end too, and a blocking read(). Ours waits for its own end without
 * poll(), so it is compared with both.
 *
 * All is measured with the helper as a thread of the process that faults, which is
 * how userfaultfd is used, and again with the helper as a process of its own (how
 * umig and CRIU work). The floor is the least that two threads and a page fault cost
 * by other means: a futex ping-pong there and back, which takes four system calls,
 * and a page fault that allocates. A good helper loop needs fewer calls.
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

enum helper_loop {
	OURS_READ,		/* read() + FILL */
	OURS_EXCHANGE,		/* EXCHANGE */
	RIVAL_POLL,		/* poll() + read() + UFFDIO_COPY */
	RIVAL_READ,		/* read() + UFFDIO_COPY */
};

struct demand {
	enum helper_loop loop;
	size_t nr;
	char *page;		/* what the pages are filled with */
	struct region r;
	int uffd;
	int quit;		/* QEMU's loop polls this as well */
	char *address;
};

static void serve_ours_read(struct demand *d)
{
	struct postcopy_request request[16];
	size_t done = 0;
	ssize_t i, n;

	while (done < d->nr) {
		n = read(d->r.helper, request, sizeof(request));
		must(n > 0);
		for (i = 0; i < n / (ssize_t)sizeof(request[0]); i++, done++)
			bench_fill(&d->r, request[i].offset, request[i].length, d->page);
	}
}

static void serve_ours_exchange(struct demand *d)
{
	struct postcopy_request request[16];
	struct postcopy_helper_exchange exchange = {
		.size = sizeof(exchange),
		.flags = POSTCOPY_EXCHANGE_WAIT,
		.requests = (uintptr_t)request,
		.nr_requests = 16,
	};
	size_t done = 0, i;

	while (done < d->nr) {
		if (done + 1 == d->nr && exchange.length)
			exchange.nr_requests = 0;
		must(!ioctl(d->r.helper, POSTCOPY_HELPER_EXCHANGE, &exchange));
		done += exchange.length ? 1 : 0;
		if (!exchange.out_nr_requests)
			continue;
		for (i = 0; i + 1 < exchange.out_nr_requests; i++, done++)
			bench_fill(&d->r, request[i].offset, PAGE, d->page);
		exchange.offset = request[i].offset;
		exchange.length = PAGE;
		exchange.data = (uintptr_t)d->page;
	}
}

static void serve_rival(struct demand *d)
{
	struct pollfd fds[2] = {
		{ .fd = d->uffd, .events = POLLIN },
		{ .fd = d->quit, .events = POLLIN },
	};
	struct uffd_msg msg;
	size_t done;

	for (done = 0; done < d->nr; done++) {
		if (d->loop == RIVAL_POLL)
			must(poll(fds, 2, -1) == 1 && fds[0].revents == POLLIN);
		must(read(d->uffd, &msg, sizeof(msg)) == sizeof(msg));
		must(msg.event == UFFD_EVENT_PAGEFAULT);
		uffd_copy(d->uffd, (char *)(msg.arg.pagefault.address & ~(PAGE - 1)),
			  d->page, PAGE);
	}
}

static void *serve(void *arg)
{
	struct demand *d = arg;

	if (d->loop == RIVAL_POLL || d->loop == RIVAL_READ)
		serve_rival(d);
	else if (d->loop == OURS_EXCHANGE)
		serve_ours_exchange(d);
	else
		serve_ours_read(d);
	return NULL;
}

static void demand_setup(struct demand *d)
{
	if (d->loop == RIVAL_POLL || d->loop == RIVAL_READ) {
		d->uffd = uffd_open(d->loop == RIVAL_POLL ? O_NONBLOCK : 0, 0);
		d->quit = eventfd(0, EFD_CLOEXEC);
		d->address = memory_missing(d->nr * PAGE);
		uffd_register(d->uffd, d->address, d->nr * PAGE, UFFDIO_REGISTER_MODE_MISSING);
	} else {
		d->r = bench_region(d->nr);
		d->address = d->r.address;
	}
	/* So that a helper process does not have the pages too. */
	must(!madvise(d->address, d->nr * PAGE, MADV_DONTFORK));
}

static void demand_end(struct demand *d)
{
	if (d->loop == RIVAL_POLL || d->loop == RIVAL_READ) {
		munmap(d->address, d->nr * PAGE);
		close(d->uffd);
		close(d->quit);
	} else {
		region_close(&d->r);
	}
}

/* Per fault. Touches are reads; write: writes. */
static double demand_measure(enum helper_loop loop, bool process, bool write)
{
	struct demand d = { .loop = loop, .nr = bench_short ? 512 : 4096 };
	size_t warm = d.nr / 8, i;
	pthread_t thread;
	uint64_t start = 0, end;
	pid_t pid = 0;
	int status;

	d.page = memory_populated(PAGE);
	demand_setup(&d);
	if (process) {
		pid = fork();
		must(pid >= 0);
		if (!pid) {
			serve(&d);
			_exit(0);
		}
	} else {
		must(!pthread_create(&thread, NULL, serve, &d));
	}
	for (i = 0; i < d.nr; i++) {
		volatile char *p = d.address + i * PAGE;

		if (i == warm) {
			profile_start();
			start = clock_now();
		}
		if (write)
			*p = 1;
		else
			(void)*p;
	}
	end = clock_now();
	profile_stop();
	must(d.address[PAGE + 1] == d.page[1]);
	if (process)
		must(waitpid(pid, &status, 0) == pid && status == 0);
	else
		pthread_join(thread, NULL);
	demand_end(&d);
	munmap(d.page, PAGE);
	return (double)(end - start) / (d.nr - warm);
}

/* The floor */

static void turn_wait(uint32_t *turn, uint32_t mine)
{
	uint32_t seen;

	while ((seen = __atomic_load_n(turn, __ATOMIC_SEQ_CST)) != mine)
		syscall(SYS_futex, turn, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static void turn_give(uint32_t *turn, uint32_t next)
{
	__atomic_store_n(turn, next, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, turn, FUTEX_WAKE, 1, NULL, NULL, 0);
}

#define NR_TURNS	2000

static void *turns(void *arg)
{
	size_t i;

	for (i = 0; i < NR_TURNS; i++) {
		turn_wait(arg, 1);
		turn_give(arg, 0);
	}
	return NULL;
}

static double floor_round_trip(bool process)
{
	uint32_t *turn = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t start;
	pthread_t thread;
	double taken;
	pid_t pid = 0;
	size_t i;

	must(turn != MAP_FAILED);
	*turn = 0;
	if (process) {
		pid = fork();
		must(pid >= 0);
		if (!pid) {
			turns(turn);
			_exit(0);
		}
	} else {
		must(!pthread_create(&thread, NULL, turns, turn));
	}
	start = clock_now();
	for (i = 0; i < NR_TURNS; i++) {
		turn_give(turn, 1);
		turn_wait(turn, 0);
	}
	taken = (double)(clock_now() - start) / NR_TURNS;
	if (process)
		waitpid(pid, NULL, 0);
	else
		pthread_join(thread, NULL);
	munmap(turn, PAGE);
	return taken;
}

static double floor_fault(void)
{
	size_t nr = 1024, i;
	char *p = memory_missing(nr * PAGE);
	uint64_t start = clock_now();

	for (i = 0; i < nr; i++)
		p[i * PAGE] = 1;
	start = clock_now() - start;
	munmap(p, nr * PAGE);
	return (double)start / nr;
}

void bench_demand(void)
{
	static const struct {
		bool process;
		bool write;
		const char *id[2];
		const char *name;
	} ways[] = {
		{ false, false, { "1", "2" }, "read fault, helper thread" },
		{ false, true, { "1w", "2w" }, "write fault, helper thread" },
		{ true, false, { "1p", "2p" }, "read fault, helper process" },
		{ true, true, { "1pw", "2pw" }, "write fault, helper process" },
	};
	size_t i;

	/* The first of a boot is not like the others. */
	demand_measure(OURS_READ, false, false);
	demand_measure(RIVAL_READ, false, false);
	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		bool process = ways[i].process, write = ways[i].write;
		char name[128];
		struct row row = {
			.id = ways[i].id[0],
			.name = name,
			.unit = "fault",
			.target = 0.80,
			.ours = demand_measure(OURS_EXCHANGE, process, write),
			.rival = demand_measure(RIVAL_POLL, process, write),
			.floor = floor_round_trip(process) + floor_fault(),
		};

		snprintf(name, sizeof(name), "%s / userfaultfd poll+read+COPY", ways[i].name);
		row_print(&row);
		snprintf(name, sizeof(name), "%s / userfaultfd read+COPY", ways[i].name);
		row.id = ways[i].id[1];
		row.target = 0.90;
		row.rival = demand_measure(RIVAL_READ, process, write);
		row_print(&row);
	}
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Every operation with its first, second, third ... allocation or user copy failing, until
 * it gets through without a failure. An operation that fails must say so and change nothing,
 * must work when tried again, and must leave no memory behind (run.sh asks kmemleak).
 *
 * Needs a kernel with fault injection: scripts/debug-kernel.sh debug.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "postcopy_test.h"

#define NR_PAGES	192UL
#define DEBUGFS		"/sys/kernel/debug/"
#define SECTION		"/sys/module/postcopy/sections/.text"
/* More than any operation has places to fail. */
#define NTH_MAX		2000

struct state {
	struct region r;
	bool shared;
	char *data;
	/* Made by the operation, for undo */
	int fd;
	int memfd;
	char *memory;
	struct postcopy_request requests[4];
};

static int op_open(struct state *s)
{
	s->fd = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	return s->fd < 0 ? -errno : 0;
}

/* A context and a memfd of its own. */
static int prepare_backing(struct state *s)
{
	s->memfd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (s->memfd < 0 || ftruncate(s->memfd, NR_PAGES * PAGE) ||
	    fcntl(s->memfd, F_ADD_SEALS, F_SEAL_SHRINK))
		return -errno;
	return op_open(s);
}

static int op_backing(struct state *s)
{
	struct postcopy_context_backing backing = {
		.size = sizeof(backing),
		.length = NR_PAGES * PAGE,
		.fd = s->memfd,
	};

	return ioctl(s->fd, POSTCOPY_CONTEXT_BACKING, &backing) ? -errno : 0;
}

static int prepare_map_backing(struct state *s)
{
	return prepare_backing(s) ?: op_backing(s);
}

static int op_map_backing(struct state *s)
{
	s->memory = mmap(NULL, NR_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	return s->memory == MAP_FAILED ? -errno : 0;
}

/* Whichever step has failed, nothing keeps the memfd writable. */
static void finish_backing(struct state *s)
{
	close(s->fd);
	if (!wait_until(!fcntl(s->memfd, F_ADD_SEALS, F_SEAL_WRITE)))
		abort();
	close(s->memfd);
}

static int map_context(struct state *s, int flags, uint64_t offset, size_t length)
{
	s->memory = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, s->r.context, offset);
	return s->memory == MAP_FAILED ? -errno : 0;
}

static int op_map_private(struct state *s)
{
	return map_context(s, MAP_PRIVATE, s->r.offset, NR_PAGES * PAGE);
}

static int op_map_shared(struct state *s)
{
	return map_context(s, MAP_SHARED, 1UL << 40, NR_PAGES * PAGE);
}

static int op_map_again(struct state *s)
{
	return map_context(s, MAP_SHARED, s->r.offset, NR_PAGES * PAGE);
}

static int op_map_helper(struct state *s)
{
	s->memory = mmap(NULL, NR_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
			 s->r.helper, s->r.offset);
	return s->memory == MAP_FAILED ? -errno : 0;
}

static int op_detach(struct state *s)
{
	region_detach(&s->r);
	return 0;
}

static int op_attach(struct state *s)
{
	return region_attach(&s->r);
}

static int op_context_info(struct state *s)
{
	struct postcopy_context_info info = { .size = sizeof(info) };

	return ioctl(s->r.context, POSTCOPY_CONTEXT_INFO, &info) ? -errno : 0;
}

static int op_list(struct state *s)
{
	uint64_t ids[64];
	struct postcopy_region_list list = {
		.size = sizeof(list),
		.ids = (uintptr_t)ids,
		.nr_ids = 64,
	};

	return ioctl(s->r.context, POSTCOPY_REGION_LIST, &list) ? -errno : 0;
}

static int op_info(struct state *s)
{
	struct postcopy_region_info info;

	return region_info(&s->r, &info);
}

static int op_policy(struct state *s)
{
	struct postcopy_region_policy policy = {
		.size = sizeof(policy),
		.region_id = s->r.id,
	};

	return ioctl(s->r.context, POSTCOPY_REGION_POLICY, &policy) ? -errno : 0;
}

static int op_fill(struct state *s)
{
	struct postcopy_pages_fill fill;

	/* A fill that succeeds in part has filled at least one page. */
	return pages_fill_raw(s->r.helper, s->r.offset + 3 * PAGE, 3 * PAGE, s->data, &fill);
}

/* One call with three ranges */
static int op_ranges(struct state *s, unsigned long cmd)
{
	struct postcopy_range ranges[3];
	/* All these structs look like this one. */
	struct postcopy_pages_zero argument = {
		.size = sizeof(argument),
		.ranges = (uintptr_t)ranges,
		.nr_ranges = 3,
	};
	unsigned int i;

	for (i = 0; i < 3; i++) {
		ranges[i].offset = s->r.offset + i * 70 * PAGE;
		ranges[i].length = 5 * PAGE;
	}
	return ioctl(s->r.helper, cmd, &argument) ? -errno : 0;
}

static int op_zero(struct state *s)
{
	return op_ranges(s, POSTCOPY_PAGES_ZERO);
}

static int op_present(struct state *s)
{
	return op_ranges(s, POSTCOPY_PAGES_PRESENT);
}

static int op_discard(struct state *s)
{
	return op_ranges(s, POSTCOPY_PAGES_DISCARD);
}

static int op_poison(struct state *s)
{
	return op_ranges(s, POSTCOPY_PAGES_POISON);
}

static int op_query(struct state *s)
{
	int present = page_is_present(&s->r, 0);

	return present < 0 ? present : 0;
}

static int op_fill_all(struct state *s)
{
	return pages_fill(&s->r, 0, NR_PAGES, NULL);
}

static int op_convert(struct state *s)
{
	return region_convert(&s->r, 0, NULL);
}

/* Somebody waits for page 1. */
static void *toucher(void *arg)
{
	struct state *s = arg;

	probe_read(page_at(&s->r, 1));
	return NULL;
}

static pthread_t toucher_thread;

static int prepare_request(struct state *s)
{
	if (pthread_create(&toucher_thread, NULL, toucher, s))
		return -EAGAIN;
	return wait_requests(&s->r, 1) ? 0 : -ETIMEDOUT;
}

static void finish_request(struct state *s)
{
	pages_fill(&s->r, 1, 1, NULL);
	pthread_join(toucher_thread, NULL);
}

static int op_read(struct state *s)
{
	int n = requests_read(&s->r, s->requests, 4);

	if (n < 0)
		return n;
	return n == 1 && s->requests[0].offset == s->r.offset + PAGE ? 0 : -EPROTO;
}

static int op_poll(struct state *s)
{
	struct pollfd polls[2] = {
		{ .fd = s->r.helper, .events = POLLIN },
		{ .fd = s->r.context, .events = POLLIN },
	};

	return poll(polls, 2, 0) < 0 ? -errno : 0;
}

/* A fault in user mode is tried again until it works, and nobody sees more. */
static int op_fault_zero(struct state *s)
{
	return *(volatile uint64_t *)page_at(&s->r, 8) ? -EILSEQ : 0;
}

static int prepare_zero(struct state *s)
{
	return pages_zero(&s->r, 0, NR_PAGES, NULL);
}

/* A missing page, from a system call: EFAULT, or the page has come. */
static struct server op_server;

static int prepare_server(struct state *s)
{
	return server_start(&op_server, &s->r);
}

static void finish_server(struct state *s)
{
	server_stop(&op_server);
}

static int op_fault_missing(struct state *s)
{
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (read(fd, page_at(&s->r, 9), 8) != 8)
		ret = -errno;
	close(fd);
	return ret;
}

static int op_touch_missing(struct state *s)
{
	return page_is_right(&s->r, 9, page_at(&s->r, 9)) ? 0 : -EILSEQ;
}

static int op_fork(struct state *s)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	if (pid < 0)
		return -errno;
	return waitpid(pid, &status, 0) == pid && !status ? 0 : -ECHILD;
}

static int op_split(struct state *s)
{
	return mprotect(page_at(&s->r, 20), 2 * PAGE, PROT_READ) ? -errno : 0;
}

static int op_unmap(struct state *s)
{
	return munmap(page_at(&s->r, 30), 2 * PAGE) ? -errno : 0;
}

static int op_dontneed(struct state *s)
{
	return madvise(page_at(&s->r, 40), 2 * PAGE, MADV_DONTNEED) ? -errno : 0;
}

static int op_mlock(struct state *s)
{
	return mlock(page_at(&s->r, 50), 2 * PAGE) ? -errno : 0;
}

static void undo_fd(struct state *s)
{
	close(s->fd);
}

static void undo_memory(struct state *s)
{
	munmap(s->memory, NR_PAGES * PAGE);
}

enum { PRIVATE = 1, SHARED = 2, BOTH = 3 };

static const struct op {
	const char *name;
	int kinds;
	int (*prepare)(struct state *s);
	int (*run)(struct state *s);
	void (*undo)(struct state *s);
	void (*finish)(struct state *s);
} ops[] = {
	{ "open", PRIVATE, NULL, op_open, undo_fd },
	{ "mmap private", PRIVATE, NULL, op_map_private, undo_memory },
	{ "mmap shared", PRIVATE, NULL, op_map_shared, undo_memory },
	{ "CONTEXT_BACKING", PRIVATE, prepare_backing, op_backing, NULL, finish_backing },
	{ "mmap of a memfd", PRIVATE, prepare_map_backing, op_map_backing, undo_memory,
	  finish_backing },
	{ "mmap again", SHARED, NULL, op_map_again, undo_memory },
	{ "mmap of the helper fd", SHARED, NULL, op_map_helper, undo_memory },
	{ "HELPER_ATTACH", PRIVATE, op_detach, op_attach, NULL },
	{ "CONTEXT_INFO", PRIVATE, NULL, op_context_info, NULL },
	{ "REGION_LIST", PRIVATE, NULL, op_list, NULL },
	{ "REGION_INFO", PRIVATE, NULL, op_info, NULL },
	{ "REGION_POLICY", PRIVATE, NULL, op_policy, NULL },
	{ "PAGES_FILL", BOTH, NULL, op_fill, NULL },
	{ "PAGES_ZERO", BOTH, NULL, op_zero, NULL },
	{ "PAGES_PRESENT", SHARED, NULL, op_present, NULL },
	{ "PAGES_DISCARD", BOTH, op_fill_all, op_discard, NULL },
	{ "PAGES_POISON", BOTH, NULL, op_poison, NULL },
	{ "PAGES_QUERY", PRIVATE, NULL, op_query, NULL },
	{ "REGION_CONVERT", BOTH, op_fill_all, op_convert, NULL },
	{ "read", BOTH, prepare_request, op_read, NULL, finish_request },
	{ "poll", PRIVATE, NULL, op_poll, NULL },
	{ "fault on zeros", BOTH, prepare_zero, op_fault_zero, NULL },
	{ "fault on a missing page in a system call", BOTH, prepare_server, op_fault_missing,
	  NULL, finish_server },
	{ "fault on a missing page", BOTH, prepare_server, op_touch_missing, NULL,
	  finish_server },
	{ "fork", BOTH, prepare_zero, op_fork, NULL },
	{ "fork with nothing present", BOTH, NULL, op_fork, NULL },
	{ "mprotect that splits", BOTH, NULL, op_split, NULL },
	{ "munmap that splits", BOTH, NULL, op_unmap, NULL },
	{ "madvise", BOTH, op_fill_all, op_dontneed, NULL },
	{ "mlock", BOTH, op_fill_all, op_mlock, NULL },
};

static int state_make(struct state *s)
{
	return region_make(&s->r, s->shared ? MAP_SHARED : MAP_PRIVATE, 1UL << 30, NR_PAGES);
}

/* Fault injection. It may hit the read or write of this file: then it is tried again. */
static int nth_fd = -1;

static void nth_write(int nth)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%d", nth);

	while (pwrite(nth_fd, text, length, 0) != length)
		;
}

/* Ends it. True if something was made to fail. */
static bool nth_hit(void)
{
	char text[16] = "";
	ssize_t length = pread(nth_fd, text, sizeof(text) - 1, 0);

	nth_write(0);
	/* EFAULT: the injection hit this read, so it did not hit the operation. */
	return length > 0 && atoi(text) == 0;
}

static int parameter(const char *facility, const char *name, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), DEBUGFS "%s/%s", facility, name);
	return file_write(path, value);
}

static const char *const facilities[] = { "failslab", "fail_page_alloc", "fail_usercopy" };

static int injection_set_up(void)
{
	unsigned int i;

	for (i = 0; i < 3; i++) {
		if (parameter(facilities[i], "verbose", "0") ||
		    parameter(facilities[i], "probability", "0") ||
		    parameter(facilities[i], "task-filter", "1") ||
		    parameter(facilities[i], "times", "-1") ||
		    parameter(facilities[i], "require-start", "0") ||
		    parameter(facilities[i], "require-end", "0xffffffffffffffff"))
			return -ENODEV;
	}
	if (parameter("failslab", "ignore-gfp-wait", "N") ||
	    parameter("fail_page_alloc", "ignore-gfp-wait", "N") ||
	    parameter("fail_page_alloc", "ignore-gfp-highmem", "N") ||
	    parameter("fail_page_alloc", "min-order", "0"))
		return -ENODEV;
	return 0;
}

/*
 * After a fork the page of the thread's rseq area waits to be copied. The kernel writes to it when
 * the thread was preempted, and kills the thread with SIGSEGV if that copy is the one that fails.
 */
static int rseq_leave(void)
{
	char *area = (char *)__builtin_thread_pointer() + __rseq_offset;
	unsigned int size;

	if (!__rseq_size)
		return 0;
	/* The C library does not say which size it has registered: 32 or, newer, more. */
	for (size = 20; size <= 1024; size++)
		if (!syscall(SYS_rseq, area, size, RSEQ_FLAG_UNREGISTER, RSEQ_SIG))
			return 0;
	return -1;
}

FIXTURE(failnth)
{
	char *data;
};

FIXTURE_SETUP(failnth)
{
	if (access("/proc/thread-self/fail-nth", F_OK))
		SKIP(return, "no fault injection in this kernel");
	ASSERT_EQ(0, injection_set_up());
	if (rseq_leave())
		SKIP(return, "this C library's rseq area cannot be taken from the kernel: %s",
		     strerror(errno));
	nth_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, nth_fd);
	self->data = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ASSERT_NE(MAP_FAILED, self->data);
}

FIXTURE_TEARDOWN(failnth)
{
	injection_set_up();
	close(nth_fd);
	munmap(self->data, 8 * PAGE);
}

/* An operation that has failed must leave this as it was. */
static bool same(const struct postcopy_region_info *a, const struct postcopy_region_info *b)
{
	return a->out_state == b->out_state && a->out_nr_present == b->out_nr_present &&
	       a->out_nr_poisoned == b->out_nr_poisoned &&
	       a->out_total_attached == b->out_total_attached &&
	       a->out_total_discarded == b->out_total_discarded &&
	       a->out_total_filled == b->out_total_filled &&
	       a->out_total_zeroed == b->out_total_zeroed;
}

static bool expected_errno(int error)
{
	switch (-error) {
	case 0:
	case ENOMEM:
	case EFAULT:	/* a user copy, or an access from a system call */
	case ENFILE:
	case EAGAIN:	/* fork, mlock */
	case ENOSPC:	/* shmem */
		return true;
	default:
		return false;
	}
}

static void sweep(struct __test_metadata *_metadata, const struct op *op, bool shared, char *data)
{
	struct postcopy_region_info before, after;
	int nth, hits = 0, error, error_again;
	struct state s;
	bool hit = true;
	size_t i;

	for (nth = 1; hit && nth < NTH_MAX; nth++) {
		s = (struct state){ .shared = shared, .data = data };
		ASSERT_EQ(0, state_make(&s));
		for (i = 0; i < 8; i++)
			page_pattern(&s.r, i + 3, data + i * PAGE);
		if (op->prepare)
			ASSERT_EQ(0, op->prepare(&s));
		ASSERT_EQ(0, region_info(&s.r, &before));
		nth_write(nth);
		error = op->run(&s);
		hit = nth_hit();
		hits += hit;
		EXPECT_TRUE(expected_errno(error) && (hit || !error))
			TH_LOG("%s, failure %d: error %d", op->name, nth, error);
		ASSERT_EQ(0, region_info(&s.r, &after));
		/* EFAULT may come from the copy of the result: then the operation was done. */
		if (error && error != -EFAULT)
			EXPECT_TRUE(same(&before, &after))
				TH_LOG("%s, failure %d: error %d, and something has changed",
				       op->name, nth, error);
		if (error) {
			error_again = op->run(&s);
			EXPECT_TRUE(!error_again ||
				    (error == -EFAULT && error_again == -EALREADY))
				TH_LOG("%s, failure %d: error %d, then %d", op->name, nth, error,
				       error_again);
			error = error_again;
		}
		if (!error && op->undo)
			op->undo(&s);
		if (op->finish)
			op->finish(&s);
		region_close(&s.r);
	}
	EXPECT_LT(nth, NTH_MAX);
	TH_LOG("%s, %s: %d failures", op->name, shared ? "shared" : "private", hits);
}

TEST_F_TIMEOUT(failnth, any_failure_in_any_operation_is_reported_and_changes_nothing, 600)
{
	size_t i;

	for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		if (ops[i].kinds & PRIVATE)
			sweep(_metadata, &ops[i], false, self->data);
		if (ops[i].kinds & SHARED)
			sweep(_metadata, &ops[i], true, self->data);
	}
}

/* The address in a file that only root may read */
static unsigned long section_address(void)
{
	FILE *file = fopen(SECTION, "re");
	unsigned long address = 0;

	if (file && fscanf(file, "%lx", &address) != 1)
		address = 0;
	if (file)
		fclose(file);
	return address;
}

/*
 * One in ten allocations and copies of the module fails, again and again, for one helper
 * and one owner. In the end all pages must be there.
 */
TEST_F_TIMEOUT(failnth, a_module_short_of_memory_delivers_all_the_same, 300)
{
	unsigned long text = section_address();
	struct state s = { .data = self->data };
	char start[32], end[32];
	unsigned int i, round;
	size_t page;
	int error;

	ASSERT_NE(0, text);
	snprintf(start, sizeof(start), "0x%lx", text);
	snprintf(end, sizeof(end), "0x%lx", text + (64UL << 10));
	for (round = 0; round < 8; round++) {
		s.shared = round & 1;
		for (i = 0; i < 3; i++) {
			ASSERT_EQ(0, parameter(facilities[i], "require-start", start));
			ASSERT_EQ(0, parameter(facilities[i], "require-end", end));
			ASSERT_EQ(0, parameter(facilities[i], "probability", "10"));
		}
		ASSERT_EQ(0, file_write("/proc/thread-self/make-it-fail", "1"));
		while ((error = state_make(&s)) != 0) {
			EXPECT_TRUE(expected_errno(error) || error == -ENOENT)
				TH_LOG("%d", error);
			if (s.r.context >= 0)
				close(s.r.context);
		}
		for (page = 0; page < NR_PAGES; ) {
			if (page % 3 == 0)
				error = pages_zero(&s.r, page, 1, NULL);
			else
				error = pages_fill(&s.r, page, 1, NULL);
			EXPECT_TRUE(expected_errno(error))
				TH_LOG("page %zu: %d", page, error);
			page += !error;
		}
		while ((error = region_convert(&s.r, 0, NULL)) && error != -EALREADY)
			EXPECT_TRUE(expected_errno(error))
				TH_LOG("convert: %d", error);
		file_write("/proc/thread-self/make-it-fail", "0");
		ASSERT_EQ(0, injection_set_up());
		for (page = 0; page < NR_PAGES; page++)
			EXPECT_TRUE(page % 3 ? page_is_right(&s.r, page, page_at(&s.r, page)) :
					       page_is_zero(page_at(&s.r, page)));
		region_close(&s.r);
	}
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * Accesses to pages that have not arrived: they wait, make one request for each
 * page, and end with the right content, a signal or an error, never with a value
 * that was not delivered.
 *
 * Only KVM's asynchronous page faults use FAULT_FLAG_RETRY_NOWAIT: kvm_test.c tests
 * that path.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "kselftest_harness.h"
#include "fixtures.h"

#define NR_PAGES	64UL
#define NR_THREADS	64

FIXTURE_ALONE_AND_AMONG_OTHERS(fault, NR_PAGES)

TEST_F(fault, a_read_waits_for_its_page)
{
	struct postcopy_request request[2];
	struct access a;

	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 7) + 16, 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(1, requests_read(&self->r, request, 2));
	EXPECT_EQ(self->r.offset + 7 * PAGE, request[0].offset);
	EXPECT_EQ(PAGE, request[0].length);
	EXPECT_EQ(0, request[0].flags);
	EXPECT_EQ(0, request[0].reserved);
	EXPECT_GE(now_ms() * 1000000 + 1000000, request[0].time_ns);
	EXPECT_LT(now_ms() * 1000000, request[0].time_ns + PATIENCE_MS * 1000000ULL);
	EXPECT_FALSE(access_is_done(&a));
	ASSERT_EQ(0, pages_fill(&self->r, 7, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(0, a.signal);
	EXPECT_EQ(page_word(&self->r, 7, 2), a.value);
	EXPECT_TRUE(page_is_right(&self->r, 7, page_at(&self->r, 7)));
}

TEST_F(fault, a_write_waits_for_its_page_and_lands_on_top)
{
	struct postcopy_request request;
	struct access a;

	ASSERT_EQ(0, access_start(&a, ACCESS_WRITE, page_at(&self->r, 7), 0x77));
	ASSERT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(1, requests_read(&self->r, &request, 1));
	EXPECT_EQ(POSTCOPY_REQUEST_WRITE, request.flags);
	ASSERT_EQ(0, pages_fill(&self->r, 7, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(0x77, *(uint64_t *)page_at(&self->r, 7));
	*(uint64_t *)page_at(&self->r, 7) = page_word(&self->r, 7, 0);
	EXPECT_TRUE(page_is_right(&self->r, 7, page_at(&self->r, 7)));
}

TEST_F(fault, an_atomic_operation_sees_the_delivered_value)
{
	struct access a;

	ASSERT_EQ(0, access_start(&a, ACCESS_ADD, page_at(&self->r, 9), 5));
	ASSERT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, pages_fill(&self->r, 9, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(page_word(&self->r, 9, 0), a.value);
	EXPECT_EQ(page_word(&self->r, 9, 0) + 5, *(uint64_t *)page_at(&self->r, 9));
}

TEST_F(fault, the_first_and_the_last_page_can_be_had)
{
	struct postcopy_request request[2];
	struct access first, last;

	ASSERT_EQ(0, access_start(&first, ACCESS_READ, self->r.address, 0));
	ASSERT_TRUE(access_wait_blocked(&first));
	ASSERT_EQ(0, access_start(&last, ACCESS_READ, self->r.address + self->r.length - 8, 0));
	ASSERT_TRUE(access_wait_blocked(&last));
	ASSERT_EQ(2, requests_read_all(&self->r, request, 2));
	EXPECT_EQ(self->r.offset, request[0].offset);
	EXPECT_EQ(self->r.offset + self->r.length - PAGE, request[1].offset);
	ASSERT_EQ(0, pages_fill(&self->r, NR_PAGES - 1, 1, NULL));
	ASSERT_TRUE(access_wait_done(&last));
	EXPECT_FALSE(access_is_done(&first));
	ASSERT_EQ(0, pages_fill(&self->r, 0, 1, NULL));
	ASSERT_TRUE(access_wait_done(&first));
	EXPECT_EQ(page_word(&self->r, 0, 0), first.value);
	EXPECT_EQ(page_word(&self->r, NR_PAGES - 1, PAGE / 8 - 1), last.value);
}

TEST_F(fault, every_page_comes_through_a_serving_helper)
{
	struct postcopy_region_info info;
	struct server server;

	ASSERT_EQ(0, server_start(&server, &self->r));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
	EXPECT_EQ(0, server_stop(&server));
	EXPECT_EQ(NR_PAGES, server.nr_served);
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(NR_PAGES, info.out_nr_present);
	EXPECT_EQ(NR_PAGES, info.out_total_requests);
	EXPECT_EQ(0, info.out_nr_requests);
}

static void many_on_one_page(struct __test_metadata *_metadata, struct region *r, int nr)
{
	struct postcopy_request request[4];
	struct postcopy_region_info info;
	struct access a[NR_THREADS];
	int i;

	for (i = 0; i < nr; i++) {
		ASSERT_EQ(0, access_start(&a[i], i % 2 ? ACCESS_READ : ACCESS_ADD,
					  page_at(r, 3) + i % 2 * 8, 1));
	}
	ASSERT_TRUE(wait_faults(r, nr));
	ASSERT_EQ(0, region_info(r, &info));
	EXPECT_EQ(1, info.out_total_requests);
	EXPECT_EQ(1, info.out_nr_requests);
	ASSERT_EQ(1, requests_read(r, request, 4));
	EXPECT_EQ(-EAGAIN, requests_read(r, request, 4));
	ASSERT_EQ(0, pages_fill(r, 3, 1, NULL));
	for (i = 0; i < nr; i++) {
		ASSERT_TRUE(access_wait_done(&a[i]));
		if (i % 2)
			EXPECT_EQ(page_word(r, 3, 1), a[i].value);
	}
	EXPECT_EQ(page_word(r, 3, 0) + nr / 2, *(uint64_t *)page_at(r, 3));
	ASSERT_EQ(0, region_info(r, &info));
	EXPECT_EQ(1, info.out_total_requests);
}

TEST_F(fault, sixteen_threads_on_one_page_make_one_request)
{
	many_on_one_page(_metadata, &self->r, 16);
}

TEST_F(fault, sixty_four_threads_on_one_page_make_one_request)
{
	many_on_one_page(_metadata, &self->r, 64);
}

TEST_F(fault, sixty_four_threads_on_sixty_four_pages_make_sixty_four_requests)
{
	struct postcopy_request request[NR_THREADS + 1];
	struct access a[NR_THREADS];
	uint64_t seen = 0;
	size_t i;

	for (i = 0; i < NR_THREADS; i++) {
		ASSERT_EQ(0, access_start(&a[i], ACCESS_READ, page_at(&self->r, i), 0));
	}
	ASSERT_TRUE(wait_requests(&self->r, NR_THREADS));
	ASSERT_EQ(NR_THREADS, requests_read(&self->r, request, NR_THREADS + 1));
	for (i = 0; i < NR_THREADS; i++)
		seen |= 1ULL << (request[i].offset - self->r.offset) / PAGE;
	EXPECT_EQ(~0ULL, seen);
	/* Last asked for, first answered */
	for (i = NR_THREADS; i-- > 0;) {
		ASSERT_EQ(0, pages_fill(&self->r, i, 1, NULL));
	}
	for (i = 0; i < NR_THREADS; i++) {
		ASSERT_TRUE(access_wait_done(&a[i]));
		EXPECT_EQ(page_word(&self->r, i, 0), a[i].value);
	}
}

TEST_F(fault, a_fill_wakes_only_those_who_wait_for_its_pages)
{
	struct postcopy_region_info info;
	struct access a[8];
	int i;

	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, access_start(&a[i], ACCESS_READ, page_at(&self->r, i), 0));
		ASSERT_TRUE(access_wait_blocked(&a[i]));
	}
	ASSERT_EQ(0, pages_fill(&self->r, 3, 2, NULL));
	ASSERT_TRUE(access_wait_done(&a[3]));
	ASSERT_TRUE(access_wait_done(&a[4]));
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(6, info.out_nr_requests);
	/* A thread that was woken in vain would have faulted again. */
	EXPECT_EQ(8, info.out_total_faults);
	for (i = 0; i < 8; i++) {
		if (i == 3 || i == 4)
			continue;
		EXPECT_TRUE(access_wait_blocked(&a[i]));
	}
	ASSERT_EQ(0, pages_fill(&self->r, 0, 8, NULL));
	for (i = 0; i < 8; i++) {
		if (i == 3 || i == 4)
			continue;
		ASSERT_TRUE(access_wait_done(&a[i]));
		EXPECT_EQ(page_word(&self->r, i, 0), a[i].value);
	}
}

TEST_F(fault, a_write_that_joins_a_read_makes_it_a_write_request)
{
	struct postcopy_request request[2];
	struct access reader, writer;

	ASSERT_EQ(0, access_start(&reader, ACCESS_READ, page_at(&self->r, 3), 0));
	ASSERT_TRUE(access_wait_blocked(&reader));
	ASSERT_EQ(0, access_start(&writer, ACCESS_WRITE, page_at(&self->r, 3) + 8, 1));
	ASSERT_TRUE(access_wait_blocked(&writer));
	ASSERT_EQ(1, requests_read(&self->r, request, 2));
	EXPECT_EQ(POSTCOPY_REQUEST_WRITE, request[0].flags);
	ASSERT_EQ(0, pages_fill(&self->r, 3, 1, NULL));
	ASSERT_TRUE(access_wait_done(&reader));
	ASSERT_TRUE(access_wait_done(&writer));
}

TEST_F(fault, a_neighbour_of_a_present_page_still_waits)
{
	struct access below, above;

	/* Whether or not the page is in the page table of the other threads */
	ASSERT_EQ(0, pages_fill(&self->r, 16, 1, NULL));
	ASSERT_EQ(0, pages_zero(&self->r, 18, 1, NULL));
	ASSERT_TRUE(page_is_right(&self->r, 16, page_at(&self->r, 16)));
	ASSERT_TRUE(page_is_zero(page_at(&self->r, 18)));
	ASSERT_EQ(0, access_start(&below, ACCESS_READ, page_at(&self->r, 15), 0));
	ASSERT_EQ(0, access_start(&above, ACCESS_READ, page_at(&self->r, 17), 0));
	EXPECT_TRUE(access_wait_blocked(&below));
	EXPECT_TRUE(access_wait_blocked(&above));
	ASSERT_EQ(0, pages_fill(&self->r, 15, 3, NULL));
	ASSERT_TRUE(access_wait_done(&below));
	ASSERT_TRUE(access_wait_done(&above));
	EXPECT_EQ(page_word(&self->r, 15, 0), below.value);
	EXPECT_EQ(page_word(&self->r, 17, 0), above.value);
}

/* The kernel on behalf of the process */

static void kernel_access(struct __test_metadata *_metadata, struct region *r,
			  enum access_kind kind, uint64_t value, int error)
{
	struct access a;

	ASSERT_EQ(0, access_start(&a, kind, page_at(r, 11), 0x1234));
	ASSERT_TRUE(access_wait_blocked(&a));
	ASSERT_TRUE(wait_requests(r, 1));
	ASSERT_EQ(0, pages_fill(r, 11, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(error, a.error);
	EXPECT_EQ(value, a.value);
	EXPECT_EQ(0, a.signal);
	if (kind == ACCESS_READ_CALL) {
		EXPECT_EQ(0x1234, *(uint64_t *)page_at(r, 11));
		*(uint64_t *)page_at(r, 11) = page_word(r, 11, 0);
	}
	EXPECT_TRUE(page_is_right(r, 11, page_at(r, 11)));
}

TEST_F(fault, read_into_a_missing_page_waits)
{
	kernel_access(_metadata, &self->r, ACCESS_READ_CALL, 0, 0);
}

TEST_F(fault, write_from_a_missing_page_waits)
{
	kernel_access(_metadata, &self->r, ACCESS_WRITE_CALL, page_word(&self->r, 11, 0), 0);
}

TEST_F(fault, process_vm_readv_of_a_missing_page_waits)
{
	kernel_access(_metadata, &self->r, ACCESS_READV_CALL, page_word(&self->r, 11, 0), 0);
}

TEST_F(fault, vmsplice_of_a_missing_page_waits)
{
	kernel_access(_metadata, &self->r, ACCESS_VMSPLICE, page_word(&self->r, 11, 0), 0);
}

TEST_F(fault, futex_on_a_missing_page_waits)
{
	kernel_access(_metadata, &self->r, ACCESS_FUTEX, 0, -EAGAIN);
}

TEST_F(fault, mlock_of_a_missing_page_waits)
{
	kernel_access(_metadata, &self->r, ACCESS_MLOCK, 0, 0);
}

TEST_F(fault, populate_read_of_a_missing_page_waits)
{
	kernel_access(_metadata, &self->r, ACCESS_POPULATE_READ, 0, 0);
}

TEST_F(fault, populate_write_of_a_missing_page_waits)
{
	kernel_access(_metadata, &self->r, ACCESS_POPULATE_WRITE, 0, 0);
}

/* Before 6.5 io_uring pins with the lock held, and takes no mapping of a file. */
TEST_F(fault, an_io_uring_fixed_buffer_on_a_missing_page_waits_or_fails)
{
	struct access a;

	ASSERT_EQ(0, access_start(&a, ACCESS_IO_URING, page_at(&self->r, 11), 0));
	if (access_wait_blocked(&a)) {
		ASSERT_EQ(0, pages_fill(&self->r, 11, 1, NULL));
		ASSERT_TRUE(access_wait_done(&a));
		EXPECT_EQ(0, a.error);
	} else {
		ASSERT_TRUE(access_wait_done(&a));
		EXPECT_NE(0, a.error);
		EXPECT_EQ(0, page_is_present(&self->r, 11));
		ASSERT_EQ(0, pages_fill(&self->r, 11, 1, NULL));
	}
	EXPECT_TRUE(page_is_right(&self->r, 11, page_at(&self->r, 11)));
}

TEST_F(fault, direct_io_into_a_missing_page_waits)
{
	char path[] = "/dev/shm/postcopy-XXXXXX";
	char data[PAGE_MAX] __attribute__((aligned(PAGE_MAX)));
	int fd = mkstemp(path);
	struct server server;

	/* tmpfs takes O_DIRECT since 6.6; without it this is read(2). */
	ASSERT_LE(0, fd);
	unlink(path);
	memset(data, 0x5a, PAGE);
	ASSERT_EQ(PAGE, write(fd, data, PAGE));
	fcntl(fd, F_SETFL, O_DIRECT);
	ASSERT_EQ(0, server_start(&server, &self->r));
	EXPECT_EQ(PAGE, pread(fd, page_at(&self->r, 2), PAGE, 0));
	EXPECT_EQ(0, memcmp(page_at(&self->r, 2), data, PAGE));
	EXPECT_EQ(PAGE, pwrite(fd, page_at(&self->r, 3), PAGE, 0));
	EXPECT_EQ(PAGE, pread(fd, data, PAGE, 0));
	EXPECT_TRUE(page_is_right(&self->r, 3, data));
	EXPECT_EQ(0, server_stop(&server));
	close(fd);
}

/*
 * ptrace and /proc/PID/mem do not let the fault wait: they must fail rather than
 * return a word that was not delivered.
 */
TEST_F(fault, ptrace_of_a_missing_page_waits_or_fails)
{
	int pair[2], status;
	long word;
	pid_t pid;

	ASSERT_EQ(0, pipe(pair));
	pid = fork_child();
	if (!pid) {
		struct region r;

		if (region_map(&r, 0, 4) || region_attach(&r))
			_exit(1);
		if (pages_fill(&r, 1, 1, NULL))
			_exit(2);
		if (write(pair[1], &r, sizeof(r)) != sizeof(r))
			_exit(3);
		for (;;)
			pause();
	} else {
		struct region r;
		uint64_t value;
		char path[64];
		int mem;

		ASSERT_EQ(sizeof(r), read(pair[0], &r, sizeof(r)));
		ASSERT_EQ(0, ptrace(PTRACE_ATTACH, pid, NULL, NULL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		errno = 0;
		word = ptrace(PTRACE_PEEKDATA, pid, page_at(&r, 1), NULL);
		EXPECT_EQ(0, errno);
		EXPECT_EQ(page_word(&r, 1, 0), (uint64_t)word);
		errno = 0;
		word = ptrace(PTRACE_PEEKDATA, pid, page_at(&r, 2), NULL);
		EXPECT_EQ(-1, word);
		EXPECT_TRUE(errno == EIO || errno == EFAULT);
		EXPECT_EQ(-1, ptrace(PTRACE_POKEDATA, pid, page_at(&r, 2), 1L));
		snprintf(path, sizeof(path), "/proc/%d/mem", pid);
		mem = open(path, O_RDWR);
		ASSERT_LE(0, mem);
		EXPECT_EQ(8, pread(mem, &value, 8, (uintptr_t)page_at(&r, 1)));
		EXPECT_EQ(page_word(&r, 1, 0), value);
		EXPECT_EQ(-1, pread(mem, &value, 8, (uintptr_t)page_at(&r, 2)));
		EXPECT_EQ(-1, pwrite(mem, &value, 8, (uintptr_t)page_at(&r, 2)));
		close(mem);
		kill(pid, SIGKILL);
		ASSERT_EQ(0, wait_child(pid, &status));
	}
}

TEST_F(fault, process_vm_readv_from_another_process_waits)
{
	int start[2], done[2], status;
	uint64_t value = 0;
	pid_t pid, owner = getpid();

	ASSERT_EQ(0, pipe(start));
	ASSERT_EQ(0, pipe(done));
	pid = fork_child();
	if (!pid) {
		struct iovec local = { &value, 8 }, remote = { page_at(&self->r, 4), 8 };

		if (process_vm_readv(owner, &local, 1, &remote, 1, 0) != 8)
			_exit(1);
		_exit(value == page_word(&self->r, 4, 0) ? 0 : 2);
	}
	ASSERT_TRUE(wait_requests(&self->r, 1));
	EXPECT_EQ(0, waitpid(pid, &status, WNOHANG));
	ASSERT_EQ(0, pages_fill(&self->r, 4, 1, NULL));
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
}

TEST_HARNESS_MAIN

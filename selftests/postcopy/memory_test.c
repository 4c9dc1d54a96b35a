// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel's memory management does to delivered pages (pins, NUMA policy and
 * migration, compaction, hardware errors, advice) and to waiting threads (the freezer).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "fixtures.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE	101
#endif

/* Linux 6.7 */
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED	(1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC		(1 << 15)
#endif

#define NR_PAGES	512UL

FIXTURE_PRIVATE_AND_SHARED(memory, NR_PAGES)

/* Pins */

struct ring {
	int fd;
	struct io_uring_params params;
	char *sq;
	char *cq;
	struct io_uring_sqe *sqes;
};

static int ring_make(struct ring *ring, struct iovec *buffer)
{
	struct io_uring_params *p = &ring->params;

	memset(ring, 0, sizeof(*ring));
	ring->fd = syscall(SYS_io_uring_setup, 4, p);
	if (ring->fd < 0)
		return -errno;
	ring->sq = mmap(NULL, p->sq_off.array + p->sq_entries * 4, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQ_RING);
	ring->cq = mmap(NULL, p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe),
			PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd,
			IORING_OFF_CQ_RING);
	ring->sqes = mmap(NULL, p->sq_entries * sizeof(struct io_uring_sqe),
			  PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd,
			  IORING_OFF_SQES);
	if (ring->sq == MAP_FAILED || ring->cq == MAP_FAILED || ring->sqes == MAP_FAILED)
		return -errno;
	return syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_BUFFERS, buffer, 1) ?
	       -errno : 0;
}

/*
 * One read or write with the registered buffer, of a socket that has the bytes or the room.
 * That is done at once, while a file may need a thread of the kernel's. Returns its result.
 */
static int ring_transfer(struct ring *ring, int opcode, int fd, void *address, size_t length)
{
	uint32_t *tail = (uint32_t *)(ring->sq + ring->params.sq_off.tail);
	uint32_t *head = (uint32_t *)(ring->cq + ring->params.cq_off.head);
	uint32_t *array = (uint32_t *)(ring->sq + ring->params.sq_off.array);
	struct io_uring_cqe *cqes = (struct io_uring_cqe *)(ring->cq + ring->params.cq_off.cqes);
	uint32_t at = *tail & (ring->params.sq_entries - 1);
	int result;

	ring->sqes[at] = (struct io_uring_sqe){
		.opcode = opcode,
		.fd = fd,
		.addr = (uintptr_t)address,
		.len = length,
	};
	array[at] = at;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		return -errno;
	result = cqes[*head & (ring->params.cq_entries - 1)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return result;
}

/* The device that has the buffer writes to the page that the owner sees. */
TEST_F(memory, a_long_term_pin_is_of_the_same_page_after_conversion)
{
	struct region *r = &self->r;
	struct iovec buffer = { page_at(r, 8), 4 * PAGE };
	char data[PAGE];
	struct ring ring;
	int pair[2], error;

	ASSERT_EQ(0, pages_fill(r, 0, NR_PAGES, NULL));
	error = ring_make(&ring, &buffer);
	if (error == -ENOSYS)
		SKIP(return, "no io_uring");
	/* Before 6.5 io_uring took no mapping of a file but shmem's own. */
	if (error == -EOPNOTSUPP)
		SKIP(return, "this kernel's io_uring registers no mapping of a file");
	ASSERT_EQ(0, error);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	ASSERT_EQ(PAGE, ring_transfer(&ring, IORING_OP_WRITE_FIXED, pair[0], page_at(r, 9), PAGE));
	ASSERT_EQ(PAGE, recv(pair[1], data, PAGE, MSG_WAITALL));
	EXPECT_TRUE(page_is_right(r, 9, data));

	ASSERT_EQ(0, region_convert(r, 0, NULL));
	*(uint64_t *)page_at(r, 10) = 10;
	ASSERT_EQ(PAGE, ring_transfer(&ring, IORING_OP_WRITE_FIXED, pair[0], page_at(r, 10), PAGE));
	ASSERT_EQ(PAGE, recv(pair[1], data, PAGE, MSG_WAITALL));
	EXPECT_EQ(10, *(uint64_t *)data);
	memset(data, 0x5a, PAGE);
	ASSERT_EQ(PAGE, send(pair[1], data, PAGE, 0));
	ASSERT_EQ(PAGE, ring_transfer(&ring, IORING_OP_READ_FIXED, pair[0], page_at(r, 11), PAGE));
	EXPECT_EQ(0, memcmp(page_at(r, 11), data, PAGE));
	/* Unpinned, it is a page like any other. */
	close(ring.fd);
	munmap(ring.sq, PAGE);
	close(pair[0]);
	close(pair[1]);
	EXPECT_EQ(0, memcmp(page_at(r, 11), data, PAGE));
	EXPECT_EQ(0, pages_wrong(r, 12, NR_PAGES - 12));
}

/* Pinning waits for the pages, which may come in any order. */
TEST_F(memory, a_buffer_registered_while_pages_are_missing_is_of_the_delivered_ones)
{
	struct region *r = &self->r;
	struct iovec buffer = { page_at(r, 0), 16 * PAGE };
	char data[PAGE];
	struct server server;
	struct ring ring;
	int pair[2], error;
	size_t i;

	ASSERT_EQ(0, pages_fill(r, 5, 3, NULL));
	ASSERT_EQ(0, server_start(&server, r));
	error = ring_make(&ring, &buffer);
	EXPECT_EQ(0, server_stop(&server));
	if (error == -ENOSYS)
		SKIP(return, "no io_uring");
	/* If the kernel does not let it wait, it fails and shows nothing. */
	if (error) {
		EXPECT_EQ(-EFAULT, error);
		return;
	}
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	for (i = 0; i < 16; i++) {
		ASSERT_EQ(PAGE, ring_transfer(&ring, IORING_OP_WRITE_FIXED, pair[0], page_at(r, i),
					      PAGE));
		ASSERT_EQ(PAGE, recv(pair[1], data, PAGE, MSG_WAITALL));
		EXPECT_TRUE(page_is_right(r, i, data));
	}
	close(ring.fd);
	close(pair[0]);
	close(pair[1]);
}

/* Advice */

TEST_F(memory, advice_on_present_pages_keeps_their_content)
{
	static const int advices[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_COLD,
		MADV_PAGEOUT, MADV_MERGEABLE, MADV_UNMERGEABLE, MADV_HUGEPAGE, MADV_COLLAPSE,
		MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_DODUMP, MADV_DONTFORK, MADV_DOFORK,
		MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_FREE,
	};
	struct region *r = &self->r;
	unsigned int i;

	ASSERT_EQ(0, pages_fill(r, 0, 256, NULL));
	for (i = 0; i < sizeof(advices) / sizeof(advices[0]); i++) {
		madvise(r->address, 256 * PAGE, advices[i]);
		EXPECT_EQ(0, pages_wrong(r, 0, 256))
			TH_LOG("advice %d", advices[i]);
		EXPECT_EQ(0, page_is_present(r, 256));
	}
}

TEST_F(memory, dropped_pages_read_zero_or_stay_and_are_not_asked_for)
{
	struct region *r = &self->r;
	struct postcopy_region_info info;

	ASSERT_EQ(0, pages_fill(r, 0, 16, NULL));
	ASSERT_EQ(0, madvise(r->address, 4 * PAGE, MADV_DONTNEED));
	if (variant->flags == MAP_PRIVATE) {
		EXPECT_TRUE(page_is_zero(page_at(r, 1)));
		EXPECT_EQ(-1, madvise(page_at(r, 8), PAGE, MADV_REMOVE));
		EXPECT_TRUE(page_is_right(r, 8, page_at(r, 8)));
	} else {
		EXPECT_TRUE(page_is_right(r, 1, page_at(r, 1)));
		ASSERT_EQ(0, madvise(page_at(r, 8), PAGE, MADV_REMOVE));
		EXPECT_TRUE(page_is_zero(page_at(r, 8)));
	}
	EXPECT_EQ(0, pages_wrong(r, 9, 7));
	ASSERT_EQ(0, region_info(r, &info));
	EXPECT_EQ(0, info.out_total_requests);
	EXPECT_EQ(16, info.out_nr_present);
}

/* NUMA */

static int node_of(const void *address)
{
	int node = -1;

	if (syscall(SYS_get_mempolicy, &node, NULL, 0, address, MPOL_F_NODE | MPOL_F_ADDR))
		return -errno;
	return node;
}

static bool has_two_nodes(void)
{
	return !access("/sys/devices/system/node/node1", F_OK);
}

TEST_F(memory, a_fill_allocates_where_the_owners_policy_says)
{
	struct region *r = &self->r;
	unsigned long node;
	size_t i;

	if (!has_two_nodes())
		SKIP(return, "one NUMA node: boot with numa=fake=2");
	for (node = 0; node < 2; node++) {
		unsigned long mask = 1UL << node;

		ASSERT_EQ(0, syscall(SYS_mbind, page_at(r, node * 64), 64 * PAGE, MPOL_BIND, &mask,
				     64, 0));
	}
	ASSERT_EQ(0, pages_fill(r, 0, 128, NULL));
	for (i = 0; i < 128; i++) {
		/* A shared page is in a page table only when it has been touched. */
		EXPECT_TRUE(page_is_right(r, i, page_at(r, i)));
		EXPECT_EQ(i / 64, node_of(page_at(r, i)))
			TH_LOG("page %zu", i);
	}
}

/* For a process with the same memory, one at a time */
static char other_stack[64 << 10] __attribute__((aligned(16)));

static pid_t run_other(int (*run)(void *arg), void *arg)
{
	return clone(run, other_stack + sizeof(other_stack), CLONE_VM | SIGCHLD, arg);
}

static int compact_run(void *arg)
{
	return file_write("/proc/sys/vm/compact_memory", "1");
}

/* Compacts all memory. Seldom that takes longer than a test may. Returns whether it has ended. */
static bool compact_for_a_while(void)
{
	pid_t pid = run_other(compact_run, NULL);
	uint64_t end = now_ms() + 2000;

	while (waitpid(pid, NULL, WNOHANG) == 0) {
		if (now_ms() > end)
			kill(pid, SIGKILL);
		if (now_ms() > end + PATIENCE_MS)
			return false;
		usleep(1000);
	}
	return true;
}

TEST_F(memory, migrated_and_compacted_pages_keep_their_content_and_convert)
{
	struct region *r = &self->r;
	void *pages[64];
	int nodes[64], status[64];
	uint64_t end = now_ms() + 5000;
	unsigned int round, i;

	if (!has_two_nodes())
		SKIP(return, "one NUMA node: boot with numa=fake=2");
	ASSERT_EQ(0, pages_fill(r, 0, NR_PAGES / 2, NULL));
	EXPECT_EQ(0, pages_wrong(r, 0, NR_PAGES / 2));
	for (round = 0; round < 4 && now_ms() < end; round++) {
		for (i = 0; i < 64; i++) {
			pages[i] = page_at(r, i);
			nodes[i] = (round + i) % 2;
		}
		/* The kernel gives up at a page that is in use elsewhere, or leaves it out. */
		ASSERT_TRUE(wait_until(!syscall(SYS_move_pages, 0, 64, pages, nodes, status,
						MPOL_MF_MOVE) &&
				       !memcmp(status, nodes, sizeof(nodes))));
		ASSERT_TRUE(compact_for_a_while());
		for (i = 0; i < 64; i++)
			EXPECT_EQ(nodes[i], node_of(page_at(r, i)));
		EXPECT_EQ(0, pages_wrong(r, 0, NR_PAGES / 2));
	}
	ASSERT_EQ(0, pages_fill(r, 0, NR_PAGES, NULL));
	ASSERT_EQ(0, region_convert(r, 0, NULL));
	EXPECT_EQ(0, pages_wrong(r, 0, NR_PAGES));
}

/* Write protection, with which PAGEMAP_SCAN tells which pages were written to */

/* A userfaultfd with it for the region from page @first on, or -errno. */
static int protect_writes(struct region *r, size_t first)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC,
	};
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)r->address, .len = r->length },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect wp = {
		.range = {
			.start = (uintptr_t)page_at(r, first),
			.len = r->length - first * PAGE,
		},
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY), err;

	if (fd < 0)
		return -errno;
	if (!ioctl(fd, UFFDIO_API, &api) && !ioctl(fd, UFFDIO_REGISTER, &reg) &&
	    !ioctl(fd, UFFDIO_WRITEPROTECT, &wp))
		return fd;
	err = -errno;
	close(fd);
	return err;
}

FIXTURE(write_protected)
{
	struct region r;
};

FIXTURE_SETUP(write_protected)
{
	ASSERT_EQ(0, region_make(&self->r, MAP_PRIVATE, 1UL << 30, NR_PAGES));
}

FIXTURE_TEARDOWN(write_protected)
{
	region_close(&self->r);
}

TEST_F(write_protected, missing_pages_are_delivered)
{
	struct region *r = &self->r;
	struct access read, write;
	unsigned int i;
	int uffd;

	/* The first page of a mapping is filled in another way than those after it. */
	ASSERT_EQ(0, pages_fill(r, 0, 1, NULL));
	uffd = protect_writes(r, 0);
	if (uffd == -EINVAL)
		SKIP(return, "no asynchronous write protection before Linux 6.7");
	ASSERT_LE(0, uffd);
	ASSERT_EQ(0, pages_fill(r, 1, 255, NULL));
	EXPECT_EQ(0, pages_wrong(r, 0, 256));
	ASSERT_EQ(0, pages_zero(r, 256, 64, NULL));
	for (i = 256; i < 288; i++)
		EXPECT_TRUE(page_is_zero(page_at(r, i)));
	for (; i < 320; i++)
		EXPECT_EQ(0, probe_write(page_at(r, i)));
	ASSERT_EQ(0, access_start(&read, ACCESS_READ, page_at(r, 400), 0));
	ASSERT_EQ(0, access_start(&write, ACCESS_ADD, page_at(r, 401), 0));
	ASSERT_TRUE(access_wait_blocked(&read));
	ASSERT_TRUE(access_wait_blocked(&write));
	ASSERT_EQ(0, pages_fill(r, 320, NR_PAGES - 320, NULL));
	ASSERT_TRUE(access_wait_done(&read));
	EXPECT_EQ(page_word(r, 400, 0), read.value);
	ASSERT_TRUE(access_wait_done(&write));
	EXPECT_EQ(page_word(r, 401, 0), write.value);
	EXPECT_EQ(0, pages_wrong(r, 320, NR_PAGES - 320));
	ASSERT_EQ(0, region_convert(r, 0, NULL));
	EXPECT_EQ(0, pages_wrong(r, 0, 256));
	EXPECT_EQ(0, pages_wrong(r, 320, NR_PAGES - 320));
	close(uffd);
}

TEST_F(write_protected, dropped_pages_can_be_read)
{
	struct region *r = &self->r;
	unsigned int i;
	int uffd;

	ASSERT_EQ(0, pages_fill(r, 0, NR_PAGES, NULL));
	EXPECT_EQ(0, pages_wrong(r, 0, NR_PAGES));
	uffd = protect_writes(r, 0);
	if (uffd == -EINVAL)
		SKIP(return, "no asynchronous write protection before Linux 6.7");
	ASSERT_LE(0, uffd);
	/* Their page table entries keep the protection. */
	ASSERT_EQ(0, madvise(r->address, 64 * PAGE, MADV_DONTNEED));
	for (i = 0; i < 64; i++)
		EXPECT_TRUE(page_is_zero(page_at(r, i)));
	EXPECT_EQ(0, pages_wrong(r, 64, NR_PAGES - 64));
	close(uffd);
}

TEST_F(write_protected, a_forked_child_reads_zeros_and_takes_no_protection)
{
	struct region *r = &self->r;
	int uffd, status;
	pid_t pid;

	ASSERT_EQ(0, pages_zero(r, 0, 64, NULL));
	uffd = protect_writes(r, 0);
	if (uffd == -EINVAL)
		SKIP(return, "no asynchronous write protection before Linux 6.7");
	ASSERT_LE(0, uffd);
	pid = fork_child();
	if (!pid)
		_exit(protect_writes(r, 0) != -EINVAL || !page_is_zero(page_at(r, 7)));
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
	close(uffd);
}

TEST(a_shared_region_takes_no_write_protection)
{
	struct region r;

	ASSERT_EQ(0, region_make(&r, MAP_SHARED, 0, NR_PAGES));
	EXPECT_EQ(-EINVAL, protect_writes(&r, 0));
	region_close(&r);
}

TEST_F(write_protected, pages_are_charged_once)
{
	struct region *r = &self->r;
	long before, charged;
	int uffd;

	if (cgroup_make("protected") || cgroup_memory("protected") < 0)
		SKIP(return, "no memory cgroups");
	ASSERT_EQ(0, cgroup_enter("protected"));
	ASSERT_EQ(0, pages_fill(r, 0, 1, NULL));
	/* Not the first page of one fill: the fill tries again with a page that did not get in. */
	uffd = protect_writes(r, 2);
	before = cgroup_memory("protected");
	if (uffd >= 0)
		EXPECT_EQ(0, pages_fill(r, 0, NR_PAGES, NULL));
	charged = (cgroup_memory("protected") - before) / (long)PAGE;
	EXPECT_EQ(0, cgroup_enter(NULL));
	EXPECT_TRUE(cgroup_remove("protected"));
	if (uffd == -EINVAL)
		SKIP(return, "no asynchronous write protection before Linux 6.7");
	ASSERT_LE(0, uffd);
	/* The kernel charges up to 64 ahead for each processor. */
	EXPECT_LE((long)NR_PAGES - 256, charged);
	EXPECT_GE((long)NR_PAGES + 256, charged);
	close(uffd);
}

/* Hardware errors */

static void on_sigbus(int sig)
{
}

TEST_F(memory, a_hardware_error_takes_one_delivered_page_and_no_other)
{
	struct region *r = &self->r;

	ASSERT_EQ(0, pages_fill(r, 0, 32, NULL));
	EXPECT_EQ(0, pages_wrong(r, 0, 32));
	/* The caller is told of the page, too. */
	signal(SIGBUS, on_sigbus);
	if (madvise(page_at(r, 7), PAGE, MADV_HWPOISON))
		SKIP(return, "no MADV_HWPOISON");
	EXPECT_EQ(SIGBUS, probe_read(page_at(r, 7)));
	EXPECT_EQ(0, pages_wrong(r, 0, 7));
	EXPECT_EQ(0, pages_wrong(r, 8, 24));
	/* It was delivered: a fill leaves it alone, and it does not stop conversion. */
	ASSERT_EQ(0, pages_fill(r, 0, NR_PAGES, NULL));
	EXPECT_EQ(SIGBUS, probe_read(page_at(r, 7)));
	ASSERT_EQ(0, region_convert(r, 0, NULL));
	EXPECT_EQ(SIGBUS, probe_read(page_at(r, 7)));
	EXPECT_EQ(0, pages_wrong(r, 8, NR_PAGES - 8));
}

TEST_F(memory, a_page_taken_out_of_use_keeps_its_content)
{
	struct region *r = &self->r;

	ASSERT_EQ(0, pages_fill(r, 0, 32, NULL));
	EXPECT_EQ(0, pages_wrong(r, 0, 32));
	if (madvise(page_at(r, 7), PAGE, MADV_SOFT_OFFLINE) && errno == EINVAL)
		SKIP(return, "no MADV_SOFT_OFFLINE");
	EXPECT_EQ(0, pages_wrong(r, 0, 32));
}

/* The freezer */

static bool is_frozen(bool frozen)
{
	char text[64];

	return !cgroup_read("frozen", "cgroup.events", text, sizeof(text)) &&
	       strstr(text, frozen ? "frozen 1" : "frozen 0");
}

static int frozen_run(void *arg)
{
	struct region *r = arg;

	if (cgroup_enter("frozen"))
		return 1;
	return *(volatile uint64_t *)page_at(r, 3) != page_word(r, 3, 0);
}

TEST_F(memory, a_process_that_waits_can_be_frozen_and_thawed)
{
	struct region *r = &self->r;
	int status;
	pid_t pid;

	if (cgroup_make("frozen"))
		SKIP(return, "no cgroup2");
	pid = run_other(frozen_run, r);
	ASSERT_LT(0, pid);
	ASSERT_TRUE(wait_requests(r, 1));
	ASSERT_EQ(0, cgroup_write("frozen", "cgroup.freeze", "1"));
	EXPECT_TRUE(wait_until(is_frozen(true)));
	ASSERT_EQ(0, pages_fill(r, 3, 1, NULL));
	EXPECT_EQ(0, waitpid(pid, &status, WNOHANG));
	ASSERT_EQ(0, cgroup_write("frozen", "cgroup.freeze", "0"));
	EXPECT_TRUE(wait_until(is_frozen(false)));
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_TRUE(cgroup_remove("frozen"));
}

/* A child that has borrowed the memory (vfork) waits as its parent would. */
TEST_F(memory, a_vforked_child_waits_and_is_served)
{
	struct region *r = &self->r;
	struct server server;
	int status;
	pid_t pid;

	ASSERT_EQ(0, server_start(&server, r));
	pid = vfork();
	if (!pid)
		_exit(*(volatile uint64_t *)page_at(r, 3) != page_word(r, 3, 0));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, server_stop(&server));
	EXPECT_EQ(0, pages_wrong(r, 3, 1));
}

TEST_HARNESS_MAIN

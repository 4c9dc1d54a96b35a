// SPDX-License-Identifier: GPL-2.0
/*
 * Shared regions in a memfd of the VMM's own: which memfds the module takes, that nothing in
 * them is readable through the region before it was delivered, and what a process that
 * holds the memfd itself can do to the region.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "postcopy_test.h"

#define NR_PAGES	(2 * HUGE_PAGES)
#define LENGTH		(NR_PAGES * PAGE)
/* The region's place in the RAM image and in the memfd */
#define OFFSET		(1UL << 32)
#define FILE_OFFSET	HUGE

static int make_memfd(unsigned int flags, int seals)
{
	int fd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, FILE_OFFSET + LENGTH) || fcntl(fd, F_ADD_SEALS, seals))
		return -errno;
	return fd;
}

static int set_backing_raw(int context, int fd, uint64_t offset, uint64_t length,
			   uint64_t file_offset)
{
	struct postcopy_context_backing backing = {
		.size = sizeof(backing),
		.offset = offset,
		.length = length,
		.file_offset = file_offset,
		.fd = fd,
	};

	return ioctl(context, POSTCOPY_CONTEXT_BACKING, &backing) ? -errno : 0;
}

static int set_backing(int context, int fd)
{
	return set_backing_raw(context, fd, OFFSET, LENGTH, FILE_OFFSET);
}

static int open_context(void)
{
	return open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
}

static char *map_file(int fd, uint64_t offset)
{
	return mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
}

/* Maps the context's memfd as a region with a helper. */
static int map_region(struct region *r, int context)
{
	r->context = context;
	r->helper = -1;
	r->offset = OFFSET;
	r->length = LENGTH;
	r->address = map_file(context, OFFSET);
	if (r->address == MAP_FAILED)
		return -errno;
	r->id = region_find(context, getpid(), r->address);
	return r->id ? region_attach(r) : -ENOENT;
}

static int discard(struct region *r, size_t first, size_t nr)
{
	struct postcopy_range range = pages_range(r, first, nr);
	uint64_t nr_discarded;

	return pages_discard(r, &range, 1, &nr_discarded);
}

FIXTURE(backing)
{
	struct region r;
	int memfd;
	/* The memfd itself, from the region's first page on */
	char *direct;
};

FIXTURE_VARIANT(backing)
{
	const char *shmem_enabled;
};

FIXTURE_VARIANT_ADD(backing, with_small_folios)
{
	.shmem_enabled = "never",
};

FIXTURE_VARIANT_ADD(backing, with_large_folios)
{
	.shmem_enabled = "always",
};

FIXTURE_SETUP(backing)
{
	if (!shmem_folios(variant->shmem_enabled))
		SKIP(return, "no large folios in this kernel");
	self->memfd = make_memfd(0, F_SEAL_SHRINK | F_SEAL_GROW);
	ASSERT_LE(0, self->memfd);
	self->direct = map_file(self->memfd, FILE_OFFSET);
	ASSERT_NE(MAP_FAILED, self->direct);
	/* A guest must never see this. */
	memset(self->direct, 0x5a, LENGTH);
	ASSERT_LE(0, self->r.context = open_context());
	ASSERT_EQ(0, set_backing(self->r.context, self->memfd));
	ASSERT_EQ(0, map_region(&self->r, self->r.context));
}

FIXTURE_TEARDOWN(backing)
{
	munmap(self->direct, LENGTH);
	region_close(&self->r);
	close(self->memfd);
	shmem_folios("never");
}

TEST_F(backing, is_an_announced_feature)
{
	struct postcopy_context_info info = { .size = sizeof(info) };

	ASSERT_EQ(0, ioctl(self->r.context, POSTCOPY_CONTEXT_INFO, &info));
	EXPECT_TRUE(info.out_features & POSTCOPY_FEATURE_BACKING);
}

TEST_F(backing, what_is_in_the_memfd_is_missing_until_it_is_delivered)
{
	struct postcopy_region_info info;
	struct postcopy_request request;
	struct access a;

	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(POSTCOPY_REGION_SHARED, info.out_region_flags);
	EXPECT_EQ(OFFSET, info.out_offset);
	EXPECT_EQ(0, info.out_nr_present);
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 7), 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(1, requests_read(&self->r, &request, 1));
	EXPECT_EQ(OFFSET + 7 * PAGE, request.offset);
	ASSERT_EQ(0, pages_fill(&self->r, 7, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(page_word(&self->r, 7, 0), a.value);
	EXPECT_EQ(0, pages_wrong(&self->r, 7, 1));
}

TEST_F(backing, holds_what_is_delivered_where_the_vmm_said)
{
	char *helper;
	size_t i;

	ASSERT_EQ(0, pages_fill(&self->r, 0, 8, NULL));
	for (i = 0; i < 8; i++)
		EXPECT_TRUE(page_is_right(&self->r, i, self->direct + i * PAGE));
	EXPECT_EQ(0x5a, self->direct[8 * PAGE]);
	/* In place, through the helper's mapping of the same pages */
	helper = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, self->r.helper,
		      OFFSET + 20 * PAGE);
	ASSERT_NE(MAP_FAILED, helper);
	page_pattern(&self->r, 20, helper);
	page_pattern(&self->r, 21, helper + PAGE);
	munmap(helper, 2 * PAGE);
	EXPECT_TRUE(page_is_right(&self->r, 21, self->direct + 21 * PAGE));
	ASSERT_EQ(0, pages_present(&self->r, 20, 2));
	EXPECT_EQ(0, pages_wrong(&self->r, 20, 2));
	/* And back */
	*(uint64_t *)page_at(&self->r, 21) = 4711;
	EXPECT_EQ(4711, *(uint64_t *)(self->direct + 21 * PAGE));
}

TEST_F(backing, zero_replaces_what_is_in_the_memfd)
{
	ASSERT_EQ(0, pages_zero(&self->r, 0, NR_PAGES, NULL));
	EXPECT_TRUE(page_is_zero(page_at(&self->r, 0)));
	EXPECT_TRUE(page_is_zero(page_at(&self->r, NR_PAGES - 1)));
	EXPECT_TRUE(page_is_zero(self->direct + 5 * PAGE));
}

/* A VMM's successor keeps the memory that it is handed. */
TEST_F(backing, present_delivers_what_is_in_the_memfd)
{
	struct access a;

	page_pattern(&self->r, 9, self->direct + 9 * PAGE);
	ASSERT_EQ(0, pages_present(&self->r, 9, 1));
	EXPECT_EQ(0, pages_wrong(&self->r, 9, 1));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 10), 0));
	EXPECT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, pages_fill(&self->r, 10, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
}

TEST_F(backing, a_part_of_it_is_mapped_from_the_same_pages)
{
	char *part = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, self->r.context,
			  OFFSET + 600 * PAGE);
	struct access a;
	int status;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, part);
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, part + PAGE, 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, pages_fill(&self->r, 601, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(page_word(&self->r, 601, 0), a.value);
	ASSERT_EQ(0, pages_fill(&self->r, 600, 4, NULL));
	pid = fork_child();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(!page_is_right(&self->r, 603, part + 3 * PAGE));
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
	munmap(part, 4 * PAGE);
}

/* A process that holds the memfd can make a huge page of its pages. */
TEST_F(backing, neighbours_are_never_readable_whatever_is_done_to_the_memfd)
{
	struct access a, b;

	ASSERT_EQ(0, pages_fill(&self->r, 0, HUGE_PAGES - 1, NULL));
	ASSERT_EQ(0, pages_wrong(&self->r, 0, HUGE_PAGES - 1));
	madvise(self->direct, LENGTH, MADV_HUGEPAGE);
	madvise(self->direct, LENGTH, MADV_COLLAPSE);
	EXPECT_EQ(0, pages_wrong(&self->r, 0, HUGE_PAGES - 1));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, HUGE_PAGES - 1), 0));
	ASSERT_EQ(0, access_start(&b, ACCESS_WRITE, page_at(&self->r, HUGE_PAGES), 1));
	EXPECT_TRUE(access_wait_blocked(&a));
	EXPECT_TRUE(access_wait_blocked(&b));
	ASSERT_EQ(0, pages_fill(&self->r, HUGE_PAGES - 1, 2, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	ASSERT_TRUE(access_wait_done(&b));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, HUGE_PAGES));
}

struct collapser {
	char *memory;
	bool stop;
};

static void *collapse(void *arg)
{
	struct collapser *c = arg;

	while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
		madvise(c->memory, LENGTH, MADV_COLLAPSE);
		/* Small again */
		madvise(c->memory, PAGE, MADV_PAGEOUT);
	}
	return NULL;
}

TEST_F(backing, no_missing_page_is_read_while_the_memfd_is_collapsed)
{
	struct collapser c = { .memory = self->direct };
	uint64_t end = now_ms() + 1500;
	pthread_t thread;
	struct access a;
	size_t page;

	madvise(self->direct, LENGTH, MADV_HUGEPAGE);
	ASSERT_EQ(0, pages_fill(&self->r, 0, 256, NULL));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 256), 0));
	ASSERT_EQ(0, pthread_create(&thread, NULL, collapse, &c));
	while (now_ms() < end) {
		for (page = 0; page < 256; page += 3)
			EXPECT_EQ(page_word(&self->r, page, 0),
				  *(volatile uint64_t *)page_at(&self->r, page));
	}
	__atomic_store_n(&c.stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	EXPECT_FALSE(access_is_done(&a));
	ASSERT_EQ(0, pages_fill(&self->r, 256, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(page_word(&self->r, 256, 0), a.value);
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 257));
}

TEST_F(backing, a_hole_punched_by_its_holder_reads_zero_only_if_it_was_delivered)
{
	struct access a;

	ASSERT_EQ(0, pages_fill(&self->r, 0, 4, NULL));
	ASSERT_EQ(0, pages_wrong(&self->r, 0, 4));
	ASSERT_EQ(0, fallocate(self->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       FILE_OFFSET + 2 * PAGE, 4 * PAGE));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 2));
	EXPECT_TRUE(page_is_zero(page_at(&self->r, 2)));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 4), 0));
	EXPECT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, pages_fill(&self->r, 4, 2, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(0, pages_wrong(&self->r, 4, 2));
}

TEST_F(backing, does_not_get_shorter_or_lose_its_writers)
{
	EXPECT_EQ(-1, ftruncate(self->memfd, PAGE));
	EXPECT_EQ(EPERM, errno);
	munmap(self->direct, LENGTH);
	EXPECT_EQ(-1, fcntl(self->memfd, F_ADD_SEALS, F_SEAL_WRITE));
	EXPECT_EQ(EBUSY, errno);
	/* Not even with nothing mapped */
	munmap(self->r.address, LENGTH);
	EXPECT_EQ(-1, fcntl(self->memfd, F_ADD_SEALS, F_SEAL_WRITE));
	EXPECT_EQ(EBUSY, errno);
	/* It works once the whole region has gone. A fault may release its file a little later. */
	region_close(&self->r);
	EXPECT_TRUE(wait_until(!fcntl(self->memfd, F_ADD_SEALS, F_SEAL_WRITE)));
}

TEST_F(backing, sealed_later_it_takes_no_page_and_shows_none)
{
	struct postcopy_pages_fill fill;
	struct access a, b;
	static const char data[PAGE_MAX] = { 1 };

	ASSERT_EQ(0, pages_fill(&self->r, 0, 8, NULL));
	ASSERT_EQ(0, pages_wrong(&self->r, 0, 8));
	ASSERT_EQ(0, fcntl(self->memfd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	EXPECT_EQ(-EPERM, pages_fill_raw(self->r.helper, OFFSET + 8 * PAGE, PAGE, data, &fill));
	EXPECT_EQ(-EPERM, pages_zero(&self->r, 8, 1, NULL));
	EXPECT_EQ(0, page_is_present(&self->r, 8));
	EXPECT_EQ(MAP_FAILED, map_file(self->r.context, OFFSET));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(MAP_FAILED, map_file(self->r.helper, OFFSET));
	EXPECT_EQ(EPERM, errno);
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 8), 0));
	EXPECT_TRUE(access_wait_blocked(&a));
	/* A page that is to be missing again cannot be dropped from the file ... */
	EXPECT_EQ(-EPERM, discard(&self->r, 3, 1));
	/* ... nor read. */
	EXPECT_EQ(0, page_is_present(&self->r, 3));
	ASSERT_EQ(0, access_start(&b, ACCESS_READ, page_at(&self->r, 3), 0));
	EXPECT_TRUE(access_wait_blocked(&b));
	ASSERT_EQ(0, pages_present(&self->r, 0, 9));
	EXPECT_TRUE(access_wait_done(&a));
	EXPECT_TRUE(access_wait_done(&b));
}

TEST_F(backing, discarded_pages_are_missing_again)
{
	struct access a;

	ASSERT_EQ(0, pages_fill(&self->r, 0, 8, NULL));
	ASSERT_EQ(0, pages_wrong(&self->r, 0, 8));
	ASSERT_EQ(0, discard(&self->r, 2, 2));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 2));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 3), 0));
	EXPECT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, pages_fill(&self->r, 2, 2, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 8));
}

/* They share the inode, not the struct file. */
TEST_F(backing, flags_that_its_holder_sets_misplace_no_page)
{
	ASSERT_EQ(0, fcntl(self->memfd, F_SETFL, O_APPEND));
	ASSERT_EQ(0, pages_fill(&self->r, 30, 1, NULL));
	EXPECT_EQ(0, pages_wrong(&self->r, 30, 1));
	EXPECT_TRUE(page_is_right(&self->r, 30, self->direct + 30 * PAGE));
}

TEST_F(backing, outlives_the_vmms_fds)
{
	struct access a;

	close(self->memfd);
	self->memfd = -1;
	close(self->r.context);
	self->r.context = -1;
	munmap(self->direct, LENGTH);
	ASSERT_EQ(0, access_start(&a, ACCESS_ADD, page_at(&self->r, 1), 1));
	ASSERT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(page_word(&self->r, 1, 0), a.value);
	EXPECT_EQ(0, pages_wrong(&self->r, 2, NR_PAGES - 2));
}

TEST_F(backing, converts_to_a_plain_mapping_of_the_memfd)
{
	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
	*(uint64_t *)(self->direct + 3 * PAGE) = 4711;
	EXPECT_EQ(4711, *(uint64_t *)page_at(&self->r, 3));
	/* As the file is: huge pages, advice */
	madvise(self->r.address, LENGTH, MADV_HUGEPAGE);
	if (!strcmp(variant->shmem_enabled, "always"))
		EXPECT_EQ(0, memory_collapse(self->r.address));
	EXPECT_EQ(0, pages_wrong(&self->r, 4, NR_PAGES - 4));
	ASSERT_EQ(0, madvise(page_at(&self->r, 8), PAGE, MADV_REMOVE));
	EXPECT_TRUE(page_is_zero(self->direct + 8 * PAGE));
}

TEST_F(backing, a_vmms_successor_starts_with_all_pages_missing)
{
	struct region next = { .context = open_context() };
	struct access a;

	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	ASSERT_LE(0, next.context);
	EXPECT_EQ(-EBUSY, set_backing(next.context, self->memfd));
	region_close(&self->r);
	ASSERT_TRUE(wait_until(!set_backing(next.context, self->memfd)));
	ASSERT_EQ(0, map_region(&next, next.context));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&next, 5), 0));
	EXPECT_TRUE(access_wait_blocked(&a));
	/* The predecessor's pages are good, and the new helper says so. */
	ASSERT_EQ(0, pages_present(&next, 0, NR_PAGES));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(0, pages_wrong(&next, 0, NR_PAGES));
	region_close(&next);
}

/* A call of the old helper may still write to pages that would belong to the next region. */
TEST_F(backing, is_not_mapped_again_before_the_last_regions_helper_has_gone)
{
	ASSERT_EQ(0, munmap(self->r.address, LENGTH));
	self->r.address = map_file(self->r.context, OFFSET);
	EXPECT_EQ(MAP_FAILED, self->r.address);
	EXPECT_EQ(EBUSY, errno);
	region_detach(&self->r);
	ASSERT_EQ(0, map_region(&self->r, self->r.context));
	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
}

/* The pages behind it belong to another region, or to none. */
TEST_F(backing, its_mapping_cannot_be_made_longer)
{
	char *to = mmap(NULL, 2 * LENGTH, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, to);
	EXPECT_EQ(MAP_FAILED, mremap(self->r.address, LENGTH, 2 * LENGTH,
				     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_EQ(EFAULT, errno);
	munmap(to, 2 * LENGTH);
}

struct writer {
	int memfd;
	char *data;
	ssize_t written;
};

static void *writer_run(void *arg)
{
	struct writer *w = arg;

	w->written = pwrite(w->memfd, w->data, PAGE, 0);
	return NULL;
}

/* The write waits for a page with the memfd locked, which the helper needs to deliver it. */
TEST_F(backing, a_helper_whose_memfd_its_owner_keeps_locked_can_be_killed)
{
	struct writer w = { self->memfd, page_at(&self->r, 5) };
	pthread_t thread;
	uint64_t start;
	int status;
	pid_t pid;

	ASSERT_EQ(0, pthread_create(&thread, NULL, writer_run, &w));
	ASSERT_TRUE(wait_requests(&self->r, 1));
	pid = fork_child();
	if (!pid)
		_exit(pages_fill(&self->r, 5, 1, NULL) ? 1 : 0);
	ASSERT_TRUE(wait_until(thread_sleeps(pid, pid)));
	start = now_ms();
	kill(pid, SIGKILL);
	EXPECT_EQ(0, wait_child(pid, &status));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_GT(AT_ONCE_MS, now_ms() - start);
	munmap(self->r.address, LENGTH);
	pthread_join(thread, NULL);
}

TEST_F(backing, shared_mappings_elsewhere_are_refused_and_private_ones_are_not_concerned)
{
	char *private;

	munmap(self->r.address, LENGTH);
	region_detach(&self->r);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->r.context, 0));
	EXPECT_EQ(ENXIO, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->r.context,
				   OFFSET - PAGE));
	EXPECT_EQ(ENXIO, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, self->r.context,
				   OFFSET + LENGTH - PAGE));
	EXPECT_EQ(ENXIO, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, LENGTH + PAGE, PROT_READ, MAP_SHARED,
				   self->r.context, OFFSET));
	EXPECT_EQ(ENXIO, errno);
	private = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, self->r.context, 0);
	EXPECT_NE(MAP_FAILED, private);
	munmap(private, PAGE);
	/* Two regions side by side in one memfd */
	self->r.address = map_file(self->r.context, OFFSET);
	EXPECT_NE(MAP_FAILED, self->r.address);
}

TEST_F(backing, cannot_be_set_twice_or_after_a_shared_mapping)
{
	int other = make_memfd(0, F_SEAL_SHRINK), context = open_context();
	char *memory;

	ASSERT_LE(0, other);
	ASSERT_LE(0, context);
	EXPECT_EQ(-EBUSY, set_backing(self->r.context, other));
	memory = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, context, 0);
	ASSERT_NE(MAP_FAILED, memory);
	EXPECT_EQ(-EBUSY, set_backing(context, other));
	munmap(memory, PAGE);
	EXPECT_EQ(0, set_backing(context, other));
	EXPECT_EQ(-EBUSY, set_backing(context, other));
	close(context);
	close(other);
}

/* Without a region */

FIXTURE(refused)
{
	int context;
};

FIXTURE_SETUP(refused)
{
	ASSERT_LE(0, self->context = open_context());
}

FIXTURE_TEARDOWN(refused)
{
	close(self->context);
}

TEST_F(refused, files_that_are_no_memfds)
{
	char path[] = "/dev/shm/postcopy-XXXXXX";
	int fds[2], fd;

	EXPECT_EQ(-EBADF, set_backing(self->context, -1));
	EXPECT_EQ(-EBADF, set_backing(self->context, 999));
	ASSERT_EQ(0, pipe(fds));
	EXPECT_EQ(-EINVAL, set_backing(self->context, fds[0]));
	EXPECT_EQ(-EINVAL, set_backing(self->context, self->context));
	ASSERT_LE(0, fd = open("/dev/zero", O_RDWR | O_CLOEXEC));
	EXPECT_EQ(-EINVAL, set_backing(self->context, fd));
	close(fd);
	ASSERT_LE(0, fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
	EXPECT_EQ(-EINVAL, set_backing(self->context, fd));
	close(fd);
	/* On tmpfs, but anybody may truncate it */
	ASSERT_LE(0, fd = mkstemp(path));
	unlink(path);
	ASSERT_EQ(0, ftruncate(fd, FILE_OFFSET + LENGTH));
	fd = -EPERM == set_backing(self->context, fd) ? fd : -1;
	EXPECT_LE(0, fd);
	close(fd);
	close(fds[0]);
	close(fds[1]);
}

TEST_F(refused, memfds_of_huge_pages)
{
	int fd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);

	if (fd < 0)
		SKIP(return, "no hugetlb memfd");
	EXPECT_EQ(-EOPNOTSUPP, set_backing(self->context, fd));
	close(fd);
}

TEST_F(refused, memfds_that_are_read_only)
{
	int fd = make_memfd(0, F_SEAL_SHRINK), ro;
	char path[64];

	ASSERT_LE(0, fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ASSERT_LE(0, ro = open(path, O_RDONLY | O_CLOEXEC));
	EXPECT_EQ(-EACCES, set_backing(self->context, ro));
	close(ro);
	ASSERT_LE(0, ro = open(path, O_WRONLY | O_CLOEXEC));
	EXPECT_EQ(-EACCES, set_backing(self->context, ro));
	close(ro);
	EXPECT_EQ(0, set_backing(self->context, fd));
	close(fd);
}

TEST_F(refused, memfds_with_the_wrong_seals)
{
	static const int wrong[] = {
		0,
		F_SEAL_GROW,
		F_SEAL_SHRINK | F_SEAL_WRITE,
		F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE,
	};
	unsigned int i;
	int fd;

	for (i = 0; i < 4; i++) {
		ASSERT_LE(0, fd = make_memfd(0, wrong[i]));
		EXPECT_EQ(-EPERM, set_backing(self->context, fd))
			TH_LOG("seals %#x", wrong[i]);
		close(fd);
	}
	/* None of these calls has any effect. */
	ASSERT_LE(0, fd = make_memfd(0, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
	EXPECT_EQ(0, set_backing(self->context, fd));
	close(fd);
}

TEST_F(refused, ranges_that_are_not_in_the_memfd)
{
	const struct {
		uint64_t offset, length, file_offset;
	} wrong[] = {
		{ 0, 0, 0 },
		{ 1, PAGE, 0 },
		{ 0, PAGE - 1, 0 },
		{ 0, PAGE, 1 },
		{ 0, FILE_OFFSET + LENGTH + PAGE, 0 },
		{ 0, PAGE, FILE_OFFSET + LENGTH },
		{ 0, LENGTH, FILE_OFFSET + PAGE },
		{ 0, PAGE, -PAGE },
		{ -PAGE, PAGE, 0 },
		{ INT64_MAX - PAGE + 1, PAGE, 0 },
		{ 0, INT64_MAX - PAGE + 1, PAGE },
		{ 0, -PAGE, 0 },
		{ PAGE, -PAGE, PAGE },
	};
	int fd = make_memfd(0, F_SEAL_SHRINK);
	unsigned int i;

	ASSERT_LE(0, fd);
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		EXPECT_EQ(-EINVAL, set_backing_raw(self->context, fd, wrong[i].offset,
						   wrong[i].length, wrong[i].file_offset))
			TH_LOG("case %u", i);
	EXPECT_EQ(0, set_backing_raw(self->context, fd, 0, FILE_OFFSET + LENGTH, 0));
	close(fd);
}

/* A refused call keeps nothing: the memfd can be sealed, the context used. */
TEST_F(refused, leaves_memfd_and_context_as_they_were)
{
	int fd = make_memfd(0, F_SEAL_SHRINK), other = open_context();
	char *memory;

	ASSERT_LE(0, fd);
	ASSERT_LE(0, other);
	EXPECT_EQ(-EINVAL, set_backing_raw(self->context, fd, 0, PAGE, FILE_OFFSET + LENGTH));
	memory = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->context, 0);
	EXPECT_NE(MAP_FAILED, memory);
	EXPECT_EQ(-EBUSY, set_backing(self->context, fd));
	munmap(memory, PAGE);
	ASSERT_EQ(0, set_backing(other, fd));
	EXPECT_EQ(-EBUSY, set_backing(self->context, fd));
	close(other);
	EXPECT_EQ(0, fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	EXPECT_EQ(-EPERM, set_backing(self->context, fd));
	close(fd);
}

TEST_HARNESS_MAIN

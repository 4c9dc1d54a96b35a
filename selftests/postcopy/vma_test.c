// SPDX-License-Identifier: GPL-2.0
/*
 * mmap() of /dev/postcopy, and an owner that unmaps, splits, protects and moves parts of
 * the mapping afterwards. The rest works on as before.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "kselftest_harness.h"
#include "postcopy_test.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

#define NR_PAGES	64UL
#define OFFSET		(1UL << 32)

FIXTURE(vma)
{
	struct region r;
	struct region other;
};

FIXTURE_SETUP(vma)
{
	ASSERT_EQ(0, region_map(&self->r, OFFSET, NR_PAGES));
	ASSERT_EQ(0, region_map(&self->other, 0, NR_PAGES));
	ASSERT_EQ(0, region_attach(&self->r));
}

FIXTURE_TEARDOWN(vma)
{
	region_close(&self->r);
	region_close(&self->other);
}

/* Pages [@first, @first + @nr) are still served: one by a fault, all by a fill. */
static void still_works(struct __test_metadata *_metadata, struct region *r,
			size_t first, size_t nr)
{
	struct postcopy_request request;
	struct access a;

	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(r, first), 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(1, requests_read(r, &request, 1));
	EXPECT_EQ(r->offset + first * PAGE, request.offset);
	ASSERT_EQ(0, pages_fill(r, first, nr, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(page_word(r, first, 0), a.value);
	EXPECT_EQ(0, pages_wrong(r, first, nr));
}

/* The file */

TEST(device_looks_as_vmms_expect)
{
	int fd = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	struct stat st;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, fstat(fd, &st));
	EXPECT_TRUE(S_ISCHR(st.st_mode));
	EXPECT_EQ(0600, st.st_mode & 0777);
	/* QEMU refuses a size between 0 and its RAM size. */
	EXPECT_LT(1LL << 46, lseek(fd, 0, SEEK_END));
	EXPECT_EQ(0, lseek(fd, 0, SEEK_SET));
	EXPECT_EQ(-1, ftruncate(fd, PAGE));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(-1, write(fd, "x", 1));
	close(fd);
}

TEST(device_opened_again_through_proc_is_a_context_of_its_own)
{
	struct postcopy_helper_attach attach = { .size = sizeof(attach) };
	struct region r;
	char path[64];
	int again;

	ASSERT_EQ(0, region_map(&r, 0, 1));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", r.context);
	again = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, again);
	EXPECT_EQ(r.id, region_find(again, getpid(), r.address));
	attach.region_id = r.id;
	EXPECT_EQ(0, ioctl(again, POSTCOPY_HELPER_ATTACH, &attach));
	close(attach.out_fd);
	close(again);
	region_close(&r);
}

/* mmap() */

TEST(mmap_of_a_context_opened_read_only_is_private_memory_all_the_same)
{
	int fd = open(POSTCOPY_DEVICE, O_RDONLY | O_CLOEXEC);
	struct region r;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_map_in(&r, fd, 0, 4, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, region_attach(&r));
	still_works(_metadata, &r, 0, 4);
	*r.address = 1;
	region_close(&r);
}

TEST(mmap_read_only_can_be_made_writable_later)
{
	int fd = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	struct region r;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, region_map_in(&r, fd, 0, 8, PROT_READ));
	ASSERT_EQ(0, region_attach(&r));
	still_works(_metadata, &r, 0, 4);
	EXPECT_EQ(SIGSEGV, probe_write(r.address));
	EXPECT_EQ(0, pages_wrong(&r, 0, 4));
	ASSERT_EQ(0, mprotect(r.address, r.length, PROT_READ | PROT_WRITE));
	*(uint64_t *)r.address = 5;
	EXPECT_EQ(5, *(uint64_t *)r.address);
	still_works(_metadata, &r, 4, 4);
	region_close(&r);
}

TEST(mmap_refuses_length_0_and_what_does_not_fit)
{
	int fd = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	struct {
		size_t length;
		uint64_t offset;
	} bad[] = {
		{ 0, 0 },
		{ PAGE, 1 },
		{ PAGE, PAGE / 2 },
		{ 1UL << 47, 0 },
		{ -PAGE, 0 },
		{ -1UL, 0 },
		{ 2 * PAGE, -PAGE },
		{ PAGE, -PAGE },
		{ 16 * PAGE, -(8 * PAGE) },
	};
	unsigned int i;

	ASSERT_LE(0, fd);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		void *p = (void *)syscall(SYS_mmap, NULL, bad[i].length, PROT_READ,
					  MAP_PRIVATE, fd, bad[i].offset);

		EXPECT_EQ(MAP_FAILED, p) {
			TH_LOG("%u", i);
		}
	}
	close(fd);
}

TEST(mmap_at_the_largest_offset_works_or_is_refused)
{
	uint64_t offsets[] = { (1ULL << 63) - 32 * PAGE, (1ULL << 63) - 16 * PAGE,
			       1ULL << 62, 1ULL << 63, -(64 * PAGE) };
	struct region r;
	unsigned int i;
	int fd, error;

	for (i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		fd = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
		error = region_map_in(&r, fd, offsets[i], 8, PROT_READ | PROT_WRITE);
		if (error) {
			EXPECT_EQ(-EOVERFLOW, error);
			close(fd);
			continue;
		}
		ASSERT_EQ(0, region_attach(&r));
		still_works(_metadata, &r, 0, 4);
		still_works(_metadata, &r, 4, 4);
		region_close(&r);
	}
}

/* Terabytes of address space cost only the bits of a map, and hardly any time. */
TEST(mmap_of_a_huge_region_works)
{
	size_t nr = (256UL << 30) / PAGE;
	const char *overcommit = "/proc/sys/vm/overcommit_memory";
	uint64_t start = now_ms();
	struct region r;

	/* More than this machine has */
	ASSERT_EQ(0, file_write(overcommit, "1"));
	ASSERT_EQ(0, region_map(&r, 0, nr));
	ASSERT_EQ(0, file_write(overcommit, "0"));
	ASSERT_EQ(0, region_attach(&r));
	still_works(_metadata, &r, 0, 1);
	still_works(_metadata, &r, nr - 1, 1);
	region_close(&r);
	EXPECT_GT(PATIENCE_MS, now_ms() - start);
}

/*
 * Its map of pages is larger than the kernel allocates, which is 2 GiB - 1. That must be a plain
 * error. With pages of 4 KiB this takes 64 TiB, with pages of 16 KiB 256 TiB, for which arm64 must
 * be asked for addresses beyond 48 bits.
 */
TEST(mmap_of_nearly_all_addresses_is_refused)
{
	size_t length = (8UL << 31) * PAGE;
	void *hint = (void *)(1UL << 50);
	int context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	char *memory;

	ASSERT_LE(0, context);
	memory = mmap(hint, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		SKIP(close(context); return, "no process has so many addresses");
	munmap(memory, length);
	memory = mmap(hint, length, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, context, 0);
	EXPECT_EQ(MAP_FAILED, memory);
	EXPECT_EQ(ENOMEM, errno);
	memory = mmap(hint, length, PROT_READ, MAP_SHARED | MAP_NORESERVE, context, 0);
	EXPECT_EQ(MAP_FAILED, memory);
	close(context);
}

TEST(mmap_twice_of_one_context_makes_two_regions)
{
	struct region a, b;

	ASSERT_EQ(0, region_map(&a, 0, 8));
	ASSERT_EQ(0, region_map_in(&b, a.context, 8 * PAGE, 8, PROT_READ | PROT_WRITE));
	EXPECT_NE(a.id, b.id);
	ASSERT_EQ(0, region_attach(&a));
	ASSERT_EQ(0, region_attach(&b));
	still_works(_metadata, &a, 0, 8);
	still_works(_metadata, &b, 0, 8);
	b.context = -1;
	region_close(&b);
	region_close(&a);
}

TEST(mmap_outlives_its_context)
{
	struct region r;

	ASSERT_EQ(0, region_map(&r, 0, 8));
	close(r.context);
	r.context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	ASSERT_EQ(0, region_attach(&r));
	still_works(_metadata, &r, 0, 8);
	region_close(&r);
}

/* Neighbouring addresses and offsets: the core merges such mappings if it can. */
TEST(mmap_of_neighbours_does_not_merge)
{
	char *area = mmap(NULL, 16 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	struct region r[2];
	int i;

	ASSERT_NE(MAP_FAILED, area);
	for (i = 0; i < 2; i++) {
		r[i] = (struct region){
			.context = context, .helper = -1,
			.address = area + i * 8 * PAGE,
			.offset = i * 8 * PAGE, .length = 8 * PAGE,
		};
		ASSERT_EQ(r[i].address, mmap(r[i].address, r[i].length, PROT_READ | PROT_WRITE,
					     MAP_PRIVATE | MAP_FIXED, context, r[i].offset));
		r[i].id = region_find(context, getpid(), r[i].address);
		ASSERT_NE(0, r[i].id);
		ASSERT_EQ(0, region_attach(&r[i]));
	}
	EXPECT_NE(r[0].id, r[1].id);
	ASSERT_EQ(0, mprotect(area, 16 * PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(area, 16 * PAGE, PROT_READ | PROT_WRITE));
	still_works(_metadata, &r[0], 0, 8);
	still_works(_metadata, &r[1], 0, 8);
	ASSERT_EQ(0, munmap(r[0].address, r[0].length));
	EXPECT_EQ(0, pages_wrong(&r[1], 0, 8));
	EXPECT_EQ(0, region_convert(&r[1], 0, NULL));
	EXPECT_EQ(0, pages_wrong(&r[1], 0, 8));
	r[0].context = -1;
	region_close(&r[0]);
	region_close(&r[1]);
}

/* munmap() */

static void works_without(struct __test_metadata *_metadata, struct region *r,
			  size_t first, size_t nr)
{
	struct postcopy_region_info info;
	uint64_t nr_missing;
	size_t i;

	ASSERT_EQ(0, munmap(page_at(r, first), nr * PAGE));
	/* So that nothing else of this process comes there. */
	ASSERT_EQ(page_at(r, first),
		  mmap(page_at(r, first), nr * PAGE, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
	ASSERT_EQ(0, region_info(r, &info));
	EXPECT_EQ(POSTCOPY_REGION_ATTACHED, info.out_state);
	EXPECT_EQ(-EBUSY, region_convert(r, 0, &nr_missing));
	EXPECT_EQ(NR_PAGES - nr, nr_missing);
	/* The helper does not know what is unmapped: one fill over all of it */
	still_works(_metadata, r, first ? 0 : nr, 1);
	ASSERT_EQ(0, pages_fill(r, 0, NR_PAGES, NULL));
	for (i = 0; i < NR_PAGES; i++) {
		if (i >= first && i < first + nr) {
			EXPECT_EQ(SIGSEGV, probe_read(page_at(r, i)));
		} else {
			EXPECT_TRUE(page_is_right(r, i, page_at(r, i)));
		}
	}
	ASSERT_EQ(0, region_convert(r, 0, &nr_missing));
	EXPECT_EQ(0, nr_missing);
	for (i = 0; i < NR_PAGES; i++) {
		if (i < first || i >= first + nr)
			EXPECT_TRUE(page_is_right(r, i, page_at(r, i)));
	}
}

TEST_F(vma, munmap_of_the_head_leaves_the_rest_working)
{
	works_without(_metadata, &self->r, 0, 10);
}

TEST_F(vma, munmap_of_the_middle_leaves_the_rest_working)
{
	works_without(_metadata, &self->r, 20, 10);
}

TEST_F(vma, munmap_of_the_tail_leaves_the_rest_working)
{
	works_without(_metadata, &self->r, 54, 10);
}

TEST_F(vma, munmap_in_pieces_ends_the_region_with_the_last)
{
	struct postcopy_region_info info;
	size_t i;

	for (i = 1; i < NR_PAGES; i += 2) {
		ASSERT_EQ(0, munmap(page_at(&self->r, i), PAGE));
	}
	for (i = 0; i < NR_PAGES; i += 2) {
		ASSERT_EQ(0, region_info(&self->r, &info));
		EXPECT_EQ(POSTCOPY_REGION_ATTACHED, info.out_state);
		ASSERT_EQ(0, munmap(page_at(&self->r, i), PAGE));
	}
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(POSTCOPY_REGION_DEAD, info.out_state);
}

/* Firecracker's and other balloons map anonymous memory over a part. */
TEST_F(vma, anonymous_memory_mapped_over_a_part_stays_as_it_is)
{
	char *over = mmap(page_at(&self->r, 8), 8 * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	ASSERT_EQ(page_at(&self->r, 8), over);
	*(uint64_t *)over = 8;
	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	EXPECT_EQ(8, *(uint64_t *)over);
	EXPECT_TRUE(page_is_zero(over + PAGE));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 8));
	EXPECT_EQ(0, pages_wrong(&self->r, 16, 48));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	EXPECT_EQ(8, *(uint64_t *)over);
	EXPECT_EQ(0, pages_wrong(&self->r, 16, 48));
}

TEST_F(vma, another_region_mapped_over_a_part_takes_its_place)
{
	struct region over = { .context = self->r.context, .helper = -1,
			       .address = page_at(&self->r, 8), .length = 8 * PAGE,
			       .offset = 77 * PAGE };

	ASSERT_EQ(over.address, mmap(over.address, over.length, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_FIXED, over.context, over.offset));
	over.id = region_find(over.context, getpid(), over.address);
	ASSERT_EQ(0, region_attach(&over));
	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	still_works(_metadata, &over, 0, 8);
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 8));
	EXPECT_EQ(0, pages_wrong(&self->r, 16, 48));
	close(over.helper);
}

/* mprotect(), madvise() */

/*
 * munmap gives mmap_lock to readers, fills among them, before it has dropped the pages. If a
 * page got in there then, the kernel log would say so when the process ends.
 */
TEST(munmap_while_the_helper_fills_leaves_no_page_behind)
{
	static const size_t nr_pages = 2048, nr_missing = 64;
	uint64_t end = now_ms() + 3000;
	struct region r = { .helper = -1 };
	int go[2], made[2], status, error;
	unsigned int rounds;
	size_t page;
	pid_t pid;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(made));
	pid = fork_child();
	if (!pid) {
		char c;

		close(go[1]);
		while (read(go[0], &c, 1) == 1) {
			if (region_map(&r, 0, nr_pages) ||
			    write(made[1], &r, sizeof(r)) != sizeof(r) ||
			    read(go[0], &c, 1) != 1)
				_exit(1);
			region_close(&r);
		}
		_exit(0);
	}
	close(go[0]);
	for (rounds = 0; now_ms() < end; rounds++) {
		ASSERT_EQ(1, write(go[1], "m", 1));
		ASSERT_EQ(sizeof(r), read(made[0], &r, sizeof(r)));
		r.context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
		ASSERT_EQ(0, region_attach(&r));
		ASSERT_EQ(0, pages_fill(&r, nr_missing, nr_pages - nr_missing, NULL));
		ASSERT_EQ(1, write(go[1], "u", 1));
		for (page = 0, error = 0; !error; page = (page + 1) % nr_missing)
			error = pages_fill(&r, page, 1, NULL);
		EXPECT_EQ(-ESRCH, error);
		close(r.helper);
		close(r.context);
	}
	close(go[1]);
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_LT(0, rounds);
}

TEST_F(vma, split_by_mprotect_and_madvise_is_served_as_one)
{
	struct postcopy_region_info info;

	ASSERT_EQ(0, mprotect(page_at(&self->r, 10), 10 * PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(page_at(&self->r, 30), 10 * PAGE, PROT_NONE));
	ASSERT_EQ(0, madvise(page_at(&self->r, 5), 50 * PAGE, MADV_DONTDUMP));
	ASSERT_EQ(0, madvise(page_at(&self->r, 50), 2 * PAGE, MADV_DONTFORK));
	if (has_huge_pages())
		ASSERT_EQ(0, madvise(self->r.address, 60 * PAGE, MADV_HUGEPAGE));
	still_works(_metadata, &self->r, 8, 20);
	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(NR_PAGES, info.out_nr_present);
	EXPECT_EQ(SIGSEGV, probe_write(page_at(&self->r, 12)));
	EXPECT_EQ(SIGSEGV, probe_read(page_at(&self->r, 32)));
	ASSERT_EQ(0, mprotect(self->r.address, self->r.length, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
}

TEST_F(vma, converts_with_parts_protected)
{
	ASSERT_EQ(0, mprotect(page_at(&self->r, 10), 10 * PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(page_at(&self->r, 30), 10 * PAGE, PROT_NONE));
	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	EXPECT_EQ(SIGSEGV, probe_write(page_at(&self->r, 12)));
	EXPECT_EQ(SIGSEGV, probe_read(page_at(&self->r, 32)));
	ASSERT_EQ(0, mprotect(self->r.address, self->r.length, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
	memset(self->r.address, 1, self->r.length);
}

TEST_F(vma, an_executable_mapping_waits_too)
{
	ASSERT_EQ(0, mprotect(self->r.address, self->r.length, PROT_READ | PROT_EXEC));
	still_works(_metadata, &self->r, 0, NR_PAGES);
}

/* mremap() */

TEST_F(vma, mremap_that_moves_is_refused_and_changes_nothing)
{
	char *target = mmap(NULL, self->r.length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct postcopy_region_info info;

	ASSERT_NE(MAP_FAILED, target);
	still_works(_metadata, &self->r, 0, 8);
	EXPECT_EQ(MAP_FAILED, mremap(self->r.address, self->r.length, self->r.length,
				     MREMAP_MAYMOVE | MREMAP_FIXED, target));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 8));
	EXPECT_EQ(MAP_FAILED, mremap(page_at(&self->r, 4), 8 * PAGE, 8 * PAGE,
				     MREMAP_MAYMOVE | MREMAP_FIXED, target));
	EXPECT_EQ(MAP_FAILED, mremap(self->r.address, self->r.length, self->r.length,
				     MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL));
	EXPECT_EQ(MAP_FAILED, mremap(self->r.address, 0, self->r.length, MREMAP_MAYMOVE, NULL));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 8));
	still_works(_metadata, &self->r, 8, NR_PAGES - 8);
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ((uintptr_t)self->r.address, info.out_address);
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
}

TEST_F(vma, mremap_that_moves_is_refused_while_somebody_waits)
{
	struct access a;

	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 3), 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	/* Nothing behind it is free, so growing means moving. */
	ASSERT_NE(MAP_FAILED, mmap(self->r.address + self->r.length, PAGE, PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	EXPECT_EQ(MAP_FAILED, mremap(self->r.address, self->r.length, 2 * self->r.length,
				     MREMAP_MAYMOVE));
	EXPECT_FALSE(access_is_done(&a));
	ASSERT_EQ(0, pages_fill(&self->r, 3, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(page_word(&self->r, 3, 0), a.value);
}

TEST_F(vma, mremap_that_shrinks_works)
{
	ASSERT_EQ(self->r.address, mremap(self->r.address, self->r.length, 32 * PAGE, 0));
	still_works(_metadata, &self->r, 16, 16);
	EXPECT_EQ(SIGSEGV, probe_read(page_at(&self->r, 32)));
	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 32));
}

TEST_F(vma, mremap_that_grows_in_place_gives_sigbus_beyond_the_end)
{
	size_t more = self->r.length + 4 * PAGE;

	if (mremap(self->r.address, self->r.length, more, 0) == MAP_FAILED)
		SKIP(return, "not granted");
	EXPECT_EQ(SIGBUS, probe_read(page_at(&self->r, NR_PAGES)));
	EXPECT_EQ(SIGBUS, probe_write(page_at(&self->r, NR_PAGES + 3)));
	still_works(_metadata, &self->r, NR_PAGES - 2, 2);
	EXPECT_EQ(SIGBUS, probe_read(page_at(&self->r, NR_PAGES)));
	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
	munmap(page_at(&self->r, NR_PAGES), 4 * PAGE);
}

TEST_F(vma, mremap_of_other_memory_over_a_part_takes_its_place)
{
	char *other = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, other);
	memset(other, 0x77, 8 * PAGE);
	ASSERT_EQ(page_at(&self->r, 8), mremap(other, 8 * PAGE, 8 * PAGE,
					       MREMAP_MAYMOVE | MREMAP_FIXED,
					       page_at(&self->r, 8)));
	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	EXPECT_EQ(0x77, *page_at(&self->r, 8));
	EXPECT_EQ(0, pages_wrong(&self->r, 16, 48));
}

TEST_F(vma, mlockall_locks_what_is_there_and_waits_for_the_rest)
{
	struct server server;

	ASSERT_EQ(0, pages_fill(&self->r, 0, 32, NULL));
	ASSERT_EQ(0, munmap(self->other.address, self->other.length));
	ASSERT_EQ(0, server_start(&server, &self->r));
	EXPECT_EQ(0, mlockall(MCL_CURRENT));
	EXPECT_EQ(0, server_stop(&server));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
	munlockall();
}

TEST_HARNESS_MAIN

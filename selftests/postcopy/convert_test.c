// SPDX-License-Identifier: GPL-2.0
/*
 * Conversion: when every page is there the region becomes plain anonymous memory,
 * and everything the kernel does with such memory works, the removal of the module
 * included. POSTCOPY_MODULE names the module file, to load it again.
 */
#include <ctype.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "kselftest_harness.h"
#include "postcopy_test.h"

#ifndef MADV_COLD
#define MADV_COLD	20
#define MADV_PAGEOUT	21
#endif

#define NR_PAGES	HUGE_PAGES

FIXTURE(convert)
{
	struct region r;
};

FIXTURE_VARIANT(convert)
{
	/* Each page whose number is a multiple of this is zeros and is not touched. 0: no page */
	unsigned int zero_every;
};

FIXTURE_VARIANT_ADD(convert, all_data)
{
	.zero_every = 0,
};

FIXTURE_VARIANT_ADD(convert, some_zero)
{
	.zero_every = 4,
};

FIXTURE_SETUP(convert)
{
	ASSERT_EQ(0, region_map(&self->r, 1UL << 30, NR_PAGES));
	ASSERT_EQ(0, region_attach(&self->r));
}

FIXTURE_TEARDOWN(convert)
{
	region_close(&self->r);
}

static bool is_zero_page(unsigned int zero_every, size_t page)
{
	return zero_every && page % zero_every == 0;
}

static int fill_everything(struct region *r, unsigned int zero_every)
{
	size_t i;
	int error;

	for (i = 0; zero_every && i < NR_PAGES; i += zero_every) {
		error = pages_zero(r, i, 1, NULL);
		if (error)
			return error;
	}
	return pages_fill(r, 0, NR_PAGES, NULL);
}

static size_t nr_wrong(struct region *r, unsigned int zero_every)
{
	size_t i, wrong = 0;

	for (i = 0; i < NR_PAGES; i++) {
		wrong += is_zero_page(zero_every, i) ? !page_is_zero(page_at(r, i)) :
						       !page_is_right(r, i, page_at(r, i));
	}
	return wrong;
}

#define fill_and_convert()							\
	do {									\
		ASSERT_EQ(0, fill_everything(&self->r, variant->zero_every));	\
		ASSERT_EQ(0, region_convert(&self->r, 0, NULL));		\
	} while (0)

TEST_F(convert, refuses_while_a_page_is_missing)
{
	struct postcopy_region_info info;
	uint64_t nr_missing;
	size_t i;

	EXPECT_EQ(-EBUSY, region_convert(&self->r, 0, &nr_missing));
	EXPECT_EQ(NR_PAGES, nr_missing);
	for (i = 0; i < NR_PAGES; i++) {
		if (i != 77)
			ASSERT_EQ(0, pages_fill(&self->r, i, 1, NULL));
	}
	EXPECT_EQ(-EBUSY, region_convert(&self->r, 0, &nr_missing));
	EXPECT_EQ(1, nr_missing);
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(POSTCOPY_REGION_ATTACHED, info.out_state);
	ASSERT_EQ(0, pages_fill(&self->r, 77, 1, NULL));
	EXPECT_EQ(0, region_convert(&self->r, 0, &nr_missing));
	EXPECT_EQ(0, nr_missing);
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
}

TEST_F(convert, refuses_while_somebody_waits)
{
	struct access a;

	ASSERT_EQ(0, pages_fill(&self->r, 1, NR_PAGES - 1, NULL));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, self->r.address, 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	EXPECT_EQ(-EBUSY, region_convert(&self->r, 0, NULL));
	EXPECT_FALSE(access_is_done(&a));
	ASSERT_EQ(0, pages_fill(&self->r, 0, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(0, region_convert(&self->r, 0, NULL));
	EXPECT_EQ(page_word(&self->r, 0, 0), a.value);
}

TEST_F(convert, keeps_the_content)
{
	ASSERT_EQ(0, fill_everything(&self->r, variant->zero_every));
	EXPECT_EQ(0, nr_wrong(&self->r, variant->zero_every));
	*(uint64_t *)page_at(&self->r, 33) = 33;
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	EXPECT_EQ(33, *(uint64_t *)page_at(&self->r, 33));
	*(uint64_t *)page_at(&self->r, 33) = page_word(&self->r, 33, 0);
	EXPECT_EQ(0, nr_wrong(&self->r, variant->zero_every));
}

TEST_F(convert, by_the_owner_through_its_context_works)
{
	struct region by_id = self->r;

	ASSERT_EQ(0, fill_everything(&self->r, variant->zero_every));
	by_id.helper = -1;
	EXPECT_EQ(0, region_convert(&by_id, 0, NULL));
	EXPECT_EQ(0, nr_wrong(&self->r, variant->zero_every));
}

TEST_F(convert, by_the_owner_without_a_helper_works)
{
	ASSERT_EQ(0, fill_everything(&self->r, variant->zero_every));
	region_detach(&self->r);
	EXPECT_EQ(0, region_convert(&self->r, 0, NULL));
	EXPECT_EQ(0, nr_wrong(&self->r, variant->zero_every));
}

TEST_F(convert, from_a_child_with_the_helper_fd_works)
{
	int status;
	pid_t pid;

	ASSERT_EQ(0, fill_everything(&self->r, variant->zero_every));
	pid = fork_child();
	if (!pid)
		_exit(region_convert(&self->r, 0, NULL) ? 1 : 0);
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(-EALREADY, region_convert(&self->r, 0, NULL));
	EXPECT_EQ(0, nr_wrong(&self->r, variant->zero_every));
}

static void *convert_in_thread(void *arg)
{
	return (void *)(long)region_convert(arg, 0, NULL);
}

TEST_F(convert, by_several_at_once_succeeds_for_one)
{
	pthread_t thread[4];
	int i, nr_done = 0;
	void *result;

	ASSERT_EQ(0, fill_everything(&self->r, variant->zero_every));
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, convert_in_thread, &self->r));
	}
	for (i = 0; i < 4; i++) {
		pthread_join(thread[i], &result);
		EXPECT_TRUE((long)result == 0 || (long)result == -EALREADY);
		nr_done += (long)result == 0;
	}
	EXPECT_EQ(1, nr_done);
	EXPECT_EQ(0, nr_wrong(&self->r, variant->zero_every));
}

/* Stores that go on during conversion */

struct writer {
	pthread_t thread;
	volatile uint64_t *word;
	uint64_t nr;
	bool stop;
};

static void *count_up(void *arg)
{
	struct writer *w = arg;

	while (!__atomic_load_n(&w->stop, __ATOMIC_RELAXED)) {
		size_t i;

		/* One word on each page: no word may be older than it should be. */
		for (i = 0; i < NR_PAGES; i++)
			w->word[i * PAGE / 8]++;
		w->nr++;
	}
	return NULL;
}

TEST_F(convert, loses_no_store_that_runs_through_it)
{
	struct writer w[2];
	uint64_t wrong = 0;
	size_t i, page;

	ASSERT_EQ(0, fill_everything(&self->r, variant->zero_every));
	for (i = 0; i < 2; i++) {
		w[i] = (struct writer){ .word = (uint64_t *)self->r.address + i };
		ASSERT_EQ(0, pthread_create(&w[i].thread, NULL, count_up, &w[i]));
	}
	ASSERT_TRUE(wait_until(w[0].word[0] != page_word(&self->r, 0, 0)));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	pause_ms(20);
	for (i = 0; i < 2; i++) {
		__atomic_store_n(&w[i].stop, true, __ATOMIC_RELAXED);
		pthread_join(w[i].thread, NULL);
		for (page = 0; page < NR_PAGES; page++) {
			uint64_t start = is_zero_page(variant->zero_every, page) ? 0 :
					 page_word(&self->r, page, i);

			wrong += w[i].word[page * PAGE / 8] != start + w[i].nr;
		}
	}
	EXPECT_EQ(0, wrong);
}

/* What the kernel does with anonymous memory */

TEST_F(convert, makes_memory_that_smaps_calls_anonymous)
{
	char name[4096], line[64];
	bool found = false;
	FILE *maps;
	long rss;

	fill_and_convert();
	rss = smaps_kb(getpid(), self->r.address, "Rss");
	EXPECT_LT(0, rss);
	EXPECT_EQ(rss, smaps_kb(getpid(), self->r.address, "Anonymous"));
	EXPECT_EQ(rss, smaps_kb(getpid(), self->r.address, "Private_Dirty"));
	/* A private mapping of /dev/zero has always looked like this. */
	snprintf(line, sizeof(line), "%lx-", (unsigned long)self->r.address);
	maps = fopen("/proc/self/maps", "r");
	ASSERT_NE(NULL, maps);
	while (fgets(name, sizeof(name), maps)) {
		if (strncmp(name, line, strlen(line)))
			continue;
		found = true;
		EXPECT_EQ(NULL, strstr(name, "postcopy"));
	}
	EXPECT_TRUE(found);
	fclose(maps);
}

TEST_F(convert, lets_huge_pages_be_made)
{
	fill_and_convert();
	if (memory_collapse(self->r.address) == -EINVAL)
		SKIP(return, "no MADV_COLLAPSE");
	EXPECT_EQ((long)HUGE / 1024, smaps_kb(getpid(), self->r.address, "AnonHugePages"));
	EXPECT_EQ(0, nr_wrong(&self->r, variant->zero_every));
}

TEST_F(convert, lets_ksm_merge_equal_pages)
{
	struct postcopy_pages_fill fill;
	static char same[PAGE_MAX] __attribute__((aligned(PAGE_MAX)));
	uint64_t base = self->r.offset;
	size_t i;

	if (file_number("/sys/kernel/mm/ksm/run") < 0)
		SKIP(return, "no KSM");
	memset(same, 0x3c, PAGE);
	for (i = 0; i < 64; i++) {
		ASSERT_EQ(0, pages_fill_raw(self->r.helper, base + i * PAGE, PAGE, same, &fill));
	}
	ASSERT_EQ(0, fill_everything(&self->r, variant->zero_every));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	ASSERT_EQ(0, madvise(self->r.address, self->r.length, MADV_MERGEABLE));
	file_write("/sys/kernel/mm/ksm/pages_to_scan", "2000");
	file_write("/sys/kernel/mm/ksm/sleep_millisecs", "1");
	ASSERT_EQ(0, file_write("/sys/kernel/mm/ksm/run", "1"));
	EXPECT_TRUE(wait_until(file_number("/proc/self/ksm_merging_pages") >= 63));
	ASSERT_EQ(0, file_write("/sys/kernel/mm/ksm/run", "0"));
	for (i = 0; i < 64; i++) {
		EXPECT_EQ(0, memcmp(page_at(&self->r, i), same, PAGE));
	}
	*page_at(&self->r, 5) = 1;
	EXPECT_EQ(0x3c, *page_at(&self->r, 6));
	ASSERT_EQ(0, file_write("/sys/kernel/mm/ksm/run", "2"));
}

/* tmpfs cannot hold a swap file, so it is compressed memory. */
static bool swap_on(void)
{
	if (access("/dev/zram0", F_OK) && system("modprobe zram 2>/dev/null"))
		return false;
	if (file_number("/sys/block/zram0/disksize") <= 0 &&
	    file_write("/sys/block/zram0/disksize", "67108864"))
		return false;
	return system("mkswap /dev/zram0 >/dev/null 2>&1 && swapon /dev/zram0") == 0;
}

/* Swaps the first pages until some are really out. The kernel may hold a page for a while. */
static bool swap_out(struct region *r)
{
	return wait_until(!madvise(r->address, 64 * PAGE, MADV_PAGEOUT) &&
			  smaps_kb(getpid(), r->address, "Swap") > 100);
}

TEST_F(convert, lets_pages_be_swapped_out_and_in)
{
	if (!swap_on())
		SKIP(return, "no zram");
	fill_and_convert();
	EXPECT_TRUE(swap_out(&self->r));
	EXPECT_EQ(0, nr_wrong(&self->r, variant->zero_every));
	memset(self->r.address, 7, PAGE);
	EXPECT_EQ(0, system("swapoff /dev/zram0"));
	EXPECT_EQ(7, *self->r.address);
}

/* Delivered pages may be swapped before the conversion too. */
TEST_F(convert, of_memory_that_is_swapped_out_keeps_the_content)
{
	if (!swap_on())
		SKIP(return, "no zram");
	ASSERT_EQ(0, fill_everything(&self->r, variant->zero_every));
	EXPECT_TRUE(swap_out(&self->r));
	EXPECT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	EXPECT_EQ(0, nr_wrong(&self->r, variant->zero_every));
	EXPECT_EQ(0, system("swapoff /dev/zram0"));
	EXPECT_EQ(0, nr_wrong(&self->r, variant->zero_every));
}

TEST_F(convert, lets_a_forked_child_read_and_write_its_own_copy)
{
	int status;
	pid_t pid;

	fill_and_convert();
	pid = fork_child();
	if (!pid) {
		if (nr_wrong(&self->r, variant->zero_every))
			_exit(1);
		memset(self->r.address, 0, self->r.length);
		_exit(0);
	}
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, nr_wrong(&self->r, variant->zero_every));
}

/* A child forked before the conversion gains nothing by it and does not disturb it. */
TEST_F(convert, leaves_a_child_forked_before_as_it_was)
{
	int go[2], status;
	char byte;
	pid_t pid;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pages_fill(&self->r, 0, 8, NULL));
	pid = fork_child();
	if (!pid) {
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		if (pages_wrong(&self->r, 0, 8))
			_exit(2);
		if (probe_read(page_at(&self->r, 20)) != SIGBUS)
			_exit(3);
		if (probe_write(page_at(&self->r, 21)) != SIGBUS)
			_exit(4);
		_exit(0);
	}
	ASSERT_EQ(0, pages_fill(&self->r, 8, NR_PAGES - 8, NULL));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	memset(self->r.address, 1, 8 * PAGE);
	ASSERT_EQ(1, write(go[1], "x", 1));
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	EXPECT_EQ(0, pages_wrong(&self->r, 8, NR_PAGES - 8));
}

TEST_F(convert, lets_dontneed_drop_pages)
{
	fill_and_convert();
	ASSERT_EQ(0, madvise(self->r.address, 16 * PAGE, MADV_DONTNEED));
	EXPECT_TRUE(page_is_zero(page_at(&self->r, 3)));
	*page_at(&self->r, 5) = 5;
	EXPECT_EQ(5, *page_at(&self->r, 5));
	EXPECT_EQ(0, madvise(page_at(&self->r, 16), 16 * PAGE, MADV_FREE));
	EXPECT_EQ(0, pages_wrong(&self->r, NR_PAGES - 3, 3));
}

TEST_F(convert, lets_mremap_move_and_grow)
{
	char *moved;

	fill_and_convert();
	moved = mremap(self->r.address, self->r.length, 2 * self->r.length, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, moved);
	self->r.address = moved;
	EXPECT_EQ(0, nr_wrong(&self->r, variant->zero_every));
	EXPECT_TRUE(page_is_zero(page_at(&self->r, NR_PAGES)));
	self->r.length *= 2;
}

TEST_F(convert, lets_parts_be_split_locked_and_unmapped)
{
	fill_and_convert();
	ASSERT_EQ(0, mprotect(page_at(&self->r, 10), 10 * PAGE, PROT_READ));
	ASSERT_EQ(0, mlock(page_at(&self->r, 40), 10 * PAGE));
	ASSERT_EQ(0, munmap(page_at(&self->r, 100), 10 * PAGE));
	EXPECT_EQ(SIGSEGV, probe_read(page_at(&self->r, 105)));
	ASSERT_EQ(0, mprotect(page_at(&self->r, 10), 10 * PAGE, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, pages_wrong(&self->r, 101 + 10, 1));
	EXPECT_TRUE(page_is_right(&self->r, 11, page_at(&self->r, 11)));
}

/* A page that is in use (here by a pipe) stays the same page. */
TEST_F(convert, under_a_pinned_page_works)
{
	struct iovec iov = { page_at(&self->r, 9), PAGE };
	char data[PAGE_MAX] __attribute__((aligned(PAGE_MAX)));
	int fds[2];

	ASSERT_EQ(0, fill_everything(&self->r, variant->zero_every));
	ASSERT_EQ(0, pipe(fds));
	ASSERT_EQ(PAGE, vmsplice(fds[1], &iov, 1, 0));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	ASSERT_EQ(PAGE, read(fds[0], data, PAGE));
	EXPECT_TRUE(page_is_right(&self->r, 9, data));
	close(fds[0]);
	close(fds[1]);
	EXPECT_EQ(0, nr_wrong(&self->r, variant->zero_every));
}

TEST_F(convert, races_with_the_end_of_the_owner)
{
	int pair[2], status, error, i;
	struct region r;
	pid_t pid;

	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, pipe(pair));
		pid = fork_child();
		if (!pid) {
			if (region_map(&r, 0, 512) || write(pair[1], &r, sizeof(r)) != sizeof(r))
				_exit(1);
			for (;;)
				pause();
		}
		ASSERT_EQ(sizeof(r), read(pair[0], &r, sizeof(r)));
		r.context = self->r.context;
		ASSERT_EQ(0, region_attach(&r));
		ASSERT_EQ(0, pages_fill(&r, 0, 512, NULL));
		kill(pid, SIGKILL);
		error = region_convert(&r, 0, NULL);
		EXPECT_TRUE(error == 0 || error == -ESRCH) {
			TH_LOG("%d", error);
		}
		ASSERT_EQ(0, wait_child(pid, &status));
		close(r.helper);
		close(pair[0]);
		close(pair[1]);
	}
}

static void *unmap_pieces(void *arg)
{
	struct region *r = arg;
	size_t i;

	for (i = 1; i < NR_PAGES; i += 2) {
		munmap(page_at(r, i), PAGE);
		mprotect(page_at(r, i - 1), PAGE, PROT_READ);
	}
	return NULL;
}

TEST_F(convert, races_with_munmap_and_mprotect)
{
	pthread_t thread;
	size_t i;

	ASSERT_EQ(0, fill_everything(&self->r, variant->zero_every));
	ASSERT_EQ(0, pthread_create(&thread, NULL, unmap_pieces, &self->r));
	EXPECT_EQ(0, region_convert(&self->r, 0, NULL));
	pthread_join(thread, NULL);
	for (i = 0; i < NR_PAGES; i += 2) {
		if (!is_zero_page(variant->zero_every, i))
			EXPECT_TRUE(page_is_right(&self->r, i, page_at(&self->r, i)));
	}
}

struct race {
	struct region *r;
	char *elsewhere;	/* a reserved page */
	bool stop;
};

/* Forks and tries to move and to resize the mapping until it is told to stop. */
static void *race_run(void *arg)
{
	struct race *race = arg;
	struct region *r = race->r;
	int status;
	pid_t pid;

	while (!__atomic_load_n(&race->stop, __ATOMIC_SEQ_CST)) {
		pid = fork();
		if (!pid)
			_exit(page_is_right(r, 3, page_at(r, 3)) ? 0 : 1);
		if (pid > 0 && (waitpid(pid, &status, 0) != pid || status))
			return (void *)1;
		/* The mapping moves only once it is ordinary memory; then it moves back. */
		if (mremap(page_at(r, 8), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			   race->elsewhere) != MAP_FAILED &&
		    mremap(race->elsewhere, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			   page_at(r, 8)) == MAP_FAILED)
			return (void *)2;
		mprotect(page_at(r, 20), PAGE, PROT_READ);
		mprotect(page_at(r, 20), PAGE, PROT_READ | PROT_WRITE);
	}
	return NULL;
}

/* Whichever thread wins, the content is right and the region converts in the end. */
TEST(races_with_fork_mremap_and_the_death_of_the_helper)
{
	unsigned int round;

	for (round = 0; round < 30; round++) {
		struct region r;
		struct race race = { .r = &r };
		pthread_t thread;
		void *result;
		pid_t pid;
		int error;

		race.elsewhere = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, race.elsewhere);
		ASSERT_EQ(0, region_map(&r, HUGE, 64));
		ASSERT_EQ(0, region_attach(&r));
		ASSERT_EQ(0, pages_fill(&r, 0, 64, NULL));
		region_detach(&r);
		ASSERT_EQ(0, pthread_create(&thread, NULL, race_run, &race));
		pid = fork_child();
		if (!pid) {
			if (!region_attach(&r))
				region_convert(&r, 0, NULL);
			_exit(0);
		}
		ASSERT_LT(0, pid);
		pause_ms(round % 6);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, NULL, 0));
		error = region_convert(&r, 0, NULL);
		/* ENOENT: the region was converted and has left the table. */
		EXPECT_TRUE(!error || error == -EALREADY || error == -ENOENT)
			TH_LOG("%d", error);
		__atomic_store_n(&race.stop, true, __ATOMIC_SEQ_CST);
		pthread_join(thread, &result);
		EXPECT_EQ(NULL, result);
		EXPECT_EQ(0, pages_wrong(&r, 0, 64));
		region_close(&r);
	}
}

TEST(many_regions_of_one_process_convert_one_by_one)
{
	struct region r[16];
	int i;

	for (i = 0; i < 16; i++) {
		ASSERT_EQ(0, region_map(&r[i], i * HUGE, 16));
		ASSERT_EQ(0, region_attach(&r[i]));
		ASSERT_EQ(0, pages_fill(&r[i], 0, 16, NULL));
	}
	for (i = 0; i < 16; i += 2) {
		ASSERT_EQ(0, region_convert(&r[i], 0, NULL));
	}
	for (i = 0; i < 16; i++) {
		EXPECT_EQ(0, pages_wrong(&r[i], 0, 16));
	}
	for (i = 1; i < 16; i += 2) {
		ASSERT_EQ(0, region_convert(&r[i], 0, NULL));
	}
	for (i = 0; i < 16; i++) {
		EXPECT_EQ(0, pages_wrong(&r[i], 0, 16));
		region_close(&r[i]);
	}
}

/* The module */

static int module_remove(void)
{
	return syscall(SYS_delete_module, "postcopy", O_NONBLOCK) ? -errno : 0;
}

static int module_load(void)
{
	const char *path = getenv("POSTCOPY_MODULE");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	int error;

	if (fd < 0)
		return -errno;
	error = syscall(SYS_finit_module, fd, "", 0) ? -errno : 0;
	close(fd);
	return error;
}

TEST_F(convert, lets_the_module_go_while_the_owner_lives)
{
	if (!getenv("POSTCOPY_MODULE"))
		SKIP(return, "POSTCOPY_MODULE is not set");
	fill_and_convert();
	close(self->r.helper);
	EXPECT_EQ(-EWOULDBLOCK, module_remove());
	close(self->r.context);
	self->r.helper = -1;
	self->r.context = -1;
	ASSERT_TRUE(wait_until(module_remove() == 0));
	EXPECT_EQ(0, nr_wrong(&self->r, variant->zero_every));
	memset(self->r.address, 1, self->r.length / 2);
	madvise(self->r.address, PAGE, MADV_DONTNEED);
	EXPECT_TRUE(page_is_zero(self->r.address));
	EXPECT_EQ(0, module_load());
}

TEST_F(convert, with_retire_lets_the_module_go_while_the_owner_keeps_its_context)
{
	struct postcopy_context_info info = { .size = sizeof(info) };

	if (!getenv("POSTCOPY_MODULE"))
		SKIP(return, "POSTCOPY_MODULE is not set");
	ASSERT_EQ(0, fill_everything(&self->r, variant->zero_every));
	ASSERT_EQ(0, region_convert(&self->r, POSTCOPY_CONVERT_RETIRE_CONTEXT, NULL));
	close(self->r.helper);
	self->r.helper = -1;
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, self->r.context, 0));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, ioctl(self->r.context, POSTCOPY_CONTEXT_INFO, &info));
	EXPECT_EQ(ENOTTY, errno);
	ASSERT_TRUE(wait_until(module_remove() == 0));
	EXPECT_EQ(0, nr_wrong(&self->r, variant->zero_every));
	/* The dead fd, with the module's code gone */
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, self->r.context, 0));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, ioctl(self->r.context, POSTCOPY_CONTEXT_INFO, &info));
	EXPECT_EQ(ENOTTY, errno);
	lseek(self->r.context, 0, SEEK_END);
	EXPECT_EQ(-1, write(self->r.context, "x", 1));
	EXPECT_EQ(0, close(self->r.context));
	self->r.context = -1;
	EXPECT_EQ(0, module_load());
}

/* An open file for reading is counted in another place than one for writing. */
TEST(with_retire_lets_go_of_a_context_opened_read_only)
{
	struct region r;
	int context = open(POSTCOPY_DEVICE, O_RDONLY | O_CLOEXEC);

	ASSERT_LE(0, context);
	ASSERT_EQ(0, region_map_in(&r, context, 0, 4, PROT_READ));
	ASSERT_EQ(0, region_attach(&r));
	ASSERT_EQ(0, pages_fill(&r, 0, 4, NULL));
	ASSERT_EQ(0, region_convert(&r, POSTCOPY_CONVERT_RETIRE_CONTEXT, NULL));
	EXPECT_EQ(0, pages_wrong(&r, 0, 4));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, context, 0));
	EXPECT_EQ(EACCES, errno);
	region_close(&r);
}

TEST_F(convert, with_retire_leaves_a_context_that_has_another_region)
{
	struct postcopy_context_info info = { .size = sizeof(info) };
	struct region second;

	ASSERT_EQ(0, region_map_in(&second, self->r.context, 0, 4, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, fill_everything(&self->r, variant->zero_every));
	ASSERT_EQ(0, region_convert(&self->r, POSTCOPY_CONVERT_RETIRE_CONTEXT, NULL));
	EXPECT_EQ(0, ioctl(self->r.context, POSTCOPY_CONTEXT_INFO, &info));
	ASSERT_EQ(0, region_attach(&second));
	ASSERT_EQ(0, pages_fill(&second, 0, 4, NULL));
	EXPECT_EQ(0, pages_wrong(&second, 0, 4));
	ASSERT_EQ(0, region_convert(&second, POSTCOPY_CONVERT_RETIRE_CONTEXT, NULL));
	EXPECT_EQ(-1, ioctl(self->r.context, POSTCOPY_CONTEXT_INFO, &info));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_EQ(0, pages_wrong(&second, 0, 4));
	close(second.helper);
}

struct closer {
	int fd;
	bool go;
};

static void *close_when_told(void *arg)
{
	struct closer *c = arg;

	while (!__atomic_load_n(&c->go, __ATOMIC_ACQUIRE))
		;
	close(c->fd);
	return NULL;
}

/* Whichever of the two comes second, the module's reference is dropped once. */
TEST(with_retire_races_with_the_close_of_the_context)
{
	const char *refcnt = "/sys/module/postcopy/refcnt";
	uint64_t end = now_ms() + 3000;
	int keep = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	unsigned int i, delay;
	struct region r;
	long users;

	ASSERT_LE(0, keep);
	users = file_number(refcnt);
	ASSERT_LT(0, users);
	for (i = 0; now_ms() < end; i++) {
		struct closer closer = { .go = false };
		pthread_t thread;

		ASSERT_EQ(0, region_make(&r, i % 2 ? MAP_PRIVATE : MAP_SHARED, 0, 1));
		ASSERT_EQ(0, pages_zero(&r, 0, 1, NULL));
		closer.fd = r.context;
		ASSERT_EQ(0, pthread_create(&thread, NULL, close_when_told, &closer));
		__atomic_store_n(&closer.go, true, __ATOMIC_RELEASE);
		for (delay = 0; delay < i % 64 * 16; delay++)
			asm volatile("" ::: "memory");
		ASSERT_EQ(0, region_convert(&r, POSTCOPY_CONVERT_RETIRE_CONTEXT, NULL));
		pthread_join(thread, NULL);
		r.context = -1;
		EXPECT_TRUE(page_is_zero(r.address));
		region_close(&r);
	}
	EXPECT_TRUE(wait_until(file_number(refcnt) == users));
	EXPECT_LT(0, i);
	close(keep);
}

TEST_F(convert, with_retire_leaves_a_context_that_has_been_polled)
{
	struct postcopy_context_info info = { .size = sizeof(info) };
	struct pollfd p = { .fd = self->r.context, .events = POLLIN };

	poll(&p, 1, 0);
	ASSERT_EQ(0, fill_everything(&self->r, variant->zero_every));
	ASSERT_EQ(0, region_convert(&self->r, POSTCOPY_CONVERT_RETIRE_CONTEXT, NULL));
	EXPECT_EQ(0, ioctl(self->r.context, POSTCOPY_CONTEXT_INFO, &info));
}

TEST_F(convert, without_retire_leaves_the_context_usable)
{
	struct region second;

	fill_and_convert();
	ASSERT_EQ(0, region_map_in(&second, self->r.context, 0, 4, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, region_attach(&second));
	ASSERT_EQ(0, pages_fill(&second, 0, 4, NULL));
	EXPECT_EQ(0, pages_wrong(&second, 0, 4));
	close(second.helper);
}

/* Everything that still runs the module's code keeps the module loaded. */
TEST(module_stays_while_anything_uses_it)
{
	struct region r;
	int i;

	if (!getenv("POSTCOPY_MODULE"))
		SKIP(return, "POSTCOPY_MODULE is not set");
	ASSERT_EQ(0, region_map(&r, 0, 4));
	EXPECT_EQ(-EWOULDBLOCK, module_remove());
	ASSERT_EQ(0, region_attach(&r));
	close(r.context);
	r.context = -1;
	EXPECT_EQ(-EWOULDBLOCK, module_remove());
	/* A helper's fd of a region that is gone */
	ASSERT_EQ(0, munmap(r.address, r.length));
	EXPECT_EQ(-EWOULDBLOCK, module_remove());
	close(r.helper);
	ASSERT_TRUE(wait_until(module_remove() == 0));
	ASSERT_EQ(0, module_load());
	/* A mapping alone, without any fd */
	ASSERT_EQ(0, region_map(&r, 0, 4));
	close(r.context);
	EXPECT_EQ(-EWOULDBLOCK, module_remove());
	ASSERT_EQ(0, munmap(r.address, r.length));
	ASSERT_TRUE(wait_until(module_remove() == 0));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, module_load());
		ASSERT_EQ(0, region_map(&r, 0, 4));
		r.helper = -1;
		region_close(&r);
		ASSERT_TRUE(wait_until(module_remove() == 0));
	}
	ASSERT_EQ(0, module_load());
}

TEST_HARNESS_MAIN

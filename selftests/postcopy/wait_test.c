// SPDX-License-Identifier: GPL-2.0
/*
 * What may happen to threads that wait for a page: signals, death, fork, exec, and changes
 * to the mapping in which they wait.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "kselftest_harness.h"
#include "fixtures.h"

#ifndef MADV_COLD
#define MADV_COLD	20
#define MADV_PAGEOUT	21
#endif

#define NR_PAGES	64UL

FIXTURE_ALONE_AND_AMONG_OTHERS(wait, NR_PAGES)

/* Signals */

static volatile sig_atomic_t nr_signals;

static void count_signal(int sig)
{
	nr_signals++;
}

TEST_F(wait, a_signal_handler_runs_while_the_access_waits)
{
	struct sigaction action = { .sa_handler = count_signal, .sa_flags = SA_RESTART };
	struct access a;
	int i;

	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 5), 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	for (i = 1; i <= 20; i++) {
		ASSERT_EQ(0, pthread_kill(a.thread, SIGUSR1));
		ASSERT_TRUE(wait_until(nr_signals == i));
		ASSERT_TRUE(access_wait_blocked(&a));
	}
	ASSERT_TRUE(wait_requests(&self->r, 1));
	ASSERT_EQ(0, pages_fill(&self->r, 5, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(page_word(&self->r, 5, 0), a.value);
}

TEST_F(wait, a_signal_does_not_break_a_system_call_that_waits)
{
	struct sigaction action = { .sa_handler = count_signal, .sa_flags = SA_RESTART };
	struct access a;

	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	ASSERT_EQ(0, access_start(&a, ACCESS_WRITE_CALL, page_at(&self->r, 5), 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, pthread_kill(a.thread, SIGUSR1));
	ASSERT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, pages_fill(&self->r, 5, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(0, a.error);
	EXPECT_EQ(page_word(&self->r, 5, 0), a.value);
	EXPECT_EQ(1, nr_signals);
}

/* A process of its own that maps a region and then waits in an access of @kind. */
static pid_t blocked_process(struct region *r, enum access_kind kind, int nr_threads)
{
	int pair[2], i;
	pid_t pid;

	if (pipe(pair))
		return -1;
	pid = fork_child();
	if (pid) {
		close(pair[1]);
		if (read(pair[0], r, sizeof(*r)) != sizeof(*r))
			return -1;
		close(pair[0]);
		/* Of this process: any context will do with the id. */
		r->context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
		return pid;
	}
	if (region_map(r, 0, NR_PAGES))
		_exit(1);
	if (write(pair[1], r, sizeof(*r)) != sizeof(*r))
		_exit(2);
	for (i = 0; i < nr_threads; i++) {
		struct access *a = malloc(sizeof(*a));

		if (access_start(a, kind, page_at(r, i), 0))
			_exit(3);
	}
	for (;;)
		pause();
}

static void dies_at_once(struct __test_metadata *_metadata, enum access_kind kind, int sig)
{
	struct postcopy_region_info info;
	uint64_t start;
	struct region r;
	int status;
	pid_t pid = blocked_process(&r, kind, 8);

	ASSERT_LT(0, pid);
	ASSERT_TRUE(wait_requests(&r, 8));
	start = now_ms();
	ASSERT_EQ(0, kill(pid, sig));
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_GT(AT_ONCE_MS, now_ms() - start);
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(sig, WTERMSIG(status));
	EXPECT_TRUE(wait_until(region_info(&r, &info) == -ENOENT));
	close(r.context);
}

TEST(sigkill_ends_those_who_wait_at_once)
{
	dies_at_once(_metadata, ACCESS_READ, SIGKILL);
}

TEST(sigterm_ends_those_who_wait_at_once)
{
	dies_at_once(_metadata, ACCESS_WRITE, SIGTERM);
}

TEST(sigkill_ends_those_who_wait_in_a_system_call_at_once)
{
	dies_at_once(_metadata, ACCESS_READ_CALL, SIGKILL);
}

TEST(sigkill_ends_those_who_wait_in_get_user_pages_at_once)
{
	dies_at_once(_metadata, ACCESS_VMSPLICE, SIGKILL);
	dies_at_once(_metadata, ACCESS_MLOCK, SIGKILL);
	dies_at_once(_metadata, ACCESS_POPULATE_WRITE, SIGKILL);
}

TEST(exit_of_one_thread_ends_the_others_who_wait)
{
	int status;
	pid_t pid = fork_child();

	if (!pid) {
		struct access a;
		struct region r;

		if (region_map(&r, 0, 4) || access_start(&a, ACCESS_READ, r.address, 0))
			_exit(1);
		if (!access_wait_blocked(&a))
			_exit(2);
		_exit(42);
	}
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 42);
}

TEST(a_stopped_and_continued_process_goes_on_waiting)
{
	struct region r;
	int status;
	pid_t pid = blocked_process(&r, ACCESS_READ, 2);

	ASSERT_LT(0, pid);
	ASSERT_TRUE(wait_requests(&r, 2));
	ASSERT_EQ(0, kill(pid, SIGSTOP));
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	EXPECT_TRUE(WIFSTOPPED(status));
	ASSERT_EQ(0, kill(pid, SIGCONT));
	ASSERT_TRUE(wait_requests(&r, 2));
	kill(pid, SIGKILL);
	ASSERT_EQ(0, wait_child(pid, &status));
	close(r.context);
}

/* fork */

TEST_F(wait, a_forked_child_shares_what_is_present_and_gets_sigbus_for_the_rest)
{
	struct postcopy_region_info info;
	int status;
	pid_t pid;

	ASSERT_EQ(0, pages_fill(&self->r, 0, 4, NULL));
	pid = fork_child();
	if (!pid) {
		if (pages_wrong(&self->r, 0, 4))
			_exit(1);
		*(uint64_t *)page_at(&self->r, 1) = 0;
		if (probe_read(page_at(&self->r, 5)) != SIGBUS)
			_exit(2);
		if (probe_write(page_at(&self->r, 6)) != SIGBUS)
			_exit(3);
		_exit(0);
	}
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(0, info.out_total_requests);
	EXPECT_EQ(POSTCOPY_REGION_ATTACHED, info.out_state);
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 4));
	ASSERT_EQ(0, pages_fill(&self->r, 4, NR_PAGES - 4, NULL));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
}

/* Its page table is older than the delivery, and the map says present. */
TEST_F(wait, a_child_never_reads_zeros_for_what_came_after_the_fork)
{
	int go[2], status;
	char byte;
	pid_t pid;

	ASSERT_EQ(0, pipe(go));
	pid = fork_child();
	if (!pid) {
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		_exit(probe_read(page_at(&self->r, 5)) == SIGBUS ? 0 : 2);
	}
	ASSERT_EQ(0, pages_fill(&self->r, 5, 1, NULL));
	ASSERT_EQ(1, write(go[1], "x", 1));
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

TEST_F(wait, a_fork_while_others_wait_disturbs_nobody)
{
	struct access a;
	int status, i;
	pid_t pid;

	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 5), 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	for (i = 0; i < 10; i++) {
		pid = fork_child();
		if (!pid)
			_exit(probe_read(page_at(&self->r, 5)) == SIGBUS ? 0 : 1);
		ASSERT_EQ(0, wait_child(pid, &status));
		EXPECT_EQ(0, status);
	}
	EXPECT_FALSE(access_is_done(&a));
	ASSERT_EQ(0, pages_fill(&self->r, 5, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(page_word(&self->r, 5, 0), a.value);
}

static int read_in_shared_memory(void *arg)
{
	struct region *r = arg;

	return *(volatile uint64_t *)page_at(r, 5) == page_word(r, 5, 0) ? 0 : 1;
}

TEST_F(wait, a_process_that_shares_the_memory_waits_too)
{
	char *stack = malloc(65536);
	int status;
	pid_t pid;

	pid = clone(read_in_shared_memory, stack + 65536, CLONE_VM | SIGCHLD, &self->r);
	ASSERT_LT(0, pid);
	ASSERT_TRUE(wait_requests(&self->r, 1));
	ASSERT_EQ(0, pages_fill(&self->r, 5, 1, NULL));
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
}

TEST(exec_ends_the_region)
{
	struct postcopy_region_info info;
	int pair[2], status;
	struct region r;
	pid_t pid;

	ASSERT_EQ(0, pipe2(pair, O_CLOEXEC));
	pid = fork_child();
	if (!pid) {
		if (region_map(&r, 0, 4) || write(pair[1], &r, sizeof(r)) != sizeof(r))
			_exit(1);
		execl("/bin/sleep", "sleep", "60", NULL);
		_exit(2);
	}
	ASSERT_EQ(sizeof(r), read(pair[0], &r, sizeof(r)));
	r.context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	EXPECT_TRUE(wait_until(region_info(&r, &info) == -ENOENT));
	kill(pid, SIGKILL);
	ASSERT_EQ(0, wait_child(pid, &status));
	close(r.context);
}

/* Changes to the mapping while somebody waits */

TEST_F(wait, munmap_under_a_waiting_access_ends_it_with_sigsegv)
{
	struct postcopy_region_info info;
	struct access a;
	uint64_t start = now_ms();

	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 5), 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	start = now_ms();
	ASSERT_EQ(0, munmap(page_at(&self->r, 4), 4 * PAGE));
	EXPECT_GT(AT_ONCE_MS, now_ms() - start);
	/* The helper does not know and answers. */
	ASSERT_EQ(0, pages_fill(&self->r, 5, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(SIGSEGV, a.signal);
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(0, info.out_nr_requests);
}

TEST_F(wait, munmap_of_everything_ends_all_who_wait)
{
	struct access a[4];
	int i;

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, access_start(&a[i], ACCESS_READ, page_at(&self->r, i), 0));
		ASSERT_TRUE(access_wait_blocked(&a[i]));
	}
	ASSERT_EQ(0, munmap(self->r.address, self->r.length));
	for (i = 0; i < 4; i++) {
		ASSERT_TRUE(access_wait_done(&a[i]));
		EXPECT_EQ(SIGSEGV, a[i].signal);
	}
}

TEST_F(wait, another_mapping_over_a_waiting_access_serves_it)
{
	struct access a;
	char *over;

	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 5), 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	over = mmap(page_at(&self->r, 5), PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ASSERT_EQ(page_at(&self->r, 5), over);
	*(uint64_t *)over = 99;
	/* The delivery must not reach memory that the region no longer has. */
	ASSERT_EQ(0, pages_fill(&self->r, 5, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(99, a.value);
	EXPECT_EQ(99, *(uint64_t *)over);
}

TEST_F(wait, prot_none_and_back_under_a_waiting_access)
{
	struct access a, b;

	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 5), 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, mprotect(self->r.address, self->r.length, PROT_NONE));
	/* Delivered all the same: the protection is the owner's affair. */
	ASSERT_EQ(0, pages_fill(&self->r, 5, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(SIGSEGV, a.signal);
	ASSERT_EQ(0, mprotect(self->r.address, self->r.length, PROT_READ | PROT_WRITE));
	EXPECT_TRUE(page_is_right(&self->r, 5, page_at(&self->r, 5)));
	ASSERT_EQ(0, access_start(&b, ACCESS_READ, page_at(&self->r, 6), 0));
	ASSERT_TRUE(access_wait_blocked(&b));
	ASSERT_EQ(0, pages_fill(&self->r, 6, 1, NULL));
	ASSERT_TRUE(access_wait_done(&b));
	EXPECT_EQ(page_word(&self->r, 6, 0), b.value);
}

TEST_F(wait, a_write_waiting_when_the_page_becomes_read_only_gets_sigsegv)
{
	struct access a;

	ASSERT_EQ(0, access_start(&a, ACCESS_WRITE, page_at(&self->r, 5), 1));
	ASSERT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, mprotect(page_at(&self->r, 5), PAGE, PROT_READ));
	ASSERT_EQ(0, pages_fill(&self->r, 5, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(SIGSEGV, a.signal);
	EXPECT_TRUE(page_is_right(&self->r, 5, page_at(&self->r, 5)));
}

TEST_F(wait, madvise_makes_no_missing_page_readable)
{
	static const struct {
		int advice;
		const char *name;
	} advices[] = {
		{ MADV_NORMAL, "NORMAL" }, { MADV_RANDOM, "RANDOM" },
		{ MADV_SEQUENTIAL, "SEQUENTIAL" }, { MADV_WILLNEED, "WILLNEED" },
		{ MADV_DONTNEED, "DONTNEED" }, { MADV_FREE, "FREE" },
		{ MADV_REMOVE, "REMOVE" }, { MADV_MERGEABLE, "MERGEABLE" },
		{ MADV_UNMERGEABLE, "UNMERGEABLE" }, { MADV_HUGEPAGE, "HUGEPAGE" },
		{ MADV_COLLAPSE, "COLLAPSE" }, { MADV_COLD, "COLD" },
		{ MADV_PAGEOUT, "PAGEOUT" }, { MADV_DONTDUMP, "DONTDUMP" },
		{ MADV_DONTFORK, "DONTFORK" }, { MADV_NOHUGEPAGE, "NOHUGEPAGE" },
	};
	struct postcopy_region_info info;
	struct access pending, a;
	unsigned int i;

	ASSERT_EQ(0, access_start(&pending, ACCESS_READ, page_at(&self->r, 63), 0));
	ASSERT_TRUE(access_wait_blocked(&pending));
	for (i = 0; i < sizeof(advices) / sizeof(advices[0]); i++) {
		madvise(self->r.address, self->r.length, advices[i].advice);
		EXPECT_FALSE(access_is_done(&pending)) {
			TH_LOG("%s", advices[i].name);
		}
		ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, i), 0));
		EXPECT_TRUE(access_wait_blocked(&a)) {
			TH_LOG("%s", advices[i].name);
		}
		ASSERT_EQ(0, pages_fill(&self->r, i, 1, NULL));
		ASSERT_TRUE(access_wait_done(&a));
		EXPECT_EQ(page_word(&self->r, i, 0), a.value);
	}
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(i, info.out_nr_present);
	ASSERT_EQ(0, pages_fill(&self->r, 63, 1, NULL));
	ASSERT_TRUE(access_wait_done(&pending));
	EXPECT_EQ(page_word(&self->r, 63, 0), pending.value);
}

/* khugepaged and MADV_COLLAPSE fill the holes of a huge page with zeros. */
TEST(a_huge_page_is_not_made_of_a_range_with_holes)
{
	size_t nr = HUGE_PAGES, i;
	struct access a;
	struct region r;

	ASSERT_EQ(0, region_map(&r, 0, nr));
	ASSERT_EQ(0, region_attach(&r));
	madvise(r.address, r.length, MADV_HUGEPAGE);
	for (i = 0; i < nr; i++) {
		if (i != 100)
			ASSERT_EQ(0, pages_fill(&r, i, 1, NULL));
	}
	EXPECT_NE(0, madvise(r.address, r.length, MADV_COLLAPSE));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&r, 100), 0));
	EXPECT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, pages_fill(&r, 100, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(0, pages_wrong(&r, 0, nr));
	region_close(&r);
}

struct populate {
	int context;
	char *address;
};

static void *map_populated(void *arg)
{
	struct populate *p = arg;

	p->address = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_POPULATE, p->context, 0);
	return NULL;
}

TEST(map_populate_waits_for_the_helper)
{
	uint64_t id = 0;
	struct postcopy_region_list list = {
		.size = sizeof(list), .ids = (uintptr_t)&id, .nr_ids = 1,
	};
	struct populate p = { .context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC) };
	struct postcopy_region_info info;
	struct region r = { .context = p.context, .helper = -1, .length = 16 * PAGE };
	pthread_t thread;
	char there;

	ASSERT_EQ(0, pthread_create(&thread, NULL, map_populated, &p));
	ASSERT_TRUE(wait_until(!ioctl(p.context, POSTCOPY_REGION_LIST, &list) && list.out_nr_ids));
	r.id = id;
	ASSERT_TRUE(wait_requests(&r, 1));
	ASSERT_EQ(0, region_info(&r, &info));
	ASSERT_EQ(0, region_attach(&r));
	ASSERT_EQ(0, pages_fill(&r, 0, 16, NULL));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	r.address = p.address;
	ASSERT_EQ(0, mincore(r.address, PAGE, (unsigned char *)&there));
	EXPECT_EQ(0, pages_wrong(&r, 0, 16));
	region_close(&r);
}

/* Hazard: a core dump reads all memory, and nobody answers any more. */
TEST(a_core_dump_of_a_half_filled_process_without_a_helper_ends)
{
	char pattern[256] = "";
	int status;
	pid_t pid;
	FILE *file = fopen("/proc/sys/kernel/core_pattern", "r");

	ASSERT_NE(NULL, file);
	if (!fgets(pattern, sizeof(pattern), file))
		pattern[0] = '\0';
	fclose(file);
	ASSERT_EQ(0, file_write("/proc/sys/kernel/core_pattern", "/dev/shm/core.postcopy"));
	pid = fork_child();
	if (!pid) {
		struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };
		struct access a;
		struct region r;

		setrlimit(RLIMIT_CORE, &all);
		if (region_map(&r, 0, NR_PAGES) || region_attach(&r))
			_exit(1);
		if (pages_fill(&r, 0, NR_PAGES / 2, NULL))
			_exit(2);
		region_detach(&r);
		if (access_start(&a, ACCESS_READ, page_at(&r, 40), 0) || !access_wait_blocked(&a))
			_exit(3);
		signal(SIGABRT, SIG_DFL);
		abort();
	}
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_TRUE(WIFSIGNALED(status) && WCOREDUMP(status));
	EXPECT_EQ(0, access("/dev/shm/core.postcopy", R_OK));
	unlink("/dev/shm/core.postcopy");
	pattern[strcspn(pattern, "\n")] = '\0';
	file_write("/proc/sys/kernel/core_pattern", pattern);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * How long an access waits, and what happens to it when its page is given up.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "postcopy_test.h"

#define NR_PAGES	16UL
#define PARAMETERS	"/sys/module/postcopy/parameters/"
#define LIMIT_MS	300

FIXTURE(policy)
{
	struct region r;
};

FIXTURE_SETUP(policy)
{
	ASSERT_EQ(0, region_map(&self->r, 0, NR_PAGES));
}

FIXTURE_TEARDOWN(policy)
{
	file_write(PARAMETERS "kernel_faults", "node");
	file_write(PARAMETERS "max_region_mib", "0");
	file_write(PARAMETERS "max_regions_per_user", "4096");
	region_close(&self->r);
}

TEST_F(policy, without_a_helper_an_access_gets_sigbus_in_time)
{
	uint64_t start = now_ms();
	struct access a;

	/* The time counts from when there is none, not from when the limit was set. */
	ASSERT_EQ(0, region_attach(&self->r));
	region_detach(&self->r);
	ASSERT_EQ(0, region_policy(&self->r, LIMIT_MS, 0));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 0), 0));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(SIGBUS, a.signal);
	EXPECT_GE(now_ms() - start + 1, LIMIT_MS);
}

/* Nobody was there. */
TEST_F(policy, an_attach_that_fails_does_not_begin_the_time_anew)
{
	struct postcopy_helper_attach *attach;
	uint64_t start = now_ms();
	struct access a;

	attach = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, attach);
	*attach = (struct postcopy_helper_attach){
		.size = sizeof(*attach),
		.region_id = self->r.id,
	};
	ASSERT_EQ(0, mprotect(attach, PAGE, PROT_READ));
	ASSERT_EQ(0, region_policy(&self->r, 10 * LIMIT_MS, 0));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 0), 0));
	while (!access_is_done(&a) && now_ms() - start < 20 * LIMIT_MS) {
		EXPECT_EQ(-1, ioctl(self->r.context, POSTCOPY_HELPER_ATTACH, attach));
		EXPECT_EQ(EFAULT, errno);
		pause_ms(10);
	}
	EXPECT_TRUE(access_wait_done(&a));
	EXPECT_EQ(SIGBUS, a.signal);
	EXPECT_GT(20 * LIMIT_MS, now_ms() - start);
	munmap(attach, PAGE);
}

TEST_F(policy, holds_for_an_access_that_waits_already)
{
	struct access a;

	ASSERT_EQ(0, access_start(&a, ACCESS_WRITE, page_at(&self->r, 0), 1));
	ASSERT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, region_policy(&self->r, LIMIT_MS, 0));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(SIGBUS, a.signal);
}

TEST_F(policy, a_helper_that_comes_back_makes_accesses_wait_again)
{
	struct access a;

	ASSERT_EQ(0, region_policy(&self->r, 1, 0));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 0), 0));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(SIGBUS, a.signal);
	ASSERT_EQ(0, region_attach(&self->r));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 1), 0));
	EXPECT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, pages_fill(&self->r, 0, 2, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(0, a.signal);
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 2));
}

TEST_F(policy, a_request_that_is_not_answered_gets_sigbus_until_it_is)
{
	struct access a;

	ASSERT_EQ(0, region_attach(&self->r));
	ASSERT_EQ(0, region_policy(&self->r, 0, LIMIT_MS));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 3), 0));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(SIGBUS, a.signal);
	EXPECT_EQ(SIGBUS, probe_read(page_at(&self->r, 3)));
	ASSERT_EQ(0, pages_fill(&self->r, 3, 1, NULL));
	EXPECT_EQ(0, pages_wrong(&self->r, 3, 1));
}

/* From user mode and from a system call, whichever of them made the request. */
TEST_F(policy, all_who_wait_for_a_page_get_sigbus_in_time)
{
	struct access a[4];
	size_t i;

	ASSERT_EQ(0, region_attach(&self->r));
	ASSERT_EQ(0, region_policy(&self->r, 0, LIMIT_MS));
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, access_start(&a[i], i % 2 ? ACCESS_WRITE_CALL : ACCESS_READ,
					  page_at(&self->r, 3), 0));
	for (i = 0; i < 4; i++) {
		ASSERT_TRUE(access_wait_done(&a[i]));
		EXPECT_EQ(i % 2 ? -EFAULT : 0, a[i].error);
		EXPECT_EQ(i % 2 ? 0 : SIGBUS, a[i].signal);
	}
}

TEST_F(policy, of_a_dead_region_is_refused)
{
	struct postcopy_region_policy policy = { .size = sizeof(policy) };

	ASSERT_EQ(0, region_attach(&self->r));
	ASSERT_EQ(0, munmap(self->r.address, self->r.length));
	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_REGION_POLICY, &policy));
	EXPECT_EQ(ESRCH, errno);
}

TEST_F(policy, refuses_what_it_does_not_know)
{
	struct postcopy_region_policy policy = {
		.size = sizeof(policy),
		.region_id = self->r.id,
		.detached_ms = 1ULL << 32,
	};

	EXPECT_EQ(-1, ioctl(self->r.context, POSTCOPY_REGION_POLICY, &policy));
	EXPECT_EQ(EINVAL, errno);
	policy.detached_ms = 0;
	policy.flags = 1;
	EXPECT_EQ(-1, ioctl(self->r.context, POSTCOPY_REGION_POLICY, &policy));
	EXPECT_EQ(EINVAL, errno);
}

static sigjmp_buf caught;
static siginfo_t caught_info;

static void catch(int signal, siginfo_t *info, void *context)
{
	caught_info = *info;
	siglongjmp(caught, 1);
}

TEST_F(policy, a_poisoned_page_raises_sigbus_with_its_address)
{
	struct sigaction action = { .sa_sigaction = catch, .sa_flags = SA_SIGINFO };
	char *address = page_at(&self->r, 5) + 123;
	struct access waiting;
	uint64_t nr;

	ASSERT_EQ(0, region_attach(&self->r));
	ASSERT_EQ(0, access_start(&waiting, ACCESS_READ, page_at(&self->r, 5), 0));
	ASSERT_TRUE(access_wait_blocked(&waiting));
	ASSERT_EQ(0, pages_poison(&self->r, 5, 1, &nr));
	EXPECT_EQ(1, nr);
	ASSERT_TRUE(access_wait_done(&waiting));
	EXPECT_EQ(SIGBUS, waiting.signal);

	sigaction(SIGBUS, &action, NULL);
	if (!sigsetjmp(caught, 1)) {
		*(volatile char *)address;
		ASSERT_TRUE(false);
	}
	EXPECT_EQ(BUS_MCEERR_AR, caught_info.si_code);
	EXPECT_EQ(address, caught_info.si_addr);
	signal(SIGBUS, SIG_DFL);
}

TEST_F(policy, a_poisoned_page_fails_a_system_call_and_is_mended_by_a_fill)
{
	uint64_t nr, missing;
	struct access a;

	ASSERT_EQ(0, region_attach(&self->r));
	ASSERT_EQ(0, pages_fill(&self->r, 0, 5, NULL));
	/* Present pages are left alone. */
	ASSERT_EQ(0, pages_poison(&self->r, 0, NR_PAGES, &nr));
	EXPECT_EQ(NR_PAGES - 5, nr);
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 5));
	ASSERT_EQ(0, access_start(&a, ACCESS_WRITE_CALL, page_at(&self->r, 6), 8));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(-EFAULT, a.error);
	EXPECT_EQ(-EBUSY, region_convert(&self->r, 0, &missing));
	EXPECT_EQ(NR_PAGES - 5, missing);
	ASSERT_EQ(0, pages_fill(&self->r, 0, 10, NULL));
	ASSERT_EQ(0, pages_zero(&self->r, 10, NR_PAGES - 10, NULL));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 10));
	EXPECT_TRUE(page_is_zero(page_at(&self->r, 12)));
	EXPECT_EQ(0, region_convert(&self->r, 0, &missing));
}

TEST_F(policy, kernel_faults_never_fails_a_system_call_at_once)
{
	struct region r;
	struct access a;
	uint64_t start;

	ASSERT_EQ(0, file_write(PARAMETERS "kernel_faults", "never"));
	ASSERT_EQ(0, region_map(&r, 0, NR_PAGES));
	start = now_ms();
	ASSERT_EQ(0, access_start(&a, ACCESS_WRITE_CALL, page_at(&r, 0), 8));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(-EFAULT, a.error);
	EXPECT_LT(now_ms() - start, AT_ONCE_MS);
	/* A user-mode access waits as ever. */
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&r, 0), 0));
	EXPECT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, region_attach(&r));
	ASSERT_EQ(0, pages_fill(&r, 0, 1, NULL));
	EXPECT_TRUE(access_wait_done(&a));
	region_close(&r);
	EXPECT_NE(0, file_write(PARAMETERS "kernel_faults", "sometimes"));
}

static pid_t write_as_nobody(void)
{
	int context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	pid_t pid = fork_child();

	if (!pid) {
		struct region r;
		int pipe_fds[2];

		if (pipe(pipe_fds) || setresuid(65534, 65534, 65534) ||
		    region_map_in(&r, context, 0, NR_PAGES, PROT_READ | PROT_WRITE))
			_exit(1);
		_exit(write(pipe_fds[1], page_at(&r, 0), 8) == -1 && errno == EFAULT ? 0 : 2);
	}
	close(context);
	return pid;
}

TEST_F(policy, kernel_faults_cap_lets_only_those_wait_who_may_trace)
{
	char text[16] = "";
	struct region r;
	struct access a;
	int fd, status;
	pid_t pid;

	ASSERT_EQ(0, file_write(PARAMETERS "kernel_faults", "cap"));
	ASSERT_LE(0, fd = open(PARAMETERS "kernel_faults", O_RDONLY | O_CLOEXEC));
	EXPECT_EQ(4, read(fd, text, sizeof(text)));
	EXPECT_STREQ("cap\n", text);
	close(fd);
	ASSERT_EQ(0, region_map(&r, 0, NR_PAGES));
	ASSERT_EQ(0, access_start(&a, ACCESS_WRITE_CALL, page_at(&r, 0), 8));
	EXPECT_TRUE(access_wait_blocked(&a));
	pid = write_as_nobody();
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
	ASSERT_EQ(0, region_attach(&r));
	ASSERT_EQ(0, pages_fill(&r, 0, 1, NULL));
	EXPECT_TRUE(access_wait_done(&a));
	EXPECT_EQ(0, a.error);
	region_close(&r);
}

TEST_F(policy, limits_are_kept)
{
	struct region r;

	ASSERT_EQ(0, file_write(PARAMETERS "max_region_mib", "1"));
	EXPECT_EQ(-EFBIG, region_map(&r, 0, (1UL << 20) / PAGE + 1));
	EXPECT_EQ(0, region_map(&r, 0, (1UL << 20) / PAGE));
	region_close(&r);
	/* One is there from the fixture. */
	ASSERT_EQ(0, file_write(PARAMETERS "max_regions_per_user", "1"));
	EXPECT_EQ(-EDQUOT, region_map(&r, 0, 1));
	ASSERT_EQ(0, file_write(PARAMETERS "max_regions_per_user", "2"));
	EXPECT_EQ(0, region_map(&r, 0, 1));
	region_close(&r);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * A virtual machine without a monitor, whose RAM is a region (kvm_vm.h). On x86:
 * When a vCPU touches a page, a kernel thread of KVM's waits for it (FAULT_FLAG_RETRY_NOWAIT,
 * then get_user_pages_remote() in a worker). No signal reaches that thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "fixtures.h"
#include "kvm_vm.h"

FIXTURE_PRIVATE_AND_SHARED(kvm, NR_PAGES)

static int fill_code(struct region *r)
{
	char page[PAGE_MAX] = { 0 };
	struct postcopy_pages_fill fill;

	memcpy(page, vm_code, sizeof(vm_code));
	return pages_fill_raw(r->helper, r->offset + CODE_PAGE * PAGE, PAGE, page, &fill);
}

TEST_F(kvm, a_vcpu_gets_what_is_delivered)
{
	struct region *r = &self->r;
	struct vm vm;
	int status;
	pid_t pid;

	if (!have_kvm())
		SKIP(return, "no KVM");
	ASSERT_EQ(0, fill_code(r));
	/* This process owns the private region, so the child works on it for this process. */
	pid = fork_child();
	if (!pid) {
		if (!wait_requests(r, 1))
			_exit(1);
		_exit(pages_fill(r, DATA_PAGE, 1, NULL) ? 2 : 0);
	}
	ASSERT_EQ(0, vm_make(&vm, r->address));
	EXPECT_EQ((uint8_t)page_word(r, DATA_PAGE, 0), vm_run(&vm));
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
}

static sigjmp_buf caught;
static siginfo_t caught_info;

static void catch(int signal, siginfo_t *info, void *context)
{
	caught_info = *info;
	siglongjmp(caught, 1);
}

static void raises_a_memory_error(struct __test_metadata *_metadata, struct region *r,
				  struct vm *vm)
{
	struct sigaction action = { .sa_sigaction = catch, .sa_flags = SA_SIGINFO };

	sigaction(SIGBUS, &action, NULL);
	if (!sigsetjmp(caught, 1)) {
		int ret = vm_run(vm);

		ASSERT_TRUE(false)
			TH_LOG("the guest went on: %d", ret);
	}
	signal(SIGBUS, SIG_DFL);
	EXPECT_EQ(BUS_MCEERR_AR, caught_info.si_code);
	EXPECT_EQ(page_at(r, DATA_PAGE), caught_info.si_addr);
}

/* A monitor turns this into a machine check in the guest; it is never zeros. */
TEST_F(kvm, a_vcpu_that_reads_a_poisoned_page_raises_a_memory_error)
{
	struct region *r = &self->r;
	uint64_t nr_poisoned;
	struct vm vm;

	if (!have_kvm())
		SKIP(return, "no KVM");
	ASSERT_EQ(0, fill_code(r));
	ASSERT_EQ(0, vm_make(&vm, r->address));
	ASSERT_EQ(0, pages_poison(r, DATA_PAGE, 1, &nr_poisoned));
	raises_a_memory_error(_metadata, r, &vm);
}

/* KVM would try again for ever after any other error. */
TEST_F(kvm, a_vcpu_that_has_waited_for_the_limit_raises_a_memory_error)
{
	struct region *r = &self->r;
	struct vm vm;

	if (!have_kvm())
		SKIP(return, "no KVM");
	ASSERT_EQ(0, fill_code(r));
	ASSERT_EQ(0, vm_make(&vm, r->address));
	ASSERT_EQ(0, region_policy(r, 0, 300));
	raises_a_memory_error(_metadata, r, &vm);
	/* It comes after all. */
	ASSERT_EQ(0, pages_fill(r, DATA_PAGE, 1, NULL));
	EXPECT_EQ((uint8_t)page_word(r, DATA_PAGE, 0), vm_run(&vm));
}

/* A kernel thread is in the module. */
static bool worker_waits(void)
{
	return !system("for p in /proc/[0-9]*\n"
		       "do [ -e $p/exe ] || grep -qs postcopy $p/stack && exit 0\n"
		       "done; exit 1");
}

static void interrupted(int signal)
{
}

static bool thread_is_in_d(pid_t pid)
{
	char command[80];

	snprintf(command, sizeof(command), "grep -q '^State:.D' /proc/%d/status", pid);
	return !system(command);
}

/* The waiting worker holds the owner's memory, so it must not wait for ever. */
static void kill_owner(struct __test_metadata *_metadata, struct region *own, int flags,
		       bool in_reset)
{
	struct postcopy_region_info info;
	struct region r;
	int made[2], status;
	uint64_t start;
	bool ended;
	pid_t pid;

	ASSERT_EQ(0, pipe(made));
	pid = fork_child();
	if (!pid) {
		struct sigaction action = { .sa_handler = interrupted };
		struct vm vm;

		sigaction(SIGUSR1, &action, NULL);
		if (region_make(&r, flags, 0, NR_PAGES) || fill_code(&r) || vm_make(&vm, r.address))
			_exit(1);
		region_detach(&r);
		if (write(made[1], &r, sizeof(r)) != sizeof(r))
			_exit(2);
		if (vm_run(&vm) == -EINTR)
			vm_stop_async_faults(&vm);
		_exit(3);
	}
	ASSERT_EQ(sizeof(r), read(made[0], &r, sizeof(r)));
	r.context = own->context;
	r.helper = -1;
	ASSERT_TRUE(wait_requests(&r, 1));
	if (KVM_HAS_WORKER)
		ASSERT_TRUE(wait_until(worker_waits()));
	if (in_reset) {
		kill(pid, SIGUSR1);
		EXPECT_TRUE(wait_until(thread_is_in_d(pid)));
	}
	start = now_ms();
	kill(pid, SIGKILL);
	EXPECT_EQ(0, wait_child(pid, &status));
	EXPECT_GT(AT_ONCE_MS, now_ms() - start)
		TH_LOG("%llu ms", (unsigned long long)(now_ms() - start));
	/* The memory is freed, too, and that does not need the page to arrive. */
	ended = wait_until(region_info(&r, &info) == -ENOENT);
	EXPECT_TRUE(ended);
	if (!ended && !region_attach(&r))
		pages_fill(&r, 0, NR_PAGES, NULL);
}

TEST_F(kvm, an_owner_killed_while_a_vcpu_waits_ends_at_once)
{
	if (!have_kvm())
		SKIP(return, "no KVM");
	kill_owner(_metadata, &self->r, variant->flags, false);
}

TEST_F(kvm, an_owner_killed_while_it_resets_a_vcpu_that_waits_ends_at_once)
{
	if (!have_kvm())
		SKIP(return, "no KVM");
	if (!KVM_HAS_WORKER)
		SKIP(return, "KVM has no worker that waits for a page on this architecture");
	kill_owner(_metadata, &self->r, variant->flags, true);
}

TEST_HARNESS_MAIN

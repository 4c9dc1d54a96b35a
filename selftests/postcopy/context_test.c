// SPDX-License-Identifier: GPL-2.0
/*
 * Contexts: what they tell about the module and its regions, which process they let become
 * a helper, and when they poll readable.
 */
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "kselftest_harness.h"
#include "postcopy_test.h"

#define NOBODY		65534
#define NR_PAGES	128UL
#define OFFSET		(1UL << 30)

FIXTURE(context)
{
	struct region r;
};

FIXTURE_SETUP(context)
{
	ASSERT_EQ(0, region_map(&self->r, OFFSET, NR_PAGES));
	ASSERT_EQ(0, region_attach(&self->r));
}

FIXTURE_TEARDOWN(context)
{
	region_close(&self->r);
}

static void become_nobody(void)
{
	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		_exit(99);
}

/* CONTEXT_INFO */

TEST_F(context, info_of_the_module_tells_features_and_page_size)
{
	struct postcopy_context_info info = { .size = sizeof(info) };

	ASSERT_EQ(0, ioctl(self->r.context, POSTCOPY_CONTEXT_INFO, &info));
	EXPECT_TRUE(info.out_features & POSTCOPY_FEATURE_PRIVATE);
	EXPECT_EQ(sysconf(_SC_PAGESIZE), info.out_page_size);
	EXPECT_EQ(0, info.reserved);
}

/* REGION_LIST */

TEST_F(context, region_list_has_all_regions_in_rising_order)
{
	uint64_t ids[64];
	struct postcopy_region_list list = {
		.size = sizeof(list), .ids = (uintptr_t)ids, .nr_ids = 64,
	};
	struct region more[3];
	unsigned int i, found = 0;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, region_map(&more[i], i * PAGE, 1));
	}
	ASSERT_EQ(0, ioctl(self->r.context, POSTCOPY_REGION_LIST, &list));
	ASSERT_LE(4, list.out_nr_ids);
	for (i = 0; i < list.out_nr_ids; i++) {
		if (i)
			EXPECT_LT(ids[i - 1], ids[i]);
		EXPECT_NE(0, ids[i]);
		found += ids[i] == self->r.id || ids[i] == more[0].id ||
			 ids[i] == more[1].id || ids[i] == more[2].id;
	}
	EXPECT_EQ(4, found);
	for (i = 0; i < 3; i++)
		region_close(&more[i]);
}

TEST_F(context, region_list_counts_without_an_array)
{
	struct postcopy_region_list list = { .size = sizeof(list) };

	ASSERT_EQ(0, ioctl(self->r.context, POSTCOPY_REGION_LIST, &list));
	EXPECT_EQ(1, list.out_nr_ids);
}

TEST_F(context, region_list_writes_no_more_than_the_array_holds)
{
	uint64_t ids[3] = { 0, 0xa5a5, 0xa5a5 };
	struct postcopy_region_list list = {
		.size = sizeof(list), .ids = (uintptr_t)ids, .nr_ids = 1,
	};
	struct region more;

	ASSERT_EQ(0, region_map(&more, 0, 1));
	ASSERT_EQ(0, ioctl(self->r.context, POSTCOPY_REGION_LIST, &list));
	EXPECT_EQ(2, list.out_nr_ids);
	EXPECT_EQ(self->r.id, ids[0]);
	EXPECT_EQ(0xa5a5, ids[1]);
	/* More room than there are regions, up to the largest number */
	list.nr_ids = 0xffffffff;
	ASSERT_EQ(0, ioctl(self->r.context, POSTCOPY_REGION_LIST, &list));
	EXPECT_EQ(2, list.out_nr_ids);
	EXPECT_EQ(more.id, ids[1]);
	EXPECT_EQ(0xa5a5, ids[2]);
	region_close(&more);
}

TEST_F(context, region_list_refuses_a_bad_array)
{
	struct postcopy_region_list list = { .size = sizeof(list), .nr_ids = 1 };
	uint64_t bad[] = { 0, 0xffff888000000000, -8ULL };
	unsigned int i;

	for (i = 0; i < 3; i++) {
		list.ids = bad[i];
		EXPECT_EQ(-1, ioctl(self->r.context, POSTCOPY_REGION_LIST, &list));
		EXPECT_EQ(EFAULT, errno);
	}
}

TEST_F(context, region_list_leaves_out_dead_and_converted_regions)
{
	struct postcopy_region_list list = { .size = sizeof(list) };

	ASSERT_EQ(0, pages_zero(&self->r, 0, NR_PAGES, NULL));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	ASSERT_EQ(0, ioctl(self->r.context, POSTCOPY_REGION_LIST, &list));
	EXPECT_EQ(0, list.out_nr_ids);
}

TEST_F(context, region_list_shows_a_user_only_what_he_may_attach_to)
{
	int context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	int status;
	pid_t pid;

	ASSERT_LE(0, context);
	pid = fork_child();
	if (!pid) {
		struct postcopy_region_list list = { .size = sizeof(list) };

		become_nobody();
		if (ioctl(context, POSTCOPY_REGION_LIST, &list))
			_exit(98);
		_exit(list.out_nr_ids);
	}
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	close(context);
}

/* poll of a context */

static bool polls_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

TEST_F(context, polls_readable_when_regions_have_been_made)
{
	struct postcopy_region_list list = { .size = sizeof(list) };
	int context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	struct region more;

	ASSERT_LE(0, context);
	EXPECT_TRUE(polls_readable(context));
	ASSERT_EQ(0, ioctl(context, POSTCOPY_REGION_LIST, &list));
	EXPECT_FALSE(polls_readable(context));
	ASSERT_EQ(0, region_map(&more, 0, 1));
	EXPECT_TRUE(polls_readable(context));
	ASSERT_EQ(0, ioctl(context, POSTCOPY_REGION_LIST, &list));
	EXPECT_FALSE(polls_readable(context));
	region_close(&more);
	close(context);
}

TEST(without_any_region_does_not_poll_readable)
{
	int context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, context);
	EXPECT_FALSE(polls_readable(context));
	close(context);
}

static void *poll_context(void *arg)
{
	struct pollfd p = { .fd = *(int *)arg, .events = POLLIN };

	return (void *)(long)(poll(&p, 1, PATIENCE_MS) == 1);
}

TEST(wakes_a_poll_when_a_region_is_made)
{
	int context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	struct region r;
	pthread_t thread;
	void *woken;

	ASSERT_LE(0, context);
	ASSERT_EQ(0, pthread_create(&thread, NULL, poll_context, &context));
	ASSERT_EQ(0, region_map(&r, 0, 1));
	pthread_join(thread, &woken);
	EXPECT_TRUE(woken);
	region_close(&r);
	close(context);
}

/* HELPER_ATTACH */

TEST_F(context, attach_refuses_a_region_that_is_not_there)
{
	struct region none = self->r;
	uint64_t ids[] = { 0, self->r.id + 1, 1ULL << 32, 1ULL << 63, ~0ULL };
	unsigned int i;

	for (i = 0; i < 5; i++) {
		none.id = ids[i];
		EXPECT_EQ(-ENOENT, region_attach(&none))
			TH_LOG("%llx", (unsigned long long)ids[i]);
	}
}

TEST_F(context, attach_refuses_a_second_helper)
{
	struct region second = self->r;
	struct postcopy_region_info info;

	EXPECT_EQ(-EBUSY, region_attach(&second));
	region_detach(&self->r);
	EXPECT_EQ(0, region_attach(&self->r));
	EXPECT_EQ(-EBUSY, region_attach(&second));
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(2, info.out_total_attached);
	EXPECT_EQ(getpid(), info.out_helper_pid);
}

TEST_F(context, attach_gives_an_fd_that_exec_closes)
{
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->r.helper, F_GETFD));
}

TEST_F(context, attach_without_a_free_fd_leaves_the_region_unattached)
{
	struct rlimit none = { 0, 0 }, old;
	struct postcopy_region_info info;

	region_detach(&self->r);
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
	none.rlim_max = old.rlim_max;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	EXPECT_EQ(-EMFILE, region_attach(&self->r));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(POSTCOPY_REGION_DETACHED, info.out_state);
	EXPECT_EQ(0, region_attach(&self->r));
}

TEST_F(context, attach_by_id_works_from_another_context_and_process)
{
	int status;
	pid_t pid;

	region_detach(&self->r);
	pid = fork_child();
	if (!pid) {
		self->r.context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
		_exit(region_attach(&self->r) ? 1 : 0);
	}
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
}

TEST_F(context, attach_info_and_convert_refuse_another_user)
{
	int context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	int status;
	pid_t pid;

	ASSERT_LE(0, context);
	region_detach(&self->r);
	self->r.helper = -1;
	pid = fork_child();
	if (!pid) {
		struct postcopy_region_policy policy = {
			.size = sizeof(policy),
			.region_id = self->r.id,
		};
		struct postcopy_region_info info;
		struct region other = self->r;

		become_nobody();
		other.context = context;
		if (region_attach(&other) != -EPERM)
			_exit(1);
		if (region_info(&other, &info) != -EPERM)
			_exit(2);
		if (region_convert(&other, 0, NULL) != -EPERM)
			_exit(3);
		if (ioctl(context, POSTCOPY_REGION_POLICY, &policy) != -1 || errno != EPERM)
			_exit(4);
		_exit(0);
	}
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	close(context);
}

TEST_F(context, attach_refuses_root_of_a_user_namespace)
{
	int context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	int status;
	pid_t pid;

	ASSERT_LE(0, context);
	region_detach(&self->r);
	pid = fork_child();
	if (!pid) {
		struct region other = self->r;

		become_nobody();
		if (unshare(CLONE_NEWUSER))
			_exit(4);
		other.context = context;
		_exit(region_attach(&other) == -EPERM ? 0 : 1);
	}
	ASSERT_EQ(0, wait_child(pid, &status));
	if (WEXITSTATUS(status) == 4)
		SKIP(return, "no user namespaces for users");
	EXPECT_EQ(0, WEXITSTATUS(status));
	close(context);
}

static int send_fd(int socket, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { "x", 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	return sendmsg(socket, &msg, 0) == 1 ? 0 : -errno;
}

static int receive_fd(int socket)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	int fd;

	if (recvmsg(socket, &msg, 0) != 1 || !CMSG_FIRSTHDR(&msg))
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	return fd;
}

TEST_F(context, attach_on_a_passed_context_fd_needs_no_permission)
{
	int pair[2], status;
	pid_t pid;

	region_detach(&self->r);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	pid = fork_child();
	if (!pid) {
		struct region other = self->r;

		close(self->r.context);
		become_nobody();
		other.context = receive_fd(pair[1]);
		if (other.context < 0)
			_exit(1);
		if (region_attach(&other))
			_exit(2);
		_exit(pages_fill(&other, 3, 1, NULL) ? 3 : 0);
	}
	ASSERT_EQ(0, send_fd(pair[0], self->r.context));
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	EXPECT_TRUE(page_is_right(&self->r, 3, page_at(&self->r, 3)));
}

/* Without CAP_SYS_ADMIN root is a user like any other. */
static int drop_sys_admin(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		return -errno;
	data[0].effective &= ~(1U << CAP_SYS_ADMIN);
	data[0].permitted &= ~(1U << CAP_SYS_ADMIN);
	return syscall(SYS_capset, &header, data) ? -errno : 0;
}

/* The caller of this ioctl counts, not the process that opened the context. */
TEST(a_capability_dropped_after_the_open_is_gone)
{
	struct region r = { .helper = -1 };
	int pair[2], status;
	pid_t owner, pid;

	r.context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, r.context);
	ASSERT_EQ(0, pipe(pair));
	owner = fork_child();
	if (!owner) {
		struct region mapped;

		become_nobody();
		if (region_map_in(&mapped, r.context, 0, 4, PROT_READ))
			_exit(1);
		if (write(pair[1], &mapped.id, sizeof(mapped.id)) != sizeof(mapped.id))
			_exit(2);
		for (;;)
			pause();
	}
	ASSERT_EQ(sizeof(r.id), read(pair[0], &r.id, sizeof(r.id)));
	close(r.context);
	r.context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	pid = fork_child();
	if (!pid) {
		if (drop_sys_admin())
			_exit(1);
		_exit(region_attach(&r) == -EPERM ? 0 : 2);
	}
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, region_attach(&r));
	kill(owner, SIGKILL);
	ASSERT_EQ(0, wait_child(owner, &status));
	close(r.helper);
	close(r.context);
}

/* It got the fd while it still had the permission, and it keeps it. */
TEST_F(context, a_helper_that_drops_its_privileges_goes_on_serving_its_region_only)
{
	int status;
	pid_t pid;

	region_detach(&self->r);
	pid = fork_child();
	if (!pid) {
		struct postcopy_region_info info;
		struct region other;

		self->r.context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
		if (region_attach(&self->r))
			_exit(1);
		become_nobody();
		other = self->r;
		other.helper = -1;
		if (pages_fill(&self->r, 0, 4, NULL) || pages_zero(&self->r, 4, NR_PAGES - 4, NULL))
			_exit(2);
		if (region_info(&self->r, &info) || info.out_nr_present != NR_PAGES)
			_exit(3);
		if (region_info(&other, &info) != -EPERM || region_attach(&other) != -EPERM)
			_exit(4);
		_exit(region_convert(&self->r, 0, NULL) ? 5 : 0);
	}
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 4));
	EXPECT_TRUE(page_is_zero(page_at(&self->r, 4)));
}

/* The region still belongs to the user who mapped it, and its context works as before. */
TEST(a_vmm_that_drops_its_privileges_keeps_its_region)
{
	int status;
	pid_t pid = fork_child();

	if (!pid) {
		struct postcopy_region_info info;
		struct region r, other;

		if (region_map(&r, OFFSET, 4))
			_exit(1);
		other = r;
		other.context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
		become_nobody();
		if (region_attach(&other) != -EPERM)
			_exit(2);
		if (region_attach(&r) || pages_fill(&r, 0, 4, NULL) || pages_wrong(&r, 0, 4))
			_exit(3);
		_exit(region_info(&r, &info) || info.out_uid ? 4 : 0);
	}
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
}

TEST(device_cannot_be_opened_by_other_users)
{
	int status;
	pid_t pid = fork_child();

	if (!pid) {
		become_nobody();
		_exit(open(POSTCOPY_DEVICE, O_RDWR) < 0 && errno == EACCES ? 0 : 1);
	}
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
}

/* REGION_INFO */

TEST_F(context, info_describes_the_region)
{
	struct postcopy_region_info info;
	char comm[16] = "";
	FILE *file = fopen("/proc/self/comm", "r");

	ASSERT_NE(NULL, file);
	ASSERT_NE(NULL, fgets(comm, sizeof(comm), file));
	fclose(file);
	comm[strcspn(comm, "\n")] = '\0';
	ASSERT_EQ(0, region_info_by_id(self->r.context, self->r.id, &info));
	EXPECT_EQ(self->r.id, info.region_id);
	EXPECT_EQ(OFFSET, info.out_offset);
	EXPECT_EQ(NR_PAGES * PAGE, info.out_length);
	EXPECT_EQ((uintptr_t)self->r.address, info.out_address);
	EXPECT_EQ(POSTCOPY_REGION_ATTACHED, info.out_state);
	EXPECT_EQ(POSTCOPY_REGION_PRIVATE, info.out_region_flags);
	EXPECT_EQ(getpid(), info.out_pid);
	EXPECT_EQ(getuid(), info.out_uid);
	EXPECT_EQ(getpid(), info.out_helper_pid);
	EXPECT_STREQ(comm, info.out_comm);
	EXPECT_EQ(NR_PAGES, info.out_nr_pages);
	EXPECT_EQ(0, info.out_nr_present);
	EXPECT_EQ(0, info.out_nr_requests);
	EXPECT_EQ(0, info.out_total_faults);
	EXPECT_EQ(1, info.out_total_attached);
}

TEST_F(context, info_follows_the_states)
{
	struct postcopy_region_info info;

	region_detach(&self->r);
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(POSTCOPY_REGION_DETACHED, info.out_state);
	EXPECT_EQ(0, info.out_helper_pid);
	ASSERT_EQ(0, region_attach(&self->r));
	ASSERT_EQ(0, pages_zero(&self->r, 0, NR_PAGES, NULL));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(POSTCOPY_REGION_CONVERTED, info.out_state);
}

TEST(info_of_a_region_nobody_attached_to_says_so)
{
	struct postcopy_region_info info;
	struct region r;

	ASSERT_EQ(0, region_map(&r, 0, 4));
	ASSERT_EQ(0, region_info(&r, &info));
	EXPECT_EQ(POSTCOPY_REGION_UNATTACHED, info.out_state);
	EXPECT_EQ(0, info.out_helper_pid);
	EXPECT_EQ(0, info.out_total_attached);
	region_close(&r);
}

TEST_F(context, info_counts_pages_and_waits)
{
	struct postcopy_region_info info;
	struct access a;
	uint64_t waits = 0;
	int i;

	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 1), 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(1, info.out_nr_requests);
	EXPECT_EQ(1, info.out_nr_queued);
	ASSERT_EQ(0, pages_fill(&self->r, 0, 8, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	ASSERT_EQ(0, pages_zero(&self->r, 8, 16, NULL));
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(24, info.out_nr_present);
	EXPECT_EQ(0, info.out_nr_requests);
	EXPECT_EQ(0, info.out_nr_queued);
	EXPECT_EQ(1, info.out_total_faults);
	EXPECT_EQ(1, info.out_total_requests);
	EXPECT_EQ(8, info.out_total_filled);
	EXPECT_EQ(16, info.out_total_zeroed);
	for (i = 0; i < POSTCOPY_WAIT_BUCKETS; i++)
		waits += info.out_wait_histogram[i];
	EXPECT_EQ(1, waits);
	EXPECT_LT(0, info.out_wait_ns);
	EXPECT_EQ(info.out_wait_ns, info.out_wait_max_ns);
	EXPECT_GT(PATIENCE_MS * 1000000ULL, info.out_wait_max_ns);
}

TEST_F(context, info_gives_no_kernel_address_away)
{
	struct postcopy_region_info info;
	uint64_t *words = (uint64_t *)&info;
	size_t i;

	ASSERT_EQ(0, region_info(&self->r, &info));
	for (i = 0; i < sizeof(info) / 8; i++) {
		EXPECT_GT(0xffff000000000000, words[i]);
	}
}

TEST_F(context, helper_calls_may_name_no_other_region)
{
	struct postcopy_region_info info;
	struct postcopy_region_convert convert = { .size = sizeof(convert) };
	struct region other;

	ASSERT_EQ(0, region_map(&other, 0, 4));
	EXPECT_EQ(-EINVAL, region_info_by_id(self->r.helper, other.id, &info));
	convert.region_id = other.id;
	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_REGION_CONVERT, &convert));
	EXPECT_EQ(EINVAL, errno);
	region_close(&other);
}

TEST(contexts_and_helpers_can_be_opened_and_closed_many_times)
{
	struct region r;
	int i;

	for (i = 0; i < 300; i++) {
		ASSERT_EQ(0, region_map(&r, i * PAGE, 3));
		ASSERT_EQ(0, region_attach(&r));
		region_close(&r);
	}
}

/* kB of kernel memory in use for small objects */
static long slab_kb(void)
{
	FILE *file = fopen("/proc/meminfo", "re");
	char line[128];
	long kb = -1;

	while (file && kb < 0 && fgets(line, sizeof(line), file))
		sscanf(line, "SUnreclaim: %ld", &kb);
	if (file)
		fclose(file);
	return kb;
}

/*
 * A million times, or as often as 10 s allow. A context has 192 bytes. If each left 16 bytes
 * behind, this test would notice; kmemleak and the unloading at the end notice the rest.
 */
TEST(device_can_be_opened_and_closed_all_the_time)
{
	uint64_t end = now_ms() + 10000;
	long before = slab_kb();
	unsigned int nr = 0;
	int fd;

	ASSERT_LT(0, before);
	for (; nr < 1000000 && now_ms() < end; nr++) {
		fd = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, fd);
		close(fd);
	}
	EXPECT_LT(1000, nr);
	TH_LOG("%u times, %ld kB more", nr, slab_kb() - before);
	/* KASAN keeps freed memory for a while. On that kernel kmemleak finds leaks. */
	if (access("/sys/kernel/debug/kmemleak", F_OK))
		EXPECT_TRUE(wait_until(slab_kb() - before < 2048 + (long)nr / 64));
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * Loading and unloading the module, also when its start fails half way.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "postcopy_test.h"

static int module_remove(void)
{
	return syscall(SYS_delete_module, "postcopy", O_NONBLOCK) ? -errno : 0;
}

static int module_load(int fd)
{
	return syscall(SYS_finit_module, fd, "", 0) ? -errno : 0;
}

FIXTURE(module)
{
	int fd;
};

FIXTURE_SETUP(module)
{
	const char *path = getenv("POSTCOPY_MODULE");
	int error;

	if (!path)
		SKIP(return, "POSTCOPY_MODULE is not set");
	self->fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	ASSERT_TRUE(wait_until(!(error = module_remove()) || error == -ENOENT));
}

/* run.sh unloads the module in the end and looks for leftovers. */
FIXTURE_TEARDOWN(module)
{
	int error = module_load(self->fd);

	EXPECT_TRUE(!error || error == -EEXIST);
	close(self->fd);
}

TEST_F_TIMEOUT(module, loads_and_unloads_many_times_used_and_unused, 120)
{
	struct region r;
	int i;

	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, module_load(self->fd));
		if (i % 2) {
			ASSERT_EQ(0, region_map(&r, 0, 64));
			ASSERT_EQ(-EWOULDBLOCK, module_remove());
			ASSERT_EQ(0, region_attach(&r));
			ASSERT_EQ(0, pages_fill(&r, 0, 32, NULL));
			ASSERT_EQ(-EWOULDBLOCK, module_remove());
			region_close(&r);
		}
		ASSERT_TRUE(wait_until(module_remove() == 0));
	}
}

/* Last: the mount namespace stays. */
TEST_F(module, that_finds_no_zero_device_does_not_load_and_leaves_nothing)
{
	int status;
	pid_t pid = fork_child();

	if (!pid) {
		if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		    mount("/dev/null", "/dev/zero", NULL, MS_BIND, NULL))
			_exit(1);
		_exit(module_load(self->fd) == -ENXIO ? 0 : 2);
	}
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(-1, access(POSTCOPY_DEVICE, F_OK));
	EXPECT_EQ(-ENOENT, module_remove());
}

/* The tracing core warns if it gets no memory for a module's events. That is no fault of ours. */
static bool spare_tracing(void)
{
	static const char *const facilities[] = { "failslab", "fail_page_alloc", "fail_usercopy" };
	FILE *file = fopen("/proc/kallsyms", "re");
	char line[256], path[128], text[32];
	unsigned long address = 0;
	unsigned int i;

	while (file && fgets(line, sizeof(line), file))
		if (strstr(line, " trace_module_notify\n"))
			address = strtoul(line, NULL, 16);
	if (file)
		fclose(file);
	for (i = 0; i < 3 && address; i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/reject-start", facilities[i]);
		snprintf(text, sizeof(text), "0x%lx", address);
		if (file_write(path, text))
			return false;
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s/reject-end", facilities[i]);
		snprintf(text, sizeof(text), "0x%lx", address + 0x600);
		if (file_write(path, text))
			return false;
	}
	return address;
}

/* Loads it with the nth allocation failing. False: there are less. */
static bool load_hit(int module, int fd, int nth, int *error)
{
	char text[16] = "";
	ssize_t length;

	snprintf(text, sizeof(text), "%d", nth);
	if (pwrite(fd, text, strlen(text), 0) < 0)
		return false;
	*error = module_load(module);
	memset(text, 0, sizeof(text));
	length = pread(fd, text, sizeof(text) - 1, 0);
	while (pwrite(fd, "0", 1, 0) != 1)
		;
	if (!*error)
		wait_until(module_remove() == 0);
	/* EFAULT: the injection hit this read. */
	return length > 0 && !atoi(text);
}

#define STRIDE	48

/*
 * The last allocations fail in turn, among them all of the module's own start. The hundreds
 * before them belong to the core.
 */
TEST_F_TIMEOUT(module, that_lacks_memory_does_not_load_and_leaves_nothing, 300)
{
	int fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	int nth, error = 0, failed = 0;

	if (fd < 0)
		SKIP(return, "no fault injection in this kernel");
	ASSERT_TRUE(spare_tracing());
	file_write("/sys/kernel/debug/failslab/verbose", "0");
	file_write("/sys/kernel/debug/fail_page_alloc/verbose", "0");
	file_write("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
	file_write("/sys/kernel/debug/fail_usercopy/verbose", "0");
	for (nth = STRIDE; load_hit(self->fd, fd, nth, &error); nth += STRIDE)
		ASSERT_GT(5000, nth);
	EXPECT_EQ(0, error);
	for (nth = nth > 2 * STRIDE ? nth - 2 * STRIDE : 1; load_hit(self->fd, fd, nth, &error);
	     nth++)
		failed += !!error;
	EXPECT_EQ(0, error);
	EXPECT_LT(0, failed);
	EXPECT_EQ(-1, access(POSTCOPY_DEVICE, F_OK));
	TH_LOG("%d places, %d failures to load", nth - 1, failed);
	close(fd);
}

TEST_HARNESS_MAIN

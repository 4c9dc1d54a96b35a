// SPDX-License-Identifier: GPL-2.0
/*
 * What every ioctl of /dev/postcopy accepts and refuses: sizes, flags, ranges,
 * pointers, states, users. The table has each of them with a valid argument; the
 * tests at the top go through all of it.
 */
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "kselftest_harness.h"
#include "postcopy_test.h"

#define NOBODY		65534
#define NR_PAGES	128UL
#define OFFSET		(1UL << 30)

/* The largest argument, with room for a tail. */
union argument {
	struct {
		uint32_t size;
		uint32_t flags;
	};
	struct postcopy_context_info context_info;
	struct postcopy_region_list list;
	struct postcopy_helper_attach attach;
	struct postcopy_region_info info;
	struct postcopy_region_convert convert;
	struct postcopy_pages_fill fill;
	struct postcopy_pages_zero zero;
	struct postcopy_pages_query query;
	char bytes[2 * PAGE];
};

static struct region *valid_region;
static uint64_t valid_bitmap[NR_PAGES / 64];
static struct postcopy_range valid_range;
static char valid_data[PAGE] __attribute__((aligned(4096)));

static void make_context_info(union argument *a)
{
}

static void make_list(union argument *a)
{
}

static void make_attach(union argument *a)
{
	a->attach.region_id = valid_region->id;
}

static void make_info(union argument *a)
{
	a->info.region_id = valid_region->id;
}

static void make_convert(union argument *a)
{
	a->convert.region_id = valid_region->id;
}

static void make_helper_info(union argument *a)
{
}

static void make_fill(union argument *a)
{
	a->fill.offset = valid_region->offset;
	a->fill.length = PAGE;
	a->fill.data = (uintptr_t)valid_data;
}

static void make_zero(union argument *a)
{
	valid_range.offset = valid_region->offset;
	valid_range.length = PAGE;
	a->zero.ranges = (uintptr_t)&valid_range;
	a->zero.nr_ranges = 1;
}

static void make_query(union argument *a)
{
	a->query.offset = valid_region->offset;
	a->query.length = valid_region->length;
	a->query.bitmap = (uintptr_t)valid_bitmap;
}

#define NO_RESERVED	0
#define RESERVED(type)	offsetof(struct type, reserved)

/*
 * @valid: what a valid call gives in the fixture's state: attaching is EBUSY
 * and converting is too.
 */
static const struct call {
	const char *name;
	unsigned long cmd;
	bool on_helper;
	size_t size;
	size_t reserved;
	uint32_t known_flags;
	int valid;
	void (*make)(union argument *a);
} calls[] = {
	{ "CONTEXT_INFO", POSTCOPY_CONTEXT_INFO, false, sizeof(struct postcopy_context_info),
	  RESERVED(postcopy_context_info), 0, 0, make_context_info },
	{ "REGION_LIST", POSTCOPY_REGION_LIST, false, sizeof(struct postcopy_region_list),
	  NO_RESERVED, 0, 0, make_list },
	{ "HELPER_ATTACH", POSTCOPY_HELPER_ATTACH, false, sizeof(struct postcopy_helper_attach),
	  RESERVED(postcopy_helper_attach), 0, EBUSY, make_attach },
	{ "REGION_INFO", POSTCOPY_REGION_INFO, false, sizeof(struct postcopy_region_info),
	  RESERVED(postcopy_region_info), 0, 0, make_info },
	{ "REGION_CONVERT", POSTCOPY_REGION_CONVERT, false, sizeof(struct postcopy_region_convert),
	  NO_RESERVED, POSTCOPY_CONVERT_RETIRE_CONTEXT, EBUSY, make_convert },
	{ "REGION_INFO of helper", POSTCOPY_REGION_INFO, true, sizeof(struct postcopy_region_info),
	  RESERVED(postcopy_region_info), 0, 0, make_helper_info },
	{ "REGION_CONVERT of helper", POSTCOPY_REGION_CONVERT, true,
	  sizeof(struct postcopy_region_convert),
	  NO_RESERVED, POSTCOPY_CONVERT_RETIRE_CONTEXT, EBUSY, make_helper_info },
	{ "PAGES_FILL", POSTCOPY_PAGES_FILL, true, sizeof(struct postcopy_pages_fill),
	  NO_RESERVED, 0, 0, make_fill },
	{ "PAGES_ZERO", POSTCOPY_PAGES_ZERO, true, sizeof(struct postcopy_pages_zero),
	  NO_RESERVED, 0, 0, make_zero },
	{ "PAGES_QUERY", POSTCOPY_PAGES_QUERY, true, sizeof(struct postcopy_pages_query),
	  NO_RESERVED, 0, 0, make_query },
};

FIXTURE(ioctl)
{
	struct region r;
	union argument *argument;
};

FIXTURE_SETUP(ioctl)
{
	ASSERT_EQ(0, region_map(&self->r, OFFSET, NR_PAGES));
	ASSERT_EQ(0, region_attach(&self->r));
	valid_region = &self->r;
	/* Ends where a page does, and nothing is mapped behind it. */
	self->argument = mmap(NULL, sizeof(*self->argument) + PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->argument);
	ASSERT_EQ(0, munmap((char *)self->argument + sizeof(*self->argument), PAGE));
}

FIXTURE_TEARDOWN(ioctl)
{
	region_close(&self->r);
}

static void become_nobody(void)
{
	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY))
		_exit(99);
}

static union argument *valid(union argument *a, const struct call *call)
{
	memset(a, 0, sizeof(*a));
	a->size = call->size;
	call->make(a);
	return a;
}

static int perform(const struct call *call, void *argument)
{
	int fd = call->on_helper ? valid_region->helper : valid_region->context;

	return ioctl(fd, call->cmd, argument) ? errno : 0;
}

#define for_each_call(call) \
	for (call = calls; call < calls + sizeof(calls) / sizeof(calls[0]); call++)

TEST_F(ioctl, takes_a_valid_argument)
{
	const struct call *call;

	for_each_call(call) {
		EXPECT_EQ(call->valid, perform(call, valid(self->argument, call)))
			TH_LOG("%s", call->name);
	}
}

TEST_F(ioctl, refuses_a_short_size)
{
	const struct call *call;
	uint32_t sizes[] = { 0, 1, 4, 8, 12 };
	unsigned int i;

	for_each_call(call) {
		for (i = 0; i < 5; i++) {
			valid(self->argument, call)->size = sizes[i];
			EXPECT_EQ(EINVAL, perform(call, self->argument))
				TH_LOG("%s size %u", call->name, sizes[i]);
		}
		valid(self->argument, call)->size = call->size - 1;
		EXPECT_EQ(EINVAL, perform(call, self->argument))
			TH_LOG("%s", call->name);
		valid(self->argument, call)->size = call->size - 8;
		EXPECT_EQ(EINVAL, perform(call, self->argument))
			TH_LOG("%s", call->name);
	}
}

TEST_F(ioctl, takes_a_longer_struct_whose_tail_is_zero)
{
	const struct call *call;

	for_each_call(call) {
		valid(self->argument, call)->size = call->size + 64;
		EXPECT_EQ(call->valid, perform(call, self->argument))
			TH_LOG("%s", call->name);
	}
}

TEST_F(ioctl, refuses_a_longer_struct_whose_tail_is_not_zero)
{
	const struct call *call;
	size_t tails[] = { 0, 63 };
	unsigned int i;

	for_each_call(call) {
		for (i = 0; i < 2; i++) {
			valid(self->argument, call)->size = call->size + 64;
			self->argument->bytes[call->size + tails[i]] = 1;
			EXPECT_EQ(E2BIG, perform(call, self->argument))
				TH_LOG("%s byte %zu", call->name, tails[i]);
		}
	}
}

TEST_F(ioctl, refuses_a_size_beyond_any_struct)
{
	const struct call *call;
	int error;

	for_each_call(call) {
		valid(self->argument, call)->size = 0xffffffff;
		error = perform(call, self->argument);
		EXPECT_TRUE(error == E2BIG || error == EFAULT)
			TH_LOG("%s: %d", call->name, error);
	}
}

TEST_F(ioctl, reads_and_writes_nothing_beyond_the_size)
{
	const struct call *call;
	void *end = (char *)self->argument + sizeof(*self->argument);
	union argument a;
	char *bytes = self->argument->bytes;
	size_t i;

	for_each_call(call) {
		/* Just before an unmapped page */
		void *last = (char *)end - call->size;

		memcpy(last, valid(&a, call), call->size);
		EXPECT_EQ(call->valid, perform(call, last))
			TH_LOG("%s", call->name);
		valid(self->argument, call);
		memset(bytes + call->size, 0xa5, 64);
		EXPECT_EQ(call->valid, perform(call, self->argument))
			TH_LOG("%s", call->name);
		for (i = 0; i < 64; i++) {
			EXPECT_EQ((char)0xa5, bytes[call->size + i])
				TH_LOG("%s byte %zu", call->name, i);
		}
	}
}

TEST_F(ioctl, refuses_unknown_flags)
{
	const struct call *call;
	int bit;

	for_each_call(call) {
		for (bit = 0; bit < 32; bit++) {
			if (call->known_flags & 1U << bit)
				continue;
			valid(self->argument, call)->flags = 1U << bit;
			EXPECT_EQ(EINVAL, perform(call, self->argument))
				TH_LOG("%s flag %d", call->name, bit);
		}
	}
}

TEST_F(ioctl, refuses_reserved_fields)
{
	const struct call *call;

	for_each_call(call) {
		if (call->reserved == NO_RESERVED)
			continue;
		valid(self->argument, call)->bytes[call->reserved] = 1;
		EXPECT_EQ(EINVAL, perform(call, self->argument))
			TH_LOG("%s", call->name);
	}
}

TEST_F(ioctl, refuses_bad_pointers)
{
	const struct call *call;
	void *bad[] = {
		NULL,
		(char *)self->argument + sizeof(*self->argument),
		(char *)self->argument + sizeof(*self->argument) - 8,
		(void *)0xffff888000000000,
		(void *)0xffffffff81000000,
		(void *)0x8000000000000000,
		(void *)-1,
	};
	unsigned int i;

	for_each_call(call) {
		memset(self->argument, 0, sizeof(*self->argument));
		/* The third has a valid size and then ends. */
		*(uint32_t *)bad[2] = call->size;
		for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
			EXPECT_EQ(EFAULT, perform(call, bad[i]))
				TH_LOG("%s pointer %u", call->name, i);
		}
	}
}

TEST_F(ioctl, fails_without_effect_if_the_result_cannot_be_written)
{
	struct postcopy_region_info info;
	const struct call *call;
	int error;

	region_detach(&self->r);
	for_each_call(call) {
		if (call->on_helper)
			continue;
		valid(self->argument, call);
		ASSERT_EQ(0, mprotect(self->argument, sizeof(*self->argument), PROT_READ));
		error = perform(call, self->argument);
		ASSERT_EQ(0, mprotect(self->argument, sizeof(*self->argument),
				      PROT_READ | PROT_WRITE));
		EXPECT_TRUE(error == EFAULT || (call->valid == EBUSY && error == EBUSY))
			TH_LOG("%s: %d", call->name, error);
	}
	/* Attached and nobody holds the fd: that would be for ever. */
	EXPECT_EQ(0, region_info(&self->r, &info));
	EXPECT_NE(POSTCOPY_REGION_ATTACHED, info.out_state);
	EXPECT_EQ(0, region_attach(&self->r));
}

TEST_F(ioctl, knows_which_calls_belong_to_which_fd)
{
	const struct call *call;

	for_each_call(call) {
		int other = call->on_helper ? self->r.context : self->r.helper;

		if (call->cmd == POSTCOPY_REGION_INFO || call->cmd == POSTCOPY_REGION_CONVERT)
			continue;
		EXPECT_EQ(-1, ioctl(other, call->cmd, valid(self->argument, call)));
		EXPECT_EQ(ENOTTY, errno)
			TH_LOG("%s", call->name);
	}
}

TEST_F(ioctl, does_not_know_other_numbers)
{
	unsigned int nr;

	for (nr = 0; nr < 256; nr++) {
		const struct call *call;
		bool known = false;

		for_each_call(call)
			known |= call->cmd == _IO(POSTCOPY_IOCTL_TYPE, nr);
		if (known)
			continue;
		EXPECT_EQ(-1, ioctl(self->r.context, _IO(POSTCOPY_IOCTL_TYPE, nr), self->argument));
		EXPECT_EQ(ENOTTY, errno)
			TH_LOG("%u", nr);
		EXPECT_EQ(-1, ioctl(self->r.helper, _IO(POSTCOPY_IOCTL_TYPE, nr), self->argument));
		EXPECT_EQ(ENOTTY, errno)
			TH_LOG("%u", nr);
	}
	EXPECT_EQ(-1, ioctl(self->r.context, _IO(0xAA, 1), self->argument));
	EXPECT_EQ(ENOTTY, errno);
}

/*
 * The 32-bit system call, made by a 64-bit program with a pointer below 4 GiB, is
 * what a 32-bit program does.
 */
TEST_F(ioctl, works_for_32_bit_programs)
{
	const struct call *call;
	union argument *low = mmap(NULL, sizeof(*low), PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	int fd, ret;

	ASSERT_NE(MAP_FAILED, low);
	for_each_call(call) {
		valid(low, call);
		fd = call->on_helper ? self->r.helper : self->r.context;
		asm volatile("int $0x80" : "=a" (ret) :
			     "a" (54), "b" (fd), "c" (call->cmd), "d" (low) :
			     "memory", "r8", "r9", "r10", "r11");
		if (ret == -ENOSYS)
			SKIP(return, "the kernel runs no 32-bit programs");
		EXPECT_EQ(-call->valid, ret)
			TH_LOG("%s", call->name);
	}
}

struct rewriter {
	union argument *argument;
	uint32_t size;
	bool stop;
};

static void *rewrite_size(void *arg)
{
	struct rewriter *w = arg;
	volatile uint32_t *size = &w->argument->size;

	while (!__atomic_load_n(&w->stop, __ATOMIC_RELAXED)) {
		*size = w->size;
		*size = sizeof(union argument);
		*size = 0;
	}
	return NULL;
}

TEST_F(ioctl, is_not_fooled_by_a_size_that_changes_during_the_call)
{
	struct rewriter w = { .argument = self->argument };
	const struct call *call;
	pthread_t thread;
	int i, error;

	for_each_call(call) {
		valid(self->argument, call);
		w.size = call->size;
		w.stop = false;
		ASSERT_EQ(0, pthread_create(&thread, NULL, rewrite_size, &w));
		for (i = 0; i < 300; i++) {
			error = perform(call, self->argument);
			EXPECT_TRUE(error == 0 || error == EINVAL || error == E2BIG ||
				    error == call->valid)
				TH_LOG("%s: %d", call->name, error);
		}
		__atomic_store_n(&w.stop, true, __ATOMIC_RELAXED);
		pthread_join(thread, NULL);
	}
}

/* CONTEXT_INFO */

TEST_F(ioctl, context_info_tells_features_and_page_size)
{
	struct postcopy_context_info info = { .size = sizeof(info) };

	ASSERT_EQ(0, ioctl(self->r.context, POSTCOPY_CONTEXT_INFO, &info));
	EXPECT_TRUE(info.out_features & POSTCOPY_FEATURE_PRIVATE);
	EXPECT_EQ(sysconf(_SC_PAGESIZE), info.out_page_size);
	EXPECT_EQ(0, info.reserved);
}

/* REGION_LIST */

TEST_F(ioctl, region_list_has_all_regions_in_rising_order)
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

TEST_F(ioctl, region_list_counts_without_an_array)
{
	struct postcopy_region_list list = { .size = sizeof(list) };

	ASSERT_EQ(0, ioctl(self->r.context, POSTCOPY_REGION_LIST, &list));
	EXPECT_EQ(1, list.out_nr_ids);
}

TEST_F(ioctl, region_list_writes_no_more_than_the_array_holds)
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

TEST_F(ioctl, region_list_refuses_a_bad_array)
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

TEST_F(ioctl, region_list_leaves_out_dead_and_converted_regions)
{
	struct postcopy_region_list list = { .size = sizeof(list) };

	ASSERT_EQ(0, pages_zero(&self->r, 0, NR_PAGES, NULL));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	ASSERT_EQ(0, ioctl(self->r.context, POSTCOPY_REGION_LIST, &list));
	EXPECT_EQ(0, list.out_nr_ids);
}

TEST_F(ioctl, region_list_shows_a_user_only_what_he_may_attach_to)
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

TEST_F(ioctl, context_polls_readable_when_regions_have_been_made)
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

TEST(context_without_any_region_does_not_poll_readable)
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

TEST(context_wakes_a_poll_when_a_region_is_made)
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

TEST_F(ioctl, attach_refuses_a_region_that_is_not_there)
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

TEST_F(ioctl, attach_refuses_a_second_helper)
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

TEST_F(ioctl, attach_gives_an_fd_that_exec_closes)
{
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->r.helper, F_GETFD));
}

TEST_F(ioctl, attach_without_a_free_fd_leaves_the_region_unattached)
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

TEST_F(ioctl, attach_by_id_works_from_another_context_and_process)
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

TEST_F(ioctl, attach_info_and_convert_refuse_another_user)
{
	int context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	int status;
	pid_t pid;

	ASSERT_LE(0, context);
	region_detach(&self->r);
	self->r.helper = -1;
	pid = fork_child();
	if (!pid) {
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
		_exit(0);
	}
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	close(context);
}

TEST_F(ioctl, attach_refuses_root_of_a_user_namespace)
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

TEST_F(ioctl, attach_on_a_passed_context_fd_needs_no_permission)
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

TEST_F(ioctl, info_describes_the_region)
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

TEST_F(ioctl, info_follows_the_states)
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

TEST_F(ioctl, info_counts_pages_and_waits)
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

TEST_F(ioctl, info_gives_no_kernel_address_away)
{
	struct postcopy_region_info info;
	uint64_t *words = (uint64_t *)&info;
	size_t i;

	ASSERT_EQ(0, region_info(&self->r, &info));
	for (i = 0; i < sizeof(info) / 8; i++) {
		EXPECT_GT(0xffff000000000000, words[i]);
	}
}

TEST_F(ioctl, helper_calls_may_name_no_other_region)
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

/* Ranges of FILL, ZERO and QUERY */

static const struct {
	uint64_t offset, length;
} bad_ranges[] = {
	{ OFFSET, 0 },
	{ OFFSET, 1 },
	{ OFFSET, PAGE - 1 },
	{ OFFSET, PAGE + 1 },
	{ OFFSET + 1, PAGE },
	{ OFFSET + PAGE / 2, PAGE },
	{ OFFSET - PAGE, PAGE },
	{ OFFSET - PAGE, 2 * PAGE },
	{ 0, PAGE },
	{ OFFSET, (NR_PAGES + 1) * PAGE },
	{ OFFSET + NR_PAGES * PAGE, PAGE },
	{ OFFSET + (NR_PAGES - 1) * PAGE, 2 * PAGE },
	{ OFFSET, -PAGE },
	{ OFFSET, 1ULL << 63 },
	{ OFFSET + PAGE, -PAGE },
	{ OFFSET + PAGE, -OFFSET },
	{ -PAGE, PAGE },
	{ -PAGE, 2 * PAGE },
	{ -PAGE, OFFSET + 2 * PAGE },
	{ 1ULL << 63, 1ULL << 63 },
};

#define NR_BAD_RANGES	(sizeof(bad_ranges) / sizeof(bad_ranges[0]))

TEST_F(ioctl, fill_zero_and_query_refuse_bad_ranges)
{
	struct postcopy_region_info info;
	struct postcopy_range range;
	struct postcopy_pages_fill fill;
	unsigned int i;

	for (i = 0; i < NR_BAD_RANGES; i++) {
		struct postcopy_pages_zero zero = {
			.size = sizeof(zero), .ranges = (uintptr_t)&range, .nr_ranges = 1,
		};
		struct postcopy_pages_query query = {
			.size = sizeof(query), .bitmap = (uintptr_t)valid_bitmap,
			.offset = bad_ranges[i].offset, .length = bad_ranges[i].length,
		};

		EXPECT_EQ(-EINVAL, pages_fill_raw(self->r.helper, bad_ranges[i].offset,
						  bad_ranges[i].length, valid_data, &fill))
			TH_LOG("range %u", i);
		range.offset = bad_ranges[i].offset;
		range.length = bad_ranges[i].length;
		EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_ZERO, &zero));
		EXPECT_EQ(EINVAL, errno)
			TH_LOG("range %u", i);
		EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_QUERY, &query));
		EXPECT_EQ(EINVAL, errno)
			TH_LOG("range %u", i);
	}
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(0, info.out_nr_present);
}

/* PAGES_FILL */

TEST_F(ioctl, fill_refuses_data_that_cannot_be_read)
{
	char *end = (char *)self->argument + sizeof(*self->argument);
	uint64_t bad[] = { 0, (uintptr_t)end, 0xffff888000000000, -PAGE, 1ULL << 63 };
	struct postcopy_region_info info;
	struct postcopy_pages_fill fill;
	unsigned int i;

	for (i = 0; i < 5; i++) {
		EXPECT_EQ(-EFAULT, pages_fill_raw(self->r.helper, OFFSET, PAGE,
						  (void *)bad[i], &fill))
			TH_LOG("data %u", i);
	}
	/* The first page of the data ends half way. */
	EXPECT_EQ(-EFAULT, pages_fill_raw(self->r.helper, OFFSET, PAGE, end - PAGE / 2, &fill));
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(0, info.out_nr_present);
}

TEST_F(ioctl, fill_stops_before_data_that_cannot_be_read)
{
	char *end = (char *)self->argument + sizeof(*self->argument);
	struct postcopy_pages_fill fill;

	page_pattern(&self->r, 0, end - PAGE);
	if (!pages_fill_raw(self->r.helper, OFFSET, 4 * PAGE, end - PAGE, &fill)) {
		EXPECT_EQ(PAGE, fill.out_length);
		EXPECT_EQ(1, fill.out_nr_filled);
		EXPECT_TRUE(page_is_right(&self->r, 0, page_at(&self->r, 0)));
	} else {
		EXPECT_EQ(EFAULT, errno);
		EXPECT_EQ(0, page_is_present(&self->r, 0));
	}
	EXPECT_EQ(0, page_is_present(&self->r, 1));
	EXPECT_EQ(0, page_is_present(&self->r, 2));
}

TEST_F(ioctl, fill_takes_data_that_is_not_aligned)
{
	struct postcopy_pages_fill fill;
	char *data = self->argument->bytes + 12;

	page_pattern(&self->r, 5, data);
	ASSERT_EQ(0, pages_fill_raw(self->r.helper, OFFSET + 5 * PAGE, PAGE, data, &fill));
	EXPECT_EQ(PAGE, fill.out_length);
	EXPECT_TRUE(page_is_right(&self->r, 5, page_at(&self->r, 5)));
}

TEST_F(ioctl, fill_takes_data_that_is_not_in_memory_yet)
{
	struct postcopy_pages_fill fill;
	char *data = mmap(NULL, 4 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, data);
	ASSERT_EQ(0, pages_fill_raw(self->r.helper, OFFSET, 4 * PAGE, data, &fill));
	EXPECT_LT(0, fill.out_length);
	EXPECT_TRUE(page_is_zero(page_at(&self->r, 0)));
}

/* PAGES_ZERO */

TEST_F(ioctl, zero_checks_all_ranges_before_it_changes_anything)
{
	struct postcopy_range ranges[3] = {
		{ OFFSET, PAGE }, { OFFSET + PAGE, PAGE }, { OFFSET + 1, PAGE },
	};
	struct postcopy_pages_zero zero = {
		.size = sizeof(zero), .ranges = (uintptr_t)ranges, .nr_ranges = 3,
	};
	struct postcopy_region_info info;

	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_ZERO, &zero));
	EXPECT_EQ(EINVAL, errno);
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(0, info.out_nr_present);
}

TEST_F(ioctl, zero_refuses_bad_arrays)
{
	char *end = (char *)self->argument + sizeof(*self->argument);
	struct postcopy_range *last = (struct postcopy_range *)end - 1;
	struct postcopy_pages_zero zero = { .size = sizeof(zero), .nr_ranges = 1 };
	uint64_t bad[] = { 0, (uintptr_t)end, 0xffff888000000000, -8ULL };
	struct postcopy_region_info info;
	unsigned int i;

	for (i = 0; i < 4; i++) {
		zero.ranges = bad[i];
		EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_ZERO, &zero));
		EXPECT_EQ(EFAULT, errno)
			TH_LOG("array %u", i);
	}
	/* Its second half cannot be read. */
	*last = (struct postcopy_range){ OFFSET, PAGE };
	zero.ranges = (uintptr_t)last;
	zero.nr_ranges = 2;
	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_ZERO, &zero));
	EXPECT_EQ(EFAULT, errno);
	zero.nr_ranges = 0;
	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_ZERO, &zero));
	EXPECT_EQ(EINVAL, errno);
	zero.nr_ranges = POSTCOPY_MAX_RANGES + 1;
	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_ZERO, &zero));
	EXPECT_EQ(EINVAL, errno);
	zero.nr_ranges = 0xffffffff;
	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_ZERO, &zero));
	EXPECT_EQ(EINVAL, errno);
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(0, info.out_nr_present);
}

TEST_F(ioctl, zero_takes_as_many_ranges_as_it_says)
{
	struct postcopy_range *ranges = calloc(POSTCOPY_MAX_RANGES, sizeof(*ranges));
	struct postcopy_pages_zero zero = {
		.size = sizeof(zero), .ranges = (uintptr_t)ranges,
		.nr_ranges = POSTCOPY_MAX_RANGES,
	};
	unsigned int i;

	ASSERT_NE(NULL, ranges);
	for (i = 0; i < POSTCOPY_MAX_RANGES; i++)
		ranges[i] = (struct postcopy_range){ OFFSET + i % NR_PAGES * PAGE, PAGE };
	ASSERT_EQ(0, ioctl(self->r.helper, POSTCOPY_PAGES_ZERO, &zero));
	EXPECT_EQ(POSTCOPY_MAX_RANGES, zero.out_nr_ranges);
	EXPECT_EQ(NR_PAGES, zero.out_nr_zeroed);
}

/* PAGES_QUERY */

TEST_F(ioctl, query_shows_which_pages_are_present)
{
	uint64_t bitmap[2] = { -1ULL, -1ULL };
	struct postcopy_pages_query query = {
		.size = sizeof(query), .offset = OFFSET, .length = 67 * PAGE,
		.bitmap = (uintptr_t)bitmap,
	};

	ASSERT_EQ(0, pages_fill(&self->r, 1, 2, NULL));
	ASSERT_EQ(0, pages_zero(&self->r, 63, 10, NULL));
	ASSERT_EQ(0, ioctl(self->r.helper, POSTCOPY_PAGES_QUERY, &query));
	EXPECT_EQ(6 | 1ULL << 63, bitmap[0]);
	/* Pages 64 to 66: the others were not asked for. */
	EXPECT_EQ(7, bitmap[1]);
	EXPECT_EQ(6, query.out_nr_present);
	query.offset = OFFSET + 64 * PAGE;
	query.length = 64 * PAGE;
	ASSERT_EQ(0, ioctl(self->r.helper, POSTCOPY_PAGES_QUERY, &query));
	EXPECT_EQ(0x1ff, bitmap[0]);
	EXPECT_EQ(9, query.out_nr_present);
}

TEST_F(ioctl, query_refuses_an_offset_inside_a_word)
{
	struct postcopy_pages_query query = {
		.size = sizeof(query), .offset = OFFSET + PAGE, .length = PAGE,
		.bitmap = (uintptr_t)valid_bitmap,
	};

	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_QUERY, &query));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(ioctl, query_refuses_a_bad_bitmap)
{
	struct postcopy_pages_query query = {
		.size = sizeof(query), .offset = OFFSET, .length = NR_PAGES * PAGE,
	};
	uint64_t bad[] = { 0, 0xffff888000000000, -8ULL,
			   (uintptr_t)self->argument + sizeof(*self->argument) - 8 };
	unsigned int i;

	for (i = 0; i < 4; i++) {
		query.bitmap = bad[i];
		EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_PAGES_QUERY, &query));
		EXPECT_EQ(EFAULT, errno)
			TH_LOG("bitmap %u", i);
	}
}

/* Wrong states */

TEST_F(ioctl, calls_on_a_dead_region_fail)
{
	struct postcopy_region_info info;
	struct region by_id = self->r;
	struct postcopy_pages_fill fill;

	ASSERT_EQ(0, munmap(self->r.address, self->r.length));
	EXPECT_EQ(-ESRCH, pages_fill_raw(self->r.helper, OFFSET, PAGE, valid_data, &fill));
	EXPECT_EQ(-ESRCH, pages_zero(&self->r, 0, 1, NULL));
	EXPECT_EQ(-ESRCH, page_is_present(&self->r, 0));
	EXPECT_EQ(-ESRCH, region_convert(&self->r, 0, NULL));
	EXPECT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(POSTCOPY_REGION_DEAD, info.out_state);
	by_id.helper = -1;
	EXPECT_EQ(-ENOENT, region_attach(&by_id));
	EXPECT_EQ(-ENOENT, region_info(&by_id, &info));
	EXPECT_EQ(-ENOENT, region_convert(&by_id, 0, NULL));
}

TEST_F(ioctl, calls_on_a_converted_region_fail)
{
	struct postcopy_region_info info;
	struct region by_id = self->r;
	struct postcopy_pages_fill fill;

	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	memset(valid_data, 0xee, PAGE);
	EXPECT_EQ(-EALREADY, pages_fill_raw(self->r.helper, OFFSET, PAGE, valid_data, &fill));
	EXPECT_EQ(-EALREADY, pages_zero(&self->r, 0, 1, NULL));
	EXPECT_EQ(-EALREADY, page_is_present(&self->r, 0));
	EXPECT_EQ(-EALREADY, region_convert(&self->r, 0, NULL));
	EXPECT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(POSTCOPY_REGION_CONVERTED, info.out_state);
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
	by_id.helper = -1;
	EXPECT_EQ(-ENOENT, region_attach(&by_id));
	EXPECT_EQ(-ENOENT, region_info(&by_id, &info));
}

TEST_F(ioctl, bad_arguments_are_bad_in_every_state)
{
	const struct call *call;

	ASSERT_EQ(0, munmap(self->r.address, self->r.length));
	for_each_call(call) {
		valid(self->argument, call)->size = 4;
		EXPECT_EQ(EINVAL, perform(call, self->argument))
			TH_LOG("%s", call->name);
		EXPECT_EQ(EFAULT, perform(call, NULL))
			TH_LOG("%s", call->name);
	}
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

TEST_HARNESS_MAIN

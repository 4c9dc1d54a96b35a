// SPDX-License-Identifier: GPL-2.0
/*
 * Rules for every ioctl of /dev/postcopy: sizes, flags, reserved fields, pointers, wrong
 * fds, wrong states. The table has each ioctl with a valid argument, and the tests go
 * through the whole table.
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "postcopy_test.h"

#define NR_PAGES	128UL
#define OFFSET		(1UL << 30)

/* The largest argument, with room for a tail. */
union argument {
	struct {
		uint32_t size;
		uint32_t flags;
	};
	struct postcopy_context_info context_info;
	struct postcopy_context_backing backing;
	struct postcopy_region_list list;
	struct postcopy_helper_attach attach;
	struct postcopy_region_info info;
	struct postcopy_region_convert convert;
	struct postcopy_pages_fill fill;
	struct postcopy_helper_exchange exchange;
	struct postcopy_pages_zero zero;
	struct postcopy_pages_query query;
	char bytes[2 * PAGE_MAX];
};

static struct region *valid_region;
static uint64_t valid_bitmap[NR_PAGES / 64];
static struct postcopy_range valid_range;
static char valid_data[PAGE_MAX] __attribute__((aligned(PAGE_MAX)));
static int valid_memfd;

static void make_context_info(union argument *a)
{
}

static void make_backing(union argument *a)
{
	a->backing.fd = valid_memfd;
	a->backing.offset = valid_region->offset;
	a->backing.length = PAGE;
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

static void make_exchange(union argument *a)
{
	a->exchange.offset = valid_region->offset;
	a->exchange.length = PAGE;
	a->exchange.data = (uintptr_t)valid_data;
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
 * @valid: the result of a valid call on the fixture's region, which has a helper, is
 * private and misses pages; its context has a memfd for shared regions
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
	{ "CONTEXT_BACKING", POSTCOPY_CONTEXT_BACKING, false,
	  sizeof(struct postcopy_context_backing),
	  RESERVED(postcopy_context_backing), 0, EBUSY, make_backing },
	{ "REGION_LIST", POSTCOPY_REGION_LIST, false, sizeof(struct postcopy_region_list),
	  NO_RESERVED, 0, 0, make_list },
	{ "HELPER_ATTACH", POSTCOPY_HELPER_ATTACH, false, sizeof(struct postcopy_helper_attach),
	  RESERVED(postcopy_helper_attach), 0, EBUSY, make_attach },
	{ "REGION_INFO", POSTCOPY_REGION_INFO, false, sizeof(struct postcopy_region_info),
	  RESERVED(postcopy_region_info), 0, 0, make_info },
	{ "REGION_CONVERT", POSTCOPY_REGION_CONVERT, false, sizeof(struct postcopy_region_convert),
	  NO_RESERVED, POSTCOPY_CONVERT_RETIRE_CONTEXT, EBUSY, make_convert },
	{ "REGION_POLICY", POSTCOPY_REGION_POLICY, false, sizeof(struct postcopy_region_policy),
	  NO_RESERVED, 0, 0, make_info },
	{ "REGION_POLICY of helper", POSTCOPY_REGION_POLICY, true,
	  sizeof(struct postcopy_region_policy),
	  NO_RESERVED, 0, 0, make_helper_info },
	{ "REGION_INFO of helper", POSTCOPY_REGION_INFO, true, sizeof(struct postcopy_region_info),
	  RESERVED(postcopy_region_info), 0, 0, make_helper_info },
	{ "REGION_CONVERT of helper", POSTCOPY_REGION_CONVERT, true,
	  sizeof(struct postcopy_region_convert),
	  NO_RESERVED, POSTCOPY_CONVERT_RETIRE_CONTEXT, EBUSY, make_helper_info },
	{ "PAGES_FILL", POSTCOPY_PAGES_FILL, true, sizeof(struct postcopy_pages_fill),
	  NO_RESERVED, 0, 0, make_fill },
	{ "HELPER_EXCHANGE", POSTCOPY_HELPER_EXCHANGE, true,
	  sizeof(struct postcopy_helper_exchange), NO_RESERVED, POSTCOPY_EXCHANGE_WAIT, 0,
	  make_exchange },
	{ "PAGES_ZERO", POSTCOPY_PAGES_ZERO, true, sizeof(struct postcopy_pages_zero),
	  NO_RESERVED, 0, 0, make_zero },
	{ "PAGES_PRESENT", POSTCOPY_PAGES_PRESENT, true, sizeof(struct postcopy_pages_present),
	  NO_RESERVED, 0, EOPNOTSUPP, make_zero },
	{ "PAGES_DISCARD", POSTCOPY_PAGES_DISCARD, true, sizeof(struct postcopy_pages_discard),
	  RESERVED(postcopy_pages_discard), 0, 0, make_zero },
	{ "PAGES_POISON", POSTCOPY_PAGES_POISON, true, sizeof(struct postcopy_pages_poison),
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
	struct postcopy_context_backing backing = { .size = sizeof(backing), .length = PAGE };

	ASSERT_EQ(0, region_map(&self->r, OFFSET, NR_PAGES));
	ASSERT_EQ(0, region_attach(&self->r));
	valid_region = &self->r;
	valid_memfd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ASSERT_LE(0, valid_memfd);
	ASSERT_EQ(0, ftruncate(valid_memfd, PAGE));
	ASSERT_EQ(0, fcntl(valid_memfd, F_ADD_SEALS, F_SEAL_SHRINK));
	backing.fd = valid_memfd;
	ASSERT_EQ(0, ioctl(self->r.context, POSTCOPY_CONTEXT_BACKING, &backing));
	/* Ends where a page does, and nothing is mapped behind it. */
	self->argument = mmap(NULL, sizeof(*self->argument) + PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->argument);
	ASSERT_EQ(0, munmap((char *)self->argument + sizeof(*self->argument), PAGE));
}

FIXTURE_TEARDOWN(ioctl)
{
	close(valid_memfd);
	region_close(&self->r);
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

/* The size of the struct's first version, where it has grown since. */
static size_t first_size(const struct call *call)
{
	if (call->cmd == POSTCOPY_REGION_INFO)
		return offsetof(struct postcopy_region_info, out_wait_histogram) +
		       sizeof(((struct postcopy_region_info *)0)->out_wait_histogram);
	return call->size;
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
		valid(self->argument, call)->size = first_size(call) - 1;
		EXPECT_EQ(EINVAL, perform(call, self->argument))
			TH_LOG("%s", call->name);
		valid(self->argument, call)->size = first_size(call) - 8;
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
	/* If nobody held the fd of the attached helper, it would stay for ever. */
	EXPECT_EQ(0, region_info(&self->r, &info));
	EXPECT_NE(POSTCOPY_REGION_ATTACHED, info.out_state);
	EXPECT_EQ(0, region_attach(&self->r));
}

TEST_F(ioctl, knows_which_calls_belong_to_which_fd)
{
	const struct call *call;

	for_each_call(call) {
		int other = call->on_helper ? self->r.context : self->r.helper;

		if (call->cmd == POSTCOPY_REGION_INFO || call->cmd == POSTCOPY_REGION_CONVERT ||
		    call->cmd == POSTCOPY_REGION_POLICY)
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
 * A 64-bit program that makes the 32-bit system call with a pointer below 4 GiB does the
 * same as a 32-bit program.
 */
TEST_F(ioctl, works_for_32_bit_programs)
{
#ifdef __x86_64__
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
#else
	SKIP(return, "only x86 has a 32-bit system call for 64-bit programs");
#endif
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

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * POSTCOPY_HELPER_EXCHANGE: pages in, requests out, in one call, and nothing lost
 * whatever goes wrong on the way.
 */
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "kselftest_harness.h"
#include "fixtures.h"

#define NR_PAGES	256UL
#define OFFSET		(5UL << 30)

static char content[PAGE_MAX] __attribute__((aligned(PAGE_MAX)));

FIXTURE(exchange)
{
	struct region r;
	struct postcopy_request request[32];
	struct postcopy_helper_exchange exchange;
};

FIXTURE_SETUP(exchange)
{
	ASSERT_EQ(0, region_map(&self->r, OFFSET, NR_PAGES));
	ASSERT_EQ(0, region_attach(&self->r));
	self->exchange = (struct postcopy_helper_exchange){
		.size = sizeof(self->exchange),
		.requests = (uintptr_t)self->request,
		.nr_requests = 32,
	};
}

FIXTURE_TEARDOWN(exchange)
{
	region_close(&self->r);
}

/* Page @page with its right content, or none if @page is NR_PAGES. */
static int call(struct region *r, struct postcopy_helper_exchange *exchange, size_t page)
{
	exchange->offset = 0;
	exchange->length = 0;
	exchange->data = 0;
	if (page < NR_PAGES) {
		page_pattern(r, page, content);
		exchange->offset = r->offset + page * PAGE;
		exchange->length = PAGE;
		exchange->data = (uintptr_t)content;
	}
	exchange->out_nr_requests = 0xeeee;
	exchange->out_length = 0xeeee;
	return ioctl(r->helper, POSTCOPY_HELPER_EXCHANGE, exchange) ? -errno : 0;
}

#define NO_PAGE	NR_PAGES

static void serve_readers(struct __test_metadata *_metadata, struct region *r,
			  struct access *a, size_t nr)
{
	ASSERT_EQ(0, pages_fill(r, 0, nr, NULL));
	finish_readers(_metadata, r, a, nr);
}

TEST_F(exchange, says_in_the_features_that_it_is_there)
{
	struct postcopy_context_info info = { .size = sizeof(info) };

	ASSERT_EQ(0, ioctl(self->r.context, POSTCOPY_CONTEXT_INFO, &info));
	EXPECT_TRUE(info.out_features & POSTCOPY_FEATURE_EXCHANGE);
}

TEST_F(exchange, answers_and_gets_the_next_request)
{
	struct access a[2];

	start_readers(_metadata, &self->r, a, 2);
	self->exchange.nr_requests = 1;
	ASSERT_EQ(0, call(&self->r, &self->exchange, NO_PAGE));
	ASSERT_EQ(1, self->exchange.out_nr_requests);
	EXPECT_EQ(0, self->exchange.out_length);
	EXPECT_EQ(OFFSET, self->request[0].offset);
	EXPECT_EQ(PAGE, self->request[0].length);
	ASSERT_EQ(0, call(&self->r, &self->exchange, 0));
	ASSERT_EQ(1, self->exchange.out_nr_requests);
	EXPECT_EQ(PAGE, self->exchange.out_length);
	EXPECT_EQ(1, self->exchange.out_nr_filled);
	EXPECT_EQ(OFFSET + PAGE, self->request[0].offset);
	ASSERT_TRUE(access_wait_done(&a[0]));
	EXPECT_EQ(page_word(&self->r, 0, 0), a[0].value);
	ASSERT_EQ(0, call(&self->r, &self->exchange, 1));
	EXPECT_EQ(0, self->exchange.out_nr_requests);
	ASSERT_TRUE(access_wait_done(&a[1]));
	EXPECT_EQ(page_word(&self->r, 1, 0), a[1].value);
}

TEST_F(exchange, does_not_wait_unless_told_to)
{
	EXPECT_EQ(-EAGAIN, call(&self->r, &self->exchange, NO_PAGE));
	ASSERT_EQ(0, call(&self->r, &self->exchange, 7));
	EXPECT_EQ(0, self->exchange.out_nr_requests);
	EXPECT_EQ(PAGE, self->exchange.out_length);
	EXPECT_EQ(0, pages_wrong(&self->r, 7, 1));
}

TEST_F(exchange, leaves_a_present_page_as_it_is)
{
	ASSERT_EQ(0, pages_fill(&self->r, 3, 1, NULL));
	self->r.address[3 * PAGE] = 1;
	ASSERT_EQ(0, call(&self->r, &self->exchange, 3));
	EXPECT_EQ(PAGE, self->exchange.out_length);
	EXPECT_EQ(0, self->exchange.out_nr_filled);
	EXPECT_EQ(1, self->r.address[3 * PAGE]);
}

TEST_F(exchange, hands_out_all_that_is_queued_in_order_at_most_16_at_once)
{
	struct access a[20];
	size_t i;

	start_readers(_metadata, &self->r, a, 20);
	ASSERT_EQ(0, call(&self->r, &self->exchange, 100));
	ASSERT_EQ(16, self->exchange.out_nr_requests);
	for (i = 0; i < 16; i++)
		EXPECT_EQ(OFFSET + i * PAGE, self->request[i].offset);
	ASSERT_EQ(0, call(&self->r, &self->exchange, NO_PAGE));
	ASSERT_EQ(4, self->exchange.out_nr_requests);
	EXPECT_EQ(OFFSET + 16 * PAGE, self->request[0].offset);
	EXPECT_EQ(-EAGAIN, call(&self->r, &self->exchange, NO_PAGE));
	serve_readers(_metadata, &self->r, a, 20);
}

TEST_F(exchange, without_room_for_requests_only_fills)
{
	struct postcopy_region_info info;
	struct access a;

	start_readers(_metadata, &self->r, &a, 1);
	self->exchange.nr_requests = 0;
	self->exchange.requests = 0;
	self->exchange.flags = POSTCOPY_EXCHANGE_WAIT;
	ASSERT_EQ(0, call(&self->r, &self->exchange, 5));
	EXPECT_EQ(0, self->exchange.out_nr_requests);
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(1, info.out_nr_queued);
	serve_readers(_metadata, &self->r, &a, 1);
}

/* Reads nothing if the pages are refused. */
TEST_F(exchange, with_bad_pages_loses_no_request)
{
	struct access a;

	start_readers(_metadata, &self->r, &a, 1);
	self->exchange.length = PAGE;
	self->exchange.offset = OFFSET + NR_PAGES * PAGE;
	self->exchange.data = (uintptr_t)content;
	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_HELPER_EXCHANGE, &self->exchange));
	EXPECT_EQ(EINVAL, errno);
	self->exchange.offset = OFFSET;
	self->exchange.data = 0xffff888000000000;
	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_HELPER_EXCHANGE, &self->exchange));
	EXPECT_EQ(EFAULT, errno);
	self->exchange.data = 0;
	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_HELPER_EXCHANGE, &self->exchange));
	EXPECT_EQ(EFAULT, errno);
	self->exchange.length = 0;
	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_HELPER_EXCHANGE, &self->exchange));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, page_is_present(&self->r, 0));
	ASSERT_EQ(0, call(&self->r, &self->exchange, NO_PAGE));
	EXPECT_EQ(1, self->exchange.out_nr_requests);
	serve_readers(_metadata, &self->r, &a, 1);
}

TEST_F(exchange, into_a_bad_array_loses_no_request)
{
	const size_t size = sizeof(struct postcopy_request);
	char *buffer = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *end = buffer + PAGE;
	uintptr_t bad[] = {
		0, (uintptr_t)end, (uintptr_t)end - size / 2, (uintptr_t)end - 2 * size,
		0xffff888000000000,
	};
	struct access a[3];
	size_t i;

	ASSERT_NE(MAP_FAILED, buffer);
	ASSERT_EQ(0, munmap(end, PAGE));
	start_readers(_metadata, &self->r, a, 3);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		self->exchange.requests = bad[i];
		EXPECT_EQ(-EFAULT, call(&self->r, &self->exchange, NO_PAGE)) TH_LOG("%zu", i);
		EXPECT_EQ(-EFAULT, call(&self->r, &self->exchange, 50 + i)) TH_LOG("%zu", i);
	}
	self->exchange.requests = (uintptr_t)self->request;
	ASSERT_EQ(0, call(&self->r, &self->exchange, NO_PAGE));
	ASSERT_EQ(3, self->exchange.out_nr_requests);
	for (i = 0; i < 3; i++)
		EXPECT_EQ(OFFSET + i * PAGE, self->request[i].offset);
	serve_readers(_metadata, &self->r, a, 3);
}

/* The array could be written, but not the number of its entries. */
TEST_F(exchange, whose_result_cannot_be_written_loses_no_request)
{
	struct postcopy_helper_exchange *exchange;
	struct access a[2];

	exchange = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, exchange);
	*exchange = self->exchange;
	start_readers(_metadata, &self->r, a, 2);
	ASSERT_EQ(0, mprotect(exchange, PAGE, PROT_READ));
	EXPECT_EQ(-1, ioctl(self->r.helper, POSTCOPY_HELPER_EXCHANGE, exchange));
	EXPECT_EQ(EFAULT, errno);
	ASSERT_EQ(0, mprotect(exchange, PAGE, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, call(&self->r, exchange, NO_PAGE));
	ASSERT_EQ(2, exchange->out_nr_requests);
	EXPECT_EQ(OFFSET, self->request[0].offset);
	EXPECT_EQ(OFFSET + PAGE, self->request[1].offset);
	serve_readers(_metadata, &self->r, a, 2);
}

TEST_F(exchange, requests_it_handed_out_come_again_if_the_helper_goes)
{
	struct access a[4];

	start_readers(_metadata, &self->r, a, 4);
	self->exchange.nr_requests = 3;
	ASSERT_EQ(0, call(&self->r, &self->exchange, NO_PAGE));
	ASSERT_EQ(3, self->exchange.out_nr_requests);
	ASSERT_EQ(0, call(&self->r, &self->exchange, 0));
	ASSERT_EQ(1, self->exchange.out_nr_requests);
	ASSERT_TRUE(access_wait_done(&a[0]));
	region_detach(&self->r);
	ASSERT_EQ(0, region_attach(&self->r));
	self->exchange.nr_requests = 32;
	ASSERT_EQ(0, call(&self->r, &self->exchange, NO_PAGE));
	ASSERT_EQ(3, self->exchange.out_nr_requests);
	EXPECT_EQ(OFFSET + PAGE, self->request[0].offset);
	EXPECT_EQ(OFFSET + 3 * PAGE, self->request[2].offset);
	ASSERT_EQ(0, pages_fill(&self->r, 1, 3, NULL));
	EXPECT_TRUE(access_wait_done(&a[1]));
	EXPECT_TRUE(access_wait_done(&a[2]));
	EXPECT_TRUE(access_wait_done(&a[3]));
}

struct waiter {
	struct region *r;
	struct postcopy_helper_exchange exchange;
	struct postcopy_request request;
	size_t page;
	pthread_t thread;
	pid_t tid;
	int result;
	bool done;
};

static void *wait_run(void *arg)
{
	struct waiter *w = arg;

	__atomic_store_n(&w->tid, gettid(), __ATOMIC_SEQ_CST);
	w->result = call(w->r, &w->exchange, w->page);
	__atomic_store_n(&w->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static void start_waiter(struct __test_metadata *_metadata, struct waiter *w,
			 struct region *r, size_t page)
{
	*w = (struct waiter){
		.r = r,
		.page = page,
		.exchange = {
			.size = sizeof(w->exchange),
			.flags = POSTCOPY_EXCHANGE_WAIT,
			.requests = (uintptr_t)&w->request,
			.nr_requests = 1,
		},
	};
	ASSERT_EQ(0, pthread_create(&w->thread, NULL, wait_run, w));
	ASSERT_TRUE(wait_until(__atomic_load_n(&w->tid, __ATOMIC_SEQ_CST) &&
			       thread_sleeps(getpid(), w->tid)));
}

TEST_F(exchange, waits_for_a_request_after_its_page_is_there)
{
	struct waiter w;
	struct access a;

	start_waiter(_metadata, &w, &self->r, 9);
	EXPECT_TRUE(wait_until(page_is_present(&self->r, 9) == 1));
	EXPECT_EQ(0, pages_wrong(&self->r, 9, 1));
	start_readers(_metadata, &self->r, &a, 1);
	pthread_join(w.thread, NULL);
	EXPECT_EQ(0, w.result);
	EXPECT_EQ(PAGE, w.exchange.out_length);
	EXPECT_EQ(1, w.exchange.out_nr_requests);
	EXPECT_EQ(OFFSET, w.request.offset);
	serve_readers(_metadata, &self->r, &a, 1);
}

static void ignore_signal(int sig)
{
}

/* Signals it until it ends, because the first signal may come before it waits. */
static void end_by_signal(struct __test_metadata *_metadata, struct waiter *w)
{
	ASSERT_TRUE(wait_until(!pthread_kill(w->thread, SIGUSR1) &&
			       __atomic_load_n(&w->done, __ATOMIC_SEQ_CST)));
	pthread_join(w->thread, NULL);
}

TEST_F(exchange, that_waits_is_ended_by_a_signal)
{
	struct sigaction action = { .sa_handler = ignore_signal };
	struct waiter w;

	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	start_waiter(_metadata, &w, &self->r, NO_PAGE);
	end_by_signal(_metadata, &w);
	EXPECT_EQ(-EINTR, w.result);
	/* It is no error once the call has dealt with pages. */
	start_waiter(_metadata, &w, &self->r, 4);
	ASSERT_TRUE(wait_until(page_is_present(&self->r, 4) == 1));
	end_by_signal(_metadata, &w);
	EXPECT_EQ(0, w.result);
	EXPECT_EQ(PAGE, w.exchange.out_length);
	EXPECT_EQ(0, w.exchange.out_nr_requests);
}

TEST_F(exchange, that_waits_is_ended_by_the_end_of_the_region)
{
	struct waiter w;

	start_waiter(_metadata, &w, &self->r, 4);
	ASSERT_TRUE(wait_until(page_is_present(&self->r, 4) == 1));
	ASSERT_EQ(0, munmap(self->r.address, self->r.length));
	pthread_join(w.thread, NULL);
	EXPECT_EQ(0, w.result);
	EXPECT_EQ(0, w.exchange.out_nr_requests);
	EXPECT_EQ(-ESRCH, call(&self->r, &self->exchange, NO_PAGE));
	EXPECT_EQ(-ESRCH, call(&self->r, &self->exchange, 5));
}

TEST_F(exchange, of_a_converted_region_fails)
{
	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	EXPECT_EQ(-EALREADY, call(&self->r, &self->exchange, NO_PAGE));
	EXPECT_EQ(-EALREADY, call(&self->r, &self->exchange, 0));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
}

static void *serve(void *arg)
{
	struct postcopy_request request;
	struct postcopy_helper_exchange exchange = {
		.size = sizeof(exchange),
		.flags = POSTCOPY_EXCHANGE_WAIT,
		.requests = (uintptr_t)&request,
		.nr_requests = 1,
	};
	char page[PAGE_MAX] __attribute__((aligned(PAGE_MAX)));
	struct region *r = arg;

	while (!ioctl(r->helper, POSTCOPY_HELPER_EXCHANGE, &exchange)) {
		exchange.offset = 0;
		exchange.length = 0;
		exchange.data = 0;
		if (!exchange.out_nr_requests)
			continue;
		page_pattern(r, (request.offset - r->offset) / PAGE, page);
		exchange.offset = request.offset;
		exchange.length = PAGE;
		exchange.data = (uintptr_t)page;
	}
	return (void *)(long)errno;
}

TEST_F(exchange, in_a_loop_of_three_threads_serves_everything)
{
	pthread_t thread[3];
	struct access a[8];
	void *error;
	size_t i, j;

	for (i = 0; i < 3; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, serve, &self->r));
	for (i = 0; i < NR_PAGES; i += 8) {
		for (j = 0; j < 8; j++)
			ASSERT_EQ(0, access_start(&a[j], ACCESS_READ,
						  page_at(&self->r, i + j), 0));
		for (j = 0; j < 8; j++) {
			ASSERT_TRUE(access_wait_done(&a[j]));
			EXPECT_EQ(page_word(&self->r, i + j, 0), a[j].value);
		}
	}
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
	ASSERT_EQ(0, munmap(self->r.address, self->r.length));
	for (i = 0; i < 3; i++) {
		pthread_join(thread[i], &error);
		EXPECT_EQ(ESRCH, (long)error);
	}
}

TEST_HARNESS_MAIN

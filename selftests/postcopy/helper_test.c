// SPDX-License-Identifier: GPL-2.0
/*
 * The helper: reading requests, answering them, and dying at any moment without
 * anybody noticing more than a delay.
 */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "kselftest_harness.h"
#include "fixtures.h"

#define NR_PAGES	1024UL
#define OFFSET		(3UL << 30)

FIXTURE(helper)
{
	struct region r;
};

FIXTURE_SETUP(helper)
{
	ASSERT_EQ(0, region_map(&self->r, OFFSET, NR_PAGES));
	ASSERT_EQ(0, region_attach(&self->r));
}

FIXTURE_TEARDOWN(helper)
{
	region_close(&self->r);
}

/* Each of the first @nr pages is asked for once and nothing else is. */
static void expect_each_once(struct __test_metadata *_metadata, struct region *r, size_t nr)
{
	struct postcopy_request request[32];
	uint64_t seen = 0;
	size_t i;

	ASSERT_EQ(nr, requests_read_all(r, request, nr));
	for (i = 0; i < nr; i++)
		seen |= 1ULL << (request[i].offset - r->offset) / PAGE;
	EXPECT_EQ((1ULL << nr) - 1, seen);
	EXPECT_EQ(-EAGAIN, requests_read(r, request, 32));
}

/* Death and succession */

TEST_F(helper, the_next_one_gets_every_unanswered_request_once)
{
	struct postcopy_request request[4];
	struct postcopy_region_info info;
	struct access a[8];

	start_readers(_metadata, &self->r, a, 8);
	ASSERT_EQ(4, requests_read(&self->r, request, 4));
	EXPECT_EQ(OFFSET, request[0].offset);
	EXPECT_EQ(OFFSET + 3 * PAGE, request[3].offset);
	region_detach(&self->r);
	ASSERT_EQ(0, region_info(&self->r, &info));
	EXPECT_EQ(POSTCOPY_REGION_DETACHED, info.out_state);
	EXPECT_EQ(8, info.out_nr_requests);
	EXPECT_EQ(8, info.out_nr_queued);
	ASSERT_EQ(0, region_attach(&self->r));
	expect_each_once(_metadata, &self->r, 8);
	ASSERT_EQ(0, pages_fill(&self->r, 0, 8, NULL));
	finish_readers(_metadata, &self->r, a, 8);
}

TEST_F(helper, the_next_one_is_not_asked_for_what_was_answered)
{
	struct postcopy_request request[8];
	struct access a[8];

	start_readers(_metadata, &self->r, a, 8);
	ASSERT_EQ(6, requests_read(&self->r, request, 6));
	ASSERT_EQ(0, pages_fill(&self->r, 0, 2, NULL));
	region_detach(&self->r);
	ASSERT_EQ(0, region_attach(&self->r));
	ASSERT_EQ(6, requests_read_all(&self->r, request, 6));
	EXPECT_EQ(-EAGAIN, requests_read(&self->r, request, 8));
	/* Oldest first, as if nothing had happened */
	EXPECT_EQ(OFFSET + 2 * PAGE, request[0].offset);
	EXPECT_EQ(OFFSET + 7 * PAGE, request[5].offset);
	ASSERT_EQ(0, pages_fill(&self->r, 2, 6, NULL));
	finish_readers(_metadata, &self->r, a, 8);
}

/* In any order of their pages */
TEST_F(helper, the_next_one_gets_the_oldest_request_first)
{
	struct postcopy_request request[8];
	struct access a[8];
	size_t i;

	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, access_start(&a[i], ACCESS_READ, page_at(&self->r, 7 - i), 0));
		ASSERT_TRUE(access_wait_blocked(&a[i]));
	}
	ASSERT_EQ(5, requests_read(&self->r, request, 5));
	region_detach(&self->r);
	ASSERT_EQ(0, region_attach(&self->r));
	ASSERT_EQ(8, requests_read_all(&self->r, request, 8));
	for (i = 0; i < 8; i++)
		EXPECT_EQ(OFFSET + (7 - i) * PAGE, request[i].offset) TH_LOG("%zu", i);
	ASSERT_EQ(0, pages_fill(&self->r, 0, 8, NULL));
	for (i = 0; i < 8; i++)
		EXPECT_TRUE(access_wait_done(&a[i]));
}

struct late_reader {
	struct region *r;
	void *buffer;
	int result;
};

static void *late_reader_run(void *arg)
{
	struct late_reader *late = arg;

	late->result = requests_read(late->r, late->buffer, 16);
	return NULL;
}

/* A thread has taken 16 requests and fails on its buffer; others have taken 4 later ones. */
TEST_F(helper, the_next_one_gets_those_given_back_before_later_ones)
{
	struct late_reader late = { .r = &self->r };
	struct postcopy_request request[32];
	struct access a[20];
	struct region buffer;
	uint64_t nr_poisoned;
	pthread_t thread;
	size_t i;

	ASSERT_EQ(0, region_make(&buffer, MAP_PRIVATE, 0, 1));
	late.buffer = buffer.address;
	start_readers(_metadata, &self->r, a, 20);
	ASSERT_EQ(0, pthread_create(&thread, NULL, late_reader_run, &late));
	ASSERT_TRUE(wait_requests(&buffer, 1));
	ASSERT_EQ(4, requests_read(&self->r, request, 32));
	EXPECT_EQ(OFFSET + 16 * PAGE, request[0].offset);
	ASSERT_EQ(0, pages_poison(&buffer, 0, 1, &nr_poisoned));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(-EFAULT, late.result);
	region_detach(&self->r);
	ASSERT_EQ(0, region_attach(&self->r));
	ASSERT_EQ(20, requests_read_all(&self->r, request, 20));
	for (i = 0; i < 20; i++)
		EXPECT_EQ(OFFSET + i * PAGE, request[i].offset) TH_LOG("%zu", i);
	ASSERT_EQ(0, pages_fill(&self->r, 0, 20, NULL));
	finish_readers(_metadata, &self->r, a, 20);
	region_close(&buffer);
}

TEST_F(helper, requests_made_while_there_is_none_wait_for_the_first)
{
	struct access a[4];

	region_detach(&self->r);
	start_readers(_metadata, &self->r, a, 4);
	ASSERT_EQ(0, region_attach(&self->r));
	expect_each_once(_metadata, &self->r, 4);
	ASSERT_EQ(0, pages_fill(&self->r, 0, 4, NULL));
	finish_readers(_metadata, &self->r, a, 4);
}

/* A process that attaches, reads @nr requests, tells so, and does no more. */
static pid_t helper_process(struct region *r, size_t nr)
{
	struct postcopy_request request[16];
	int pair[2];
	char byte;
	pid_t pid;

	if (pipe2(pair, O_CLOEXEC))
		return -1;
	pid = fork_child();
	if (!pid) {
		if (region_attach(r) || requests_read_all(r, request, nr) != nr)
			_exit(1);
		if (write(pair[1], "x", 1) != 1)
			_exit(2);
		for (;;)
			pause();
	}
	close(pair[1]);
	if (read(pair[0], &byte, 1) != 1)
		return -1;
	close(pair[0]);
	return pid;
}

TEST_F(helper, killed_three_times_with_faults_pending_loses_nothing)
{
	struct postcopy_region_info info;
	struct access a[8];
	int i, status;
	pid_t pid;

	region_detach(&self->r);
	start_readers(_metadata, &self->r, a, 8);
	for (i = 0; i < 3; i++) {
		pid = helper_process(&self->r, i * 4);
		ASSERT_LT(0, pid);
		ASSERT_EQ(0, region_info(&self->r, &info));
		EXPECT_EQ(POSTCOPY_REGION_ATTACHED, info.out_state);
		EXPECT_EQ(pid, info.out_helper_pid);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(0, wait_child(pid, &status));
		ASSERT_TRUE(wait_until(!region_info(&self->r, &info) &&
				       info.out_state == POSTCOPY_REGION_DETACHED));
		EXPECT_EQ(8, info.out_nr_queued);
	}
	for (i = 0; i < 8; i++) {
		EXPECT_FALSE(access_is_done(&a[i]));
	}
	ASSERT_EQ(0, region_attach(&self->r));
	expect_each_once(_metadata, &self->r, 8);
	ASSERT_EQ(0, pages_fill(&self->r, 0, 8, NULL));
	finish_readers(_metadata, &self->r, a, 8);
}

/*
 * The helper is killed at any point of its fills, again and again, while the owner reads:
 * no byte is ever wrong, and every page is there that the map calls present.
 */
TEST_F(helper, killed_in_the_middle_of_fills_leaves_no_torn_page)
{
	struct server server;
	int round, status;
	size_t page;
	pid_t pid;

	for (round = 0; round < 8; round++) {
		struct postcopy_region_info info;

		region_detach(&self->r);
		pid = fork_child();
		if (!pid) {
			if (region_attach(&self->r))
				_exit(1);
			for (page = 0; page < NR_PAGES; page += 32)
				pages_fill(&self->r, page, 32, NULL);
			for (;;)
				pause();
		}
		wait_until(!region_info(&self->r, &info) &&
			   info.out_nr_present > (uint64_t)round * 100);
		kill(pid, SIGKILL);
		ASSERT_EQ(0, wait_child(pid, &status));
		ASSERT_TRUE(wait_until(region_attach(&self->r) == 0));
		for (page = 0; page < NR_PAGES; page++) {
			if (page_is_present(&self->r, page) == 1) {
				EXPECT_TRUE(page_is_right(&self->r, page,
							  page_at(&self->r, page)));
			}
		}
	}
	ASSERT_EQ(0, server_start(&server, &self->r));
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
	EXPECT_EQ(0, server_stop(&server));
}

TEST_F(helper, of_a_killed_owner_gets_esrch_in_the_middle_of_fills)
{
	int pair[2], status, error = 0;
	struct region r;
	uint64_t end;
	pid_t pid;
	size_t i;

	ASSERT_EQ(0, pipe(pair));
	pid = fork_child();
	if (!pid) {
		if (region_map(&r, 0, 16 * NR_PAGES) ||
		    write(pair[1], &r, sizeof(r)) != sizeof(r))
			_exit(1);
		for (;;)
			pause();
	}
	ASSERT_EQ(sizeof(r), read(pair[0], &r, sizeof(r)));
	r.context = self->r.context;
	ASSERT_EQ(0, region_attach(&r));
	end = now_ms() + PATIENCE_MS;
	for (i = 0; !error && now_ms() < end; i++) {
		error = pages_fill(&r, i % NR_PAGES * 16, 16, NULL);
		if (i == 64)
			kill(pid, SIGKILL);
	}
	EXPECT_EQ(-ESRCH, error);
	ASSERT_EQ(0, wait_child(pid, &status));
	close(r.helper);
}

TEST_F(helper, stays_attached_as_long_as_one_copy_of_its_fd_is_open)
{
	struct region second = self->r;
	int copy = dup(self->r.helper), status;
	int go[2];
	char byte;
	pid_t pid;

	close(self->r.helper);
	self->r.helper = copy;
	EXPECT_EQ(-EBUSY, region_attach(&second));
	ASSERT_EQ(0, pipe(go));
	pid = fork_child();
	if (!pid) {
		close(go[1]);
		_exit(read(go[0], &byte, 1) == 0 ? 0 : 1);
	}
	close(copy);
	EXPECT_EQ(-EBUSY, region_attach(&second));
	close(go[1]);
	ASSERT_EQ(0, wait_child(pid, &status));
	EXPECT_TRUE(wait_until(region_attach(&self->r) == 0));
}

/* A helper that is stopped for ever */

TEST_F(helper, stopped_leaves_the_owner_responsive_and_killable)
{
	static const char * const files[] = {
		"maps", "stat", "status", "cmdline", "statm", "comm",
	};
	pid_t owner, stopped;
	int pair[2], status;
	struct region r;
	uint64_t start;
	char path[256];
	unsigned int i;
	FILE *file;

	ASSERT_EQ(0, pipe(pair));
	owner = fork_child();
	if (!owner) {
		struct access a[4];

		if (region_map(&r, 0, 64))
			_exit(1);
		start_readers(_metadata, &r, a, 4);
		if (write(pair[1], &r, sizeof(r)) != sizeof(r))
			_exit(2);
		for (;;) {
			char *m = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			munmap(m, PAGE);
			pause_ms(1);
		}
	}
	ASSERT_EQ(sizeof(r), read(pair[0], &r, sizeof(r)));
	r.context = self->r.context;
	stopped = helper_process(&r, 2);
	ASSERT_LT(0, stopped);
	ASSERT_EQ(0, kill(stopped, SIGSTOP));
	ASSERT_EQ(stopped, waitpid(stopped, &status, WUNTRACED));
	EXPECT_EQ(-EBUSY, region_attach(&r));

	/* ps reads these, some of them under the owner's mmap_lock. */
	start = now_ms();
	for (i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", owner, files[i]);
		file = fopen(path, "r");
		ASSERT_NE(NULL, file);
		EXPECT_NE(NULL, fgets(path, sizeof(path), file)) {
			TH_LOG("%s", files[i]);
		}
		fclose(file);
	}
	EXPECT_LE(0, smaps_kb(owner, r.address, "Rss"));
	EXPECT_GT(AT_ONCE_MS, now_ms() - start);

	start = now_ms();
	ASSERT_EQ(0, kill(owner, SIGKILL));
	ASSERT_EQ(0, wait_child(owner, &status));
	EXPECT_GT(AT_ONCE_MS, now_ms() - start);
	kill(stopped, SIGKILL);
	ASSERT_EQ(0, wait_child(stopped, &status));
}

TEST_F(helper, that_never_comes_leaves_the_owner_able_to_map_and_unmap)
{
	uint64_t start;
	struct access a;
	int i;

	region_detach(&self->r);
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, self->r.address, 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	start = now_ms();
	for (i = 0; i < 100; i++) {
		char *m = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		ASSERT_NE(MAP_FAILED, m);
		*m = 1;
		ASSERT_EQ(0, munmap(m, PAGE));
	}
	EXPECT_GT(AT_ONCE_MS, now_ms() - start);
	EXPECT_FALSE(access_is_done(&a));
	ASSERT_EQ(0, region_attach(&self->r));
	ASSERT_EQ(0, pages_fill(&self->r, 0, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
}

/* read() */

TEST_F(helper, read_does_not_wait_with_o_nonblock)
{
	struct postcopy_request request;

	EXPECT_EQ(-EAGAIN, requests_read(&self->r, &request, 1));
}

TEST_F(helper, read_gives_whole_requests_only)
{
	struct postcopy_request request[3];
	struct access a[3];
	char *bytes = (char *)request;

	start_readers(_metadata, &self->r, a, 3);
	EXPECT_EQ(-1, read(self->r.helper, bytes, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, read(self->r.helper, bytes, sizeof(request[0]) - 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(sizeof(request[0]), read(self->r.helper, bytes, 2 * sizeof(request[0]) - 1));
	EXPECT_EQ(OFFSET, request[0].offset);
	EXPECT_EQ(2 * sizeof(request[0]), read(self->r.helper, bytes, sizeof(request)));
	ASSERT_EQ(0, pages_fill(&self->r, 0, 3, NULL));
	finish_readers(_metadata, &self->r, a, 3);
}

TEST_F(helper, read_into_a_bad_buffer_loses_no_request)
{
	const size_t size = sizeof(struct postcopy_request);
	char *buffer = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *end = buffer + PAGE;
	struct postcopy_request *last = (struct postcopy_request *)end - 1;
	struct access a[4];
	void *volatile none = NULL;
	ssize_t len;

	ASSERT_NE(MAP_FAILED, buffer);
	ASSERT_EQ(0, munmap(end, PAGE));
	start_readers(_metadata, &self->r, a, 4);
	EXPECT_EQ(-1, read(self->r.helper, none, 4 * size));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, read(self->r.helper, end, 4 * size));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, read(self->r.helper, end - size / 2, 4 * size));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, read(self->r.helper, (void *)0xffff888000000000, 4 * size));
	EXPECT_EQ(EFAULT, errno);
	/* Room for one request, then none: a request that was not written is not lost. */
	len = read(self->r.helper, last, 4 * size);
	if (len > 0) {
		EXPECT_EQ(size, len);
		EXPECT_EQ(OFFSET, last->offset);
		len = read(self->r.helper, buffer, 4 * size);
		EXPECT_EQ(3 * size, len);
		EXPECT_EQ(OFFSET + PAGE, ((struct postcopy_request *)buffer)->offset);
	} else {
		EXPECT_EQ(EFAULT, errno);
		expect_each_once(_metadata, &self->r, 4);
	}
	ASSERT_EQ(0, pages_fill(&self->r, 0, 4, NULL));
	finish_readers(_metadata, &self->r, a, 4);
}

struct reader {
	struct region *r;
	pthread_t thread;
	pid_t tid;
	struct postcopy_request request;
	ssize_t result;
	int error;
	bool done;
};

static void *read_blocking(void *arg)
{
	struct reader *reader = arg;

	__atomic_store_n(&reader->tid, gettid(), __ATOMIC_SEQ_CST);
	reader->result = read(reader->r->helper, &reader->request, sizeof(reader->request));
	reader->error = errno;
	__atomic_store_n(&reader->done, true, __ATOMIC_SEQ_CST);
	return NULL;
}

static void start_blocking_read(struct __test_metadata *_metadata, struct reader *reader,
				struct region *r)
{
	*reader = (struct reader){ .r = r };
	ASSERT_EQ(0, pthread_create(&reader->thread, NULL, read_blocking, reader));
	ASSERT_TRUE(wait_until(__atomic_load_n(&reader->tid, __ATOMIC_SEQ_CST) &&
			       thread_sleeps(getpid(), reader->tid)));
}

TEST_F(helper, read_waits_for_a_request)
{
	struct reader reader;
	struct access a;

	start_blocking_read(_metadata, &reader, &self->r);
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&self->r, 9), 0));
	pthread_join(reader.thread, NULL);
	EXPECT_EQ(sizeof(reader.request), reader.result);
	EXPECT_EQ(OFFSET + 9 * PAGE, reader.request.offset);
	ASSERT_EQ(0, pages_fill(&self->r, 9, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
}

static void ignore_signal(int sig)
{
}

TEST_F(helper, read_that_waits_is_ended_by_a_signal)
{
	struct sigaction action = { .sa_handler = ignore_signal };
	struct reader reader;

	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	start_blocking_read(_metadata, &reader, &self->r);
	/* The first signal may come before it reads. */
	ASSERT_TRUE(wait_until(!pthread_kill(reader.thread, SIGUSR1) &&
			       __atomic_load_n(&reader.done, __ATOMIC_SEQ_CST)));
	pthread_join(reader.thread, NULL);
	EXPECT_EQ(-1, reader.result);
	EXPECT_EQ(EINTR, reader.error);
}

TEST_F(helper, read_ends_with_0_when_the_region_dies)
{
	struct reader reader;

	start_blocking_read(_metadata, &reader, &self->r);
	ASSERT_EQ(0, munmap(self->r.address, self->r.length));
	pthread_join(reader.thread, NULL);
	EXPECT_EQ(0, reader.result);
	EXPECT_EQ(0, read(self->r.helper, &reader.request, sizeof(reader.request)));
}

TEST_F(helper, read_ends_with_0_when_the_region_is_converted)
{
	struct reader reader;

	ASSERT_EQ(0, pages_zero(&self->r, 0, NR_PAGES, NULL));
	start_blocking_read(_metadata, &reader, &self->r);
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	pthread_join(reader.thread, NULL);
	EXPECT_EQ(0, reader.result);
}

TEST_F(helper, read_by_many_threads_gives_each_request_to_one)
{
	struct reader reader[8];
	struct access a[8];
	uint64_t seen = 0;
	int i;

	for (i = 0; i < 8; i++)
		start_blocking_read(_metadata, &reader[i], &self->r);
	start_readers(_metadata, &self->r, a, 8);
	for (i = 0; i < 8; i++) {
		pthread_join(reader[i].thread, NULL);
		EXPECT_EQ(sizeof(reader[i].request), reader[i].result);
		seen |= 1ULL << (reader[i].request.offset - OFFSET) / PAGE;
	}
	EXPECT_EQ(0xff, seen);
	ASSERT_EQ(0, pages_fill(&self->r, 0, 8, NULL));
	finish_readers(_metadata, &self->r, a, 8);
}

TEST_F(helper, read_skips_what_was_answered_meanwhile)
{
	struct postcopy_request request[4];
	struct access a[3];

	start_readers(_metadata, &self->r, a, 3);
	ASSERT_EQ(0, pages_fill(&self->r, 1, 1, NULL));
	ASSERT_EQ(2, requests_read(&self->r, request, 4));
	EXPECT_EQ(OFFSET, request[0].offset);
	EXPECT_EQ(OFFSET + 2 * PAGE, request[1].offset);
	ASSERT_EQ(0, pages_fill(&self->r, 0, 3, NULL));
	finish_readers(_metadata, &self->r, a, 3);
}

TEST_F(helper, fd_takes_no_write_or_mmap)
{
	EXPECT_EQ(-1, write(self->r.helper, "x", 1));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->r.helper, 0));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, self->r.helper, 0));
}

/* poll() */

static short poll_now(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) < 0 ? -1 : p.revents;
}

TEST_F(helper, polls_readable_while_requests_are_queued)
{
	struct postcopy_request request;
	struct access a;

	EXPECT_EQ(0, poll_now(self->r.helper));
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, self->r.address, 0));
	ASSERT_TRUE(wait_until(poll_now(self->r.helper) == POLLIN));
	ASSERT_EQ(1, requests_read(&self->r, &request, 1));
	EXPECT_EQ(0, poll_now(self->r.helper));
	ASSERT_EQ(0, pages_fill(&self->r, 0, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(0, poll_now(self->r.helper));
}

TEST_F(helper, does_not_poll_readable_for_a_request_that_was_answered_unread)
{
	struct access a;

	ASSERT_EQ(0, access_start(&a, ACCESS_READ, self->r.address, 0));
	ASSERT_TRUE(wait_until(poll_now(self->r.helper) == POLLIN));
	ASSERT_EQ(0, pages_fill(&self->r, 0, 1, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(0, poll_now(self->r.helper));
}

TEST_F(helper, polls_hangup_when_the_region_dies)
{
	ASSERT_EQ(0, munmap(self->r.address, self->r.length));
	EXPECT_TRUE(poll_now(self->r.helper) & POLLHUP);
}

TEST_F(helper, polls_hangup_when_the_region_is_converted)
{
	ASSERT_EQ(0, pages_zero(&self->r, 0, NR_PAGES, NULL));
	EXPECT_EQ(0, poll_now(self->r.helper));
	ASSERT_EQ(0, region_convert(&self->r, 0, NULL));
	EXPECT_TRUE(poll_now(self->r.helper) & POLLHUP);
}

TEST_F(helper, epoll_reports_the_death_of_the_owner)
{
	struct epoll_event event = { .events = EPOLLIN };
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	int pair[2], status;
	struct region r;
	pid_t pid;

	ASSERT_EQ(0, pipe(pair));
	pid = fork_child();
	if (!pid) {
		if (region_map(&r, 0, 4) || write(pair[1], &r, sizeof(r)) != sizeof(r))
			_exit(1);
		for (;;)
			pause();
	}
	ASSERT_EQ(sizeof(r), read(pair[0], &r, sizeof(r)));
	r.context = self->r.context;
	ASSERT_EQ(0, region_attach(&r));
	ASSERT_EQ(0, epoll_ctl(epoll, EPOLL_CTL_ADD, r.helper, &event));
	EXPECT_EQ(0, epoll_wait(epoll, &event, 1, 0));
	kill(pid, SIGKILL);
	EXPECT_EQ(1, epoll_wait(epoll, &event, 1, PATIENCE_MS));
	EXPECT_TRUE(event.events & EPOLLHUP);
	ASSERT_EQ(0, wait_child(pid, &status));
	close(epoll);
	close(r.helper);
}

/* Answers */

TEST_F(helper, may_fill_what_nobody_asked_for)
{
	uint64_t nr_filled;

	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, &nr_filled));
	EXPECT_EQ(NR_PAGES, nr_filled);
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
}

TEST_F(helper, leaves_a_present_page_as_the_owner_has_written_it)
{
	uint64_t nr_filled, nr_zeroed;

	ASSERT_EQ(0, pages_fill(&self->r, 0, 8, NULL));
	*(uint64_t *)page_at(&self->r, 3) = 42;
	ASSERT_EQ(0, pages_fill(&self->r, 2, 10, &nr_filled));
	EXPECT_EQ(4, nr_filled);
	ASSERT_EQ(0, pages_zero(&self->r, 0, 16, &nr_zeroed));
	EXPECT_EQ(4, nr_zeroed);
	EXPECT_EQ(42, *(uint64_t *)page_at(&self->r, 3));
	*(uint64_t *)page_at(&self->r, 3) = page_word(&self->r, 3, 0);
	EXPECT_EQ(0, pages_wrong(&self->r, 0, 12));
}

struct filler {
	struct region *r;
	pthread_t thread;
	uint64_t nr_filled;
	int error;
	bool backwards;
};

static void *fill_all(void *arg)
{
	struct filler *f = arg;
	uint64_t nr;
	size_t i;

	for (i = 0; i < NR_PAGES && !f->error; i += 8) {
		f->error = pages_fill(f->r, f->backwards ? NR_PAGES - 8 - i : i, 8, &nr);
		f->nr_filled += nr;
	}
	return NULL;
}

TEST_F(helper, threads_that_fill_the_same_pages_fill_each_once)
{
	struct filler f[4];
	uint64_t total = 0;
	int i;

	for (i = 0; i < 4; i++) {
		f[i] = (struct filler){ .r = &self->r, .backwards = i % 2 };
		ASSERT_EQ(0, pthread_create(&f[i].thread, NULL, fill_all, &f[i]));
	}
	for (i = 0; i < 4; i++) {
		pthread_join(f[i].thread, NULL);
		EXPECT_EQ(0, f[i].error);
		total += f[i].nr_filled;
	}
	EXPECT_EQ(NR_PAGES, total);
	EXPECT_EQ(0, pages_wrong(&self->r, 0, NR_PAGES));
}

TEST_F(helper, fills_while_the_owner_writes_and_no_store_is_lost)
{
	struct access a[16];
	size_t i;

	for (i = 0; i < 16; i++) {
		ASSERT_EQ(0, access_start(&a[i], ACCESS_ADD, page_at(&self->r, i % 4), 1));
	}
	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	ASSERT_EQ(0, pages_fill(&self->r, 0, NR_PAGES, NULL));
	for (i = 0; i < 16; i++) {
		ASSERT_TRUE(access_wait_done(&a[i]));
	}
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(page_word(&self->r, i, 0) + 4, *(uint64_t *)page_at(&self->r, i));
	}
}

TEST_F(helper, may_be_the_owner_and_take_the_data_from_the_region_itself)
{
	struct postcopy_pages_fill fill;

	ASSERT_EQ(0, pages_fill(&self->r, 0, 1, NULL));
	ASSERT_EQ(0, pages_fill_raw(self->r.helper, OFFSET + PAGE, PAGE, self->r.address, &fill));
	EXPECT_EQ(0, memcmp(self->r.address, page_at(&self->r, 1), PAGE));
}

TEST(many_regions_with_a_helper_each)
{
	struct region r[32];
	struct server server[32];
	int i;

	for (i = 0; i < 32; i++) {
		ASSERT_EQ(0, region_map(&r[i], i * HUGE, 16));
		ASSERT_EQ(0, region_attach(&r[i]));
		ASSERT_EQ(0, server_start(&server[i], &r[i]));
	}
	for (i = 0; i < 32; i++) {
		EXPECT_EQ(0, pages_wrong(&r[i], 0, 16));
	}
	for (i = 0; i < 32; i++) {
		EXPECT_EQ(0, server_stop(&server[i]));
		EXPECT_EQ(16, server[i].nr_served);
		region_close(&r[i]);
	}
}

/* Pages in stock: the module keeps some for the next faults, see stash.c. */

/* Pages on the lists of each processor count too: MemFree leaves them out. */
static long free_kb(void)
{
	FILE *file = fopen("/proc/zoneinfo", "re");
	long pages = 0, nr;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, " pages free %ld", &nr) == 1 ||
		    sscanf(line, " count: %ld", &nr) == 1)
			pages += nr;
	if (file)
		fclose(file);
	return pages * (long)(PAGE / 1024);
}

#define NR_STOCKS	400
#define STOCK_KB	28	/* at most 7 pages each */

/* The module prepares for the fills of a VMA after the first one. */
static void fill_first(struct __test_metadata *_metadata, struct region *r)
{
	ASSERT_EQ(0, region_map(r, OFFSET, 16));
	ASSERT_EQ(0, region_attach(r));
	ASSERT_EQ(0, pages_fill(r, 0, 1, NULL));
}

TEST(helpers_that_are_gone_leave_no_pages_in_stock)
{
	long before = free_kb();
	struct region r;
	int i;

	ASSERT_LT(0, before);
	for (i = 0; i < 2 * NR_STOCKS; i++) {
		fill_first(_metadata, &r);
		ASSERT_EQ(0, pages_fill(&r, 1, 1, NULL));
		region_close(&r);
	}
	EXPECT_TRUE(wait_until(free_kb() > before - NR_STOCKS * STOCK_KB));
}

TEST(helpers_with_nothing_to_do_have_no_pages_in_stock)
{
	struct region r[NR_STOCKS];
	uint64_t start;
	long before;
	int i, page;

	/* Only pages that the module installs itself come from a stock. */
	if (system("grep -qw migrate_vma_pages /proc/kallsyms"))
		SKIP(return, "this kernel has no migrate_vma_pages() (CONFIG_DEVICE_MIGRATION)");
	for (i = 0; i < NR_STOCKS; i++)
		fill_first(_metadata, &r[i]);
	/* Helpers keep their stock for a second. It may end sooner, or be kept once more. */
	for (page = 1; page < 8; page++) {
		start = now_ms();
		for (i = 0; i < NR_STOCKS; i++)
			ASSERT_EQ(0, pages_fill(&r[i], page, 1, NULL));
		if (now_ms() - start < 500)
			break;
	}
	before = free_kb();
	ASSERT_LT(0, before);
	EXPECT_TRUE(wait_until(free_kb() > before + NR_STOCKS * STOCK_KB / 2))
		TH_LOG("%ld kB, then %ld", before, free_kb());
	for (i = 0; i < NR_STOCKS; i++)
		region_close(&r[i]);
}

/* Memory is the owner's */

TEST(memory_is_charged_to_the_owners_cgroup)
{
	int pair[2], status;
	struct region r;
	long before;
	pid_t pid;

	if (cgroup_make("owner") || cgroup_memory("owner") < 0)
		SKIP(return, "no memory cgroups");
	ASSERT_EQ(0, pipe(pair));
	pid = fork_child();
	if (!pid) {
		if (cgroup_enter("owner"))
			_exit(1);
		if (region_map(&r, 0, 4096) || write(pair[1], &r, sizeof(r)) != sizeof(r))
			_exit(2);
		for (;;)
			pause();
	}
	ASSERT_EQ(sizeof(r), read(pair[0], &r, sizeof(r)));
	r.context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	ASSERT_EQ(0, region_attach(&r));
	before = cgroup_memory("owner");
	ASSERT_EQ(0, pages_fill(&r, 0, 4096, NULL));
	/* A processor may have charged some pages in advance. */
	EXPECT_LE(before + (4096 - 256) * (long)PAGE, cgroup_memory("owner"));
	kill(pid, SIGKILL);
	ASSERT_EQ(0, wait_child(pid, &status));
	close(r.helper);
	close(r.context);
	EXPECT_TRUE(cgroup_remove("owner"));
}

/* The owner's limit kills the owner, not the helper, and leaves no torn page. */
TEST(a_memory_limit_of_the_owner_ends_the_owner)
{
	int pair[2], status, error = 0;
	struct region r;
	size_t page;
	pid_t pid;

	if (cgroup_make("limit") || cgroup_write("limit", "memory.max", "4M"))
		SKIP(return, "no memory cgroups");
	cgroup_write("limit", "memory.swap.max", "0");
	ASSERT_EQ(0, pipe(pair));
	pid = fork_child();
	if (!pid) {
		if (cgroup_enter("limit"))
			_exit(1);
		if (region_map(&r, 0, 4096) || write(pair[1], &r, sizeof(r)) != sizeof(r))
			_exit(2);
		for (;;)
			pause();
	}
	ASSERT_EQ(sizeof(r), read(pair[0], &r, sizeof(r)));
	r.context = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
	ASSERT_EQ(0, region_attach(&r));
	for (page = 0; page < 4096 && !error; page += 16)
		error = pages_fill(&r, page, 16, NULL);
	EXPECT_TRUE(error == -ENOMEM || error == -ESRCH) {
		TH_LOG("%d", error);
	}
	/* Perhaps only the helper is refused: then the owner lives on. */
	kill(pid, SIGKILL);
	ASSERT_EQ(0, wait_child(pid, &status));
	close(r.helper);
	close(r.context);
	EXPECT_TRUE(cgroup_remove("limit"));
}

/* A shared page is charged to whoever writes it. The next helper goes on where it died. */
TEST(a_memory_limit_of_the_helper_of_a_shared_region_ends_the_helper_and_no_page)
{
	struct postcopy_region_info info;
	size_t page, present = 0;
	struct access a;
	struct region r;
	int status;
	pid_t pid;

	if (cgroup_make("helper") || cgroup_write("helper", "memory.max", "4M"))
		SKIP(return, "no memory cgroups");
	cgroup_write("helper", "memory.swap.max", "0");
	ASSERT_EQ(0, region_make(&r, MAP_SHARED, OFFSET, 4096));
	region_detach(&r);
	ASSERT_EQ(0, access_start(&a, ACCESS_READ, page_at(&r, 4095), 0));
	ASSERT_TRUE(access_wait_blocked(&a));
	pid = fork_child();
	if (!pid) {
		if (cgroup_enter("helper"))
			_exit(1);
		if (region_attach(&r))
			_exit(2);
		for (page = 0; page < 4096; page += 16)
			if (pages_fill(&r, page, 16, NULL))
				_exit(3);
		_exit(0);
	}
	ASSERT_EQ(0, wait_child(pid, &status));
	/* Killed, or told so */
	EXPECT_TRUE((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) ||
		    WEXITSTATUS(status) == 3)
		TH_LOG("status %#x", status);
	EXPECT_FALSE(access_is_done(&a));
	ASSERT_EQ(0, region_attach(&r));
	ASSERT_EQ(0, region_info(&r, &info));
	EXPECT_LT(0, info.out_nr_present);
	EXPECT_GT(4096, info.out_nr_present);
	for (page = 0; page < 4096; page++) {
		if (page_is_present(&r, page) != 1)
			continue;
		present++;
		EXPECT_TRUE(page_is_right(&r, page, page_at(&r, page)));
	}
	EXPECT_EQ(present, info.out_nr_present);
	ASSERT_EQ(0, pages_fill(&r, 0, 4096, NULL));
	ASSERT_TRUE(access_wait_done(&a));
	EXPECT_EQ(0, pages_wrong(&r, 0, 4096));
	region_close(&r);
	EXPECT_TRUE(cgroup_remove("helper"));
}

TEST_HARNESS_MAIN

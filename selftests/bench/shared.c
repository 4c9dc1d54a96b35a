// SPDX-License-Identifier: GPL-2.0
/*
 * Rows 4, 6 and 14 (CPU): shared regions, and data that comes from a socket.
 *
 * 4:  the helper receives straight into the region's memory and says PRESENT, and
 *     the owner touches every page / recv() into a buffer and UFFDIO_COPY, and the
 *     owner touches every page.
 * 14: the helper's part of that.
 * 6:  the owner touches pages that are present, one in each 64 KiB so that
 *     fault-around is of no use, and all in order / the same with userfaultfd's
 *     minor faults, which a helper thread answers with UFFDIO_CONTINUE. The helper has
 *     huge pages, as umig has, and all of each is present: so the owner gets them too.
 *
 * The data is in the socket before the clock starts: the sender's work is not in
 * any figure. The floor of 4 and 14 is recv() into a buffer in use; of 6, the same
 * touch of plain shared memory.
 */
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

#define CHUNK	(1UL << 20)
#define AROUND	16UL		/* pages of fault-around */

struct stream {
	int fds[2];
	char *sent;		/* CHUNK bytes, always the same */
};

static struct stream stream_open(void)
{
	int size = 16 * CHUNK;
	struct stream s;

	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s.fds));
	must(!setsockopt(s.fds[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)));
	s.sent = memory_populated(CHUNK);
	return s;
}

static void stream_close(struct stream *s)
{
	close(s->fds[0]);
	close(s->fds[1]);
	munmap(s->sent, CHUNK);
}

static void stream_send(struct stream *s)
{
	must(send(s->fds[1], s->sent, CHUNK, MSG_DONTWAIT) == (ssize_t)CHUNK);
}

static void stream_receive(struct stream *s, void *to)
{
	must(recv(s->fds[0], to, CHUNK, MSG_WAITALL) == (ssize_t)CHUNK);
}

struct parts {
	double helper;		/* until the pages are present */
	double touch;		/* the owner's first read of each */
};

static double touch_all(const char *address, size_t length, size_t step)
{
	uint64_t start;
	size_t i;

	profile_start();
	start = clock_now();
	for (i = 0; i < length; i += step)
		(void)*(volatile const char *)(address + i);
	start = clock_now() - start;
	profile_stop();
	return (double)start / (length / step);
}

static struct parts receive_ours(struct stream *s, size_t length, bool shared)
{
	char *buffer = memory_populated(CHUNK), *memory;
	struct parts parts = { 0 };
	uint64_t start;
	struct region r;
	size_t done;

	r = shared ? bench_region_shared(length / PAGE, &memory) : bench_region(length / PAGE);
	for (done = 0; done < length; done += CHUNK) {
		stream_send(s);
		profile_start();
		start = clock_now();
		if (shared) {
			stream_receive(s, memory + done);
			bench_present(&r, done, CHUNK);
		} else {
			stream_receive(s, buffer);
			bench_fill(&r, done, CHUNK, buffer);
		}
		parts.helper += clock_now() - start;
		profile_stop();
	}
	parts.helper /= length / PAGE;
	parts.touch = touch_all(r.address, length, PAGE);
	must(!memcmp(r.address + length - CHUNK, s->sent, CHUNK));
	if (shared)
		munmap(memory, length);
	region_close(&r);
	munmap(buffer, CHUNK);
	return parts;
}

static struct parts receive_rival(struct stream *s, size_t length)
{
	char *address = memory_missing(length);
	char *buffer = memory_populated(CHUNK);
	struct parts parts = { 0 };
	int uffd = uffd_open(0, 0);
	uint64_t start;
	size_t done;

	uffd_register(uffd, address, length, UFFDIO_REGISTER_MODE_MISSING);
	for (done = 0; done < length; done += CHUNK) {
		stream_send(s);
		start = clock_now();
		stream_receive(s, buffer);
		uffd_copy(uffd, address + done, buffer, CHUNK);
		parts.helper += clock_now() - start;
	}
	parts.helper /= length / PAGE;
	parts.touch = touch_all(address, length, PAGE);
	must(!memcmp(address + length - CHUNK, s->sent, CHUNK));
	munmap(address, length);
	close(uffd);
	munmap(buffer, CHUNK);
	return parts;
}

static double receive_floor(struct stream *s)
{
	char *buffer = memory_populated(CHUNK);
	double sum = 0;
	uint64_t start;
	size_t i;

	for (i = 0; i < 16; i++) {
		stream_send(s);
		start = clock_now();
		stream_receive(s, buffer);
		sum += clock_now() - start;
	}
	munmap(buffer, CHUNK);
	return sum / (16 * CHUNK / PAGE);
}

static void rows_receive(size_t length)
{
	struct stream s = stream_open();
	struct parts private, shared, rival;
	struct row row = { .unit = "page" };

	receive_ours(&s, length, true);
	receive_rival(&s, length);
	shared = receive_ours(&s, length, true);
	private = receive_ours(&s, length, false);
	rival = receive_rival(&s, length);
	row.floor = receive_floor(&s);
	stream_close(&s);

	row.id = "4";
	row.name = "socket to shared region, first touch / recv + UFFDIO_COPY";
	row.target = 0.55;
	row.ours = shared.helper + shared.touch;
	row.rival = rival.helper + rival.touch;
	row_print(&row);
	row.id = "14c";
	row.name = "helper's CPU, shared region / recv + UFFDIO_COPY";
	row.target = 0.60;
	row.ours = shared.helper;
	row.rival = rival.helper;
	row_print(&row);
	row.id = "14p";
	row.name = "helper's CPU, private region, recv + FILL / recv + UFFDIO_COPY";
	row.target = 1.0;
	row.ours = private.helper;
	row_print(&row);
}

static double present_ours(size_t length, size_t step)
{
	struct region r;
	char *memory;
	double taken;

	r = bench_region_shared(length / PAGE, &memory);
	memset(memory, 0x5a, length);
	bench_present(&r, 0, length);
	taken = touch_all(r.address, length, step);
	munmap(memory, length);
	region_close(&r);
	return taken;
}

struct minor {
	int uffd;
	size_t nr;
};

static void *minor_serve(void *arg)
{
	struct minor *m = arg;
	struct uffd_msg msg;
	size_t i;

	for (i = 0; i < m->nr; i++) {
		must(read(m->uffd, &msg, sizeof(msg)) == sizeof(msg));
		must(msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_MINOR);
		uffd_continue(m->uffd, (char *)(msg.arg.pagefault.address & ~(PAGE - 1)), PAGE);
	}
	return NULL;
}

static int memory_file(size_t length, char **address)
{
	int fd = memfd_create("bench", MFD_CLOEXEC);

	must(fd >= 0 && !ftruncate(fd, length));
	*address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(*address != MAP_FAILED);
	memset(*address, 0x5a, length);
	return fd;
}

static double present_rival(size_t length, size_t step)
{
	struct minor m = {
		.uffd = uffd_open(0, UFFD_FEATURE_MINOR_SHMEM),
		.nr = length / step,
	};
	char *filled, *address;
	int fd = memory_file(length, &filled);
	pthread_t thread;
	double taken;

	address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(address != MAP_FAILED);
	uffd_register(m.uffd, address, length, UFFDIO_REGISTER_MODE_MINOR);
	must(!pthread_create(&thread, NULL, minor_serve, &m));
	taken = touch_all(address, length, step);
	pthread_join(thread, NULL);
	munmap(address, length);
	munmap(filled, length);
	close(m.uffd);
	close(fd);
	return taken;
}

static double present_floor(size_t length, size_t step)
{
	char *filled, *address;
	int fd = memory_file(length, &filled);
	double taken;

	address = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(address != MAP_FAILED);
	taken = touch_all(address, length, step);
	munmap(address, length);
	munmap(filled, length);
	close(fd);
	return taken;
}

void bench_shared(void)
{
	size_t length = bench_short ? 16UL << 20 : 64UL << 20;
	struct row row = {
		.id = "6",
		.name = "touch of present shared page, one in 64 KiB / minor fault + CONTINUE",
		.unit = "touch",
		.target = 0.20,
	};

	rows_receive(length);
	row.ours = present_ours(length, AROUND * PAGE);
	row.rival = present_rival(length, AROUND * PAGE);
	row.floor = present_floor(length, AROUND * PAGE);
	row_print(&row);
	row.id = "6s";
	row.name = "touch of present shared pages in order / minor fault + CONTINUE";
	row.unit = "page";
	row.target = 0.08;
	row.ours = present_ours(length, PAGE);
	row.rival = present_rival(length, PAGE);
	row.floor = present_floor(length, PAGE);
	row_print(&row);
}

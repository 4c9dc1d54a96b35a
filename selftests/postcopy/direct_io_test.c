// SPDX-License-Identifier: GPL-2.0
/*
 * Transfers by O_DIRECT that are under way while the region changes. The disk is a network
 * block device of the kernel, and its server is this program. So a transfer that has its pages
 * takes as long as the test wants.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/nbd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "fixtures.h"

#define NR_PAGES	64UL
#define DISK		"/dev/nbd0"
#define DISK_PAGES	16

struct disk {
	int fd;
	int sockets[2];		/* the kernel's and the server's */
	pthread_t thread;
};

static void *disk_run(void *arg)
{
	struct disk *disk = arg;

	ioctl(disk->fd, NBD_DO_IT);
	return NULL;
}

static int disk_start(struct disk *disk)
{
	if (system("modprobe -q nbd nbds_max=1 max_part=0"))
		return -ENODEV;
	disk->fd = open(DISK, O_RDWR | O_CLOEXEC);
	if (disk->fd < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, disk->sockets))
		return -errno;
	if (ioctl(disk->fd, NBD_CLEAR_SOCK) || ioctl(disk->fd, NBD_SET_BLKSIZE, PAGE) ||
	    ioctl(disk->fd, NBD_SET_SIZE_BLOCKS, (unsigned long)DISK_PAGES) ||
	    ioctl(disk->fd, NBD_SET_SOCK, disk->sockets[0]))
		return -errno;
	if (pthread_create(&disk->thread, NULL, disk_run, disk))
		return -EAGAIN;
	/* It is there once it has a size. */
	return wait_until(file_number("/sys/block/nbd0/size") == DISK_PAGES * PAGE / 512) ?
	       0 : -ETIMEDOUT;
}

static void disk_stop(struct disk *disk)
{
	ioctl(disk->fd, NBD_DISCONNECT);
	close(disk->sockets[1]);
	pthread_join(disk->thread, NULL);
	ioctl(disk->fd, NBD_CLEAR_SOCK);
	close(disk->sockets[0]);
	close(disk->fd);
}

static bool receive(struct disk *disk, void *buffer, size_t length)
{
	struct pollfd poll_fd = { .fd = disk->sockets[1], .events = POLLIN };

	return poll(&poll_fd, 1, PATIENCE_MS) == 1 &&
	       recv(disk->sockets[1], buffer, length, MSG_WAITALL) == (ssize_t)length;
}

/* The kernel has asked for @type; the data it writes is in @data. */
static bool disk_asked(struct disk *disk, unsigned int type, struct nbd_request *request,
		       char *data)
{
	if (!receive(disk, request, sizeof(*request)) ||
	    (be32toh(request->type) & 0xffff) != type || be32toh(request->len) != PAGE)
		return false;
	return type != NBD_CMD_WRITE || receive(disk, data, PAGE);
}

/* Gives the kernel the data it reads. */
static bool disk_answer(struct disk *disk, const struct nbd_request *request, const char *data)
{
	struct nbd_reply reply = { .magic = htobe32(NBD_REPLY_MAGIC) };

	memcpy(reply.handle, request->handle, sizeof(reply.handle));
	return send(disk->sockets[1], &reply, sizeof(reply), 0) == sizeof(reply) &&
	       (!data || send(disk->sockets[1], data, PAGE, 0) == (ssize_t)PAGE);
}

struct transfer {
	pthread_t thread;
	bool writes;
	int fd;
	char *memory;
	ssize_t result;
};

static void *transfer_run(void *arg)
{
	struct transfer *t = arg;

	t->result = t->writes ? pwrite(t->fd, t->memory, PAGE, 0) :
				pread(t->fd, t->memory, PAGE, PAGE);
	if (t->result < 0)
		t->result = -errno;
	return NULL;
}

static int transfer_start(struct transfer *t, int fd, bool writes, char *memory)
{
	*t = (struct transfer){ .fd = fd, .writes = writes, .memory = memory };
	return -pthread_create(&t->thread, NULL, transfer_run, t);
}

FIXTURE_PRIVATE_AND_SHARED(direct_io, NR_PAGES)

TEST_F(direct_io, under_way_across_conversion_reaches_the_same_page)
{
	struct nbd_request request;
	struct region *r = &self->r;
	struct transfer transfer;
	char data[PAGE], sent[PAGE];
	struct disk disk;
	int fd;

	if (disk_start(&disk))
		SKIP(return, "no network block device");
	memset(data, 0x5a, PAGE);
	ASSERT_EQ(0, pages_fill(r, 0, NR_PAGES, NULL));
	ASSERT_LE(0, fd = open(DISK, O_RDWR | O_DIRECT | O_CLOEXEC));

	ASSERT_EQ(0, transfer_start(&transfer, fd, false, page_at(r, 3)));
	ASSERT_TRUE(disk_asked(&disk, NBD_CMD_READ, &request, NULL));
	ASSERT_EQ(0, region_convert(r, 0, NULL));
	EXPECT_TRUE(page_is_right(r, 3, page_at(r, 3)));
	ASSERT_TRUE(disk_answer(&disk, &request, data));
	pthread_join(transfer.thread, NULL);
	EXPECT_EQ(PAGE, transfer.result);
	EXPECT_EQ(0, memcmp(page_at(r, 3), data, PAGE));
	EXPECT_EQ(0, pages_wrong(r, 0, 3));
	EXPECT_EQ(0, pages_wrong(r, 4, NR_PAGES - 4));

	/* Converted memory is written to a disk like any other. */
	ASSERT_EQ(0, transfer_start(&transfer, fd, true, page_at(r, 5)));
	ASSERT_TRUE(disk_asked(&disk, NBD_CMD_WRITE, &request, sent));
	ASSERT_TRUE(disk_answer(&disk, &request, NULL));
	pthread_join(transfer.thread, NULL);
	EXPECT_EQ(PAGE, transfer.result);
	EXPECT_TRUE(page_is_right(r, 5, sent));
	close(fd);
	disk_stop(&disk);
}

/* No request goes to the disk before the page is there. Then the request holds the page. */
TEST_F(direct_io, of_a_missing_page_waits_and_then_takes_the_delivered_one)
{
	struct nbd_request request;
	struct region *r = &self->r;
	struct transfer transfer;
	char data[PAGE], sent[PAGE];
	struct disk disk;
	int fd;

	if (disk_start(&disk))
		SKIP(return, "no network block device");
	ASSERT_LE(0, fd = open(DISK, O_RDWR | O_DIRECT | O_CLOEXEC));
	ASSERT_EQ(0, transfer_start(&transfer, fd, true, page_at(r, 7)));
	ASSERT_TRUE(wait_requests(r, 1));
	EXPECT_EQ(-1, recv(disk.sockets[1], sent, 1, MSG_DONTWAIT));
	ASSERT_EQ(0, pages_fill(r, 7, 1, NULL));
	ASSERT_TRUE(disk_asked(&disk, NBD_CMD_WRITE, &request, sent));
	EXPECT_TRUE(page_is_right(r, 7, sent));
	ASSERT_TRUE(disk_answer(&disk, &request, NULL));
	pthread_join(transfer.thread, NULL);
	EXPECT_EQ(PAGE, transfer.result);

	memset(data, 0xa5, PAGE);
	ASSERT_EQ(0, transfer_start(&transfer, fd, false, page_at(r, 8)));
	ASSERT_TRUE(wait_requests(r, 1));
	EXPECT_EQ(-1, recv(disk.sockets[1], sent, 1, MSG_DONTWAIT));
	ASSERT_EQ(0, pages_fill(r, 8, 1, NULL));
	ASSERT_TRUE(disk_asked(&disk, NBD_CMD_READ, &request, NULL));
	ASSERT_TRUE(disk_answer(&disk, &request, data));
	pthread_join(transfer.thread, NULL);
	EXPECT_EQ(PAGE, transfer.result);
	EXPECT_EQ(0, memcmp(page_at(r, 8), data, PAGE));
	close(fd);
	disk_stop(&disk);
}

/* The page is dropped. The transfer ends in the old page and leaves the new one alone. */
TEST_F(direct_io, under_way_across_a_discard_shows_in_no_page_that_comes_after)
{
	struct postcopy_range range = pages_range(&self->r, 9, 1);
	struct nbd_request request;
	struct region *r = &self->r;
	struct transfer transfer;
	uint64_t nr_discarded = 0;
	struct disk disk;
	char data[PAGE];
	int fd;

	if (disk_start(&disk))
		SKIP(return, "no network block device");
	memset(data, 0x5a, PAGE);
	ASSERT_EQ(0, pages_fill(r, 8, 3, NULL));
	ASSERT_EQ(0, pages_wrong(r, 8, 3));
	ASSERT_LE(0, fd = open(DISK, O_RDWR | O_DIRECT | O_CLOEXEC));
	ASSERT_EQ(0, transfer_start(&transfer, fd, false, page_at(r, 9)));
	ASSERT_TRUE(disk_asked(&disk, NBD_CMD_READ, &request, NULL));
	ASSERT_EQ(0, pages_discard(r, &range, 1, &nr_discarded));
	EXPECT_EQ(1, nr_discarded);
	ASSERT_EQ(0, pages_fill(r, 9, 1, NULL));
	ASSERT_TRUE(disk_answer(&disk, &request, data));
	pthread_join(transfer.thread, NULL);
	EXPECT_EQ(PAGE, transfer.result);
	EXPECT_EQ(0, pages_wrong(r, 8, 3));
	close(fd);
	disk_stop(&disk);
}

TEST_HARNESS_MAIN

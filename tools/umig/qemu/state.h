/* SPDX-License-Identifier: GPL-2.0 */
/* Device state on its way: out of the source QEMU, into the destination QEMU. */
#ifndef UMIG_STATE_H
#define UMIG_STATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <xxhash.h>

/* Takes the next bytes of device state. Return: 0 or -errno. */
typedef int (*state_sink)(void *arg, const void *data, uint32_t length);

/**
 * struct state_reader - a thread that hands what QEMU writes to a sink
 * @done_fd: eventfd, readable once the sink has everything
 * @end_fd: eventfd that ends the thread. Ending a thread costs time, and meanwhile a guest waits.
 * @error: 0 or -errno, and @sum, the digest: valid once @done_fd is readable. @error is written
 *	last.
 * @bytes: handed to the sink so far
 */
struct state_reader {
	_Atomic int error;
	_Atomic uint64_t bytes;
	int fd;
	int done_fd;
	int end_fd;
	state_sink sink;
	void *sink_arg;
	pthread_t thread;
	bool started;
	uint64_t sum;
};

int state_reader_start(struct state_reader *s, int fd, state_sink sink, void *arg);
void state_reader_stop(struct state_reader *s);

struct state_piece;

/**
 * struct state_writer - a queue of device state and a thread that writes it to QEMU
 *
 * @held: nothing is written to QEMU yet
 * @stopped: tells the thread to end. It does not end by itself while QEMU loads what it has
 * written.
 *
 * The queue keeps the two QEMUs apart: the destination may stop reading because it waits for a
 * page, and that page comes only after the source has finished writing.
 */
struct state_writer {
	int fd;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct state_piece *first;
	struct state_piece **last;
	uint64_t queued;
	bool finished;
	bool held;
	bool stopped;
	int error;
	uint64_t bytes;
	XXH64_state_t *hash;
};

int state_writer_start(struct state_writer *s, int fd);
int state_writer_push(struct state_writer *s, const void *data, uint32_t length);
uint64_t state_writer_finish(struct state_writer *s);
void state_writer_hold(struct state_writer *s, bool hold);
int state_writer_error(struct state_writer *s);
void state_writer_stop(struct state_writer *s);

#endif

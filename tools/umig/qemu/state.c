// SPDX-License-Identifier: GPL-2.0
/* Device state on its way: out of the source QEMU, into the destination QEMU. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/lib.h"
#include "qemu/state.h"

#define STATE_READ	(256U << 10)
/* Device state is a few megabytes: more than this cannot be device state. */
#define STATE_MAX	(4ULL << 30)

struct state_piece {
	struct state_piece *next;
	uint32_t length;
	uint8_t data[];
};

static void *state_read(void *arg)
{
	struct state_reader *s = arg;
	XXH64_state_t *hash = XXH64_createState();
	uint8_t *buf = malloc(STATE_READ);
	int error = hash && buf ? 0 : -ENOMEM;
	eventfd_t end;

	if (!error)
		XXH64_reset(hash, 0);
	while (!error) {
		ssize_t n = read(s->fd, buf, STATE_READ);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			error = -errno;
		if (n <= 0)
			break;
		XXH64_update(hash, buf, (size_t)n);
		atomic_fetch_add(&s->bytes, (uint64_t)n);
		error = s->sink(s->sink_arg, buf, (uint32_t)n);
	}
	if (!error)
		s->sum = XXH64_digest(hash);
	atomic_store(&s->error, error);
	/* If it failed, QEMU notices at once instead of filling a socket that nobody reads. */
	shutdown(s->fd, SHUT_RDWR);
	eventfd_write(s->done_fd, 1);
	eventfd_read(s->end_fd, &end);
	XXH64_freeState(hash);
	free(buf);
	return NULL;
}

/* Takes over @fd, also if it fails. @sink is called by a thread of the reader. */
int state_reader_start(struct state_reader *s, int fd, state_sink sink, void *arg)
{
	int ret;

	memset(s, 0, sizeof(*s));
	s->fd = fd;
	s->sink = sink;
	s->sink_arg = arg;
	s->done_fd = eventfd(0, EFD_CLOEXEC);
	s->end_fd = eventfd(0, EFD_CLOEXEC);
	ret = s->done_fd < 0 || s->end_fd < 0 ? errno :
		pthread_create(&s->thread, NULL, state_read, s);
	s->started = !ret;
	return -ret;
}

void state_reader_stop(struct state_reader *s)
{
	if (s->started) {
		shutdown(s->fd, SHUT_RDWR);
		eventfd_write(s->end_fd, 1);
		pthread_join(s->thread, NULL);
		close(s->done_fd);
		close(s->end_fd);
		close(s->fd);
	}
	s->started = false;
}

static int state_write_piece(int fd, const uint8_t *data, size_t length)
{
	while (length) {
		ssize_t n = send(fd, data, length, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		length -= (size_t)n;
	}
	return 0;
}

static void *state_write(void *arg)
{
	struct state_writer *s = arg;
	int ret;

	pthread_mutex_lock(&s->lock);
	while (!s->error) {
		struct state_piece *piece = s->first;

		if (!piece || s->held) {
			if (s->finished && !s->held)
				break;
			pthread_cond_wait(&s->more, &s->lock);
			continue;
		}
		s->first = piece->next;
		if (!s->first)
			s->last = &s->first;
		s->queued -= piece->length;
		pthread_mutex_unlock(&s->lock);
		ret = state_write_piece(s->fd, piece->data, piece->length);
		free(piece);
		pthread_mutex_lock(&s->lock);
		if (ret && !s->error)
			s->error = ret;
	}
	shutdown(s->fd, SHUT_WR);
	while (!s->stopped)
		pthread_cond_wait(&s->more, &s->lock);
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* Takes over @fd, also if it fails. */
int state_writer_start(struct state_writer *s, int fd)
{
	int ret;

	memset(s, 0, sizeof(*s));
	s->fd = fd;
	s->last = &s->first;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->more, NULL);
	s->hash = XXH64_createState();
	if (!s->hash)
		return -ENOMEM;
	XXH64_reset(s->hash, 0);
	ret = pthread_create(&s->thread, NULL, state_write, s);
	s->started = !ret;
	return -ret;
}

int state_writer_push(struct state_writer *s, const void *data, uint32_t length)
{
	struct state_piece *piece = malloc(sizeof(*piece) + length);
	int ret;

	if (!piece)
		return -ENOMEM;
	piece->next = NULL;
	piece->length = length;
	memcpy(piece->data, data, length);
	XXH64_update(s->hash, data, length);
	s->bytes += length;
	pthread_mutex_lock(&s->lock);
	ret = s->error;
	if (!ret && s->queued + length > STATE_MAX)
		ret = -EFBIG;
	if (!ret) {
		*s->last = piece;
		s->last = &piece->next;
		s->queued += length;
		pthread_cond_signal(&s->more);
	}
	pthread_mutex_unlock(&s->lock);
	if (ret)
		free(piece);
	return ret;
}

/* While the writer is held, QEMU gets nothing. */
void state_writer_hold(struct state_writer *s, bool hold)
{
	pthread_mutex_lock(&s->lock);
	s->held = hold;
	pthread_cond_signal(&s->more);
	pthread_mutex_unlock(&s->lock);
}

/* Nothing more will be pushed. Return: the digest of everything pushed. */
uint64_t state_writer_finish(struct state_writer *s)
{
	pthread_mutex_lock(&s->lock);
	s->finished = true;
	pthread_cond_signal(&s->more);
	pthread_mutex_unlock(&s->lock);
	return XXH64_digest(s->hash);
}

int state_writer_error(struct state_writer *s)
{
	int ret;

	pthread_mutex_lock(&s->lock);
	ret = s->error;
	pthread_mutex_unlock(&s->lock);
	return ret;
}

void state_writer_stop(struct state_writer *s)
{
	struct state_piece *piece;

	if (!s->started)
		return;
	pthread_mutex_lock(&s->lock);
	if (!s->error && !(s->finished && !s->first))
		s->error = -ECANCELED;
	s->stopped = true;
	pthread_cond_signal(&s->more);
	pthread_mutex_unlock(&s->lock);
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	while ((piece = s->first)) {
		s->first = piece->next;
		free(piece);
	}
	close(s->fd);
	XXH64_freeState(s->hash);
	s->started = false;
}

// SPDX-License-Identifier: GPL-2.0
/* One connection to the source: an NBD export that is only read. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/lib.h"
#include "transfer/source.h"
#include "wire/tls.h"
#include "wire/wire.h"

static bool source_is_dead(struct source *s)
{
	return nbd_aio_is_dead(s->nbd) || nbd_aio_is_closed(s->nbd);
}

/* Keeps libnbd's words for the message. Return: libnbd's -errno. */
static int source_failed(struct source *s, int fallback)
{
	int err = nbd_get_errno();
	const char *text = nbd_get_error();

	snprintf(s->error, sizeof(s->error), "%s", text ? text : strerror(err ? err : fallback));
	return -(err ? err : fallback);
}

static int source_wait_ready(struct source *s, int stop_fd, unsigned int timeout_ms)
{
	uint64_t deadline = now_ns() + timeout_ms * NS_PER_MS, now;

	while (!nbd_aio_is_ready(s->nbd)) {
		struct pollfd fds[2] = {
			{ .fd = nbd_aio_get_fd(s->nbd), .events = source_events(s) },
			{ .fd = stop_fd, .events = POLLIN },
		};
		int ret;

		if (source_is_dead(s))
			return source_failed(s, ECONNRESET);
		now = now_ns();
		if (now >= deadline) {
			snprintf(s->error, sizeof(s->error), "no answer within %u s",
				 timeout_ms / 1000);
			return -ETIMEDOUT;
		}
		ret = poll(fds, 2, poll_ms(deadline, now, INT_MAX));
		if (ret < 0 && errno != EINTR)
			return -errno;
		if (fds[1].revents)
			return -ECANCELED;
		if (ret > 0 && fds[0].revents) {
			ret = source_notify(s, fds[0].revents);
			if (ret)
				return ret;
		}
	}
	return 0;
}

/* After this a URI without TLS is refused, and so is a server whose identity is not proved. */
static int source_require_tls(struct source *s)
{
	return nbd_set_uri_allow_tls(s->nbd, LIBNBD_TLS_REQUIRE) < 0 ||
	       nbd_set_tls_verify_peer(s->nbd, true) < 0 ||
	       (tls.psk && nbd_set_tls_psk_file(s->nbd, tls.psk) < 0) ||
	       (tls.user && nbd_set_tls_username(s->nbd, tls.user) < 0) ||
	       (tls.certificates && nbd_set_tls_certificates(s->nbd, tls.certificates) < 0);
}

/**
 * source_open - connect and negotiate
 * @want_status: also ask for base:allocation
 * @stop_fd: gives up when this is readable
 *
 * Return: 0; -EINVAL the URI is wrong, and trying again would not help; -ECANCELED; another -errno
 * with @s->error filled in.
 */
int source_open(struct source *s, const char *uri, bool want_status, int stop_fd,
		unsigned int timeout_ms)
{
	int64_t size;
	int ret;

	memset(s, 0, sizeof(*s));
	s->nbd = nbd_create();
	if (!s->nbd)
		return source_failed(s, ENOMEM);
	if (want_status && nbd_add_meta_context(s->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0) {
		ret = source_failed(s, ENOMEM);
		goto err;
	}
	if (tls_is_on() && source_require_tls(s)) {
		ret = source_failed(s, EINVAL);
		goto err;
	}
	if (nbd_aio_connect_uri(s->nbd, uri) < 0) {
		ret = source_failed(s, ECONNREFUSED);
		goto err;
	}
	ret = source_wait_ready(s, stop_fd, timeout_ms);
	if (ret == -EINVAL)
		ret = -EPROTO;
	if (ret)
		goto err;
	size = nbd_get_size(s->nbd);
	if (size < 0) {
		ret = source_failed(s, EPROTO);
		goto err;
	}
	s->size = (uint64_t)size;
	s->has_status = want_status &&
		nbd_can_meta_context(s->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) > 0;
	socket_keep_alive(nbd_aio_get_fd(s->nbd));
	return 0;

err:
	source_close(s);
	return ret;
}

/* What was in flight never completes. The caller resets its source_read structs. */
void source_close(struct source *s)
{
	nbd_close(s->nbd);
	s->nbd = NULL;
}

static int read_chunk(void *user_data, const void *subbuf, size_t count, uint64_t offset,
		      unsigned int status, int *error)
{
	struct source_read *r = user_data;

	(void)subbuf;
	(void)error;
	if (status == LIBNBD_READ_ERROR || !count)
		return 0;
	/* libnbd has checked that the chunk lies within the read. */
	if (r->nr_chunks < SOURCE_MAX_CHUNKS) {
		r->chunk[r->nr_chunks].first = (uint32_t)(offset - r->offset);
		r->chunk[r->nr_chunks].end = (uint32_t)(offset - r->offset + count);
	}
	r->nr_chunks++;
	return 0;
}

static int chunk_compare(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Did the reply bring each byte exactly once? */
static bool read_is_whole(struct source_read *r)
{
	uint32_t end = 0;
	unsigned int i;

	if (!r->nr_chunks || r->nr_chunks > SOURCE_MAX_CHUNKS)
		return false;
	if (r->nr_chunks > 1)
		qsort(r->chunk, r->nr_chunks, sizeof(r->chunk[0]), chunk_compare);
	for (i = 0; i < r->nr_chunks; i++) {
		if (r->chunk[i].first != end)
			return false;
		end = r->chunk[i].end;
	}
	return end == r->length;
}

static int read_completed(void *user_data, int *error)
{
	struct source_read *r = user_data;

	r->error = *error > 0 ? -*error : *error;
	/* The server is about to end, which says nothing about the page. */
	if (r->error == -ESHUTDOWN)
		r->source->shutting_down = true;
	if (!r->error && !read_is_whole(r))
		r->error = -EPROTO;
	r->completed = true;
	return 1;
}

/*
 * Called after a request. If libnbd cannot send a request any more it takes it all the same, and
 * completes it at once with an error; then no descriptor tells of that. Return: 0 or -ECONNRESET.
 */
static int source_asked(struct source *s, bool *in_flight)
{
	if (source_is_dead(s)) {
		snprintf(s->error, sizeof(s->error), "%s", strerror(ECONNRESET));
		return -ECONNRESET;
	}
	*in_flight = true;
	return 0;
}

/* Return: 0: @r will complete inside a later source_notify(); -errno. */
int source_read(struct source *s, struct source_read *r)
{
	nbd_chunk_callback chunk = { .callback = read_chunk, .user_data = r };
	nbd_completion_callback completion = { .callback = read_completed, .user_data = r };

	r->source = s;
	r->completed = false;
	r->error = 0;
	r->nr_chunks = 0;
	r->started_ns = now_ns();
	if (nbd_aio_pread_structured(s->nbd, r->buf, r->length, r->offset, chunk, completion,
				     0) < 0)
		return source_failed(s, EIO);
	return source_asked(s, &r->in_flight);
}

static int status_add_zero(struct source_status *st, uint64_t offset, uint64_t length)
{
	struct postcopy_range *last = st->nr_zero ? &st->zero[st->nr_zero - 1] : NULL;

	if (last && last->offset + last->length == offset) {
		last->length += length;
		return 0;
	}
	if (!st->zero || st->nr_zero == st->room) {
		size_t room = st->room ? 2 * st->room : 64;
		void *zero = realloc(st->zero, room * sizeof(*st->zero));

		if (!zero)
			return -ENOMEM;
		st->zero = zero;
		st->room = room;
	}
	st->zero[st->nr_zero++] = (struct postcopy_range){ offset, length };
	return 0;
}

static int status_extents(void *user_data, const char *context, uint64_t offset,
			  uint32_t *entries, size_t nr_entries, int *error)
{
	struct source_status *st = user_data;
	uint64_t end = st->offset + st->length;
	size_t i;

	if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) || offset != st->offset || st->covered)
		return 0;
	for (i = 0; i + 1 < nr_entries && offset < end; i += 2) {
		/* The last extent may reach further than the question. */
		uint64_t length = min_u64(entries[i], end - offset);

		/*
		 * Only ZERO is a promise about the contents. A hole without it may read as
		 * anything.
		 */
		if (entries[i + 1] & LIBNBD_STATE_ZERO && status_add_zero(st, offset, length)) {
			*error = ENOMEM;
			return -1;
		}
		offset += length;
	}
	st->covered = offset - st->offset;
	return 0;
}

static int status_completed(void *user_data, int *error)
{
	struct source_status *st = user_data;

	st->error = *error > 0 ? -*error : *error;
	st->completed = true;
	return 1;
}

int source_status(struct source *s, struct source_status *st)
{
	nbd_extent_callback extent = { .callback = status_extents, .user_data = st };
	nbd_completion_callback completion = { .callback = status_completed, .user_data = st };

	st->completed = false;
	st->error = 0;
	st->covered = 0;
	st->nr_zero = 0;
	st->started_ns = now_ns();
	if (nbd_aio_block_status(s->nbd, st->length, st->offset, extent, completion, 0) < 0)
		return source_failed(s, EIO);
	return source_asked(s, &st->in_flight);
}

int source_fd(struct source *s)
{
	return nbd_aio_get_fd(s->nbd);
}

short source_events(struct source *s)
{
	unsigned int direction = nbd_aio_get_direction(s->nbd);
	short events = 0;

	if (direction & LIBNBD_AIO_DIRECTION_READ)
		events |= POLLIN;
	if (direction & LIBNBD_AIO_DIRECTION_WRITE)
		events |= POLLOUT;
	return events;
}

/* Return: 0, or -errno if the connection is of no further use. */
int source_notify(struct source *s, short revents)
{
	unsigned int direction = nbd_aio_get_direction(s->nbd);
	int ret = 0;

	if (revents & (POLLIN | POLLHUP | POLLERR) && direction & LIBNBD_AIO_DIRECTION_READ)
		ret = nbd_aio_notify_read(s->nbd);
	else if (revents & (POLLOUT | POLLHUP | POLLERR) &&
		 direction & LIBNBD_AIO_DIRECTION_WRITE)
		ret = nbd_aio_notify_write(s->nbd);
	if (ret < 0)
		return source_failed(s, EIO);
	if (source_is_dead(s)) {
		snprintf(s->error, sizeof(s->error), "the source closed the connection");
		return -ECONNRESET;
	}
	if (s->shutting_down) {
		snprintf(s->error, sizeof(s->error), "the source is shutting down");
		return -ESHUTDOWN;
	}
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0 */
/* One connection to the source: an NBD export that is only read. */
#ifndef UMIG_SOURCE_H
#define UMIG_SOURCE_H

#include <libnbd.h>
#include <linux/postcopy.h>
#include <stdbool.h>
#include <stdint.h>

#define SOURCE_MAX_CHUNKS	512

struct source;

/**
 * struct source_read - one read in flight
 * @source: the connection on which it was started
 * @buf: page-aligned, @length bytes
 * @in_flight: from source_read() until it completes or source_close()
 * @completed: the reply is here; @error says how the read ended
 * @error: 0: every byte of @buf came from the source
 * @chunk: the parts of a structured reply. libnbd accepts a reply that leaves a gap and fills the
 *	gap with zeros; here a gap or an overlap is -EPROTO.
 */
struct source_read {
	struct source *source;
	uint8_t *buf;
	uint64_t offset;
	uint32_t length;
	bool in_flight;
	bool completed;
	int error;
	uint64_t started_ns;
	unsigned int nr_chunks;
	struct {
		uint32_t first;
		uint32_t end;
	} chunk[SOURCE_MAX_CHUNKS];
};

/**
 * struct source_status - one block status query in flight
 * @covered: how many bytes from @offset on the answer is about
 * @zero: which ranges of these read as zeros, in rising order
 */
struct source_status {
	uint64_t offset;
	uint64_t length;
	bool in_flight;
	bool completed;
	int error;
	uint64_t started_ns;
	uint64_t covered;
	struct postcopy_range *zero;
	size_t nr_zero;
	size_t room;
};

struct source {
	struct nbd_handle *nbd;
	uint64_t size;
	bool has_status;
	bool shutting_down;
	char error[256];
};

int source_open(struct source *s, const char *uri, bool want_status, int stop_fd,
		unsigned int timeout_ms);
void source_close(struct source *s);
int source_read(struct source *s, struct source_read *r);
int source_status(struct source *s, struct source_status *st);
int source_fd(struct source *s);
short source_events(struct source *s);
int source_notify(struct source *s, short revents);

#endif

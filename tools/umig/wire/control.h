/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The control protocol between umig send and umig recv. There is no I/O here: bytes go in, messages
 * come out.
 *
 * One stream connection carries frames: a 32-bit big-endian length of the body, one byte kind, the
 * body. Kind 1 is a message (a JSON object), kind 2 bytes of device state, kinds 3 and 4 ranges of
 * pages: pairs of 64-bit big-endian numbers, the first page and how many.
 *
 *   sender                      receiver
 *   HELLO (phase new)  ------>             checks, attaches, connects to the pages, holds demand
 *                      <------  READY      the destination awaits device state
 *   STATE bytes ...    ------>
 *   STATE_END          ------>             the source has stopped: demand may be answered
 *                      <------  LOADED     the destination is whole but for its pages
 *   GO                 ------>             commit point: the guest is the destination's from here
 *                      <------  RESUMED
 *                      <------  PROGRESS   now and then; also says the receiver lives
 *                      <------  DONE       every page is there
 *   END                ------>             counts and digest of the source's RAM
 *                      <------  ACK        they agree and the memory is converted
 *
 * If HELLO says precopy, pages flow before the source stops:
 *
 *                      <------  READY      background reads begin
 *                      <------  PROGRESS   now and then
 *   DIRTY ..., ROUND   ------>             pages written to since: dropped, read again
 *                      <------  READY      again; any number of rounds
 *   STATE bytes ...    ------>             kept until STATE_END: QEMU must not see stale pages
 *   DIRTY ... HOLES ... ------>            the last pages written to; pages that are zero now
 *   STATE_END          ------>             as above
 *
 * Either side may send ERROR and close. Its code is for programs, its text for people. After GO the
 * sender reconnects when the connection breaks and says HELLO (phase go) with the same id, which is
 * HELLO and GO in one: the receiver answers RESUMED, and both go on from there.
 */
#ifndef UMIG_CONTROL_H
#define UMIG_CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/digest.h"

#define CONTROL_VERSION		1
#define CONTROL_HEADER		5U
#define CONTROL_MAX_MESSAGE	(64U << 10)
#define CONTROL_MAX_STATE	(1U << 20)
#define CONTROL_MAX_RANGES	65536U
#define CONTROL_RANGE_SIZE	16U
#define CONTROL_MAX_RAM		(1ULL << 52)
/* 32 hex digits */
#define CONTROL_ID_SIZE		33U

enum control_kind { CONTROL_MESSAGE = 1, CONTROL_STATE, CONTROL_DIRTY, CONTROL_HOLES };

struct control_frame {
	enum control_kind kind;
	const uint8_t *body;
	uint32_t length;
};

enum control_type {
	CONTROL_HELLO,
	CONTROL_READY,
	CONTROL_ROUND,
	CONTROL_STATE_END,
	CONTROL_LOADED,
	CONTROL_GO,
	CONTROL_RESUMED,
	CONTROL_PROGRESS,
	CONTROL_DONE,
	CONTROL_END,
	CONTROL_ACK,
	CONTROL_ERROR,
	CONTROL_NR_TYPES,
};

/* The code of an ERROR. No code, or one that this umig does not know, means CONTROL_FAILED. */
enum control_error {
	CONTROL_FAILED,
	CONTROL_MISMATCH,	/* page counts or digest differ */
	CONTROL_NR_ERRORS,
};

/**
 * struct control_message - one decoded message; @type says which members count
 * @id: HELLO: the id of the migration, 32 hex digits
 * @go: HELLO: phase go
 * @running: HELLO: the guest ran, so the destination resumes it
 * @precopy: HELLO: pages may be read before the source has stopped
 * @ram_id, @ram_size, @page_size, @uri: HELLO
 * @bytes, @sum: STATE_END: how many bytes of device state and their XXH64 digest
 * @present, @total: PROGRESS, DONE: pages
 * @demand: PROGRESS: pages by demand
 * @digest, @total: END, in units of the digest
 * @resume_ms: RESUMED: from LOADED's last byte to the running guest, the receiver's part
 * @error, @text: ERROR
 */
struct control_message {
	enum control_type type;
	char id[CONTROL_ID_SIZE];
	bool go;
	bool running;
	bool precopy;
	char ram_id[128];
	uint64_t ram_size;
	uint64_t page_size;
	char uri[1024];
	uint64_t bytes;
	uint64_t sum;
	uint64_t present;
	uint64_t total;
	uint64_t demand;
	struct digest digest;
	double resume_ms;
	enum control_error error;
	char text[512];
};

ssize_t control_parse_frame(const uint8_t *buf, size_t length, struct control_frame *frame);
int control_decode(const uint8_t *body, size_t length, struct control_message *msg);
ssize_t control_encode(const struct control_message *msg, uint8_t *buf, size_t size);
void control_put_range(uint8_t *at, uint64_t first, uint64_t nr);
int control_get_range(const struct control_frame *frame, uint32_t index, uint64_t nr_pages,
		      uint64_t *first, uint64_t *nr);
void control_header(uint8_t *buf, enum control_kind kind, uint32_t length);
const char *control_type_name(enum control_type type);

#endif

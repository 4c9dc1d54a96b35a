// SPDX-License-Identifier: GPL-2.0
/*
 * libFuzzer: what a peer can send to the control connection. Frames are taken off as link.c does;
 * what decodes must survive being encoded and decoded once more.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_message(const struct control_frame *frame)
{
	static uint8_t buf[CONTROL_HEADER + CONTROL_MAX_MESSAGE];
	struct control_message msg, again;
	struct control_frame back;
	ssize_t n;

	if (control_decode(frame->body, frame->length, &msg))
		return;
	n = control_encode(&msg, buf, sizeof(buf));
	/* A text may become longer than the limit by its escapes. */
	if (n < 0)
		return;
	if (control_parse_frame(buf, (size_t)n, &back) != n || back.kind != CONTROL_MESSAGE ||
	    control_decode(back.body, back.length, &again) || again.type != msg.type ||
	    strcmp(again.id, msg.id) || strcmp(again.uri, msg.uri) ||
	    again.ram_size != msg.ram_size || again.present != msg.present ||
	    again.digest.sum != msg.digest.sum)
		abort();
}

static void fuzz_ranges(const struct control_frame *frame)
{
	const uint64_t nr_pages = 1000;
	uint64_t first, nr;
	uint32_t i;

	for (i = 0; i < frame->length / CONTROL_RANGE_SIZE; i++) {
		if (!control_get_range(frame, i, nr_pages, &first, &nr) &&
		    (!nr || first >= nr_pages || first + nr > nr_pages || first + nr < first))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct control_frame frame;

	while (size) {
		ssize_t n = control_parse_frame(data, size, &frame);

		if (n <= 0)
			break;
		if ((size_t)n > size || frame.body < data || frame.body + frame.length > data + n)
			abort();
		if (frame.kind == CONTROL_MESSAGE)
			fuzz_message(&frame);
		else if (frame.kind != CONTROL_STATE)
			fuzz_ranges(&frame);
		data += n;
		size -= (size_t)n;
	}
	return 0;
}

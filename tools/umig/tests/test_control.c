// SPDX-License-Identifier: GPL-2.0
/* The control protocol's parser: whole, cut at every byte, oversized, garbage. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "wire/control.h"

#define DIGEST "\"digest\":\"0000000000000000\""

static int decode(const char *text)
{
	struct control_message msg;

	return control_decode((const uint8_t *)text, strlen(text), &msg);
}

/* Returns the code that an ERROR of this text has, CONTROL_NR_ERRORS if it has none. */
static enum control_error error_of(const char *text)
{
	struct control_message msg;

	return control_decode((const uint8_t *)text, strlen(text), &msg) ?
		CONTROL_NR_ERRORS : msg.error;
}

static const struct control_message sample[] = {
	{ .type = CONTROL_HELLO, .id = "0123456789abcdef0123456789abcdef", .go = true,
	  .running = true, .ram_id = "r0", .ram_size = 1ULL << 30, .page_size = 4096,
	  .uri = "nbd+unix:///?socket=/tmp/a%20b" },
	{ .type = CONTROL_READY },
	{ .type = CONTROL_STATE_END, .bytes = 12345678901ULL, .sum = 0xfedcba9876543210ULL },
	{ .type = CONTROL_LOADED },
	{ .type = CONTROL_GO },
	{ .type = CONTROL_RESUMED, .resume_ms = 1.5 },
	{ .type = CONTROL_PROGRESS, .present = 5, .total = 9, .demand = 2 },
	{ .type = CONTROL_DONE, .present = 9, .total = 9 },
	{ .type = CONTROL_END, .total = 9, .digest = { 4, 5, ~0ULL } },
	{ .type = CONTROL_ACK },
	{ .type = CONTROL_ERROR, .text = "it went \"wrong\"" },
	{ .type = CONTROL_ERROR, .error = CONTROL_MISMATCH, .text = "they differ" },
};

#define NR_SAMPLES (sizeof(sample) / sizeof(sample[0]))

static bool same(const struct control_message *a, const struct control_message *b)
{
	return a->type == b->type && !strcmp(a->id, b->id) && a->go == b->go &&
		a->running == b->running && !strcmp(a->ram_id, b->ram_id) &&
		a->ram_size == b->ram_size && a->page_size == b->page_size &&
		!strcmp(a->uri, b->uri) && a->bytes == b->bytes && a->sum == b->sum &&
		a->present == b->present && a->total == b->total && a->demand == b->demand &&
		!memcmp(&a->digest, &b->digest, sizeof(a->digest)) &&
		a->resume_ms == b->resume_ms && a->error == b->error && !strcmp(a->text, b->text);
}

/* Each sample goes through and is wanted whole: any shorter piece asks for more. */
static bool roundtrip(const struct control_message *in)
{
	struct control_message out;
	struct control_frame frame;
	uint8_t buf[8192];
	ssize_t n = control_encode(in, buf, sizeof(buf)), i;

	if (n <= 0)
		return false;
	for (i = 0; i < n; i++) {
		if (control_parse_frame(buf, (size_t)i, &frame))
			return false;
	}
	if (control_parse_frame(buf, (size_t)n, &frame) != n || frame.kind != CONTROL_MESSAGE ||
	    control_decode(frame.body, frame.length, &out) || !same(in, &out))
		return false;
	/* The body cut anywhere is no message. */
	for (i = 0; i < (ssize_t)frame.length; i++) {
		if (control_decode(frame.body, (size_t)i, &out) != -EPROTO)
			return false;
	}
	for (i = 0; i < n; i++) {
		if (control_encode(in, buf, (size_t)i) != -EMSGSIZE)
			return false;
	}
	return true;
}

static void test_garbage(void)
{
	struct control_message msg;
	struct control_frame frame;
	uint8_t buf[4096];
	unsigned int round, i;
	bool sane = true;

	srandom(3);
	for (round = 0; round < 200000; round++) {
		size_t length = (size_t)random() % 64;
		ssize_t n;

		for (i = 0; i < length; i++)
			buf[i] = (uint8_t)random();
		if (round % 2) {
			buf[0] = 0;
			buf[1] = 0;
			buf[2] = 0;
		}
		n = control_parse_frame(buf, length, &frame);
		if (n > 0 && ((size_t)n > length || frame.body + frame.length != buf + n))
			sane = false;
	}
	ok(sane, "frame.garbage_never_reaches_beyond_the_buffer");

	/* Samples with a few bytes changed: decoded or refused, never out of range. */
	for (round = 0; round < 200000; round++) {
		ssize_t n = control_encode(&sample[round % NR_SAMPLES], buf, sizeof(buf));

		for (i = 0; i < 1 + (unsigned int)random() % 3; i++)
			buf[CONTROL_HEADER + (size_t)random() % ((size_t)n - CONTROL_HEADER)] =
				(uint8_t)random();
		if (!control_decode(buf + CONTROL_HEADER, (size_t)n - CONTROL_HEADER, &msg) &&
		    (msg.present > msg.total && msg.type == CONTROL_DONE))
			sane = false;
	}
	ok(sane, "message.mutations_are_decoded_or_refused");
}

int main(void)
{
	static uint8_t big[CONTROL_HEADER + CONTROL_MAX_STATE + 1];
	struct control_frame frame;
	char name[64];
	size_t i;

	for (i = 0; i < NR_SAMPLES; i++) {
		snprintf(name, sizeof(name), "message.%s_survives_and_every_cut_is_refused",
			 control_type_name(sample[i].type));
		ok(roundtrip(&sample[i]), name);
	}
	control_header(big, CONTROL_STATE, CONTROL_MAX_STATE);
	ok(control_parse_frame(big, sizeof(big), &frame) == sizeof(big) - 1,
	   "frame.largest_state_is_taken");
	control_header(big, CONTROL_STATE, CONTROL_MAX_STATE + 1);
	ok(control_parse_frame(big, CONTROL_HEADER, &frame) == -EPROTO,
	   "frame.oversized_state_is_refused_at_its_header");
	control_header(big, CONTROL_MESSAGE, CONTROL_MAX_MESSAGE + 1);
	ok(control_parse_frame(big, CONTROL_HEADER, &frame) == -EPROTO,
	   "frame.oversized_message_is_refused_at_its_header");
	control_header(big, CONTROL_MESSAGE, 0);
	ok(control_parse_frame(big, CONTROL_HEADER, &frame) == -EPROTO, "frame.empty_is_refused");
	control_header(big, 3, 1);
	ok(control_parse_frame(big, CONTROL_HEADER, &frame) == -EPROTO,
	   "frame.unknown_kind_is_refused");

	ok(decode("[]") == -EPROTO && decode("{}") == -EPROTO && decode("{\"type\":1}") == -EPROTO,
	   "message.needs_a_type");
	ok(decode("{\"type\":\"nonsense\"}") == -EPROTO, "message.unknown_type_is_refused");
	ok(decode("{\"type\":\"go\",\"type\":\"ack\"}") == -EPROTO,
	   "message.duplicate_keys_are_refused");
	ok(decode("{\"type\":\"hello\",\"version\":2}") == -EPROTONOSUPPORT,
	   "hello.other_version_is_told_apart");
	ok(decode("{\"type\":\"hello\",\"version\":1}") == -EPROTONOSUPPORT,
	   "hello.without_a_page_size_is_told_apart");
	ok(decode("{\"type\":\"done\",\"present\":-1,\"total\":1}") == -EPROTO,
	   "number.negative_is_refused");
	ok(decode("{\"type\":\"done\",\"present\":1.0,\"total\":1}") == -EPROTO,
	   "number.real_is_refused");
	ok(decode("{\"type\":\"done\",\"present\":2,\"total\":1}") == -EPROTO,
	   "done.more_than_all_is_refused");
	ok(decode("{\"type\":\"end\",\"total\":9,\"zero\":4,\"data\":4," DIGEST "}") == -EPROTO,
	   "end.counts_must_add_up");
	ok(decode("{\"type\":\"state_end\",\"bytes\":1,\"digest\":\"xyz\"}") == -EPROTO,
	   "digest.must_be_16_hex_digits");
	ok(decode("{\"type\":\"error\",\"text\":\"\\u001b[2J\"}") == -EPROTO,
	   "text.control_characters_are_refused");
	ok(error_of("{\"type\":\"error\",\"text\":\"mismatch\"}") == CONTROL_FAILED,
	   "error.without_a_code_is_a_plain_failure");
	ok(error_of("{\"type\":\"error\",\"code\":\"later\",\"text\":\"x\"}") == CONTROL_FAILED,
	   "error.of_an_unknown_code_is_a_plain_failure");
	test_garbage();
	return tap_end();
}

// SPDX-License-Identifier: GPL-2.0
/* The control protocol between umig send and umig recv: frames and messages, no I/O. */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/lib.h"
#include "wire/control.h"

static const char *const type_names[CONTROL_NR_TYPES] = {
	[CONTROL_HELLO]		= "hello",
	[CONTROL_READY]		= "ready",
	[CONTROL_ROUND]		= "round",
	[CONTROL_STATE_END]	= "state_end",
	[CONTROL_LOADED]	= "loaded",
	[CONTROL_GO]		= "go",
	[CONTROL_RESUMED]	= "resumed",
	[CONTROL_PROGRESS]	= "progress",
	[CONTROL_DONE]		= "done",
	[CONTROL_END]		= "end",
	[CONTROL_ACK]		= "ack",
	[CONTROL_ERROR]		= "error",
};

static const char *const error_names[CONTROL_NR_ERRORS] = {
	[CONTROL_FAILED]	= "failed",
	[CONTROL_MISMATCH]	= "mismatch",
};

const char *control_type_name(enum control_type type)
{
	return type < CONTROL_NR_TYPES ? type_names[type] : "?";
}

/**
 * control_parse_frame - the frame at the start of what has been received
 *
 * Return: bytes the frame takes, @frame points into @buf; 0 if more bytes are needed; -EPROTO if
 * this is not the protocol, however much follows.
 */
ssize_t control_parse_frame(const uint8_t *buf, size_t length, struct control_frame *frame)
{
	uint32_t body, max;

	if (length < CONTROL_HEADER)
		return 0;
	body = (uint32_t)buf[0] << 24 | (uint32_t)buf[1] << 16 | (uint32_t)buf[2] << 8 | buf[3];
	switch (buf[4]) {
	case CONTROL_MESSAGE:
		max = CONTROL_MAX_MESSAGE;
		break;
	case CONTROL_STATE:
		max = CONTROL_MAX_STATE;
		break;
	case CONTROL_DIRTY:
	case CONTROL_HOLES:
		max = CONTROL_MAX_RANGES * CONTROL_RANGE_SIZE;
		if (body % CONTROL_RANGE_SIZE)
			return -EPROTO;
		break;
	default:
		return -EPROTO;
	}
	if (!body || body > max)
		return -EPROTO;
	if (length - CONTROL_HEADER < body)
		return 0;
	frame->kind = buf[4];
	frame->body = buf + CONTROL_HEADER;
	frame->length = body;
	return (ssize_t)(CONTROL_HEADER + body);
}

void control_header(uint8_t *buf, enum control_kind kind, uint32_t length)
{
	buf[0] = (uint8_t)(length >> 24);
	buf[1] = (uint8_t)(length >> 16);
	buf[2] = (uint8_t)(length >> 8);
	buf[3] = (uint8_t)length;
	buf[4] = (uint8_t)kind;
}

void control_put_range(uint8_t *at, uint64_t first, uint64_t nr)
{
	unsigned int i;

	for (i = 0; i < 8; i++) {
		at[i] = (uint8_t)(first >> (56 - 8 * i));
		at[8 + i] = (uint8_t)(nr >> (56 - 8 * i));
	}
}

/**
 * control_get_range - one range of a DIRTY or HOLES frame
 * @index: which range; the frame has length / CONTROL_RANGE_SIZE
 * @nr_pages: of the RAM image
 *
 * Return: 0, or -EPROTO if it is empty or not inside the image.
 */
int control_get_range(const struct control_frame *frame, uint32_t index, uint64_t nr_pages,
		      uint64_t *first, uint64_t *nr)
{
	const uint8_t *at = frame->body + index * CONTROL_RANGE_SIZE;
	unsigned int i;

	*first = 0;
	*nr = 0;
	for (i = 0; i < 8; i++) {
		*first = *first << 8 | at[i];
		*nr = *nr << 8 | at[8 + i];
	}
	return *nr && *first < nr_pages && *nr <= nr_pages - *first ? 0 : -EPROTO;
}

static int get_u64(json_t *object, const char *key, uint64_t max, uint64_t *value)
{
	json_t *v = json_object_get(object, key);
	json_int_t n = json_integer_value(v);

	if (!json_is_integer(v) || n < 0 || (uint64_t)n > max)
		return -EPROTO;
	*value = (uint64_t)n;
	return 0;
}

/* A JSON integer has no room for 64 bits, so the number is 16 hex digits. */
static int get_hex(json_t *object, const char *key, uint64_t *value)
{
	const char *s = json_string_value(json_object_get(object, key));
	size_t i;

	if (!s || strlen(s) != 16)
		return -EPROTO;
	for (i = 0; i < 16; i++) {
		if (!isxdigit((unsigned char)s[i]))
			return -EPROTO;
	}
	*value = strtoull(s, NULL, 16);
	return 0;
}

/* Only printable text, because it ends up on terminals. Empty text is -EPROTO. */
static int get_text(json_t *object, const char *key, char *buf, size_t size)
{
	const char *s = json_string_value(json_object_get(object, key));
	size_t i;

	if (!s || !*s || strlen(s) >= size)
		return -EPROTO;
	for (i = 0; s[i]; i++) {
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			return -EPROTO;
	}
	memcpy(buf, s, i + 1);
	return 0;
}

static int get_bool(json_t *object, const char *key, bool *value)
{
	json_t *v = json_object_get(object, key);

	if (!json_is_boolean(v))
		return -EPROTO;
	*value = json_is_true(v);
	return 0;
}

static int decode_hello(json_t *o, struct control_message *msg)
{
	uint64_t version;
	size_t i;

	if (get_u64(o, "version", INT32_MAX, &version))
		return -EPROTO;
	/* Whoever does not say which pages it numbers cannot be told from a host with others. */
	if (version != CONTROL_VERSION || !json_object_get(o, "page_size"))
		return -EPROTONOSUPPORT;
	if (get_text(o, "id", msg->id, sizeof(msg->id)) || strlen(msg->id) != 32)
		return -EPROTO;
	for (i = 0; i < 32; i++) {
		if (!isxdigit((unsigned char)msg->id[i]))
			return -EPROTO;
	}
	/* Optional. */
	if (json_object_get(o, "precopy") && get_bool(o, "precopy", &msg->precopy))
		return -EPROTO;
	if (get_bool(o, "go", &msg->go) || get_bool(o, "running", &msg->running) ||
	    get_text(o, "ram_id", msg->ram_id, sizeof(msg->ram_id)) ||
	    get_u64(o, "ram_size", CONTROL_MAX_RAM, &msg->ram_size) ||
	    get_u64(o, "page_size", 1ULL << 30, &msg->page_size) ||
	    get_text(o, "uri", msg->uri, sizeof(msg->uri)))
		return -EPROTO;
	if (!msg->ram_size || !msg->page_size || msg->ram_size % msg->page_size)
		return -EPROTO;
	return 0;
}

static int decode_error(json_t *o, struct control_message *msg)
{
	const char *name = json_string_value(json_object_get(o, "code"));
	unsigned int i;

	msg->error = CONTROL_FAILED;
	for (i = 0; name && i < CONTROL_NR_ERRORS; i++) {
		if (!strcmp(name, error_names[i]))
			msg->error = i;
	}
	return get_text(o, "text", msg->text, sizeof(msg->text));
}

static int decode_fields(json_t *o, struct control_message *msg)
{
	const uint64_t max_pages = CONTROL_MAX_RAM / DIGEST_UNIT;
	json_t *ms;

	switch (msg->type) {
	case CONTROL_HELLO:
		return decode_hello(o, msg);
	case CONTROL_STATE_END:
		return get_u64(o, "bytes", INT64_MAX, &msg->bytes) ? -EPROTO :
			get_hex(o, "digest", &msg->sum);
	case CONTROL_RESUMED:
		ms = json_object_get(o, "resume_ms");
		msg->resume_ms = json_number_value(ms);
		/* The comparison also fails for NaN. */
		return json_is_number(ms) && msg->resume_ms >= 0 && msg->resume_ms < 1e12 ?
			0 : -EPROTO;
	case CONTROL_PROGRESS:
		if (get_u64(o, "demand", max_pages, &msg->demand))
			return -EPROTO;
		/* fall through */
	case CONTROL_DONE:
		if (get_u64(o, "present", max_pages, &msg->present) ||
		    get_u64(o, "total", max_pages, &msg->total))
			return -EPROTO;
		return msg->present <= msg->total ? 0 : -EPROTO;
	case CONTROL_END:
		if (get_u64(o, "total", max_pages, &msg->total) ||
		    get_u64(o, "zero", max_pages, &msg->digest.nr_zero) ||
		    get_u64(o, "data", max_pages, &msg->digest.nr_data) ||
		    get_hex(o, "digest", &msg->digest.sum))
			return -EPROTO;
		return msg->digest.nr_zero + msg->digest.nr_data == msg->total ? 0 : -EPROTO;
	case CONTROL_ERROR:
		return decode_error(o, msg);
	default:
		return 0;
	}
}

/**
 * control_decode - the message in a frame's body
 *
 * Return: 0; -EPROTO if it is not a message with all its members in range; -EPROTONOSUPPORT for a
 * HELLO of another version, or without a page size.
 */
int control_decode(const uint8_t *body, size_t length, struct control_message *msg)
{
	json_t *o = json_loadb((const char *)body, length, JSON_REJECT_DUPLICATES, NULL);
	const char *name = json_string_value(json_object_get(o, "type"));
	int ret = -EPROTO;
	unsigned int i;

	memset(msg, 0, sizeof(*msg));
	for (i = 0; name && i < CONTROL_NR_TYPES; i++) {
		if (!strcmp(name, type_names[i])) {
			msg->type = i;
			ret = decode_fields(o, msg);
			break;
		}
	}
	json_decref(o);
	return ret;
}

static json_t *encode_fields(const struct control_message *msg)
{
	const char *type = type_names[msg->type];
	char hex[17];

	switch (msg->type) {
	case CONTROL_HELLO:
		return json_pack("{s:s, s:i, s:s, s:b, s:b, s:b, s:s, s:I, s:I, s:s}", "type", type,
				 "version", CONTROL_VERSION, "id", msg->id, "go", msg->go,
				 "running", msg->running, "precopy", msg->precopy,
				 "ram_id", msg->ram_id,
				 "ram_size", (json_int_t)msg->ram_size,
				 "page_size", (json_int_t)msg->page_size, "uri", msg->uri);
	case CONTROL_STATE_END:
		snprintf(hex, sizeof(hex), "%016" PRIx64, msg->sum);
		return json_pack("{s:s, s:I, s:s}", "type", type, "bytes",
				 (json_int_t)msg->bytes, "digest", hex);
	case CONTROL_RESUMED:
		return json_pack("{s:s, s:f}", "type", type, "resume_ms", msg->resume_ms);
	case CONTROL_PROGRESS:
	case CONTROL_DONE:
		return json_pack("{s:s, s:I, s:I, s:I}", "type", type,
				 "present", (json_int_t)msg->present,
				 "total", (json_int_t)msg->total,
				 "demand", (json_int_t)msg->demand);
	case CONTROL_END:
		snprintf(hex, sizeof(hex), "%016" PRIx64, msg->digest.sum);
		return json_pack("{s:s, s:I, s:I, s:I, s:s}", "type", type,
				 "total", (json_int_t)msg->total,
				 "zero", (json_int_t)msg->digest.nr_zero,
				 "data", (json_int_t)msg->digest.nr_data, "digest", hex);
	case CONTROL_ERROR:
		return json_pack("{s:s, s:s, s:s}", "type", type,
				 "code", error_names[msg->error],
				 "text", *msg->text ? msg->text : "no reason given");
	default:
		return json_pack("{s:s}", "type", type);
	}
}

/* Writes header and body. Return: bytes, or -errno. */
ssize_t control_encode(const struct control_message *msg, uint8_t *buf, size_t size)
{
	json_t *o = encode_fields(msg);
	size_t length;

	if (!o)
		return -EINVAL;
	if (size < CONTROL_HEADER) {
		json_decref(o);
		return -EMSGSIZE;
	}
	length = json_dumpb(o, (char *)buf + CONTROL_HEADER, size - CONTROL_HEADER, JSON_COMPACT);
	json_decref(o);
	if (!length || length > size - CONTROL_HEADER || length > CONTROL_MAX_MESSAGE)
		return -EMSGSIZE;
	control_header(buf, CONTROL_MESSAGE, (uint32_t)length);
	return (ssize_t)(CONTROL_HEADER + length);
}

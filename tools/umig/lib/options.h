/* SPDX-License-Identifier: GPL-2.0 */
/* A command line, read by a table. */
#ifndef UMIG_OPTIONS_H
#define UMIG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_kind {
	OPTION_FLAG,	/* bool: set to true */
	OPTION_TEXT,	/* const char *: points into argv */
	OPTION_NUMBER,	/* uint64_t, from min to max */
	OPTION_SIZE,	/* uint64_t: bytes up to max; suffix K, M, G, T: powers of 1024 */
	OPTION_TAKE,	/* calls take() */
};

/* Takes the text of an option. Return: NULL, or what is wrong with it ("is no address"). */
typedef const char *(*option_take)(void *value, const char *text);

/**
 * struct option_entry - one option; a table ends with an entry without a name
 * @name: without dashes. A name of one letter is a short option.
 * @value: where the value goes, as @kind says
 * @min, @max: the limits, both included; OPTION_SIZE has no least value
 * @take: OPTION_TAKE
 */
struct option_entry {
	const char *name;
	enum option_kind kind;
	void *value;
	uint64_t min;
	uint64_t max;
	option_take take;
};

#define OPTION_OF_FLAG(name_, value_) \
	{ .name = name_, .kind = OPTION_FLAG, .value = value_ }
#define OPTION_OF_TEXT(name_, value_) \
	{ .name = name_, .kind = OPTION_TEXT, .value = value_ }
#define OPTION_OF_NUMBER(name_, value_, min_, max_) \
	{ .name = name_, .kind = OPTION_NUMBER, .value = value_, .min = min_, .max = max_ }
#define OPTION_OF_SIZE(name_, value_, max_) \
	{ .name = name_, .kind = OPTION_SIZE, .value = value_, .max = max_ }
#define OPTION_OF_TAKE(name_, value_, take_) \
	{ .name = name_, .kind = OPTION_TAKE, .value = value_, .take = take_ }

/* Days of waiting are nobody's wish. */
#define OPTION_MAX_SECONDS	86400ULL

/* The largest rate and size: what they are multiplied with stays in 64 bits. */
#define OPTION_MAX_BYTES	(8ULL << 40)

int options_parse(const char *command, const struct option_entry *table, int argc, char **argv,
		  unsigned int nr_words);
int options_bad(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int parse_u64(const char *text, uint64_t *value);
int parse_size(const char *text, uint64_t *bytes);

#endif

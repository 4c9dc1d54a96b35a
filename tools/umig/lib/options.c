// SPDX-License-Identifier: GPL-2.0
/* A command line, read by a table. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/lib.h"
#include "lib/log.h"
#include "lib/options.h"

#define MAX_OPTIONS	32

/* Returned by getopt_long() for entry 0 of the table; above every character. */
#define FIRST_VALUE	256

static const char size_suffixes[] = "KMGT";

/* Return: 0 or -EINVAL. */
int parse_u64(const char *text, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 0);
	if (errno || end == text || *end || *text == '-')
		return -EINVAL;
	return 0;
}

/* Bytes with an optional suffix K, M, G or T (powers of 1024). Return: 0, -EINVAL or -ERANGE. */
int parse_size(const char *text, uint64_t *bytes)
{
	const char *suffix;
	unsigned int shift = 0;
	char *end;

	errno = 0;
	*bytes = strtoull(text, &end, 0);
	if (errno == ERANGE)
		return -ERANGE;
	if (errno || end == text || *text == '-')
		return -EINVAL;
	if (*end) {
		suffix = strchr(size_suffixes, *end >= 'a' ? *end - 32 : *end);
		if (!suffix || end[1])
			return -EINVAL;
		shift = 10 * (unsigned int)(suffix - size_suffixes + 1);
	}
	if (*bytes > (UINT64_MAX >> shift))
		return -ERANGE;
	*bytes <<= shift;
	return 0;
}

/* 8T, 512M, 4097: as a user would write it. */
static void format_size(char *buf, size_t size, uint64_t bytes)
{
	unsigned int i = 0;

	while (bytes && i < sizeof(size_suffixes) - 1 && !(bytes % 1024)) {
		bytes /= 1024;
		i++;
	}
	snprintf(buf, size, "%" PRIu64 "%.1s", bytes, i ? &size_suffixes[i - 1] : "");
}

/* Says what is wrong with the command line. Return: UMIG_USAGE. */
int options_bad(const char *command, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_error("%s: %s; see 'umig help %s'", command, text, command);
	return UMIG_USAGE;
}

static const char *dashes(const char *name)
{
	return name[1] ? "--" : "-";
}

static int take_number(const char *command, const struct option_entry *e, const char *text)
{
	uint64_t value;

	if (parse_u64(text, &value))
		return options_bad(command, "--%s: '%s' is not a number", e->name, text);
	if (value < e->min || value > e->max)
		return options_bad(command, "--%s: %s is not between %" PRIu64 " and %" PRIu64,
				   e->name, text, e->min, e->max);
	*(uint64_t *)e->value = value;
	return 0;
}

static int take_size(const char *command, const struct option_entry *e, const char *text)
{
	uint64_t value;
	char most[32];
	int ret = parse_size(text, &value);

	if (ret == -EINVAL)
		return options_bad(command,
				   "--%s: '%s' is not a number of bytes (suffix K, M, G or T)",
				   e->name, text);
	if (ret || value > e->max) {
		format_size(most, sizeof(most), e->max);
		return options_bad(command, "--%s: %s is more than the largest value, %s", e->name,
				   text, most);
	}
	*(uint64_t *)e->value = value;
	return 0;
}

static int take_option(const char *command, const struct option_entry *e, const char *text)
{
	const char *problem;

	switch (e->kind) {
	case OPTION_FLAG:
		*(bool *)e->value = true;
		return 0;
	case OPTION_TEXT:
		*(const char **)e->value = text;
		return 0;
	case OPTION_NUMBER:
		return take_number(command, e, text);
	case OPTION_SIZE:
		return take_size(command, e, text);
	case OPTION_TAKE:
		problem = e->take(e->value, text);
		if (problem)
			return options_bad(command, "%s%s: '%s' %s", dashes(e->name), e->name, text,
					   problem);
	}
	return 0;
}

/* Does "--re" begin the name of more than one option? */
static bool is_ambiguous(const struct option_entry *table, const char *text)
{
	unsigned int nr = 0;

	for (text += 2; table->name; table++)
		nr += !strncmp(table->name, text, strlen(text));
	return nr > 1;
}

/* Return: the option that getopt_long() has found, NULL if the table lacks it. */
static const struct option_entry *find_option(const struct option_entry *table, int c)
{
	if (c >= FIRST_VALUE)
		return &table[c - FIRST_VALUE];
	for (; table->name; table++) {
		if (table->name[0] == c && !table->name[1])
			return table;
	}
	return NULL;
}

/**
 * options_parse - read the options of a subcommand
 * @command: the subcommand's name, for messages
 * @table: ends with an entry without a name
 * @argc, @argv: argv[0] is the subcommand
 * @nr_words: how many words must be left behind the options; they are at argv[optind]
 *
 * Return: 0, or UMIG_USAGE having said what is wrong.
 */
int options_parse(const char *command, const struct option_entry *table, int argc, char **argv,
		  unsigned int nr_words)
{
	struct option long_options[MAX_OPTIONS + 1] = { 0 };
	char short_options[2 * MAX_OPTIONS + 2] = ":";
	unsigned int nr, nr_long = 0;
	const struct option_entry *found;
	size_t length = 1;
	int c, ret;

	for (nr = 0; nr < MAX_OPTIONS && table[nr].name; nr++) {
		const struct option_entry *e = &table[nr];
		bool has_value = e->kind != OPTION_FLAG;

		if (!e->name[1]) {
			short_options[length++] = e->name[0];
			if (has_value)
				short_options[length++] = ':';
			continue;
		}
		long_options[nr_long++] = (struct option){
			.name = e->name,
			.has_arg = has_value ? required_argument : no_argument,
			.val = FIRST_VALUE + (int)nr,
		};
	}
	/* The messages are ours. */
	opterr = 0;
	while ((c = getopt_long(argc, argv, short_options, long_options, NULL)) != -1) {
		if (c == ':')
			return options_bad(command, "%s needs a value", argv[optind - 1]);
		if (c == '?' && optopt >= FIRST_VALUE)
			return options_bad(command, "--%s takes no value",
					   table[optopt - FIRST_VALUE].name);
		if (c == '?' && optopt)
			return options_bad(command, "there is no option -%c", optopt);
		if (c == '?')
			return options_bad(command, is_ambiguous(table, argv[optind - 1]) ?
					   "%s is short for more than one option" :
					   "there is no option %s", argv[optind - 1]);
		found = find_option(table, c);
		ret = found ? take_option(command, found, optarg) : UMIG_USAGE;
		if (ret)
			return ret;
	}
	if ((unsigned int)(argc - optind) > nr_words)
		return options_bad(command, "unexpected argument '%s'",
				   argv[optind + (int)nr_words]);
	return 0;
}

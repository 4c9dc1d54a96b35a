// SPDX-License-Identifier: GPL-2.0
/* A command line read by a table: what is taken, what is refused. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "lib/lib.h"
#include "lib/log.h"
#include "lib/options.h"
#include "tap.h"

struct values {
	bool flag;
	const char *text;
	uint64_t number;
	uint64_t size;
	const char *taken;
	const char *out;
};

static const char *take_even(void *value, const char *text)
{
	if (strlen(text) % 2)
		return "is odd";
	*(const char **)value = text;
	return NULL;
}

/* Parses up to four words. Return: as options_parse(). */
static int parse(struct values *v, unsigned int nr_words, const char *a, const char *b,
		 const char *c, const char *d)
{
	const struct option_entry table[] = {
		OPTION_OF_FLAG("flag", &v->flag),
		OPTION_OF_TEXT("text", &v->text),
		OPTION_OF_NUMBER("number", &v->number, 1, 16),
		OPTION_OF_SIZE("size", &v->size, 8ULL << 40),
		OPTION_OF_TAKE("taken", &v->taken, take_even),
		OPTION_OF_TEXT("o", &v->out),
		{ 0 }
	};
	char *argv[6] = { strdup("test"), NULL };
	const char *words[4] = { a, b, c, d };
	int argc = 1;

	memset(v, 0, sizeof(*v));
	for (int i = 0; i < 4 && words[i]; i++)
		argv[argc++] = strdup(words[i]);
	/* getopt_long() starts from the beginning. */
	optind = 0;
	return options_parse("test", table, argc, argv, nr_words);
}

int main(void)
{
	struct values v;
	uint64_t n;

	ok(!parse(&v, 0, "--flag", "--text=a b", "--number", "16") && v.flag &&
	   !strcmp(v.text, "a b") && v.number == 16, "options.are_taken_by_kind");
	ok(!parse(&v, 0, "--size", "8T", NULL, NULL) && v.size == 8ULL << 40,
	   "options.the_largest_size_is_taken");
	ok(parse(&v, 0, "--size", "9T", NULL, NULL) == UMIG_USAGE && !v.size,
	   "options.a_larger_one_is_refused");
	ok(parse(&v, 0, "--size", "99999999999999999999T", NULL, NULL) == UMIG_USAGE,
	   "options.one_beyond_64_bits_is_refused");
	ok(parse(&v, 0, "--size", "-1", NULL, NULL) == UMIG_USAGE,
	   "options.a_negative_size_is_refused");
	ok(parse(&v, 0, "--number", "0", NULL, NULL) == UMIG_USAGE &&
	   parse(&v, 0, "--number", "17", NULL, NULL) == UMIG_USAGE && !v.number,
	   "options.a_number_outside_its_limits_is_refused");
	ok(parse(&v, 0, "--number", "3x", NULL, NULL) == UMIG_USAGE,
	   "options.what_is_not_a_number_is_refused");
	ok(parse(&v, 0, "--text", NULL, NULL, NULL) == UMIG_USAGE,
	   "options.a_missing_value_is_refused");
	ok(parse(&v, 0, "--flag=1", NULL, NULL, NULL) == UMIG_USAGE,
	   "options.a_value_for_a_flag_is_refused");
	ok(parse(&v, 0, "--nothing", NULL, NULL, NULL) == UMIG_USAGE,
	   "options.an_unknown_option_is_refused");
	ok(parse(&v, 0, "--t", "a", NULL, NULL) == UMIG_USAGE,
	   "options.an_ambiguous_option_is_refused");
	ok(!parse(&v, 0, "--num", "2", NULL, NULL) && v.number == 2,
	   "options.a_short_form_is_taken");
	ok(!parse(&v, 0, "--taken", "even", NULL, NULL) && v.taken &&
	   parse(&v, 0, "--taken", "odd", NULL, NULL) == UMIG_USAGE && !v.taken,
	   "options.the_subcommand_may_refuse_a_text");
	ok(!parse(&v, 0, "-o", "file", NULL, NULL) && !strcmp(v.out, "file") &&
	   parse(&v, 0, "-q", NULL, NULL, NULL) == UMIG_USAGE,
	   "options.of_one_letter_are_taken");
	ok(!parse(&v, 1, "word", "--flag", NULL, NULL) && v.flag &&
	   parse(&v, 0, "word", NULL, NULL, NULL) == UMIG_USAGE &&
	   parse(&v, 1, "word", "more", NULL, NULL) == UMIG_USAGE,
	   "options.words_are_counted");
	ok(!parse_size("4097", &n) && n == 4097 && !parse_size("16k", &n) && n == 16384 &&
	   parse_size("1KB", &n) && parse_size("", &n) && parse_size("16777216T", &n),
	   "options.sizes_have_suffixes");
	return tap_end();
}

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What both guests, guest.c and bare.c, do with their memory. A page holds a function of
 * its number and of how often it has been written, so a page that is lost, stale, torn,
 * zero or in the wrong place is noticed.
 */
#ifndef PAGES_H
#define PAGES_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_WORDS	512
#define MAX_REPORTS	8

static uint64_t *memory;
static uint32_t *generation;	/* how often each page has been written */
static unsigned int rewrite = 8;
static _Atomic uint64_t wrong_bytes, pages_done;
static _Atomic unsigned int reports;

/* Prints a line on the serial port. Lines of several threads do not mix. */
__attribute__((format(printf, 1, 2)))
static void say(const char *format, ...);

/* A step of splitmix64: neighbouring words have nothing in common. */
static inline uint64_t word_of(size_t page, uint32_t generation_of_page, unsigned int word)
{
	uint64_t x = ((uint64_t)page << 32 | generation_of_page) + word * 0x9e3779b97f4a7c15ULL;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	return x ^ x >> 27;
}

static void page_write(size_t page)
{
	uint64_t *p = memory + page * PAGE_WORDS;
	uint32_t now = ++generation[page];

	for (unsigned int i = 0; i < PAGE_WORDS; i++)
		p[i] = word_of(page, now, i);
}

static void page_verify(size_t page)
{
	volatile uint64_t *p = memory + page * PAGE_WORDS;

	for (unsigned int i = 0; i < PAGE_WORDS; i++) {
		uint64_t expected = word_of(page, generation[page], i);
		uint64_t found = p[i];

		if (found == expected)
			continue;
		wrong_bytes += sizeof(found);
		if (reports++ < MAX_REPORTS)
			say("guest: wrong page %zu, word %u: %#lx, expected %#lx\n",
			    page, i, found, expected);
	}
}

/* What is done with each page in each round: round 0 fills the memory. */
static void page_visit(size_t page, unsigned int round)
{
	if (round == 0)
		page_write(page);
	else
		page_verify(page);
	/* Another part of them in each round. */
	if (round && (page * 31 + round) % 64 < rewrite)
		page_write(page);
	pages_done++;
}

#endif /* PAGES_H */

// SPDX-License-Identifier: GPL-2.0
/* The set of missing pages. */
#include <stdlib.h>

#include "tap.h"
#include "transfer/pageset.h"

#define NR 1000

static bool find_agrees(const struct pageset *set, const bool *busy)
{
	uint64_t from, want;

	for (from = 0; from <= NR; from++) {
		for (want = from; want < NR && busy[want]; want++)
			;
		if (pageset_find(set, from, NR) != want)
			return false;
	}
	return true;
}

static bool find_back_agrees(const struct pageset *set, const bool *busy)
{
	uint64_t end, want;

	for (end = 0; end <= NR; end++) {
		for (want = end; want && busy[want - 1]; want--)
			;
		if (pageset_find_back(set, end) != want)
			return false;
	}
	return true;
}

int main(void)
{
	uint64_t bitmap[(NR + 63) / 64] = { 0x5, ~0ULL };
	bool busy[NR] = { false };
	struct pageset set;
	uint64_t i;

	ok(!pageset_init(&set, NR), "init");
	ok(pageset_find(&set, 0, NR) == 0 && pageset_run(&set, 0, 64) == 64, "new.all_is_missing");
	ok(pageset_run(&set, NR - 3, 64) == 3, "run.stops_at_the_end");
	pageset_load(&set, bitmap);
	ok(set.nr_present == 66 && pageset_is_present(&set, 2) && !pageset_is_present(&set, 1),
	   "load.takes_over_what_is_present");
	ok(pageset_find(&set, 0, NR) == 1 && pageset_run(&set, 1, 64) == 1,
	   "run.stops_at_a_present_page");
	ok(!pageset_claim(&set, 2), "claim.refuses_a_present_page");
	ok(pageset_claim(&set, 1) && !pageset_claim(&set, 1), "claim.has_one_winner");
	ok(!pageset_is_present(&set, 1), "claim.is_not_present");
	pageset_set_present(&set, 1, 1);
	ok(pageset_is_present(&set, 1) && set.nr_present == 67, "set_present.counts");
	pageset_assign(&set, 200, 100);
	ok(pageset_find(&set, 200, NR) == 300, "assign.is_left_out");
	pageset_give_back(&set, 200, 100);
	ok(pageset_find(&set, 200, NR) == 200, "give_back.comes_again");
	ok(pageset_claim(&set, 210) && pageset_find(&set, 200, NR) == 200 &&
	   pageset_run(&set, 200, 64) == 10, "run.stops_at_a_claimed_page");
	pageset_unclaim(&set, 210);
	ok(pageset_run(&set, 200, 64) == 64 && pageset_claim(&set, 210), "unclaim.comes_again");
	pageset_unclaim(&set, 210);
	pageset_assign(&set, 210, 1);
	ok(pageset_is_assigned(&set, 210) && !pageset_is_assigned(&set, 211), "assign.is_by_page");
	pageset_give_back(&set, 210, 1);
	ok(!pageset_is_assigned(&set, 210), "give_back.ends_it");
	ok(pageset_find(&set, 10, 10) == 10, "find.in_nothing_is_its_end");

	pageset_assign(&set, 300, 10);
	ok(pageset_run_back(&set, 300, 64) == 64 && pageset_run_back(&set, 330, 64) == 20 &&
	   pageset_run_back(&set, 305, 64) == 0, "run_back.stops_at_an_assigned_page");
	pageset_give_back(&set, 300, 10);
	ok(!pageset_run_back(&set, 1, 64) && !pageset_run_back(&set, 0, 64) &&
	   !pageset_find_back(&set, 1) && !pageset_find_back(&set, 0),
	   "find_back.ends_at_the_beginning");

	ok(pageset_set_unreadable(&set, 400, 10), "unreadable.is_news");
	ok(!pageset_set_unreadable(&set, 403, 2), "unreadable.is_news_once");
	ok(pageset_set_unreadable(&set, 409, 2), "unreadable.is_news_if_it_reaches_further");
	ok(pageset_run(&set, 390, 64) == 10 && pageset_run(&set, 400, 64) == 1,
	   "unreadable.is_read_by_itself");
	ok(pageset_run_back(&set, 420, 64) == 9 && pageset_run_back(&set, 411, 64) == 1,
	   "run_back.reads_an_unreadable_page_by_itself");
	pageset_set_present(&set, 400, 10);
	ok(pageset_nr_unreadable(&set) == 1, "unreadable.counts_what_has_not_come");

	for (i = 0; i < sizeof(bitmap) / sizeof(bitmap[0]); i++)
		bitmap[i] = 0;
	pageset_load(&set, bitmap);
	srandom(2);
	for (i = 0; i < 700; i++) {
		uint64_t page = (uint64_t)random() % NR;

		busy[page] = true;
		if (i % 2)
			pageset_claim(&set, page);
		else
			pageset_assign(&set, page, 1);
	}
	ok(find_agrees(&set, busy), "find.agrees_with_a_simple_search");
	ok(find_back_agrees(&set, busy), "find_back.agrees_with_a_simple_search");
	for (i = 0; i < NR; i++)
		pageset_claim(&set, i);
	ok(!pageset_is_complete(&set), "complete.not_by_claims");
	pageset_set_present(&set, 0, NR);
	ok(pageset_is_complete(&set), "complete.when_all_are_present");
	pageset_destroy(&set);
	return tap_end();
}

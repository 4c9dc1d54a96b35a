// SPDX-License-Identifier: GPL-2.0
/* Percentiles against a sorted array. */
#include <stdlib.h>

#include "lib/latency.h"
#include "tap.h"

static struct latency l, one, empty;
static uint64_t sample[100000];

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static bool close_to(double percent, uint64_t nr)
{
	uint64_t rank = (uint64_t)(percent * (double)nr / 100.0);
	uint64_t exact = sample[rank ? rank - 1 : 0];
	uint64_t got = latency_percentile(&l, percent);

	return got >= exact && (double)got <= (double)exact * 1.033 + 1;
}

int main(void)
{
	const uint64_t nr = sizeof(sample) / sizeof(sample[0]);
	uint64_t i;

	srandom(1);
	for (i = 0; i < nr; i++) {
		sample[i] = (uint64_t)random() >> (random() % 31);
		latency_add(&l, sample[i]);
	}
	qsort(sample, nr, sizeof(sample[0]), compare);
	ok(!latency_percentile(&empty, 50), "percentile.of_nothing_is_0");
	latency_add(&one, 123456789);
	ok(latency_percentile(&one, 50) == 123456789, "percentile.of_one_is_that_one");
	ok(latency_percentile(&one, 99.9) == 123456789, "percentile.never_exceeds_the_maximum");
	ok(close_to(1, nr) && close_to(50, nr) && close_to(90, nr) && close_to(99, nr) &&
	   close_to(99.9, nr), "percentile.within_3.3_percent_of_exact");
	ok(latency_percentile(&l, 100) == sample[nr - 1], "percentile.100_is_the_maximum");
	latency_add(&one, UINT64_MAX);
	ok(one.max_ns == UINT64_MAX && latency_percentile(&one, 100) == UINT64_MAX,
	   "percentile.takes_the_largest_number");
	return tap_end();
}

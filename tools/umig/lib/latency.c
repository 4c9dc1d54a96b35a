// SPDX-License-Identifier: GPL-2.0
/* Latency percentiles without keeping every sample. */
#include "lib/latency.h"
#include "lib/lib.h"

static unsigned int latency_bucket(uint64_t ns)
{
	unsigned int shift;

	if (ns < (1U << LATENCY_SUB_BITS))
		return (unsigned int)ns;
	shift = 63U - (unsigned int)__builtin_clzll(ns) - LATENCY_SUB_BITS;
	return ((shift + 1) << LATENCY_SUB_BITS) + (unsigned int)((ns >> shift) & 31);
}

/* The longest duration that falls into @bucket. */
static uint64_t latency_bucket_last(unsigned int bucket)
{
	unsigned int shift;

	if (bucket < (2U << LATENCY_SUB_BITS))
		return bucket;
	shift = (bucket >> LATENCY_SUB_BITS) - 1;
	return (((32ULL | (bucket & 31)) + 1) << shift) - 1;
}

void latency_add(struct latency *l, uint64_t ns)
{
	atomic_fetch_add_explicit(&l->bucket[latency_bucket(ns)], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&l->count, 1, memory_order_relaxed);
	if (ns > atomic_load_explicit(&l->max_ns, memory_order_relaxed))
		atomic_store_explicit(&l->max_ns, ns, memory_order_relaxed);
}

/**
 * latency_percentile - the duration that @percent of the samples do not exceed
 *
 * Return: nanoseconds (never above the exact maximum), 0 without samples.
 */
uint64_t latency_percentile(const struct latency *l, double percent)
{
	uint64_t count = atomic_load_explicit(&l->count, memory_order_relaxed);
	uint64_t max = atomic_load_explicit(&l->max_ns, memory_order_relaxed);
	double exact = (double)count * percent / 100.0;
	uint64_t rank = (uint64_t)exact, sum = 0;
	unsigned int i;

	if (!count)
		return 0;
	if ((double)rank < exact || !rank)
		rank++;
	for (i = 0; i < LATENCY_BUCKETS; i++) {
		sum += atomic_load_explicit(&l->bucket[i], memory_order_relaxed);
		if (sum >= rank)
			return min_u64(latency_bucket_last(i), max);
	}
	return max;
}

/* SPDX-License-Identifier: GPL-2.0 */
/* Latency percentiles without keeping every sample. */
#ifndef UMIG_LATENCY_H
#define UMIG_LATENCY_H

#include <stdatomic.h>
#include <stdint.h>

#define LATENCY_SUB_BITS	5
#define LATENCY_BUCKETS	((64 - LATENCY_SUB_BITS + 1) << LATENCY_SUB_BITS)

/**
 * struct latency - log-linear histogram of nanoseconds
 * @count: samples
 * @max_ns: the longest, exact
 * @bucket: 32 buckets to each power of two: a percentile is at most 3.2 % too high
 *
 * One thread adds, any thread reads; no lock, a reader may be a few samples late.
 */
struct latency {
	_Atomic uint64_t count;
	_Atomic uint64_t max_ns;
	_Atomic uint64_t bucket[LATENCY_BUCKETS];
};

void latency_add(struct latency *l, uint64_t ns);
uint64_t latency_percentile(const struct latency *l, double percent);

#endif

/* SPDX-License-Identifier: GPL-2.0 */
/* The pauses between attempts: each twice as long as the one before, up to a limit. */
#ifndef UMIG_BACKOFF_H
#define UMIG_BACKOFF_H

#include "lib/lib.h"

/* For a server or a peer that is gone. */
#define BACKOFF_FIRST_MS	100ULL
#define BACKOFF_MOST_MS		5000ULL

/* @ms: the last pause, 0 before the first. Return: the next one. */
static inline uint64_t backoff_next_ms(uint64_t ms, uint64_t first_ms, uint64_t most_ms)
{
	return ms ? min_u64(ms * 2, most_ms) : first_ms;
}

#endif

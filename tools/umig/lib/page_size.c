// SPDX-License-Identifier: GPL-2.0
/* The page size of this host. */
#define _GNU_SOURCE
#include <unistd.h>

#include "lib/lib.h"

uint64_t umig_page_size;

/* Early: tests/dev_fake.c may replace it, in a constructor without a priority. */
__attribute__((constructor(101))) static void page_size_learn(void)
{
	umig_page_size = (uint64_t)sysconf(_SC_PAGESIZE);
}

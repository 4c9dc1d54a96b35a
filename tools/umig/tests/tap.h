/* SPDX-License-Identifier: GPL-2.0 */
/* TAP for the unit tests. */
#ifndef UMIG_TAP_H
#define UMIG_TAP_H

#include <stdbool.h>
#include <stdio.h>

static int tap_nr, tap_failed;

#define ok(condition, name)							\
do {										\
	bool tap_good = (condition);						\
	printf("%sok %d - %s\n", tap_good ? "" : "not ", ++tap_nr, name);	\
	if (!tap_good) {							\
		printf("# %s:%d: %s\n", __FILE__, __LINE__, #condition);	\
		tap_failed = 1;							\
	}									\
} while (0)

static inline int tap_end(void)
{
	printf("1..%d\n", tap_nr);
	return tap_failed;
}

#endif

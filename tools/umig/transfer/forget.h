/* SPDX-License-Identifier: GPL-2.0 */
/* Pages become missing again, because the source has written to them since they came. */
#ifndef UMIG_FORGET_H
#define UMIG_FORGET_H

#include <linux/postcopy.h>

#include "transfer/transfer.h"

int forget_prepare(struct transfer *t);
int forget_pages(struct transfer *t, struct region *r, const struct postcopy_range *ranges,
		 size_t nr);
bool forget_is_data(const struct region *r, uint64_t page);

#endif

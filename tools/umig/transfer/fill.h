/* SPDX-License-Identifier: GPL-2.0 */
/* Pages become present: claimed, installed, counted. */
#ifndef UMIG_FILL_H
#define UMIG_FILL_H

#include <linux/postcopy.h>

#include "transfer/transfer.h"

int fill_data(struct transfer *t, struct region *r, uint64_t page, uint64_t nr,
	      const uint8_t *data);
int fill_placed(struct transfer *t, struct region *r, uint64_t page, uint64_t nr, uint64_t mine);
int fill_demand(struct transfer *t, struct region *r, uint64_t page, bool claimed,
		const uint8_t *data, struct postcopy_request *requests, size_t *nr_requests);
int fill_zero(struct transfer *t, struct region *r, const struct postcopy_range *ranges,
	      size_t nr);

#endif

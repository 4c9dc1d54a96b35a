// SPDX-License-Identifier: GPL-2.0
/* Names of region states. */
#include "device/dev.h"

const char *dev_state_name(uint32_t state)
{
	static const char *const names[] = {
		[POSTCOPY_REGION_UNATTACHED]	= "unattached",
		[POSTCOPY_REGION_ATTACHED]	= "attached",
		[POSTCOPY_REGION_DETACHED]	= "detached",
		[POSTCOPY_REGION_CONVERTED]	= "converted",
		[POSTCOPY_REGION_DEAD]		= "dead",
	};

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

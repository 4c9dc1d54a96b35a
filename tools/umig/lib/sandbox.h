/* SPDX-License-Identifier: GPL-2.0 */
/* What a helper can do no more once it has its regions. */
#ifndef UMIG_SANDBOX_H
#define UMIG_SANDBOX_H

void sandbox_drop_capabilities(void);
int sandbox_enter(void);

#endif

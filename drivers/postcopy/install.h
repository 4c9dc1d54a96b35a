/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Putting many pages into the owner's page table at once: install.c, for fill.c.
 */
#ifndef _POSTCOPY_INSTALL_H
#define _POSTCOPY_INSTALL_H

#include <linux/mm.h>

#include "postcopy.h"

/* Most pages in one call of the core. Their arrays take three pages. */
#define POSTCOPY_INSTALL_BATCH	512UL

/**
 * struct postcopy_install - new pages on their way into a page table
 * @pages: for each slot a page that is allocated and not mapped yet, or NULL
 * @src: for each slot the element that migrate_vma_pages() reads and writes
 * @dst: same
 * @nr_slots: length of the three arrays
 * @memory: the arrays, if there is more than one slot
 * @one_page: @pages if there is one slot
 * @one_src: @src if there is one slot
 * @one_dst: @dst if there is one slot
 */
struct postcopy_install {
	struct page **pages;
	unsigned long *src;
	unsigned long *dst;
	unsigned int nr_slots;
	void *memory;
	struct page *one_page;
	unsigned long one_src;
	unsigned long one_dst;
};

void postcopy_install_alloc(struct postcopy_install *install, unsigned long nr);

/**
 * postcopy_install_begin() - prepare to install pages
 * @install: filled in; for postcopy_install_end()
 * @nr: how many pages there are, at least 1
 *
 * Context: may sleep.
 */
static inline void postcopy_install_begin(struct postcopy_install *install,
					  unsigned long nr)
{
	install->memory = NULL;
	install->one_page = NULL;
	install->nr_slots = 1;
	install->pages = &install->one_page;
	install->src = &install->one_src;
	install->dst = &install->one_dst;
	if (nr > 1)
		postcopy_install_alloc(install, nr);
}

void postcopy_install_end(struct postcopy_install *install);
long postcopy_install(struct postcopy_install *install,
		      struct postcopy_region *region, struct vm_area_struct *vma,
		      unsigned long index, unsigned long nr,
		      const void __user *data, u64 *nr_filled);

#endif /* _POSTCOPY_INSTALL_H */

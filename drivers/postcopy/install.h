/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Many new pages into the owner's page table: install.c for fill.c.
 */
#ifndef _POSTCOPY_INSTALL_H
#define _POSTCOPY_INSTALL_H

#include <linux/mm.h>

#include "postcopy.h"

/* Pages installed by one call of the core: three pages of arrays for them */
#define POSTCOPY_INSTALL_BATCH	512UL

/**
 * struct postcopy_install - new pages on their way into a page table
 * @pages: allocated and not mapped yet, or NULL, @nr_slots of them
 * @src: what migrate_vma_pages() wants to know of each
 * @dst: same
 * @nr_slots: length of the arrays
 * @memory: the arrays, if they are not these:
 * @one_page: @pages
 * @one_src: @src
 * @one_dst: @dst
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

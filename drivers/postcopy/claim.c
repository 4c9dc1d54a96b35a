// SPDX-License-Identifier: GPL-2.0
/*
 * Claims: which pages are being changed.
 *
 * Whatever changes pages (fill, zero, present, poison, discard) or needs them to stay
 * as they are (convert) claims their indexes first, so that no two of these work on
 * one page at once. A fill's claim also tells the fault handler that it is called
 * for that fill. A thread has one claim at a time, so there are few.
 */
#include "postcopy.h"

static bool claim_overlaps(struct postcopy_region *region,
			   const struct postcopy_claim *claim)
{
	struct postcopy_claim *other;

	lockdep_assert_held(&region->claims.lock);
	hlist_for_each_entry(other, &region->claims.list, node)
		if (claim->first <= other->last && other->first <= claim->last)
			return true;
	return false;
}

static bool claim_try(struct postcopy_region *region, struct postcopy_claim *claim)
{
	bool overlaps;

	spin_lock(&region->claims.lock);
	overlaps = claim_overlaps(region, claim);
	if (!overlaps)
		hlist_add_head(&claim->node, &region->claims.list);
	spin_unlock(&region->claims.lock);
	return !overlaps;
}

/**
 * postcopy_claim_killable() - wait for other claims on pages, then claim them
 * @region: the region
 * @claim: the caller's, in use until postcopy_claim_release()
 * @first: first index
 * @last: last index, inclusive
 *
 * Context: sleeps; mmap_lock of the owner is not held.
 * Return: 0 or EINTR (a fatal signal).
 */
int postcopy_claim_killable(struct postcopy_region *region,
			    struct postcopy_claim *claim,
			    unsigned long first, unsigned long last)
{
	claim->first = first;
	claim->last = last;
	claim->filler = NULL;
	if (wait_event_killable(region->claims.wait, claim_try(region, claim)))
		return -EINTR;
	return 0;
}

/**
 * postcopy_claim_release() - give a claim back
 * @region: the region
 * @claim: from postcopy_claim_killable()
 */
void postcopy_claim_release(struct postcopy_region *region,
			    struct postcopy_claim *claim)
{
	spin_lock(&region->claims.lock);
	hlist_del(&claim->node);
	spin_unlock(&region->claims.lock);
	/* wq_has_sleeper()'s barrier pairs with prepare_to_wait(). */
	if (wq_has_sleeper(&region->claims.wait))
		wake_up(&region->claims.wait);
}

/**
 * postcopy_claim_of_current() - is the current thread filling a page?
 * @region: the region
 * @index: the page
 *
 * Return: the claim of the thread's struct fill, which no other thread releases, or
 * NULL.
 */
struct postcopy_claim *postcopy_claim_of_current(struct postcopy_region *region,
						 unsigned long index)
{
	struct postcopy_claim *claim, *found = NULL;

	spin_lock(&region->claims.lock);
	hlist_for_each_entry(claim, &region->claims.list, node) {
		if (READ_ONCE(claim->filler) == current &&
		    claim->first <= index && index <= claim->last) {
			found = claim;
			break;
		}
	}
	spin_unlock(&region->claims.lock);
	return found;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * EXCHANGE: answer a request and take the next ones, in one system call.
 */
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "postcopy.h"
#include "request.h"

/* Deal with the pages of an exchange. */
static long exchange_fill(struct postcopy_region *region,
			  struct postcopy_helper_exchange *exchange)
{
	struct postcopy_pages_fill fill = {
		.offset = exchange->offset,
		.length = exchange->length,
		.data = exchange->data,
	};
	long ret;

	exchange->out_length = 0;
	exchange->out_nr_filled = 0;
	if (!exchange->length)
		return exchange->offset || exchange->data ? -EINVAL :
							    postcopy_region_alive(region);
	ret = postcopy_pages_fill(region, &fill);
	if (ret)
		return ret;
	exchange->out_length = fill.out_length;
	exchange->out_nr_filled = fill.out_nr_filled;
	return 0;
}

static int exchange_write(struct postcopy_helper_exchange __user *uexchange,
			  const struct postcopy_helper_exchange *exchange,
			  unsigned int nr_requests)
{
	if (!user_write_access_begin(uexchange, sizeof(*uexchange)))
		return -EFAULT;
	unsafe_put_user(nr_requests, &uexchange->out_nr_requests, err);
	unsafe_put_user(exchange->out_length, &uexchange->out_length, err);
	unsafe_put_user(exchange->out_nr_filled, &uexchange->out_nr_filled, err);
	user_write_access_end();
	return 0;

err:
	user_write_access_end();
	return -EFAULT;
}

static int exchange_write_requests(struct postcopy_request __user *to,
				   const struct postcopy_request *requests,
				   unsigned int nr)
{
	unsigned int i;

	if (!user_write_access_begin(to, nr * sizeof(*to)))
		return -EFAULT;
	for (i = 0; i < nr; i++) {
		unsafe_put_user(requests[i].offset, &to[i].offset, err);
		unsafe_put_user(requests[i].length, &to[i].length, err);
		unsafe_put_user(requests[i].time_ns, &to[i].time_ns, err);
		unsafe_put_user(requests[i].flags, &to[i].flags, err);
		unsafe_put_user(requests[i].reserved, &to[i].reserved, err);
	}
	user_write_access_end();
	return 0;

err:
	user_write_access_end();
	return -EFAULT;
}

/*
 * Copy out queued requests and the struct. Unless both succeed the requests are queued
 * again. Returns how many requests were copied, or -errno.
 */
static long exchange_read(struct postcopy_region *region,
			  struct postcopy_helper_exchange *exchange,
			  void __user *uarg)
{
	struct postcopy_req_batch batch __uninitialized;
	unsigned int nr = postcopy_req_take(region, &batch, exchange->nr_requests);

	if (!nr)
		return 0;
	if (!exchange_write_requests(u64_to_user_ptr(exchange->requests), batch.requests, nr) &&
	    !exchange_write(uarg, exchange, nr))
		return nr;
	postcopy_req_give_back(region, &batch, nr);
	return -EFAULT;
}

/**
 * postcopy_exchange() - POSTCOPY_HELPER_EXCHANGE
 * @region: the helper's
 * @exchange: in
 * @uarg: where to write its out_* members
 *
 * Context: sleeps.
 * Return: 0 or -errno as the header says.
 */
long postcopy_exchange(struct postcopy_region *region,
		       struct postcopy_helper_exchange *exchange, void __user *uarg)
{
	bool reads;
	long ret;

	if (exchange->flags & ~POSTCOPY_EXCHANGE_WAIT)
		return -EINVAL;
	ret = exchange_fill(region, exchange);
	if (ret)
		return ret;
	reads = exchange->nr_requests && exchange->out_length == exchange->length;
	while (reads) {
		if (exchange->flags & POSTCOPY_EXCHANGE_WAIT)
			ret = wait_event_interruptible(region->requests.helper_wait,
						       postcopy_req_readable(region));
		ret = (ret ? -EINTR : 0) ?: postcopy_region_alive(region) ?:
		      exchange_read(region, exchange, uarg);
		if (ret > 0)
			return 0;
		if (!ret && exchange->flags & POSTCOPY_EXCHANGE_WAIT)
			continue;	/* none left: read by another thread, or answered */
		if (exchange->length && ret != -EFAULT)
			break;
		return ret ?: -EAGAIN;
	}
	return exchange_write(uarg, exchange, 0);
}

/* Read a struct of the size that we know. Returns 0, -EFAULT, or -EINVAL for other sizes. */
static int exchange_copy_in(struct postcopy_helper_exchange *exchange,
			    const struct postcopy_helper_exchange __user *uexchange)
{
	if (!user_read_access_begin(uexchange, sizeof(*uexchange)))
		return -EFAULT;
	unsafe_get_user(exchange->size, &uexchange->size, err);
	unsafe_get_user(exchange->flags, &uexchange->flags, err);
	unsafe_get_user(exchange->offset, &uexchange->offset, err);
	unsafe_get_user(exchange->length, &uexchange->length, err);
	unsafe_get_user(exchange->data, &uexchange->data, err);
	unsafe_get_user(exchange->requests, &uexchange->requests, err);
	unsafe_get_user(exchange->nr_requests, &uexchange->nr_requests, err);
	user_read_access_end();
	return exchange->size == sizeof(*exchange) ? 0 : -EINVAL;

err:
	user_read_access_end();
	return -EFAULT;
}

/**
 * postcopy_exchange_quick() - postcopy_exchange() for a struct of the size that we know
 * @region: the helper's
 * @uexchange: address of the struct
 * @ret: set to what postcopy_exchange() returned
 *
 * Context: sleeps.
 * Return: false if the struct has another size or cannot be read: nothing was done.
 */
bool postcopy_exchange_quick(struct postcopy_region *region,
			     struct postcopy_helper_exchange __user *uexchange,
			     long *ret)
{
	struct postcopy_helper_exchange exchange __uninitialized;

	if (exchange_copy_in(&exchange, uexchange))
		return false;
	*ret = postcopy_exchange(region, &exchange, uexchange);
	return true;
}

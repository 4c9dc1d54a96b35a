// SPDX-License-Identifier: GPL-2.0
/*
 * The files behind shared regions.
 *
 * By default each region has an unlinked shmem file of its own, whose page n is page n
 * of the RAM image. Or the VMM brings a memfd that it uses for other things too, and
 * says which part of the RAM image is where in it (POSTCOPY_CONTEXT_BACKING).
 *
 * A process that holds the memfd sees what is in it, delivered or not. Mappings of the
 * context show only what the present map says, whatever the memfd holds. That relies
 * on this:
 *
 *	The memfd never gets shorter: F_SEAL_SHRINK is required, and no seal is ever
 *		removed.
 *	It stays writable: the context counts as a writable mapping as long as it
 *		lives, so F_SEAL_WRITE cannot be added. F_SEAL_FUTURE_WRITE can; then
 *		every fill fails.
 *	It belongs to one context: a second one would drop pages (zero, discard) that
 *		the first has delivered.
 *	The VMM cannot redirect what the driver writes: the driver has a struct file
 *		of its own, while the VMM may set O_APPEND on the one that it passed.
 *	Nothing is mapped around a fault: see postcopy_shared_map_pages().
 */
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include "postcopy.h"

/* A memfd, for part of the RAM image. */
struct postcopy_memfd {
	struct file *file;
	unsigned long first;	/* page of the RAM image */
	unsigned long nr_pages;
	unsigned long file_first;	/* page first is this page of the file */
};

/* All memfds that contexts have, by inode. */
static DEFINE_XARRAY(memfds);

/*
 * A tmpfs of the module's own. In it a helper that asks for huge pages (MADV_HUGEPAGE on
 * its mapping, for ranges that it will fill as a whole) gets them, whatever the machine's
 * default for shared memory is. NULL: use shmem's own mount.
 */
static struct vfsmount *backing_mount;

/**
 * postcopy_backing_init() - make the file system of the shared regions
 */
void __init postcopy_backing_init(void)
{
	char options[] = "huge=advise";
	struct file_system_type *type;
	struct vfsmount *mount;

	if (!has_transparent_hugepage())
		return;
	type = get_fs_type("tmpfs");
	if (!type)
		return;
	mount = vfs_kern_mount(type, SB_KERNMOUNT, type->name, options);
	module_put(type->owner);	/* what put_filesystem() does */
	if (!IS_ERR(mount))
		backing_mount = mount;
}

/**
 * postcopy_backing_exit() - let go of the file system; converted memory keeps it
 */
void postcopy_backing_exit(void)
{
	if (backing_mount)
		kern_unmount(backing_mount);
}

static struct file *backing_create(loff_t size)
{
	struct file *file;

	if (backing_mount)
		file = shmem_file_setup_with_mnt(backing_mount, "postcopy", size,
						 POSTCOPY_NORESERVE);
	else
		file = shmem_file_setup("postcopy", size, POSTCOPY_NORESERVE);
	/* Without it no write goes beyond 2 GiB. */
	if (!IS_ERR(file))
		file->f_flags |= O_LARGEFILE;
	return file;
}

/**
 * postcopy_backing_get() - get the file for a new shared region
 * @context: the region's
 * @first: page of the RAM image
 * @nr: pages
 * @file_first: where page @first is in the file
 *
 * Context: may sleep; context->lock is held.
 * Return: the file with a reference; ENXIO if the context's memfd is not for these
 * pages; ENOMEM ...
 */
struct file *postcopy_backing_get(struct postcopy_context *context,
				  unsigned long first, unsigned long nr,
				  unsigned long *file_first)
{
	struct postcopy_memfd *memfd = context->memfd;

	lockdep_assert_held(&context->lock);
	if (!memfd) {
		*file_first = first;
		return backing_create((loff_t)(first + nr) << PAGE_SHIFT);
	}
	if (first < memfd->first || nr > memfd->nr_pages ||
	    first - memfd->first > memfd->nr_pages - nr)
		return ERR_PTR(-ENXIO);
	*file_first = memfd->file_first + (first - memfd->first);
	return get_file(memfd->file);
}

static unsigned int backing_seals(struct file *file)
{
	return READ_ONCE(SHMEM_I(file_inode(file))->seals);
}

/**
 * postcopy_backing_map() - map a region's file with shmem's vm_ops
 * @backing: the file
 * @vma: new mapping of the current process, its vm_pgoff a page of the file; gets a
 *	struct file of its own
 *
 * Context: may sleep; mmap_lock is held for writing.
 * Return: 0; EPERM if the memfd has been sealed against writing; ENOMEM ...
 */
int postcopy_backing_map(struct file *backing, struct vm_area_struct *vma)
{
	struct file *file;
	int err;

	/* Since 6.7 shmem leaves this check to the core, which sees only our device. */
	if (backing_seals(backing) & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
		return -EPERM;
	/* Without O_LARGEFILE shmem refuses a file of more than 2 GiB. */
	file = dentry_open(&backing->f_path, O_RDWR | O_LARGEFILE, backing->f_cred);
	if (IS_ERR(file))
		return PTR_ERR(file);
	err = vfs_mmap(file, vma);
	if (!err)
		vma_set_file(vma, file);
	fput(file);
	return err;
}

/* May the file be a backing, and is it at least end bytes long? */
static int memfd_check(struct file *file, u64 end)
{
	if (file_inode(file)->i_sb->s_magic == HUGETLBFS_MAGIC)
		return -EOPNOTSUPP;
	if (!shmem_file(file))
		return -EINVAL;
	if (!(file->f_mode & FMODE_READ) || !(file->f_mode & FMODE_WRITE))
		return -EACCES;
	if ((backing_seals(file) &
	     (F_SEAL_SHRINK | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != F_SEAL_SHRINK)
		return -EPERM;
	/* The seal is there already, so this stays true. */
	if (i_size_read(file_inode(file)) < end)
		return -EINVAL;
	return 0;
}

/* Open a struct file of our own for a memfd, which stays writable while that is open. */
static struct file *memfd_open(int fd, u64 end)
{
	struct file *given, *file;
	int err;

	given = fget(fd);
	if (!given)
		return ERR_PTR(-EBADF);
	err = memfd_check(given, end);
	if (!err)
		err = mapping_map_writable(given->f_mapping);
	if (err) {
		file = ERR_PTR(err);
	} else {
		file = dentry_open(&given->f_path, O_RDWR | O_LARGEFILE, current_cred());
		if (IS_ERR(file))
			mapping_unmap_writable(given->f_mapping);
	}
	fput(given);
	return file;
}

static void memfd_close(struct file *file)
{
	mapping_unmap_writable(file->f_mapping);
	fput(file);
}

/* Give the context its memfd. Nothing can fail afterwards. */
static int memfd_publish(struct postcopy_context *context, struct postcopy_memfd *memfd)
{
	int err;

	lockdep_assert_held(&context->lock);
	if (context->memfd || !list_empty(&context->shared))
		return -EBUSY;
	/* EBUSY: another context has it. */
	err = xa_insert(&memfds, (unsigned long)file_inode(memfd->file), memfd,
			GFP_KERNEL_ACCOUNT);
	if (!err)
		context->memfd = memfd;
	return err;
}

/**
 * postcopy_context_backing() - POSTCOPY_CONTEXT_BACKING
 * @context: the context
 * @backing: in
 *
 * Context: may sleep; takes context->lock.
 * Return: 0 or -errno as the header says.
 */
long postcopy_context_backing(struct postcopy_context *context,
			      struct postcopy_context_backing *backing)
{
	struct postcopy_memfd *memfd;
	int err;

	if (backing->flags || backing->reserved || !backing->length ||
	    !PAGE_ALIGNED(backing->offset | backing->length | backing->file_offset))
		return -EINVAL;
	if (backing->length > S64_MAX || backing->offset > S64_MAX - backing->length ||
	    backing->file_offset > S64_MAX - backing->length)
		return -EINVAL;
	memfd = kzalloc(sizeof(*memfd), GFP_KERNEL_ACCOUNT);
	if (!memfd)
		return -ENOMEM;
	memfd->first = backing->offset >> PAGE_SHIFT;
	memfd->nr_pages = backing->length >> PAGE_SHIFT;
	memfd->file_first = backing->file_offset >> PAGE_SHIFT;
	memfd->file = memfd_open(backing->fd, backing->file_offset + backing->length);
	if (IS_ERR(memfd->file)) {
		err = PTR_ERR(memfd->file);
		goto err_free;
	}
	mutex_lock(&context->lock);
	err = memfd_publish(context, memfd);
	mutex_unlock(&context->lock);
	if (err)
		goto err_close;
	return 0;

err_close:
	memfd_close(memfd->file);
err_free:
	kfree(memfd);
	return err;
}

/**
 * postcopy_backing_release() - let go of a context's memfd
 * @context: being freed, without regions
 */
void postcopy_backing_release(struct postcopy_context *context)
{
	struct postcopy_memfd *memfd = context->memfd;

	if (!memfd)
		return;
	xa_erase(&memfds, (unsigned long)file_inode(memfd->file));
	memfd_close(memfd->file);
	kfree(memfd);
}

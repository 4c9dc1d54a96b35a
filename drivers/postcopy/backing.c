// SPDX-License-Identifier: GPL-2.0
/*
 * The files behind shared regions.
 *
 * By default each region has a shmem file of its own, unlinked, whose page n is page n
 * of the RAM image. Or the VMM brings a memfd that it has other uses for and says which
 * part of the RAM image is where in it (POSTCOPY_CONTEXT_BACKING).
 *
 * Whoever holds a memfd sees what is in it, delivered or not; our mappings show only
 * what the present map says, whatever the memfd holds. What that relies on:
 *
 *	it never gets shorter	F_SEAL_SHRINK is required, and no seal goes away
 *	it stays writable	a writable mapping is counted as long as the context
 *		lives, so F_SEAL_WRITE cannot be added. F_SEAL_FUTURE_WRITE can, then
 *		every fill fails.
 *	it belongs to one context	of two, each would drop pages (zero, discard)
 *		that the other has delivered
 *	its VMM cannot misplace what we write	we have a struct file of our own: the
 *		VMM can set O_APPEND on the one that it gave us
 *	nothing is mapped around a fault	see postcopy_shared_map_pages()
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
	unsigned long file_first;	/* which is this page of the file */
};

/* All of them, by inode. */
static DEFINE_XARRAY(memfds);

/*
 * A tmpfs of our own, so that a helper which asks for huge pages (MADV_HUGEPAGE on
 * its mapping, for ranges that it is going to fill as a whole) gets them whatever
 * the machine's default for shared memory is. NULL: shmem's own mount.
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
 * postcopy_backing_exit() - the module goes; converted memory keeps the mount
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
						 VM_NORESERVE);
	else
		file = shmem_file_setup("postcopy", size, VM_NORESERVE);
	/* Or no write goes beyond 2 GiB. */
	if (!IS_ERR(file))
		file->f_flags |= O_LARGEFILE;
	return file;
}

/**
 * postcopy_backing_get() - the file for a new shared region
 * @context: the region's
 * @first: page of the RAM image
 * @nr: pages
 * @file_first: where page @first is in the file
 *
 * Context: may sleep; context->lock is held.
 * Return: the file with a reference; ENXIO the context's memfd is not for these pages;
 * ENOMEM ...
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
 * Return: 0; EPERM a memfd is sealed against writing by now; ENOMEM ...
 */
int postcopy_backing_map(struct file *backing, struct vm_area_struct *vma)
{
	struct file *file;
	int err;

	/* Since 6.7 shmem leaves that to the core, which knows only our device. */
	if (backing_seals(backing) & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
		return -EPERM;
	/* O_LARGEFILE: or shmem refuses a file of more than 2 GiB. */
	file = dentry_open(&backing->f_path, O_RDWR | O_LARGEFILE, backing->f_cred);
	if (IS_ERR(file))
		return PTR_ERR(file);
	err = file->f_op->mmap(file, vma);
	if (!err)
		vma_set_file(vma, file);
	fput(file);
	return err;
}

/* May it be a backing, and does it reach to end (in bytes)? */
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
	/* The seal comes first: so this holds for good. */
	if (i_size_read(file_inode(file)) < end)
		return -EINVAL;
	return 0;
}

/* A struct file of our own for a memfd, writable as long as it is open. */
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

/* Nothing can fail after it. */
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
 * postcopy_backing_release() - the context goes, and its regions are gone
 * @context: the context
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

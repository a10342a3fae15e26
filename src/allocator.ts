/**
 * What a process is started with so that glibc gives back memory that it has no use for: large bodies come and go, and its allocator raises the size from
 * which it asks the system directly with every one that is freed, keeps what is below, and that once for each of many arenas (mallopt(3), `M_MMAP_THRESHOLD`).
 * It is read before any program begins, so who starts a process must set it; others than glibc do not read it. What the user has set holds.
 */
export const ALLOCATOR = { MALLOC_ARENA_MAX: '2', MALLOC_MMAP_THRESHOLD_: '131072', MALLOC_TRIM_THRESHOLD_: '131072' }

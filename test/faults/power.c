// What a power cut leaves of Redis's append-only files: at each sync that succeeds, the size that the file had when it began is noted under
// SYNCED_DIR, in a file of the same name. Bytes behind that are in nobody's hands but the kernel's. To be loaded before the C library.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// The end of the path that a descriptor is open on, if that is an append-only file; else NULL.
static const char *append_only_name(int fd, char *path, size_t room) {
  char link[48];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, room - 1);
  if (length <= 0) return NULL;
  path[length] = 0;
  const char *name = strrchr(path, '/');
  size_t ending = strlen(".incr.aof");
  if (!name || strlen(name) < ending || strcmp(name + strlen(name) - ending, ".incr.aof") != 0) return NULL;
  return name + 1;
}

static void note(const char *name, long long size) {
  const char *dir = getenv("SYNCED_DIR");
  char path[8192], text[32];
  if (!dir) return;
  snprintf(path, sizeof path, "%s/%s", dir, name);
  int fd = open(path, O_WRONLY | O_CREAT, 0600);
  if (fd < 0) return;
  // Of fixed length, in one write: whoever reads it after a kill finds a whole number.
  int length = snprintf(text, sizeof text, "%020lld\n", size);
  if (pwrite(fd, text, length, 0) != length) abort();
  close(fd);
}

static int synced(const char *call, int fd) {
  static __thread char path[4096];
  int (*original)(int) = (int (*)(int))dlsym(RTLD_NEXT, call);
  struct stat before;
  int known = fstat(fd, &before);
  int result = original(fd);
  const char *name = result == 0 && known == 0 ? append_only_name(fd, path, sizeof path) : NULL;
  if (name) note(name, (long long)before.st_size);
  return result;
}

int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }
